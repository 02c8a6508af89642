"""Network addresses: validation, origins, redirects, and their form in messages."""

from __future__ import annotations

import ipaddress
import re

import httpx2

from batteries.errors import InputError, PolicyError

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(rb"[a-z0-9._:-]+")  # ASCII name or IP address
SHOWN = 300  # characters of an address in an error


def read(text: str) -> httpx2.URL:
    """Parse an absolute address.

    Raises:
        InputError: malformed address, or neither http nor https (``BAD_URL``).
        PolicyError: plain http to another machine (``INSECURE``).
    """
    url = _parse(text)
    if url is None:
        where = ascii(re.sub(r"//[^/]*@", "//", str(text).partition("?")[0])[:SHOWN])
        raise InputError("invalid address", code="BAD_URL", expected="https://host/path", where=where)
    if url.scheme == "http" and not is_loopback(url):
        remedy = "Only a server on this machine may be read over http."
        raise PolicyError("unencrypted address", code="INSECURE", expected="https", where=shown(url), remedy=remedy)
    return url


def redirected(origin: httpx2.URL, location: str) -> httpx2.URL | None:
    """Resolve the target of a redirect; None if it is invalid.

    Raises:
        PolicyError: redirect to an unencrypted address (``INSECURE_REDIRECT``).
    """
    url = _parse(location, origin)
    if url is None:
        return None
    if url.scheme == "http" and (origin.scheme == "https" or not is_loopback(url)):
        raise PolicyError(
            "redirect to an unencrypted address",
            code="INSECURE_REDIRECT",
            expected="https",
            found=shown(url),
            where=shown(origin),
        )
    return url


def origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    """Return scheme, host and port, to which a token is bound."""
    return url.scheme, url.raw_host, url.port or DEFAULT_PORTS[url.scheme]


def is_loopback(url: httpx2.URL) -> bool:
    """Return True if an address names this machine."""
    host = url.raw_host.decode("ascii")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: httpx2.URL) -> str:
    """Format an address without its possibly secret parts: the user's name and the query."""
    text = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.partition(b'?')[0].decode('ascii')}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _parse(text: str, base: httpx2.URL | None = None) -> httpx2.URL | None:
    """Parse an http or https address with a valid host and port; return None for any other."""
    try:
        url = httpx2.URL(text) if base is None else base.join(text)
    except (httpx2.InvalidURL, ValueError, TypeError):
        return None
    known = url.scheme in DEFAULT_PORTS and HOST.fullmatch(url.raw_host) is not None
    return url if known and (url.port is None or 0 < url.port < 2**16) else None
