"""Proxies and certificates that the environment names, with real proxies and servers on this machine."""

import contextlib
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from batteries import HubRepository
from batteries.errors import InputError, TransportError
from batteries.network import certificates, proxies
from batteries.network.transport import Limits, Transport
from registry import pull
from tests.compatibility import refused, works
from tests.support import hostile_server
from tests.support.hostile_server import Server
from tests.support.hubserver import QUIET

ONCE = Limits(deadline=3.0, attempts=1, connect=0.5, stall=0.5)
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in (*NAMES, *certificates.VARIABLES, "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def asked(url="https://example.com", limits=ONCE):
    """The error of asking for something."""
    with Transport(origin=url, limits=limits) as transport, pytest.raises((InputError, TransportError)) as caught:
        transport.get("/x", limit=10)
    assert "secret" not in str(caught.value)
    return caught.value


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@refused("Hub and locks", "A proxy that cannot be reached", "UNREACHABLE", note="named with its variable, without its password")
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_an_unreachable_proxy_is_named(monkeypatch, name):
    port = closed_port()
    monkeypatch.setenv(name, f"http://user:secret@127.0.0.1:{port}")
    error = asked()
    assert (error.code, error.what) == ("UNREACHABLE", "proxy unreachable")
    assert f"the proxy http://127.0.0.1:{port} of {name}" in str(error)
    assert "https://example.com" in str(error)
    assert name in error.remedy


def test_a_pull_through_a_proxy_that_is_not_there(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr("batteries.network.transport.FIRST_PAUSE", 0.001)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TransportError, match="of HTTPS_PROXY"):
        pull("low/x", registry="hf://local/cells")


@pytest.mark.parametrize(
    ("answer", "code", "what"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required", "PROXY_AUTH", "name and password of the proxy"),
        (b"HTTP/1.1 502 Bad Gateway", "UNREACHABLE", "unreachable through the proxy"),
        (b"HTTP/1.1 403 Forbidden", "UNREACHABLE", "unreachable through the proxy"),
        (b"HTTP/1.1 504 Gateway Timeout", "UNREACHABLE", "unreachable through the proxy"),
    ],
)
def test_a_proxy_that_refuses_is_named(monkeypatch, answer, code, what):
    with Server(hostile_server.proxy([], answer + b"\r\nContent-Length: 0\r\n\r\n")) as server:
        port = server.port
        monkeypatch.setenv("https_proxy", f"user:secret@127.0.0.1:{port}")
        error = asked()
    assert error.code == code
    assert what in error.what
    assert answer.split(b" ", 1)[1].decode() in error.found
    assert f"the proxy http://127.0.0.1:{port} of https_proxy" in error.where
    assert error.retryable == (code == "UNREACHABLE")


@pytest.mark.slow
@pytest.mark.parametrize(
    "play", [lambda talk: talk.wait(), lambda talk: talk.send(b"SSH-2.0-x\r\n"), lambda talk: talk.reset()]
)
def test_a_proxy_that_is_silent_or_none_is_named(monkeypatch, play):
    with Server(play) as server:
        url = server.url
        monkeypatch.setenv("HTTPS_PROXY", url)
        error = asked()
    assert error.code in ("STALLED", "CUT", "UNREACHABLE")
    assert f"through the proxy {url} of HTTPS_PROXY" in str(error)


def test_a_proxy_whose_name_is_unknown_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    error = asked()
    assert "the proxy http://proxy.invalid:3128 of HTTPS_PROXY" in str(error)


@pytest.mark.slow
def test_a_deadline_behind_a_proxy_names_it(monkeypatch):
    with Server(lambda talk: talk.drip(b"x")) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        error = asked(limits=Limits(deadline=0.5))
    assert error.code == "DEADLINE"
    assert "of HTTPS_PROXY" in str(error)


@refused("Hub and locks", "A SOCKS proxy", "PROXY")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "ftp"])
def test_a_proxy_of_another_kind_is_named(monkeypatch, scheme):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:secret@127.0.0.1:1080")
    error = asked()
    assert (error.code, error.where) == ("PROXY", "ALL_PROXY")
    assert error.exit_code == 2


