"""Certificates and proxies: what is trusted, and who is named where the way is closed."""

import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from httpcore2._backends.sync import SyncStream

from batteries.errors import InputError, PolicyError, TransportError
from batteries.network.transport import Transport
from tests.support import hostile_server
from tests.support.hostile_server import Server
from tests.support.talks import BODY, ONCE, ONCE_MORE, PATIENT, QUICK, TOKEN, refused, served, within


class TestEncryption:
    def test_https(self, trusted):
        with served(lambda talk: talk.answer(BODY), tls=trusted) as (server, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY
            assert server.url.startswith("https://")

    def test_cuts_under_encryption(self, trusted):
        with served(hostile_server.cutting(BODY, 50_000), tls=trusted) as (_, transport):
            assert transport.get("/x", limit=len(BODY)).body == BODY

    @pytest.mark.slow
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

    @pytest.mark.slow
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
