"""Signals at random moments of a command; as a program, many of them, with a table of what came of it.

python -m tests.support.signals COUNT [SECONDS]   # SIGINT and SIGTERM, COUNT each, from 0 to SECONDS after the start
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

COMMANDS = (
    ("--version",),
    ("list",),
    ("show", "high/johanna-64"),
    ("compose", "high/*", "--out", "m.safetensors"),
    ("validate", "low/fresnel-64"),
)
BY_THE_SYSTEM = "ended by the system, before Python had a handler or after it gave it back"
BATTERIES = str(Path(sys.executable).with_name("batteries"))


def signalled(words, number, delay, folder):
    """Start a command, send it a signal, and return exit code, lines on stderr and seconds from the signal to the end."""
    process = subprocess.Popen([BATTERIES, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(number)
    since = time.monotonic()
    _, said = process.communicate(timeout=60)
    return process.returncode, said.splitlines(), time.monotonic() - since


def outcome(number, code, lines):
    """Name what came of a signal."""
    if any("Traceback" in line or "ignored in" in line for line in lines):
        return "traceback"
    if code == 128 + number and len(lines) == 1:
        return "exit code and one line"
    if code == -number:
        return BY_THE_SYSTEM
    return "finished before" if code == 0 else f"exit code {code}, {len(lines)} lines"


def main(count, longest=2.0):
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in (signal.SIGINT, signal.SIGTERM):
            found, slowest = Counter(), 0.0
            for i in range(count):
                delay = draw.uniform(0, longest)
                code, lines, seconds = signalled(COMMANDS[i % len(COMMANDS)], number, delay, folder)
                what = outcome(number, code, lines)
                found[what] += 1
                slowest = max(slowest, seconds if what != "finished before" else 0.0)
                if what not in ("exit code and one line", "finished before"):
                    print(f"  {delay:.3f} s, {' '.join(COMMANDS[i % len(COMMANDS)])}: {what}", *lines, sep="\n    ", flush=True)
            print(signal.Signals(number).name, dict(found), f"slowest {slowest:.2f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:]))
