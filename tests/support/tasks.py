"""Calls of tasks: what they compute, and how they fail."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from batteries.errors import InputError, UnknownKeyError


def square(number):
    return number * number


def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def marked_nap(folder, name, seconds):
    Path(folder, name).write_text(str(os.getpid()))
    time.sleep(seconds)
    return name


def marked_answer(folder, name, size):
    """Return an answer that a connection does not hold until the driver reads it."""
    Path(folder, name).write_text(str(os.getpid()))
    return bytes(size)


def left(folder, pattern, count, seconds):
    """Wait for files that other processes leave in a folder, each in one write, and return by name the number in it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = {path.name: path.read_text() for path in Path(folder).glob(pattern)}
        if len(found) >= count and all(found.values()):  # a file is there before its text
            return {name: int(text) for name, text in sorted(found.items())}
        time.sleep(0.02)
    raise AssertionError(f"{folder} has {found}; {count} files {pattern} were expected within {seconds} s")


def raises(error):
    raise error


def refuses(found=(1, 2)):
    raise InputError("wrong number", code="WRONG", expected=1, found=found, where=Path("here"), remedy="Take 1.")


def misses():
    raise UnknownKeyError("no such check", code="NO_CHECK", expected="a", found="b")


def refuses_with_a_lock():
    raise InputError("wrong lock", code="WRONG", found=threading.Lock())


def leaves(code):
    sys.exit(code)


def interrupts():
    raise KeyboardInterrupt


def locked():
    return threading.Lock()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_first(folder):
    """Kill the process of the first attempt."""
    mark = Path(folder, "first")
    if not mark.exists():
        mark.touch()
        killed()
    return "second"


def killed_while_it_answers():
    return Deadly(bytes(10**6))


class Deadly:
    """A value whose pickling ends the process."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        killed()


class Unreadable:
    """A value that can be pickled, and not unpickled."""

    def __reduce__(self):
        return raises, (ValueError("unreadable"),)


def unreadable():
    return Unreadable()


def surroundings():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    return threads, os.environ["OMP_NUM_THREADS"], sys.stdin.read(), os.getpid()


def prints():
    print("from a task")
    sys.stdout.flush()
    os.write(1, b"from its descriptor\n")