@works("Hub and locks", "NO_PROXY, with or without a port")
@pytest.mark.parametrize("value", ["example.com", "example.com:443", ".com", "*", "other.org, example.com"])
def test_hosts_without_a_proxy(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    url = proxies.httpx2.URL("https://example.com/x")
    assert str(proxies.find(url)) == "the proxy http://127.0.0.1:1 of HTTPS_PROXY"
    monkeypatch.setenv("NO_PROXY", value)
    assert proxies.find(url) is None


# Certificates.


@pytest.fixture
def folder(tmp_path):
    """The servers' certificate: as a file, and as OpenSSL looks it up in a folder."""
    (tmp_path / "ca.pem").write_text(hostile_server.CERTIFICATE)
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    (hashed / "fff4b0ad.0").write_text(hostile_server.CERTIFICATE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.pem").write_text("no certificate")
    (tmp_path / "blank.pem").write_text("")
    return tmp_path


def served(tls):
    with (
        Server(lambda talk: talk.answer(b"here"), tls=tls) as server,
        Transport(origin=server.url, limits=ONCE) as transport,
    ):
        return transport.get("/x", limit=4).body


@works("Hub and locks", "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE", note="as SSL_CERT_FILE, or a folder")
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_certificates_of_the_environment(folder, monkeypatch, name):
    with pytest.raises(TransportError, match="CERTIFICATE"):
        served(folder)
    monkeypatch.setenv(name, str(folder / "ca.pem"))
    assert served(folder) == b"here"


def test_all_that_are_set_count(folder, monkeypatch):
    system = certificates.httpx2.create_ssl_context(trust_env=False)
    if not system.get_ca_certs():
        pytest.skip("no certificates of the system in a file")
    (folder / "others.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, system.get_ca_certs(binary_form=True)[:2])))
    for first, second in (("others.pem", "ca.pem"), ("ca.pem", "others.pem")):
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / first))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / second))
        assert served(folder) == b"here"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "nowhere.pem"))
    with pytest.raises(InputError, match="REQUESTS_CA_BUNDLE"):
        served(folder)


def test_one_transport_takes_a_change(folder, monkeypatch):
    with (
        Server(lambda talk: talk.answer(b"here"), tls=folder) as server,
        Transport(origin=server.url, limits=ONCE) as transport,
    ):
        with pytest.raises(TransportError, match="CERTIFICATE"):
            transport.get("/x", limit=4)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
        assert transport.get("/x", limit=4).body == b"here"


@refused("Hub and locks", "REQUESTS_CA_BUNDLE that is missing, empty or no certificate", "CERTIFICATES")
@pytest.mark.parametrize("value", ["nowhere.pem", "none.pem", "blank.pem", "empty"])
@pytest.mark.parametrize("name", certificates.VARIABLES)
def test_certificates_that_cannot_be_used_are_named(folder, monkeypatch, name, value):
    monkeypatch.setenv(name, str(folder / value))
    error = asked()
    assert (error.code, error.exit_code) == ("CERTIFICATES", 2)
    assert f"{name}={folder / value}" in str(error)


def test_a_folder_of_certificates(folder, monkeypatch):
    found = subprocess.run(["openssl", "rehash", folder / "hashed"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("no openssl that names certificates")
    for name in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as scope:
            scope.setenv(name, str(folder / "hashed"))
            certificates.context(certificates.named())


def test_a_certificate_behind_a_proxy_is_whose_it_is(folder, monkeypatch):
    """A proxy that breaks encryption open shows its own certificate."""

    def intercept():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                context.wrap_socket(connection, server_side=True)

    (folder / "key.pem").write_text(hostile_server.KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        breaking = pool.submit(intercept)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        error = asked()
        breaking.result()
    assert (error.code, error.what) == ("CERTIFICATE", "untrusted certificate of example.com")
    assert "REQUESTS_CA_BUNDLE" in error.remedy
    assert "of HTTPS_PROXY" in str(error)


def test_through_a_proxy_with_its_own_certificates(folder, monkeypatch):
    """A tunnel to a server whose certificate REQUESTS_CA_BUNDLE names: the proxy passes bytes on, both ways."""
    with Server(lambda talk: talk.answer(b"here"), tls=folder) as server:

        def tunnel():
            connection, _ = listener.accept()
            connection.settimeout(10)
            with connection, socket.create_connection(("127.0.0.1", server.port)) as beyond:
                heard.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
                back = threading.Thread(target=pump, args=(beyond, connection), daemon=True)
                back.start()
                pump(connection, beyond)
                back.join(5)

        heard = []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
        monkeypatch.setattr("batteries.network.urls.is_loopback", lambda url: False)
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            listener.settimeout(10)
            passing = pool.submit(tunnel)
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}")
            with Transport(origin=server.url, limits=ONCE) as transport:
                assert transport.get("/x", limit=4).body == b"here"
            passing.result()
        assert heard[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1".encode())
        assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in heard[0]


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.filterwarnings(QUIET)
def test_writing_to_a_hub_whose_certificate_is_not_trusted(folder, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    with Server(lambda talk: talk.answer(b"{}"), tls=folder) as server:
        repository = HubRepository("local/cells", endpoint=server.url, token="hf_x", patience=20.0)
        assert repository.read("x", commit="0" * 40, limit=2) == b"{}"
        repository._transport.close()  # the server waits for whoever keeps a connection
        with pytest.raises(TransportError, match="SSL_CERT_FILE") as caught:
            repository.create()
    assert caught.value.code == "CERTIFICATE"
