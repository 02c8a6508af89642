"""A local Hub: the HTTP interface that the real client speaks, over repositories in memory, with faults by plan.

    with serving() as hub:                      # in a thread of this process
        api = HfApi(endpoint=hub.url, token=hub.token)
        hub.faults.add(kind="file", nth={1}, cut=100)
        ...
        assert hub.asked["file"] == 2

``apart()`` serves from a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gzip
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# the client reads these once, when it is first used
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_TOKEN_PATH"] = os.devnull  # nobody's own token

from huggingface_hub import constants

from registry.stores.hub import HubStore
from tests.support.hubfaults import Fault, Plan
from tests.support.hubrepos import TOKEN, Reply, Repositories

constants.HF_HUB_DISABLE_XET = True  # where somebody used it before us
constants.HF_TOKEN_PATH = os.devnull

CHUNK = 64 * 2**10
# huggingface_hub uploads large files by a call that its own HTTP client calls deprecated
QUIET = "ignore:Use 'content=<:DeprecationWarning"
ROOT = Path(__file__).parents[2]


class Hub(Repositories):
    """Repositories behind a socket.

    Attributes:
        faults: What goes wrong.
        asked: How often each kind of request came.
        log: Every request: its method, its target, and whether it carried a token.
    """

    token = TOKEN

    def __init__(self, *, seed: int = 0, page: int = 1000) -> None:
        super().__init__(page=page)
        self.faults = Plan(seed)
        self.asked: Counter[str] = Counter()
        self.log: list[tuple[str, str, bool]] = []
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.port = self._server.server_address[1]
        self.url = self.origin = f"http://127.0.0.1:{self.port}"
        self.elsewhere = f"http://localhost:{self.port}"  # the same server under another origin

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Start to count anew."""
        self.asked.clear()
        self.log.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Clients hang up; that is what many tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, hub: Hub, *arguments) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, format: str, *args) -> None:
        pass

    def _serve(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = hub.route(self.command, path)[0]
        hub.asked[kind] += 1
        hub.log.append((self.command, self.path, "Authorization" in self.headers))
        fault = hub.faults.strike(kind, path) or Fault()
        if fault.whole:
            del self.headers["Range"]
        if fault.status:
            reply = Reply.error(fault.status, "", "a fault by plan")
        else:
            reply = hub.answer(self.command, self.path, self.headers, body)
        if fault.lost:
            return self._hang_up()
        return self._send(reply, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names that the base class asks for

    def _send(self, reply: Reply, fault: Fault) -> None:
        body = bytearray(reply.body)
        if fault.flip is not None and body:
            body[fault.flip % len(body)] ^= 1
        if fault.gzip:
            body = bytearray(gzip.compress(bytes(fault.gzip)))
            reply.headers["Content-Encoding"] = "gzip"
        self.send_response(reply.status)
        for name, text in ({"Content-Length": str(len(body))} | reply.headers | fault.headers).items():
            if name != "Content-Length" or not fault.endless:
                self.send_header(name, text if fault.size is None or name != "Content-Length" else str(fault.size))
        self.end_headers()
        if fault.stall:
            self.hub.stopping.wait(fault.stall)
        if self.command != "HEAD":
            self._send_body(bytes(body), fault)

    def _send_body(self, body: bytes, fault: Fault) -> None:
        if fault.drip:
            for n in range(len(body)):
                self.wfile.write(body[n : n + 1])
                if self.hub.stopping.wait(fault.drip):
                    break
        else:
            self.wfile.write(body if fault.cut is None else body[: fault.cut])
        while fault.endless and not self.hub.stopping.is_set():
            self.wfile.write(bytes(CHUNK))
        if fault.cut is not None or fault.endless or fault.size is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(*, seed: int = 0, page: int = 1000) -> Iterator[Hub]:
    """A Hub in a thread of this process."""
    hub = Hub(seed=seed, page=page)
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


@contextlib.contextmanager
def apart(*, seed: int = 0) -> Iterator[str]:
    """The address of a Hub in a process of its own, which ends with this block."""
    command = [sys.executable, "-m", "tests.support.hubserver", str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@functools.cache
def _shared() -> Hub:
    hub = Hub()
    hub.start()
    atexit.register(hub.stop)
    return hub


_numbers = itertools.count()


def hub(tmp_path: Path) -> HubStore:
    """A store on a repository that is not there yet: for the contract of every store."""
    return HubStore(f"hf://local/registry-{next(_numbers)}", endpoint=_shared().url, token=TOKEN)


def main() -> None:
    """Serve until standard input closes. The first line on standard output is the address."""
    with serving(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as hub:
        print(hub.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
