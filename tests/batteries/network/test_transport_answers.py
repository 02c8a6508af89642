"""Answers, addresses and sizes: what comes is whole and small enough, or a typed error."""

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from batteries.errors import InputError, NotFoundError, PolicyError, TransportError
from batteries.network.limits import CallBudget
from batteries.network.transport import Limits, Transport
from tests.support.hostile_server import Server
from tests.support.talks import BODY, ONCE, flood, refused, served, within


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
