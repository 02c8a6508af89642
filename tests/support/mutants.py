"""Mutants of every kind of file that is read: each is refused by name, or read as what it says; as a program, a table of many.

python -m tests.support.mutants COUNT [READER ...]   # COUNT in all, shared between the readers

Each reader works on mutants of its own good file, drawn from the reader's name and a number: the same command tries the same
files. Blocks of them are tried in a forked process each, so that one that ended its process, or kept it, would be named.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from batteries.errors import BatteriesError
from tests.support.readers import READERS, Reader, reader

SEED = 5
SECONDS = 1.0  # of one processor, for one mutant
BLOCK = 500  # mutants of a process
PATIENCE = 60  # seconds for one mutant on a machine that does other things too


@dataclass
class Tried:
    """What became of some mutants.

    Attributes:
        codes: Codes of those that were refused, counted; empty for an error without words.
        taken: How many were read.
        wrong: Numbers of the mutants of which anything else became, with what that was.
        slowest: Seconds of one processor, of the slowest.
        slowest_number: Number of that one.
    """

    codes: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    wrong: dict[int, str] = field(default_factory=dict)
    slowest: float = 0.0
    slowest_number: int = -1

    def add(self, number: int, outcome: str, seconds: float) -> None:
        """Count one more."""
        kind, _, words = outcome.partition(" ")
        if kind == "taken":
            self.taken += 1
        elif kind == "refused":
            self.codes[words] += 1
        else:
            self.wrong[number] = words
        if seconds > SECONDS:
            self.wrong.setdefault(number, f"took {seconds:.1f} s")
        if seconds > self.slowest:
            self.slowest, self.slowest_number = seconds, number


def mutant(name: str, number: int) -> bytes:
    others = tuple(reader(other).text for other in OTHERS if other != name)
    return reader(name).mutant(random.Random(f"{SEED} {name} {number}"), others)


OTHERS = ("index", "manifest", "lock", "configuration")  # texts that cost little to make


def outcome(found: Reader, data: bytes) -> str:
    """Say what became of a mutant: ``taken``, ``refused CODE``, or ``wrong`` and what that was."""
    try:
        same = found.read(data) == data
    except BatteriesError as error:
        return f"refused {error.code}" if str(error) else "wrong an error without words"
    except (Exception, SystemExit) as error:
        return f"wrong {type(error).__name__}: {error}"[:300].replace("\n", " ")
    return "taken" if same else "wrong taken, and written in other bytes"


def tried(name: str, numbers: range) -> Tried:
    """Try mutants in this process."""
    found, result = reader(name), Tried()
    for number in numbers:
        data = mutant(name, number)
        started = time.process_time()
        became = outcome(found, data)
        result.add(number, became, time.process_time() - started)
    return result


def tried_apart(name: str, numbers: range, into: Tried) -> None:
    """Try mutants in processes of their own; one that ends its process, or keeps it, is noted, and the rest goes on."""
    at = numbers.start
    while at < numbers.stop:
        at = _block(name, range(at, numbers.stop), into)


def _block(name: str, numbers: range, into: Tried) -> int:
    """Try mutants in a process; the number to go on with, after one that ended it."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        _child(name, numbers, mouth)
    os.close(mouth)
    at = numbers.start
    with os.fdopen(ear) as heard:
        for line in heard:
            seconds, _, became = line.rstrip("\n").partition(" ")
            into.add(at, became, float(seconds))
            at += 1
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if at < numbers.stop:
        into.wrong[at] = f"ended the process ({status})"
        return at + 1
    return at


def _child(name: str, numbers: range, mouth: int) -> None:
    """Be the forked process: a line for each mutant. One that takes more than ``PATIENCE`` seconds ends it."""
    with os.fdopen(mouth, "w") as said:
        for number in numbers:
            data = mutant(name, number)
            signal.alarm(PATIENCE)
            started = time.process_time()
            became = outcome(reader(name), data)
            print(f"{time.process_time() - started:.4f} {became}", file=said, flush=True)
    os._exit(0)


def main(count: int, names: list[str]) -> int:
    """Try mutants of every reader, and print the table; 1 if anything was wrong."""
    chosen, faults = names or list(READERS), 0
    print("| reader | mutants | refused | codes | read | slowest, s |\n|---|---|---|---|---|---|")
    for place, name in enumerate(chosen):
        reader(name)  # made once, before the processes that share it
        share, result = count // len(chosen) + (place < count % len(chosen)), Tried()
        for start in range(0, share, BLOCK):
            tried_apart(name, range(start, min(start + BLOCK, share)), result)
        refused = sum(result.codes.values())
        figures = f"{share:,} | {refused:,} | {len(result.codes)} | {result.taken:,} | {result.slowest:.3f}"
        print(f"| {name} | {figures} |", flush=True)
        for number, words in sorted(result.wrong.items()):
            faults += 1
            print(f"  {name} {number}: {words}", file=sys.stderr, flush=True)
    print(f"\n{count:,} mutants, {faults} wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
