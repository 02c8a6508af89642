"""Signals at random moments of a command; as a program, many of them, with a table of what came of it.

python -m tests.support.signals COUNT [SECONDS]   # SIGINT and SIGTERM, COUNT each, from 0 to SECONDS after the start
"""

import os
import random
import re
import resource
import signal
import statistics
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
BY_PYTHON = "a traceback of Python's, which had begun no line of the program's yet"
BEGUN = re.compile(r"batteries_entry\.py\", line \d+, in \w")
BATTERIES = str(Path(sys.executable).with_name("batteries"))


def signalled(words, number, delay, folder):
    """Start a command, send it a signal, and return exit code, lines on stderr, and seconds from the signal to the end.

    The last are two: on the clock, and of the processor, which other processes make no longer.
    """
    before = children()
    process = subprocess.Popen([BATTERIES, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    by_then = spent(process.pid)
    process.send_signal(number)
    since = time.monotonic()
    _, said = process.communicate(timeout=60)
    return process.returncode, said.splitlines(), time.monotonic() - since, max(0.0, children() - before - by_then)


def children():
    """Seconds of the processor of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def spent(pid):
    """Seconds of the processor of a process so far; 0 where the system does not say."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    user, system = path.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def outcome(number, code, lines):
    """Name what came of a signal."""
    if lines == ["KeyboardInterrupt"]:
        return BY_PYTHON
    if any("Traceback" in line or "ignored in" in line for line in lines):
        return "traceback" if any(map(BEGUN.search, lines)) else BY_PYTHON
    if code == 128 + number and len(lines) == 1:
        return "exit code and one line"
    if code == -number:
        return BY_THE_SYSTEM
    return "finished before" if code == 0 else f"exit code {code}, {len(lines)} lines"


def main(count, longest=2.0):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would the commands
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in (signal.SIGINT, signal.SIGTERM):
            found, took, worked, load = Counter(), [], [], os.getloadavg()[0]
            for i in range(count):
                delay = draw.uniform(0, longest)
                code, lines, seconds, of_the_processor = signalled(COMMANDS[i % len(COMMANDS)], number, delay, folder)
                what = outcome(number, code, lines)
                found[what] += 1
                took += [seconds] * (what != "finished before")
                worked += [of_the_processor] * (what != "finished before")
                if what not in ("exit code and one line", "finished before", BY_THE_SYSTEM, BY_PYTHON):
                    print(f"  {delay:.3f} s, {' '.join(COMMANDS[i % len(COMMANDS)])}: {what}", *lines, sep="\n    ", flush=True)
            times = f"median {statistics.median(took):.2f} s, slowest {max(took):.2f} s, of the processor {max(worked):.2f} s"
            load = f"{load:.0f} to {os.getloadavg()[0]:.0f} processes that want {os.cpu_count()} processors"
            print(signal.Signals(number).name, dict(found), times, load, sep="; ", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:]))
