"""Proxy for an address, from the environment or the system's settings."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass, field

import httpx2

from batteries.errors import InputError
from batteries.network import urls

FORM = "http://host:port or https://host:port"
SYSTEM = "the system settings"


@dataclass(frozen=True)
class Proxy:
    """Proxy with its credentials.

    Attributes:
        url: Address without name and password.
        auth: Name and password, or None.
        source: Environment variable that names the proxy, or the system settings.
    """

    url: httpx2.URL
    auth: tuple[bytes, bytes] | None = field(repr=False)
    source: str

    def __str__(self) -> str:
        return f"the proxy {self.url.scheme}://{self.url.netloc.decode('ascii')} of {self.source}"


def find(url: httpx2.URL) -> Proxy | None:
    """Find the proxy for an address; None for this machine, and for hosts in ``NO_PROXY``.

    Raises:
        InputError: unusable proxy (``PROXY``); only its host is shown, since its address may contain a password.
    """
    host = url.raw_host.decode("ascii")
    port = url.port or urls.DEFAULT_PORTS[url.scheme]
    if urls.is_loopback(url) or urllib.request.proxy_bypass(host if ":" in host else f"{host}:{port}"):
        return None
    known = urllib.request.getproxies()
    text = known.get(url.scheme) or known.get("all")
    return _read(text.strip(), _source(url.scheme, text)) if text else None


def _read(text: str, source: str) -> Proxy:
    try:
        found = httpx2.Proxy(text if "://" in text else f"http://{text}")
        url, auth = found.url, found.raw_auth
    except (httpx2.InvalidURL, ValueError) as error:
        raise _unusable("invalid proxy", None, source) from error
    shown = f"{url.scheme}://{url.netloc.decode('ascii')}"
    if url.scheme.startswith("socks"):
        raise _unusable("unsupported SOCKS proxy", shown, source)
    if url.scheme not in urls.DEFAULT_PORTS or not url.host:
        raise _unusable("invalid proxy", shown, source)
    return Proxy(url, auth, source)


def _source(scheme: str, text: str) -> str:
    """Return the source of a proxy's address; variables in lower case take precedence, as usual."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name) == text), SYSTEM)


def _unusable(what: str, found: str | None, source: str) -> InputError:
    remedy = f"Correct {source}, or name the host of the server in NO_PROXY."
    return InputError(what, code="PROXY", expected=FORM, found=found, where=source, remedy=remedy)
