"""Reading over HTTP from servers that misbehave: whole, or a typed error, within the size and the time that were given."""

import contextlib
import email.utils
import gzip
import itertools
import random
import re
import select
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from httpcore2._backends.sync import SyncStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batteries.errors import BatteriesError, InputError, NotFoundError, PolicyError, TransportError
from batteries.network.limits import CallBudget
from batteries.network.transport import Limits, Transport
from tests.support import hostile_server
from tests.support.cells import python
from tests.support.hostile_server import Server
from tests.support.soak import many

BODY = random.Random(0).randbytes(256 * 1024)
PATIENT = Limits(deadline=20.0)
QUICK = Limits(deadline=0.5)
ONCE = Limits(deadline=2.0, attempts=1)
ONCE_MORE = Limits(deadline=20.0, attempts=2)
TOKEN = "hf_secret"


@contextlib.contextmanager
def served(play, limits=PATIENT, *, tls=None, token=None):
    """A server and a transport to it."""
    with Server(play, tls=tls) as server, Transport(origin=server.url, token=token, limits=limits) as transport:
        yield server, transport


@contextlib.contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def refused(play, limits=QUICK, *, size=1000, kind=TransportError, path="/x?signature=secret", **server):
    """The error of one call, which ended in time and says no secret."""
    with (
        served(play, limits, token=TOKEN, **server) as (_, transport),
        within(limits.deadline + 1),
        pytest.raises(kind) as caught,
    ):
        transport.get(path, limit=size)
    assert caught.value.where is not None
    assert "secret" not in str(caught.value)
    return caught.value


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The folder of the servers' certificate, which is trusted."""
    (tmp_path / "trusted.pem").write_text(hostile_server.CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return tmp_path


class TestAnswers:
    def test_an_answer(self):
        def play(talk):
            talk.answer(b"body", X_Repo_Commit="abc")

        with served(play) as (server, transport):
            answer = transport.get("/a/b?q=1", limit=4)
            assert (answer.status, answer.body, answer.url) == (200, b"body", f"{server.url}/a/b")
            assert answer.headers["x-repo-COMMIT"] == "abc"
            assert transport.get(f"{server.url}/c", limit=4).body == b"body"
            assert [talk.path for talk in server.talks] == ["/a/b?q=1", "/c"]
            assert (transport.requests, server.connections) == (2, 1)
            assert server.talks[0].headers["accept-encoding"] == "identity"
            assert "body" not in repr(answer)

    def test_an_origin_may_have_a_path(self):
        with (
            Server(lambda talk: talk.answer(b"")) as server,
            Transport(origin=f"{server.url}/hub/") as transport,
        ):
            transport.get("/api", limit=0)
            transport.get("//evil.example/x", limit=0)
            assert [talk.path for talk in server.talks] == ["/hub/api", "/hub//evil.example/x"]

    def test_another_status_may_be_an_answer(self):
        with served(lambda talk: talk.answer(b"none", 404)) as (_, transport):
            answer = transport.get("/x", limit=10, expect=frozenset({200, 404}))
        assert (answer.status, answer.body) == (404, b"none")

    def test_a_redirect_may_be_an_answer(self):
        with served(lambda talk: talk.redirect("/y")) as (_, transport):
            assert transport.get("/x", limit=10, expect=frozenset({302})).headers["location"] == "/y"

    @pytest.mark.parametrize("framing", ["length", "chunked", "closed"])
    def test_every_framing_up_to_the_limit(self, framing):
        def play(talk):
            if framing == "length":
                return talk.answer(BODY)
            if framing == "closed":
                talk.head(Connection="close")
                talk.send(BODY)
                return talk.end()
            talk.head(Transfer_Encoding="chunked")
            for i in range(0, len(BODY), 1024):
                talk.send(b"400\r\n" + BODY[i : i + 1024] + b"\r\n")
            return talk.send(b"0\r\n\r\n")

        with served(play) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            with pytest.raises(TransportError) as caught:
                transport.get("/x", limit=len(BODY) - 1)
        assert caught.value.code == "LIMIT"

    def test_threads_share_one(self):
        with served(lambda talk: talk.answer(talk.path.encode())) as (server, transport):
            with ThreadPoolExecutor(8) as pool:
                paths = [f"/{i}" for i in range(100)]
                answers = list(pool.map(lambda path: transport.get(path, limit=10).body.decode(), paths))
            assert answers == paths
            assert transport.requests == len(server.talks) == 100

    def test_a_small_body_of_an_error_keeps_the_connection(self):
        with served(lambda talk: talk.answer(b"x" * 100, 404)) as (server, transport):
            for _ in range(3):
                with pytest.raises(NotFoundError, match="NO_FILE"):
                    transport.get("/x", limit=1)
            assert server.connections == 1

    def test_closed_is_closed(self):
        with served(lambda talk: talk.answer(b"")) as (_, transport):
            transport.close()
            with pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            assert (caught.value.code, caught.value.retryable) == ("CLOSED", False)

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 x\r\n\r\nhalf"])
    @pytest.mark.parametrize("encrypted", [False, True])
    def test_closing_ends_the_calls_of_other_threads(self, start, encrypted, trusted):
        heard = threading.Event()

        def play(talk):
            talk.send(start)
            heard.set()
            talk.wait()

        with served(play, tls=trusted if encrypted else None) as (_, transport), ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(transport.get, "/x", limit=10)
            assert heard.wait(10)
            with within(3):
                transport.close()
                assert waiting.exception().code == "CLOSED"


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "x",
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "http://[::1",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:65536/",
            "http://127.0.0.1:-1/",
            "https://a\x00b/",
            "https://\udc80/",
            "https://" + "a" * 70_000,
            "https://user:secret@[bad/?token=secret",
            None,
            7,
            b"/x",
        ],
    )
    def test_what_is_no_address(self, url):
        with Transport(origin="http://127.0.0.1:1") as transport, pytest.raises(InputError) as caught:
            transport.get(url, limit=1)
        assert caught.value.code == "BAD_URL"
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["http://example.com/x", "http://127.1/x", "http://2130706433/", "http://localhost.evil.com/"]
    )
    def test_http_is_for_this_machine(self, url):
        with Transport(origin="http://127.0.0.1:1") as transport, pytest.raises(PolicyError) as caught:
            transport.get(url, limit=1)
        assert caught.value.code == "INSECURE"
        with pytest.raises(PolicyError, match="INSECURE"):
            Transport(origin=url)

    def test_this_machine_has_more_names_than_one(self):
        with served(lambda talk: talk.answer(b"here")) as (server, transport):
            assert transport.get(f"http://localhost:{server.port}/x", limit=4).body == b"here"

    @pytest.mark.parametrize("token", ["a b", "a\r\nX: y", "\u00e9", "a\x00"])
    def test_a_token_that_cannot_be_one(self, token):
        with pytest.raises(InputError) as caught:
            Transport(origin="https://example.com", token=token)
        assert caught.value.code == "TOKEN"
        assert token not in str(caught.value)


