"""HTTP exchanges with limits on their total time and size.

The timeouts of an HTTP client apply to each read, so a server that keeps sending single bytes can hold it forever: in the
headers, in the extension of a chunk, in an endless series of ``100 Continue``. Here each read from a socket is checked against
the budget of its exchange (:mod:`batteries.network.limits`). Connections, pools and proxying are those of httpcore2, on which
httpx2 is built; the client of httpx2 itself has no hook for such a budget (docs/decisions/0025-wire-layer-kept.md).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2

from batteries.errors import TransportError
from batteries.network import certificates, proxies
from batteries.network.limits import CallBudget
from batteries.network.name_lookup import look_up
from batteries.network.proxies import Proxy

KEPT_IDLE = 20  # idle connections kept open between calls
KEPT_SECONDS = 30.0  # lifetime of an idle connection
SHOWN = 200  # characters of a server's words in an error

_Way = tuple[str, Proxy | None, certificates.Named]  # scheme, proxy, certificates


@dataclass(frozen=True)
class ResponseHead:
    """Head of a response, and its body as it arrives."""

    status: int
    headers: httpx2.Headers
    chunks: Iterator[bytes]


class Pools:
    """Open connections by route: plain, over TLS, or through the proxy named by the environment.

    Attributes:
        closed: Event set by :meth:`close`.
    """

    def __init__(self) -> None:
        self._backend = _Backend()
        self.closed = self._backend.closed
        self._held: dict[_Way, httpcore2.ConnectionPool] = {}
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def ask(self, url: httpx2.URL, headers: dict[str, str], budget: CallBudget) -> Iterator[ResponseHead]:
        """Send one GET; the connection is released or closed when the block ends.

        Raises:
            TransportError: ``UNREACHABLE``, ``CERTIFICATE``, ``STALLED``, ``CUT``, ``SLOW``, ``DEADLINE``, ``LIMIT`` or
                ``CLOSED``, also inside the block while reading; ``PROXY_AUTH`` if a proxy requires a password.
            InputError: unusable proxy (``PROXY``) or certificates (``CERTIFICATES``) in the environment.
        """
        way = (url.scheme, proxies.find(url), certificates.named())
        if way[1] is not None:
            budget.where = f"{budget.where} through {way[1]}"
        with self._use(way, budget) as pool:
            before = _BUDGET.set(budget)
            try:
                with _typed(budget, way[1]), pool.stream("GET", _parts(url), headers=list(headers.items())) as response:
                    yield ResponseHead(response.status, httpx2.Headers(response.headers), response.iter_stream())
            finally:
                _BUDGET.reset(before)

    def close(self) -> None:
        """Close every connection. Those in use are only shut down: the thread that uses one closes it."""
        self._backend.interrupt()
        with self._lock:
            self._close_unused()

    @contextlib.contextmanager
    def _use(self, way: _Way, budget: CallBudget) -> Iterator[httpcore2.ConnectionPool]:
        with self._lock:
            if self.closed.is_set():
                raise TransportError("connections closed", code="CLOSED", where=budget.where)
            if way not in self._held:
                self._held[way] = _open_pool(way, self._backend)
            pool = self._held[way]
            self._users += 1
        try:
            yield pool
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        if self.closed.is_set() and self._users == 0:
            for pool in self._held.values():
                pool.close()


def plain(text: str) -> str:
    """Make a server's text safe for a terminal: printable ASCII, truncated."""
    return "".join(mark if mark.isascii() and mark.isprintable() else "?" for mark in text[:SHOWN])


def _open_pool(way: _Way, backend: _Backend) -> httpcore2.ConnectionPool:
    scheme, proxy, bundles = way
    context = certificates.context(bundles) if scheme == "https" else None
    if context is not None:
        context.sslsocket_class = _EncryptedSocket
    return httpcore2.ConnectionPool(
        ssl_context=context,
        proxy=None if proxy is None else httpcore2.Proxy(_parts(proxy.url), auth=proxy.auth, ssl_context=context),
        max_connections=None,
        max_keepalive_connections=KEPT_IDLE,
        keepalive_expiry=KEPT_SECONDS,
        network_backend=backend,
    )


class _EncryptedSocket(ssl.SSLSocket):
    """Socket that closes itself, since ``ssl`` leaks an open socket if the peer hangs up just before the handshake."""

    def __del__(self) -> None:
        self.close()


