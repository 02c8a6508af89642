"""Time: a drip, a stall or a cut ends within the budget of the call, and leaves nothing behind."""

import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batteries.errors import TransportError
from batteries.network.transport import Limits, Transport
from tests.support import hostile_server
from tests.support.soak import many
from tests.support.talks import BODY, ONCE_MORE, QUICK, refused, served, silent_names, within


class TestTime:
    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_a_steady_stream_is_not_too_slow(self):
        def play(talk):
            talk.head(Content_Length=800)
            for _ in range(8):
                talk.wait(0.05)
                talk.send(b"x" * 100)

        with served(play, Limits(deadline=20.0, stall=0.2, slowest=64)) as (_, transport):
            assert len(transport.get("/x", limit=800).body) == 800

    @pytest.mark.slow
    def test_a_silent_server_is_left_for_another_try(self):
        def play(talk):
            if talk.nth == 1:
                talk.wait()
            talk.answer(b"here")

        with served(play, Limits(deadline=20.0, stall=0.3)) as (_, transport):
            assert transport.get("/x", limit=4).body == b"here"

    @pytest.mark.slow
    def test_a_server_that_stays_silent(self):
        error = refused(lambda talk: talk.wait(), Limits(deadline=20.0, stall=0.1, attempts=2))
        assert (error.code, error.retryable) == ("STALLED", True)
        assert refused(lambda talk: talk.wait()).code == "DEADLINE"

    @pytest.mark.slow
    def test_silence_in_place_of_keys(self, trusted):
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            Transport(origin=f"https://127.0.0.1:{silent.getsockname()[1]}", limits=QUICK) as transport,
            within(1.5),
            pytest.raises(TransportError) as caught,
        ):
            transport.get("/x", limit=1)
        assert caught.value.code == "DEADLINE"

    @pytest.mark.slow
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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
    @pytest.mark.slow
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