class TestSize:
    def test_a_length_beyond_the_limit_is_refused_before_the_body(self):
        def play(talk):
            talk.head(Content_Length=64 * 2**20)
            talk.wait()

        error = refused(play, Limits(deadline=5.0))
        assert (error.code, error.found, error.retryable) == ("LIMIT", 64 * 2**20, False)

    @pytest.mark.parametrize(
        "play",
        [
            pytest.param(lambda talk: (talk.head(), flood(talk, bytes(65536))), id="body without end"),
            pytest.param(
                lambda talk: (talk.head(Transfer_Encoding="chunked"), flood(talk, b"8000\r\n" + bytes(32768) + b"\r\n")),
                id="chunks without end",
            ),
            pytest.param(
                lambda talk: (talk.head(Transfer_Encoding="chunked"), flood(talk, b"1;" + b"x" * 30_000 + b"\r\nx\r\n")),
                id="chunks that are all extension",
            ),
            pytest.param(
                lambda talk: (talk.head(Transfer_Encoding="chunked"), talk.send(b"0\r\n"), flood(talk, b"X: y\r\n")),
                id="trailers without end",
            ),
            pytest.param(lambda talk: (talk.send(b"HTTP/1.1 200 x\r\n"), flood(talk, b"X: y\r\n")), id="headers without end"),
            pytest.param(
                lambda talk: (talk.send(b"HTTP/1.1 200 x\r\nX: "), flood(talk, b"y" * 999)), id="one header without end"
            ),
            pytest.param(lambda talk: flood(talk, b"HTTP/1.1 100 Continue\r\n\r\n" * 100), id="100 Continue for ever"),
            pytest.param(lambda talk: flood(talk, b"no HTTP at all"), id="a status line without end"),
        ],
    )
    def test_nothing_without_end(self, play, monkeypatch):
        counts = []
        received = CallBudget.received
        monkeypatch.setattr(CallBudget, "received", lambda budget, count: (counts.append(count), received(budget, count))[1])
        error = refused(play, ONCE)
        assert error.code in ("LIMIT", "CUT")
        assert sum(counts) <= 1000 + 64 * 1024 + 1000 // 64

    @pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip", "x" * 500])
    def test_a_compressed_answer_is_refused(self, encoding):
        bomb = gzip.compress(bytes(2**20))
        error = refused(lambda talk: talk.answer(bomb, Content_Encoding=encoding), size=2**21)
        assert (error.code, error.retryable) == ("ENCODING", False)
        assert len(str(error)) < 600

    def test_a_compressed_transfer_is_refused(self):
        error = refused(lambda talk: (talk.head(Transfer_Encoding="gzip, chunked"), talk.wait()), ONCE)
        assert error.code == "CUT"


