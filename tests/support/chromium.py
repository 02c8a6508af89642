"""Headless Chromium, driven through two pipes by its own protocol; all that a page logs or asks for is collected."""

import base64
import fcntl
import json
import os
import shutil
import subprocess

CHROMIUM = shutil.which("chromium")
SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "no-first-run", "hide-scrollbars", "remote-debugging-pipe"),
    *("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic"),
)
CODES = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, " ": 32}
TEXTS = {"Enter": "\r", " ": " "}


class Chromium:
    """A browser with one page. Messages of its console, errors and requests to any host are collected."""

    def __init__(self, profile):
        (theirs, self._out), (self._in, back) = os.pipe(), os.pipe()
        theirs, back = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs, back))

        def place():
            os.dup2(theirs, 3)
            os.dup2(back, 4)

        command = [CHROMIUM, *(f"--{switch}" for switch in SWITCHES), f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, preexec_fn=place, pass_fds=(3, 4), stdout=quiet, stderr=quiet)
        os.close(theirs)
        os.close(back)
        self._buffer, self._number, self._session = b"", 0, None
        self.console, self.requests, self.loads = [], [], 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self._session = None
        self.call("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._out)
        os.close(self._in)

    def call(self, method, **parameters):
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def open(self, url, width=1400, height=1000, scheme="light"):
        """Open a page in a window of some size, of a user with a theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.load(lambda: self.call("Page.navigate", url="about:blank"))  # so that a page of the same path is loaded again
        self.load(lambda: self.call("Page.navigate", url=url))

    def load(self, act):
        """Act, and wait for the page that it leads to."""
        before = self.loads
        act()
        while self.loads == before:
            self._next()

    def run(self, code):
        """Evaluate an expression in the page."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key, *, shift=False):
        """Press a key and let it go."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": CODES.get(key, 0), "modifiers": 8 * shift}
        text = TEXTS.get(key, key if len(key) == 1 else None)
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self):
        """Return a picture of the window, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _next(self):
        while b"\0" not in self._buffer:
            data = os.read(self._in, 2**20)
            assert data, "the browser ended"
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, parameters):
        if method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.requests.append(parameters["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(parameters)
