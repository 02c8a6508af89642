"""A command in a pseudo-terminal of a given width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from tests.support.cells import ROOT

STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CLI = "import sys; from registry.cli import main; sys.exit(main(sys.argv[1:]))"


def in_terminal(columns, *words):
    """Run the command with stdout in a terminal; its exit code, and its lines without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    read = b""
    while data := _read(ours):
        read += data
    os.close(ours)
    return process.wait(timeout=60), STYLE.sub("", read.decode().replace("\r", "")).splitlines()


def _read(descriptor):
    """Next bytes of a terminal; none when its other end is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