def flood(talk, data):
    while True:
        talk.send(data)


def silent_names(monkeypatch, release):
    """A name service that knows addresses, and says nothing about names until it is released."""
    look_up = socket.getaddrinfo

    def stand_in(host, *rest, **more):
        if host == "localhost":
            release.wait(30)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", stand_in)


class TestTime:
    def test_a_drip_for_ever_ends(self):
        starts = [
            b"",
            b"HTTP/1.1 200 x\r\nX: ",
            b"HTTP/1.1 200 x\r\n\r\n",
            b"HTTP/1.1 200 x\r\nContent-Length: 900\r\n\r\n",
            b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"HTTP/1.1 404 x\r\nContent-Length: 900\r\n\r\n",
            b"HTTP/1.1 302 x\r\nLocation: /y\r\nContent-Length: 900\r\n\r\n",
        ]

        def drip(start):
            return refused(lambda talk: (talk.send(start), talk.drip(b"x")))

        def interim():
            return refused(lambda talk: talk.drip(b"HTTP/1.1 100 x\r\n\r\n"))

        with ThreadPoolExecutor(len(starts) + 1) as pool:
            more = pool.submit(interim)
            errors = [*pool.map(drip, starts), more.result()]
        assert [(error.code, error.retryable) for error in errors] == [("DEADLINE", True)] * 9

    @pytest.mark.parametrize(
        "start",
        [
            pytest.param(b"HTTP/1.1 200 x\r\nX: ", id="header"),
            pytest.param(b"HTTP/1.1 200 x\r\n\r\n", id="body"),
            pytest.param(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1;", id="extension of a chunk"),
            pytest.param(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", id="trailer"),
        ],
    )
    def test_a_drip_is_too_slow_long_before_the_deadline(self, start):
        def play(talk):
            talk.send(start)
            talk.drip(b"x")

        with within(4):
            error = refused(play, Limits(deadline=20.0, stall=0.3))
        assert (error.code, error.retryable) == ("SLOW", True)

    def test_a_steady_stream_is_not_too_slow(self):
        def play(talk):
            talk.head(Content_Length=800)
            for _ in range(8):
                talk.wait(0.05)
                talk.send(b"x" * 100)

        with served(play, Limits(deadline=20.0, stall=0.2, slowest=64)) as (_, transport):
            assert len(transport.get("/x", limit=800).body) == 800

    def test_a_silent_server_is_left_for_another_try(self):
        def play(talk):
            if talk.nth == 1:
                talk.wait()
            talk.answer(b"here")

        with served(play, Limits(deadline=20.0, stall=0.3)) as (_, transport):
            assert transport.get("/x", limit=4).body == b"here"

    def test_a_server_that_stays_silent(self):
        error = refused(lambda talk: talk.wait(), Limits(deadline=20.0, stall=0.1, attempts=2))
        assert (error.code, error.retryable) == ("STALLED", True)
        assert refused(lambda talk: talk.wait()).code == "DEADLINE"

    def test_silence_in_place_of_keys(self, trusted):
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            Transport(origin=f"https://127.0.0.1:{silent.getsockname()[1]}", limits=QUICK) as transport,
            within(1.5),
            pytest.raises(TransportError) as caught,
        ):
            transport.get("/x", limit=1)
        assert caught.value.code == "DEADLINE"

    def test_silence_in_place_of_keys_leaves_no_socket_open(self, trusted):
        def opened():
            return len(list(Path("/dev/fd").iterdir()))

        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            Transport(origin=f"https://127.0.0.1:{silent.getsockname()[1]}", limits=Limits(deadline=0.2)) as transport,
        ):
            before = opened()
            for _ in range(3):
                with pytest.raises(TransportError, match=r"SLOW|DEADLINE"):
                    transport.get("/x", limit=1)
            assert opened() == before

    def test_a_drip_on_a_kept_connection_leaves_no_thread(self):
        def play(talk):
            if talk.path == "/first":
                return talk.answer(b"")
            talk.send(b"HTTP/1.1 200 x\r\nX: ")
            return talk.drip(b"x")

        with served(play, QUICK) as (_, transport):
            transport.get("/first", limit=0)
            before = set(threading.enumerate())
            with pytest.raises(TransportError, match=r"SLOW|DEADLINE"):
                transport.get("/x", limit=1)
            assert set(threading.enumerate()) <= before

    def test_a_name_service_that_does_not_answer(self, monkeypatch):
        release = threading.Event()
        silent_names(monkeypatch, release)
        limits = Limits(deadline=20.0, connect=0.1, attempts=2)
        with Transport(origin="https://localhost", limits=limits) as transport, within(5):
            with pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            release.set()
        assert (caught.value.code, caught.value.retryable) == ("UNREACHABLE", True)

    @pytest.mark.parametrize("phase", ["read", "drip", "pause", "look-up"])
    def test_ctrl_c_ends_any_wait(self, phase, monkeypatch):
        def play(talk):
            if phase == "pause":
                return talk.answer(b"", 503, Retry_After="15")
            if phase == "drip":
                talk.drip(b"x")
            return talk.wait()

        release = threading.Event()
        if phase == "look-up":
            silent_names(monkeypatch, release)

        def interrupt(*_):
            raise KeyboardInterrupt("in a wait")

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with served(play) as (server, transport), within(5):
                url = f"http://localhost:{server.port}/x" if phase == "look-up" else "/x"
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                with pytest.raises(KeyboardInterrupt, match="in a wait"):
                    transport.get(url, limit=1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            release.set()


class TestCuts:
    @pytest.mark.parametrize("cut", ["end", "reset"])
    @pytest.mark.parametrize(
        "ranges", ["honoured", "ignored", "refused", "bytes 0-262143/262144", "bytes 1-262143/262144", "", "bytes 4096-9/10"]
    )
    def test_one_cut_at_every_4_kib(self, cut, ranges):
        body = BODY * many(1, 4)

        def read(boundary):
            with served(hostile_server.cutting(body, boundary, cut=cut, ranges=ranges, once=True)) as (_, transport):
                assert transport.get("/x", limit=len(body)).body == body
                return transport.requests

        known = ranges in ("honoured", "ignored")  # the other ways cost a pause each
        with ThreadPoolExecutor(16) as pool:
            requests = set(pool.map(read, range(4096, len(body), 4096 if known else many(65_536, 4096))))
        assert requests == ({2} if known else {3})

    @pytest.mark.parametrize("cut", ["end", "reset"])
    def test_a_cut_at_each_4_kib_again_and_again(self, cut):
        body = BODY * many(1, 4)
        with served(hostile_server.cutting(body, 4096, cut=cut), Limits(deadline=60.0)) as (server, transport):
            assert transport.get("/x", limit=len(body)).body == body
            assert transport.requests >= len(body) // 4096
            asked = [talk.headers for talk in server.talks[1:]]
        assert all(headers["if-range"] == '"1"' for headers in asked)
        assert sum(talk.start == 0 for talk in server.talks) == 1

    def test_chunks_are_resumed_too(self):
        def play(talk):
            if talk.nth > 1:
                return talk.part(BODY, talk.start)
            talk.head(Transfer_Encoding="chunked")
            talk.send(b"20000\r\n" + BODY[:100_000])
            return talk.end()

        with served(play) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert transport.requests == 2

    def test_growing_pieces_without_ranges_are_progress(self):
        def play(talk):
            hostile_server.cutting(BODY, 16_384 * talk.nth, ranges="ignored")(talk)

        with served(play) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert transport.requests == 16

    def test_the_same_piece_again_and_again_is_none(self):
        error = refused(hostile_server.cutting(BODY, 4096, ranges="ignored"), ONCE_MORE, size=len(BODY))
        assert (error.code, error.retryable) == ("CUT", True)

    @pytest.mark.parametrize("etag", ['W/"1"', "bare", '"\u00e9"', ""])
    def test_a_weak_etag_is_not_asked_about(self, etag):
        with served(hostile_server.cutting(BODY, 100_000, once=True, etag=etag)) as (server, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert [talk.headers.get("if-range") for talk in server.talks] == [None, None]

    @pytest.mark.parametrize("claims", [{"ETag": '"2"'}, {"Content_Range": "bytes 1000-262144/262145"}])
    def test_another_version_in_the_middle_starts_again(self, claims):
        old = bytes(len(BODY))

        def play(talk):
            if talk.nth == 1:
                hostile_server.cutting(old, 1000, once=True)(talk)
            elif "range" in talk.headers:
                headers = {"Content_Range": f"bytes {talk.start}-{len(BODY) - 1}/{len(BODY)}", **claims}
                talk.answer(BODY[talk.start :], 206, **headers)
            else:
                talk.answer(BODY)

        with served(lambda talk: play(talk) if talk.nth > 1 else (play(talk), talk.end())) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY

    def test_a_part_that_is_too_long_starts_again(self):
        def play(talk):
            if talk.nth == 1:
                hostile_server.cutting(BODY, 1000)(talk)
            elif "range" in talk.headers:
                talk.answer(BODY[talk.start :] + b"more", 206, Content_Range=f"bytes {talk.start}-{len(BODY) - 1}/{len(BODY)}")
            else:
                talk.answer(BODY)

        with served(play) as (_, transport):
            assert transport.get("/x", limit=len(BODY) + 100).body == BODY

    def test_a_part_that_claims_more_than_the_limit(self):
        def play(talk):
            if talk.nth > 1:
                return talk.answer(b"x", 206, Content_Range=f"bytes {talk.start}-{10**9}/{10**9 + 1}")
            talk.head(Transfer_Encoding="chunked")
            talk.send(b"1\r\nx\r\n")
            return talk.end()

        assert refused(play).code == "LIMIT"

    def test_a_part_that_nobody_asked_for(self):
        error = refused(lambda talk: talk.part(b"0123456789", 5))
        assert (error.code, error.found) == ("STATUS", "status 206")

    @pytest.mark.parametrize("cut", ["end", "reset"])
    def test_a_server_that_hangs_up_at_once(self, cut):
        error = refused(lambda talk: getattr(talk, cut)(), ONCE_MORE)
        assert (error.code, error.retryable) == ("CUT", True)

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        limits = ONCE_MORE
        with Transport(origin=f"http://127.0.0.1:{port}", limits=limits) as transport, pytest.raises(TransportError) as caught:
            transport.get("/x", limit=1)
        assert (caught.value.code, caught.value.retryable, transport.requests) == ("UNREACHABLE", True, 2)


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "kind", "code", "retryable"),
        [
            (401, PolicyError, "DENIED", False),
            (403, PolicyError, "DENIED", False),
            (404, NotFoundError, "NO_FILE", False),
            (204, TransportError, "STATUS", False),
            (300, TransportError, "STATUS", False),
            (304, TransportError, "STATUS", False),
            (307, TransportError, "STATUS", False),
            (400, TransportError, "STATUS", False),
            (410, TransportError, "STATUS", False),
            (418, TransportError, "STATUS", False),
            (501, TransportError, "STATUS", False),
            (999, TransportError, "STATUS", False),
            (429, TransportError, "RATE_LIMITED", True),
            (500, TransportError, "UNAVAILABLE", True),
            (502, TransportError, "UNAVAILABLE", True),
            (503, TransportError, "UNAVAILABLE", True),
            (504, TransportError, "UNAVAILABLE", True),
        ],
    )
    def test_each_status_has_its_error(self, status, kind, code, retryable):
        error = refused(lambda talk: talk.head(status, Content_Length=0), ONCE, kind=kind)
        assert (error.code, error.retryable, error.found) == (code, retryable, f"status {status}")

    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_the_code_of_the_server_is_passed_on(self, status):
        error = refused(lambda talk: talk.answer(b"", status, X_Error_Code="GatedRepo"), kind=BatteriesError)
        assert error.found == "GatedRepo"

    def test_words_of_the_server_are_made_plain(self):
        error = refused(lambda talk: talk.answer(b"", 404, X_Error_Code="\x1b[31m\u00e9" * 1000), ONCE, kind=BatteriesError)
        assert error.code == "CUT" or (len(error.found) <= 200 and error.found.isascii())
        error = refused(lambda talk: talk.answer(b"", 404, X_Error_Code="\u00e9" * 1000), ONCE, kind=BatteriesError)
        assert error.found == "?" * 200

    def test_a_fifth_of_all_requests_fails_and_all_arrive(self):
        def play(talk):
            fate = random.Random(f"7 {talk.path} {talk.nth}").random() * 5
            if fate >= 1:
                return talk.answer(BODY[:1000])
            faults = [
                lambda: talk.answer(b"", 500),
                lambda: talk.answer(b"", 429, Retry_After="0"),
                lambda: talk.answer(b"<html>", 503),
                talk.end,
                talk.reset,
                lambda: hostile_server.cutting(BODY[:1000], 500)(talk),
            ]
            return faults[int(fate * len(faults))]()

        with served(play) as (_, transport), ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: transport.get(f"/{i}", limit=1000).body, range(200)))
            assert all(body == BODY[:1000] for body in answers)
            assert 220 < transport.requests < 320

    def test_attempts_end(self):
        with served(lambda talk: talk.answer(b"", 503), ONCE_MORE) as (_, transport):
            with pytest.raises(TransportError, match="UNAVAILABLE"):
                transport.get("/x", limit=1)
            assert transport.requests == 2

    def test_a_failure_does_not_lose_what_came(self):
        def play(talk):
            if talk.nth == 2:
                talk.answer(b"", 503)
            else:
                hostile_server.cutting(BODY, 200_000)(talk)

        with served(play) as (server, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert [talk.start for talk in server.talks] == [0, 200_000, 200_000]


class TestAskedToWait:
    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        "headers",
        [
            {"Retry_After": "1000000000"},
            {"Retry_After": "9" * 5000},
            {"Retry_After": email.utils.formatdate(time.time() + 3600, usegmt=True)},
            {"Retry_After": "Fri, 31 Dec 9999 23:59:59 GMT"},
            {"RateLimit": '"api";r=0;t=55'},
            {"RateLimit": '"resolvers";r=17;t=9, "api"; r=0; t=300'},
            {"Retry_After": "0", "RateLimit": '"api";r=0;t=55'},
        ],
    )
    def test_longer_than_the_call_may_take(self, status, headers):
        with served(lambda talk: talk.answer(b"", status, **headers), Limits(deadline=30.0)) as (_, transport), within(5):
            with pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            assert transport.requests == 1
        assert (caught.value.code, caught.value.retryable) == ("RATE_LIMITED", True)
        assert re.search(r"Try again after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", caught.value.remedy)

    def test_words_that_ask_for_nothing(self):
        words = [
            "Retry-After: 0",
            "Retry-After: soon",
            "Retry-After: -5",
            "Retry-After: NaN",
            "Retry-After: 1e9",
            "Retry-After: \u0663\u0663",
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",
            "Retry-After: Sun, 99 Nov 99999999999999 99:99:99 GMT",
            'RateLimit: "api";r=5;t=55',
            "RateLimit: nonsense;;;=,",
        ]

        def read(line):
            def play(talk):
                head = f"HTTP/1.1 429 x\r\nContent-Length: 0\r\n{line}\r\n\r\n"
                talk.send(head.encode()) if talk.nth == 1 else talk.answer(b"here")

            with served(play) as (_, transport), within(5):
                return transport.get("/x", limit=4).body

        with ThreadPoolExecutor(len(words)) as pool:
            assert list(pool.map(read, words)) == [b"here"] * len(words)

    def test_a_wait_that_fits_is_kept(self):
        times = []

        def play(talk):
            times.append(time.monotonic())
            talk.answer(b"", 429, Retry_After="1") if talk.nth == 1 else talk.answer(b"here")

        with served(play) as (_, transport):
            assert transport.get("/x", limit=4).body == b"here"
        assert times[1] - times[0] >= 1.0

    def test_one_wait_is_no_longer_than_the_pause(self):
        def play(talk):
            talk.answer(b"", 429, Retry_After="15") if talk.nth < 3 else talk.answer(b"here")

        with served(play, Limits(deadline=30.0, pause=0.1)) as (_, transport), within(5):
            assert transport.get("/x", limit=4).body == b"here"


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_followed(self, status):
        def play(talk):
            talk.redirect("../y?z=1", status) if talk.path == "/a/x" else talk.answer(b"here")

        with served(play) as (server, transport):
            answer = transport.get("/a/x", limit=4)
            assert (answer.body, answer.url) == (b"here", f"{server.url}/y")
            assert (transport.requests, server.connections) == (2, 1)

    @pytest.mark.parametrize("location", ["/x", "/x?{}", "{}"])
    def test_loops_end(self, location):
        count = itertools.count()
        error = refused(lambda talk: talk.redirect(location.format(next(count))), PATIENT)
        assert (error.code, error.retryable, next(count)) == ("REDIRECTS", False, 6)

    def test_a_token_is_for_its_origin_alone(self):
        with (
            Server(lambda talk: talk.redirect(f"{home.url}/back") if talk.path == "/away" else talk.answer(b"here")) as other,
            Server(lambda talk: talk.redirect(f"{other.url}/away") if talk.path == "/x" else talk.answer(b"back")) as home,
            Transport(origin=home.url, token=TOKEN) as transport,
        ):
            assert transport.get("/x", limit=4).body == b"back"
            assert transport.get(f"{other.url}/y", limit=4).body == b"here"
            assert transport.get(f"http://localhost:{home.port}/z", limit=4).body == b"back"
            tokens = {talk.path: talk.headers.get("authorization") for talk in other.talks + home.talks}
            assert all(TOKEN not in str(talk.headers) for talk in other.talks)
        assert tokens == {"/x": f"Bearer {TOKEN}", "/back": f"Bearer {TOKEN}", "/away": None, "/y": None, "/z": None}

    @pytest.mark.parametrize("location", ["http://example.com/x", "http://10.0.0.1/x", "http://127.1/x"])
    def test_out_of_encryption(self, location):
        error = refused(lambda talk: talk.redirect(f"{location}?secret"), kind=PolicyError)
        assert (error.code, error.found) == ("INSECURE_REDIRECT", location)

    @pytest.mark.parametrize(
        "location",
        ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[::1", "https://", "javascript:1", "http://a:99999999/", ""],
    )
    def test_to_no_address(self, location):
        error = refused(lambda talk: talk.redirect(location), kind=TransportError)
        assert (error.code, error.retryable) == ("REDIRECTS", False)

    def test_no_cookie_is_kept(self):
        with served(lambda talk: talk.answer(b"", Set_Cookie="a=b")) as (server, transport):
            transport.get("/x", limit=1)
            transport.get("/x", limit=1)
            assert "cookie" not in server.talks[1].headers


class TestEncryption:
    def test_https(self, trusted):
        with served(lambda talk: talk.answer(BODY), tls=trusted) as (server, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert server.url.startswith("https://")

    def test_cuts_under_encryption(self, trusted):
        with served(hostile_server.cutting(BODY, 50_000), tls=trusted) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY

    def test_a_drip_under_encryption(self, trusted):
        assert refused(lambda talk: (talk.head(), talk.drip()), tls=trusted).code == "DEADLINE"

    def test_never_back_to_http(self, trusted):
        with Server(lambda talk: talk.answer(b"plain")) as plain:
            error = refused(lambda talk: talk.redirect(f"{plain.url}/x"), tls=trusted, kind=PolicyError)
            assert (error.code, plain.talks) == ("INSECURE_REDIRECT", [])

    def test_a_certificate_nobody_trusts(self, tmp_path):
        error = refused(lambda talk: talk.answer(b""), PATIENT, tls=tmp_path)
        assert (error.code, error.retryable) == ("CERTIFICATE", False)

    def test_no_encryption_where_it_was_promised(self, trusted):
        def speak():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            speaking = pool.submit(speak)
            origin = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with Transport(origin=origin, limits=ONCE) as transport, pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            speaking.result()
        assert caught.value.code == "UNREACHABLE"

    def test_a_reset_in_place_of_keys(self, trusted):
        def hang_up():
            for _ in range(ONCE_MORE.attempts):
                hostile_server.reset(listener.accept()[0])

        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            hanging_up = pool.submit(hang_up)
            origin = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with Transport(origin=origin, limits=ONCE_MORE) as transport, pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            hanging_up.result()
        assert caught.value.code in ("UNREACHABLE", "CUT")

    @pytest.mark.filterwarnings("error::ResourceWarning")
    def test_a_reset_just_before_the_keys(self, trusted, monkeypatch):
        checked = threading.Event()

        def hang_up():
            connection, _ = listener.accept()
            checked.wait(10)
            hostile_server.reset(connection)

        def check_then_lose(stream, info):
            answer = check(stream, info)
            if info == "server_addr":
                lost = select.poll()
                lost.register(check(stream, "socket"), 0)  # a hang-up is reported whatever is asked for
                checked.set()
                assert lost.poll(10_000)
            return answer

        check = SyncStream.get_extra_info
        monkeypatch.setattr(SyncStream, "get_extra_info", check_then_lose)
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            hanging_up = pool.submit(hang_up)
            origin = f"https://127.0.0.1:{listener.getsockname()[1]}"
            with Transport(origin=origin, limits=ONCE) as transport, pytest.raises(TransportError) as caught:
                transport.get("/x", limit=1)
            hanging_up.result()
        assert caught.value.code in ("UNREACHABLE", "CUT")

    def test_certificates_that_cannot_be_read(self, monkeypatch, tmp_path):
        (tmp_path / "bad.pem").write_text("no certificate")
        for name in ("missing.pem", "bad.pem"):
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
            with Transport(origin="https://127.0.0.1:1") as transport, pytest.raises(InputError) as caught:
                transport.get("/x", limit=1)
            assert caught.value.code == "CERTIFICATES"


class TestProxies:
    @pytest.fixture(autouse=True)
    def _no_proxy(self, monkeypatch):
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    def test_none_on_the_way_to_this_machine(self, monkeypatch, trusted):
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        for tls in (None, trusted):
            with served(lambda talk: talk.answer(b"here"), tls=tls) as (_, transport):
                assert transport.get("/x", limit=4).body == b"here"

    @pytest.mark.parametrize("name", ["https_proxy", "all_proxy", "HTTPS_PROXY"])
    def test_the_one_of_the_environment_for_others(self, monkeypatch, name):
        heard = []
        with Server(hostile_server.proxy(heard, b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")) as server:
            monkeypatch.setenv(name, f"user:secret@127.0.0.1:{server.port}")
            with (
                Transport(origin="https://example.com", limits=ONCE, token=TOKEN) as transport,
                pytest.raises(TransportError) as caught,
            ):
                transport.get("/x", limit=1)
            assert "authorization" not in server.talks[0].headers
        assert heard == ["example.com:443"]
        assert caught.value.code == "UNREACHABLE"
        assert "secret" not in str(caught.value)

    def test_one_that_drips(self, monkeypatch):
        with Server(lambda talk: talk.drip(b"x")) as server:
            monkeypatch.setenv("https_proxy", server.url)
            with (
                Transport(origin="https://example.com", limits=QUICK) as transport,
                within(1.5),
                pytest.raises(TransportError) as caught,
            ):
                transport.get("/x", limit=1)
        assert caught.value.code == "DEADLINE"

    @pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:1", "ftp://secret@x", "http://[::1secret"])
    def test_one_that_cannot_be_used(self, monkeypatch, proxy):
        monkeypatch.setenv("https_proxy", proxy)
        with Transport(origin="https://example.com") as transport, pytest.raises(InputError) as caught:
            transport.get("/x", limit=1)
        assert caught.value.code == "PROXY"
        assert "secret" not in str(caught.value)


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