def _parts(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


_BUDGET: ContextVar[CallBudget] = ContextVar("_BUDGET")


class _Backend(httpcore2.NetworkBackend):
    """Backend that opens connections under the budget of their exchange, and can shut down all of them."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._plain = httpcore2.SyncBackend()
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()
        self._lock = threading.Lock()

    def keep(self, stream: httpcore2.NetworkStream) -> _Stream:
        """Register a stream, or close it if all are being closed."""
        kept = _Stream(stream, self)
        with self._lock:
            self._streams.add(kept)
            if not self.closed.is_set():
                return kept
        kept.close()
        raise httpcore2.ConnectError("connections closed")

    def interrupt(self) -> None:
        """Wake threads that read or write. Closing would free the descriptor of a socket in use for the next one opened."""
        with self._lock:
            self.closed.set()
            for stream in self._streams:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        budget = _BUDGET.get()
        found = look_up(host, budget.seconds(budget.limits.connect))
        for address in found[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return self._connect(address, port, budget)
        return self._connect(found[-1], port, budget)

    def _connect(self, address: str, port: int, budget: CallBudget) -> _Stream:
        stream = self.keep(self._plain.connect_tcp(address, port, budget.seconds(budget.limits.connect)))
        budget.connected = True
        return stream


class _Stream(httpcore2.NetworkStream):
    """Socket whose operations are limited by the budget of the current exchange."""

    def __init__(self, stream: httpcore2.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = _BUDGET.get()
        data = self._stream.read(budget.room(max_bytes), budget.seconds(budget.limits.stall))
        if not data and self._backend.closed.is_set():
            raise httpcore2.ReadError("connections closed")  # rather than the end of a body without a length
        budget.received(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        budget = _BUDGET.get()
        self._stream.write(buffer, budget.seconds(budget.limits.stall))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        budget = _BUDGET.get()
        try:
            self._stream.get_extra_info("server_addr")  # fails if the peer hung up, which ssl would not notice
            return self._backend.keep(
                self._stream.start_tls(ssl_context, server_hostname, budget.seconds(budget.limits.connect))
            )
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise _bad_certificate(error.__cause__, server_hostname, budget) from error
            raise

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@contextlib.contextmanager
def _typed(budget: CallBudget, proxy: Proxy | None) -> Iterator[None]:
    """Convert errors of the connection to this package's."""
    try:
        yield
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ProxyError) as error:
        raise budget.late() if budget.over else _unreachable(error, budget, proxy) from error
    except httpcore2.TimeoutException as error:
        what = f"no data from the server for {budget.limits.stall:g} s"
        raise budget.late() if budget.over else _failure("STALLED", what, error, budget) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise _failure("CUT", "truncated or malformed HTTP response", error, budget) from error


def _failure(code: str, what: str, error: Exception, budget: CallBudget, remedy: str | None = None) -> TransportError:
    return TransportError(what, code=code, found=plain(str(error)) or None, where=budget.where, remedy=remedy, retryable=True)


def _unreachable(error: Exception, budget: CallBudget, proxy: Proxy | None) -> TransportError:
    if proxy is None:
        remedy = "Check the address and the network connection."
        return _failure("UNREACHABLE", "server unreachable", error, budget, remedy)
    if isinstance(error, httpcore2.ProxyError) and str(error).startswith("407"):
        remedy = f"Give name and password in {proxy.source}: http://name:password@host:port."
        what, found = "missing or refused name and password of the proxy", plain(str(error))
        return TransportError(what, code="PROXY_AUTH", found=found, where=budget.where, remedy=remedy)
    remedy = f"Check {proxy.source}; list hosts to reach without it in NO_PROXY."
    what = "server unreachable through the proxy" if budget.connected else "proxy unreachable"
    return _failure("UNREACHABLE", what, error, budget, remedy)


def _bad_certificate(error: ssl.SSLCertVerificationError, host: str | None, budget: CallBudget) -> TransportError:
    names = " and ".join(name for name, _ in certificates.named())
    remedy = "If you trust its issuer, name a file with the issuer's certificate in SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
    if names:
        remedy = f"Only the certificates of {names} are trusted: add that of its issuer if you trust it."
    what, found = f"untrusted certificate of {host or 'the server'}", plain(error.verify_message)
    return TransportError(what, code="CERTIFICATE", found=found, where=budget.where, remedy=remedy)
