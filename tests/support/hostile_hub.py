"""A Hub that answers in some manner, and records where a token came."""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secretsecretsecret"
COMMIT = "a" * 40


class Hostile(ThreadingHTTPServer):
    """A Hub that answers in some manner, and records where a token came.

    Attributes:
        manner: Manner of its answers.
        elsewhere: Address that it names for uploads, or None.
        seen: Path and token of each request.
    """

    daemon_threads = True

    def __init__(self, manner="well", elsewhere=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manner, self.elsewhere, self.seen = manner, elsewhere, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path.split("?")[0], self.headers.get("Authorization")))
        status, headers, body = self._of(sent)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if isinstance(body, bytes):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.end_headers()
        for part in body:
            try:
                self.wfile.write(part)
            except OSError:
                return

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - names that the base class asks for

    def _of(self, sent):
        manner, path = self.server.manner, self.path
        if manner == "endless":
            return 200, {"Connection": "close"}, (b" " * 65536 for _ in range(10**6))
        if manner == "slow":
            return 200, {"Connection": "close"}, (time.sleep(0.1) or b" " for _ in range(10**4))
        if manner == "compressed":
            return 200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(5 * 10**7))
        if manner == "echo":
            return 400, {}, json.dumps({"error": f"bad header {self.headers['Authorization']}"}).encode()
        if manner == "redirect":
            return 307, {"Location": f"{self.server.elsewhere}{path}"}, b""
        if "/preupload/" in path:
            files = [{"path": one["path"], "uploadMode": "lfs", "shouldIgnore": False} for one in json.loads(sent)["files"]]
            return 200, {}, json.dumps({"files": files}).encode()
        if path.endswith("/info/lfs/objects/batch"):
            to = self.server.elsewhere or self.server.url
            actions = {"upload": {"href": f"{to}/upload"}, "verify": {"href": f"{to}/verify"}}
            objects = [{"oid": one["oid"], "size": one["size"], "actions": actions} for one in json.loads(sent)["objects"]]
            return 200, {}, json.dumps({"transfer": "basic", "objects": objects}).encode()
        if "/commit/" in path:
            return 200, {}, json.dumps({"commitUrl": f"{self.server.url}/a/b/commit/{COMMIT}", "commitOid": COMMIT}).encode()
        return 200, {}, json.dumps({"url": f"{self.server.url}/a/b"}).encode()
