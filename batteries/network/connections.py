"""One exchange over HTTP that cannot outstay its welcome.

The timeouts of an HTTP client are one per read, so a server that sends a byte in time every time holds it for ever: in its
headers, in the extension of a chunk, in an endless row of ``100 Continue``. Here each read from a socket asks the budget of
its exchange first (:mod:`batteries.network.limits`). The connections, their pools and the way through a proxy are those of
httpcore2, on which httpx2 stands; the client of httpx2 itself has no place to put such a budget
(docs/decisions/0025-wire-layer-kept.md).
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

KEPT_IDLE = 20  # connections that stay open between calls
KEPT_SECONDS = 30.0
SHOWN = 200  # characters of a server's words in an error

_Way = tuple[str, Proxy | None, certificates.Named]  # scheme, proxy, certificates


@dataclass(frozen=True)
class ResponseHead:
    """The head of an answer, and its body as it arrives."""

    status: int
    headers: httpx2.Headers
    chunks: Iterator[bytes]


class Pools:
    """Open connections by the way they take: plain, under TLS, or through the proxy that the environment names.

    Attributes:
        closed: Set once :meth:`close` was called.
    """

    def __init__(self) -> None:
        self._backend = _Backend()
        self.closed = self._backend.closed
        self._held: dict[_Way, httpcore2.ConnectionPool] = {}
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def ask(self, url: httpx2.URL, headers: dict[str, str], budget: CallBudget) -> Iterator[ResponseHead]:
        """Send one GET; the connection is free again, or closed, when the block ends.

        Raises:
            TransportError: ``UNREACHABLE``, ``CERTIFICATE``, ``STALLED``, ``CUT``, ``SLOW``, ``DEADLINE``, ``LIMIT`` or
                ``CLOSED``, also from within the block while it reads; ``PROXY_AUTH`` where a proxy asks for a password.
            InputError: the environment names a proxy (``PROXY``) or certificates (``CERTIFICATES``) that cannot be used.
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
        """Close every connection. Those in use are only cut short: the thread that uses one closes it."""
        self._backend.interrupt()
        with self._lock:
            self._close_unused()

    @contextlib.contextmanager
    def _use(self, way: _Way, budget: CallBudget) -> Iterator[httpcore2.ConnectionPool]:
        with self._lock:
            if self.closed.is_set():
                raise TransportError("the connections are closed", code="CLOSED", where=budget.where)
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
    """Server's words, made fit for a terminal: printable ASCII, and not many."""
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
    """Closes itself, since ``ssl`` lets go of an open socket where the other side hangs up just before the handshake."""

    def __del__(self) -> None:
        self.close()


def _parts(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


_BUDGET: ContextVar[CallBudget] = ContextVar("_BUDGET")


class _Backend(httpcore2.NetworkBackend):
    """Opens connections under the budget of the exchange that needs one, and can cut all of them short."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self._plain = httpcore2.SyncBackend()
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()
        self._lock = threading.Lock()

    def keep(self, stream: httpcore2.NetworkStream) -> _Stream:
        """Stream under budget, unless all are to end."""
        kept = _Stream(stream, self)
        with self._lock:
            self._streams.add(kept)
            if not self.closed.is_set():
                return kept
        kept.close()
        raise httpcore2.ConnectError("the connections are closed")

    def interrupt(self) -> None:
        """Wake whoever reads or writes. A close would give the number of a socket in use to the next one that opens."""
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
    """A socket whose every operation is under the budget of the exchange that uses it."""

    def __init__(self, stream: httpcore2.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = _BUDGET.get()
        data = self._stream.read(budget.room(max_bytes), budget.seconds(budget.limits.stall))
        if not data and self._backend.closed.is_set():
            raise httpcore2.ReadError("the connections are closed")  # and not the end of a body without a length
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
            self._stream.get_extra_info("server_addr")  # fails where the other side hung up, which ssl would not notice
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
    """Errors of the connection as ours."""
    try:
        yield
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ProxyError) as error:
        raise budget.late() if budget.over else _unreachable(error, budget, proxy) from error
    except httpcore2.TimeoutException as error:
        what = f"the server sent nothing for {budget.limits.stall:g} s"
        raise budget.late() if budget.over else _failure("STALLED", what, error, budget) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise _failure("CUT", "the answer broke off, or is not HTTP", error, budget) from error


def _failure(code: str, what: str, error: Exception, budget: CallBudget, remedy: str | None = None) -> TransportError:
    return TransportError(what, code=code, found=plain(str(error)) or None, where=budget.where, remedy=remedy, retryable=True)


def _unreachable(error: Exception, budget: CallBudget, proxy: Proxy | None) -> TransportError:
    if proxy is None:
        remedy = "Check the address and the connection to the network."
        return _failure("UNREACHABLE", "the server cannot be reached", error, budget, remedy)
    if isinstance(error, httpcore2.ProxyError) and str(error).startswith("407"):
        remedy = f"Write them into {proxy.source}: http://name:password@host:port."
        what, found = "the proxy asks for a name and a password, or refuses those it was given", plain(str(error))
        return TransportError(what, code="PROXY_AUTH", found=found, where=budget.where, remedy=remedy)
    remedy = f"Check {proxy.source}; hosts that are to be reached without it belong in NO_PROXY."
    what = "the server cannot be reached through the proxy" if budget.connected else "the proxy cannot be reached"
    return _failure("UNREACHABLE", what, error, budget, remedy)


def _bad_certificate(error: ssl.SSLCertVerificationError, host: str | None, budget: CallBudget) -> TransportError:
    names = " and ".join(name for name, _ in certificates.named())
    remedy = "SSL_CERT_FILE or REQUESTS_CA_BUNDLE names a file of certificates to trust, where its issuer is meant to be."
    if names:
        remedy = f"Only the certificates of {names} are trusted: that of its issuer is meant to be among them."
    what, found = f"the certificate of {host or 'the server'} is not trusted", plain(error.verify_message)
    return TransportError(what, code="CERTIFICATE", found=found, where=budget.where, remedy=remedy)
