"""Reading over HTTP from servers that misbehave: whole, or a typed error, within the size and the time that were given."""

import contextlib
import gzip
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batteries.errors import NotFoundError, PolicyError, TransportError
from batteries.network.transport import Limits
from tests.support.cells import python
from tests.support.hostile_server import Server
from tests.support.soak import many
from tests.support.talks import flood, served

WORDS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200\r\n",
    b"HTTP/1.1 206 x\r\n",
    b"HTTP/1.1 302 x\r\n",
    b"HTTP/1.1 101 x\r\n",
    b"HTTP/1.1 100 x\r\n",
    b"HTTP/2 200\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 7\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Location: \xff\xfe\r\n",
    b"Location: https://xn--a-ecp.ru\r\n",
    b"Content-Range: bytes 0-4/5\r\n",
    b'ETag: "\r\n',
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"ffffffffffffffffffff\r\n",
]


@settings(max_examples=many(60, 3000), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=12), st.booleans())
def test_whatever_a_server_says(fuzzed, words, reset):
    server, transport = fuzzed
    server.words = b"".join(words)
    server.cut = "reset" if reset else "end"
    with contextlib.suppress(NotFoundError, PolicyError, TransportError):
        assert len(transport.get("/x", limit=10).body) <= 10


@pytest.fixture(scope="module")
def fuzzed():
    def play(talk):
        talk.send(talk.server.words)
        getattr(talk, talk.server.cut)()

    with served(play, Limits(deadline=2.0, attempts=1)) as pair:
        yield pair


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_no_server_takes_much_memory():
    def play(talk):
        if talk.path == "/length":
            talk.head(Content_Length=64 * 2**20)
            flood(talk, bytes(65536))
        if talk.path == "/endless":
            talk.head()
            flood(talk, bytes(65536))
        if talk.path == "/bomb":
            talk.answer(bomb, Content_Encoding="gzip")
        if talk.path == "/continue":
            flood(talk, b"HTTP/1.1 100 x\r\n\r\n" * 1000)
        if talk.path == "/headers":
            talk.send(b"HTTP/1.1 200 x\r\n")
            flood(talk, b"X: y\r\n" * 1000)

    bomb = gzip.compress(bytes(2**20)) * 60
    script = """
import sys
from pathlib import Path
from batteries.errors import TransportError
from batteries.network.transport import Limits, Transport
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
with Transport(origin=sys.argv[1], limits=Limits(deadline=5.0, attempts=2)) as transport:
    before = peak()
    for path in ("/length", "/endless", "/bomb", "/continue", "/headers"):
        try:
            transport.get(path, limit=2**16)
        except TransportError as error:
            print(path, error.code)
    print("peak", (peak() - before) // 1024)
"""
    with Server(play) as server:
        lines = dict(line.split() for line in python(script, server.url).stdout.splitlines())
    assert int(lines.pop("peak")) < 50
    assert lines == {"/length": "LIMIT", "/endless": "LIMIT", "/bomb": "ENCODING", "/continue": "LIMIT", "/headers": "CUT"}
