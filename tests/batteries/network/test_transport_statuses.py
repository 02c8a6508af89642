"""Statuses, waits that a server asks for, and redirects."""

import email.utils
import itertools
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from batteries.errors import BatteriesError, NotFoundError, PolicyError, TransportError
from batteries.network.transport import Limits, Transport
from tests.support import hostile_server
from tests.support.hostile_server import Server
from tests.support.talks import BODY, ONCE, ONCE_MORE, PATIENT, TOKEN, refused, served, within


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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
