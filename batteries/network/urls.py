"""Addresses on the network: which may be asked, what belongs to one origin, and how they look in an error."""

from __future__ import annotations

import ipaddress
import re

import httpx2

from batteries.errors import InputError, PolicyError

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(rb"[a-z0-9._:-]+")  # a name in ASCII, or the numbers of an IP address
SHOWN = 300  # characters of an address in an error


def read(text: str) -> httpx2.URL:
    """Absolute address.

    Raises:
        InputError: malformed, or neither http nor https (``BAD_URL``).
        PolicyError: plain http to another machine (``INSECURE``).
    """
    url = _parse(text)
    if url is None:
        where = ascii(re.sub(r"//[^/]*@", "//", str(text).partition("?")[0])[:SHOWN])
        raise InputError("not an address", code="BAD_URL", expected="https://host/path", where=where)
    if url.scheme == "http" and not is_loopback(url):
        remedy = "Only a server on this machine may be asked over http."
        raise PolicyError("an address without encryption", code="INSECURE", expected="https", where=shown(url), remedy=remedy)
    return url


def redirected(origin: httpx2.URL, location: str) -> httpx2.URL | None:
    """Where a redirect leads; None where its words are no address.

    Raises:
        PolicyError: it leaves encryption, or http and https altogether (``INSECURE_REDIRECT``).
    """
    url = _parse(location, origin)
    if url is None:
        return None
    if url.scheme == "http" and (origin.scheme == "https" or not is_loopback(url)):
        raise PolicyError(
            "a redirect to an address without encryption",
            code="INSECURE_REDIRECT",
            expected="https",
            found=shown(url),
            where=shown(origin),
        )
    return url


def origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    """Scheme, host and port: what a token belongs to."""
    return url.scheme, url.raw_host, url.port or DEFAULT_PORTS[url.scheme]


def is_loopback(url: httpx2.URL) -> bool:
    """Whether an address names this machine."""
    host = url.raw_host.decode("ascii")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: httpx2.URL) -> str:
    """Address without what may be secret in it: the user's name, the query."""
    text = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.partition(b'?')[0].decode('ascii')}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _parse(text: str, base: httpx2.URL | None = None) -> httpx2.URL | None:
    """Http or https address with a host and a port that can be; None for any other."""
    try:
        url = httpx2.URL(text) if base is None else base.join(text)
    except (httpx2.InvalidURL, ValueError, TypeError):
        return None
    known = url.scheme in DEFAULT_PORTS and HOST.fullmatch(url.raw_host) is not None
    return url if known and (url.port is None or 0 < url.port < 2**16) else None
