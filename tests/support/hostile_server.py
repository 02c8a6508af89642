"""Servers that misbehave, on real sockets. A play gets each request as a Talk and does with the connection what it likes."""

import contextlib
import socket
import ssl
import struct
import threading
from collections import Counter

# For this machine's own address and these tests only, valid until 2120; nobody trusts it unless SSL_CERT_FILE names it.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJN+9RRdObhI49RW
ToHRsDRUS1b16fiivKuZ8DIKTJoVymREy/qQo2USAzQsYZ78yoPpTTHNruc3fuFy
oo9J46SjXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUDFZ0LrgTStDIYFdqhGXZ
SWH6+HkwCgYIKoZIzj0EAwIDSAAwRQIhANpuE4vDjtOOm7d+JqtHHdwwz23VExIB
FjraL5HJiClmAiB8vfOe2GROO+3fv6Vub8EFwJiTKIbMHJUGVHk9su4BOA==
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg505RZlgyKniw38f0
FVEktS8t4cqWjcakOdKcVheTynGhRANCAASTfvUUXTm4SOPUVk6B0bA0VEtW9en4
oryrmfAyCkyaFcpkRMv6kKNlEgM0LGGe/MqD6U0xza7nN37hcqKPSeOk
-----END PRIVATE KEY-----
"""


class Talk:
    """One request, and the connection to answer it on.

    Attributes:
        path: What was asked for, with its query.
        headers: By lower-case name.
        nth: How often this path was asked for by now, this time included.
    """

    def __init__(self, server, connection, path, headers):
        self.server = server
        self.connection = connection
        self.path = path
        self.headers = headers
        self.nth = server.asked(self)
        self.over = False

    @property
    def start(self):
        """The first byte of the part that was asked for; 0 for the whole."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def send(self, data):
        self.connection.sendall(data)

    def head(self, status=200, **headers):
        """Send a status and headers; an underscore in a name is a dash."""
        lines = [f"HTTP/1.1 {status} x", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def answer(self, body=b"", status=200, **headers):
        """A well-behaved answer."""
        self.head(status, Content_Length=len(body), **headers)
        self.send(body)

    def part(self, body, start, **headers):
        """A well-behaved answer to a range."""
        self.answer(body[start:], 206, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", **headers)

    def redirect(self, location, status=302):
        self.answer(b"", status, Location=location)

    def wait(self, seconds=None):
        """Let time pass; the end of the server ends it."""
        if self.server.stopping.wait(seconds):
            raise ConnectionAbortedError

    def drip(self, data=b"x", every=0.05):
        """Send the same few bytes again and again, for ever."""
        while True:
            self.send(data)
            self.wait(every)

    def end(self):
        """Close the connection in good order (FIN)."""
        self.over = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def reset(self):
        """Tear the connection down (RST)."""
        self.over = True
        reset(self.connection)


class Server:
    """A server on loopback that plays ``play(talk)`` for each request; ``tls`` names a folder for its certificate.

    Attributes:
        talks: Every request, in the order it was heard.
        connections: How many were accepted.
    """

    def __init__(self, play, *, tls=None):
        self.talks = []
        self.connections = 0
        self.stopping = threading.Event()
        self._play = play
        self._asked = Counter()
        self._lock = threading.Lock()
        self._open = {}
        self._broken = []
        self._context = None if tls is None else _context(tls)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self):
        return self._listener.getsockname()[1]

    @property
    def url(self):
        return f"http{'s' * (self._context is not None)}://127.0.0.1:{self.port}"

    def __enter__(self):
        self._listening.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._listening.join()
        self._listener.close()
        with self._lock:
            left = dict(self._open)
        for thread, connection in left.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
        if self._broken:
            raise self._broken[0]

    def asked(self, talk):
        with self._lock:
            self.talks.append(talk)
            self._asked[talk.path] += 1
            return self._asked[talk.path]

    def _accept(self):
        while not self.stopping.is_set():
            connection, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self.connections += 1
                self._open[thread] = connection
            thread.start()

    def _serve(self, connection):
        try:
            with contextlib.suppress(OSError):
                self._converse(connection)
        except Exception as error:
            self._broken.append(error)
        finally:
            connection.close()
            with self._lock:
                self._open.pop(threading.current_thread(), None)

    def _converse(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as lines:
            while len(first := lines.readline().split()) == 3:
                headers = {}
                while line := lines.readline().strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                talk = Talk(self, connection, first[1].decode("latin-1"), headers)
                self._play(talk)
                if talk.over:
                    return


def cutting(body, every, *, cut="end", ranges="honoured", once=False, etag='"1"'):
    """A play that breaks off after ``every`` bytes of each answer, or of the first one alone.

    Args:
        body: What is there to read.
        every: Bytes of body before the cut.
        cut: ``"end"`` (FIN) or ``"reset"`` (RST).
        ranges: ``"honoured"``, ``"ignored"``, ``"refused"`` (416), or the Content-Range that is always claimed.
        once: Whether only the first answer to a path is cut.
        etag: Of the body.
    """

    def play(talk):
        start, part = talk.start, {}
        if talk.start and ranges == "refused":
            return talk.answer(b"", 416)
        if ranges == "ignored":
            start = 0
        elif start:
            claimed = f"bytes {start}-{len(body) - 1}/{len(body)}" if ranges == "honoured" else ranges
            part = {"Content_Range": claimed}
        left = body[start:]
        talk.head(206 if part else 200, Content_Length=len(left), ETag=etag, **part)
        if once and talk.nth > 1:
            return talk.send(left)
        talk.send(left[:every])
        return getattr(talk, cut)() if every < len(left) else None

    return play


def proxy(heard, answer):
    """A play of a proxy that notes whom it is asked for and gives one answer."""

    def play(talk):
        heard.append(talk.path)
        talk.send(answer)
        talk.end()

    return play


def reset(connection):
    """Close a connection by RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _context(folder):
    path = folder / "localhost.pem"
    path.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
