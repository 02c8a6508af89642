"""Eight processes that use one cache and one registry at once; as a program, for as long as it is told.

python -m tests.support.crowd SECONDS [apart|signed]

apart: with process numbers of a namespace each, as containers have them. signed: in a registry that is signed, all of whose
writers have all keys, and whose first process gives it the next key, again and again, and revokes the one before.

Each process runs commands, drawn at random, until its time is over. No command may say that anything is damaged or lost, end
with a traceback, or with another exit code than 0. In the end every version that was acknowledged is there, and nothing else.
"""

import contextlib
import ctypes
import io
import os
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from registry.catalog.index import Index
from registry.cli import main as batteries
from tests.support.cells import litter, publish, tiny
from tests.support.kills import HOME, blobs_in, lost, shorten, warm

PROCESSES = 8
NEW_NUMBERS = 0x20000000  # CLONE_NEWPID
COMMANDS = {
    "publish": "publish mine/{name}.safetensors --to {registry}",
    "pull": "pull high/* --registry {registry} --out cells",
    "gc": "gc --max-size 1k",
    "fsck of the cache": "fsck",
    "fsck of the registry": "fsck --registry {registry}",
    "mirror": "mirror {registry} {copy}",
    "lock": "lock high/* --registry {registry}",
    "verify": "verify --all --registry {registry}",
}
SIGNED = {
    **COMMANDS,
    "publish": "publish mine/{name}.safetensors --to {registry} {keys}",
    "mirror": "mirror {registry} {copy} {keys}",
    "refresh": "key refresh {registry} {keys}",
    "rotate": "key rotate {registry} --add {new}.pub --remove {old}.pub {keys}",
}
KEYS = 16  # as many may sign
ALARM = re.compile(
    r"Traceback|damaged|mismatch|MISSING|ROLLBACK|REWRITTEN|MUTATED|LOG_FORK|UNSIGNED|_SIGNATURE|_SIGNERS|REVOKED|_ROOT"
)


def begin(place, signed):
    """Make the registry that all of them use."""
    for seed in range(3):
        publish(tiny(f"first-{seed}", seed=seed), place / "registry")
    if signed:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert all(batteries(["key", "new", str(key)]) == 0 for key in keys(place))
            assert batteries(["key", "refresh", str(place / "registry"), "--sign", str(keys(place)[0]), "--releases"]) == 0


def keys(place):
    """The private keys of a signed registry, in the order in which they come into force."""
    return [place / f"key-{number}" for number in range(KEYS)]


def at_work(place, number, ends, signed):
    """Run commands until the time is over, and write down what came of each."""
    own = place / f"user-{number}"
    own.mkdir()
    os.chdir(own)
    os.environ.update(BATTERIES_HOME=str(place / HOME), XDG_CONFIG_HOME=str(own / "config"))
    said, told = os.open(own / "said", os.O_CREAT | os.O_RDWR), own / "told"
    os.dup2(said, 1)
    os.dup2(said, 2)
    draw, published, begun, turns = random.Random(f"crowd {number}"), 0, time.monotonic(), 0
    drawn = [what for what in (SIGNED if signed else COMMANDS) if what != "rotate"]
    while (now := time.monotonic()) < ends:
        turned = signed and number == 0 and turns + 1 < KEYS and now - begun > (turns + 1) * (ends - begun) / KEYS
        what = "rotate" if turned else draw.choice(drawn)
        if what == "publish":
            cell = tiny(f"mine-{number}", f"1.0.{published}", seed=100 * number + published)
            cell.write(own / "mine")
            published += 1
        os.ftruncate(said, 0)
        os.lseek(said, 0, os.SEEK_SET)
        old, new = [*keys(place), ""][turns : turns + 2]
        names = {"name": f"mine-{number}", "registry": place / "registry", "copy": place / "copy", "old": old, "new": new}
        names["keys"] = " ".join(f"--sign {key}" for key in keys(place))
        code = batteries((SIGNED if signed else COMMANDS)[what].format(**names).split())
        turns += turned and code == 0
        words = (own / "said").read_text(errors="replace")
        wrong = code != 0 or ALARM.search(words)
        with told.open("a") as lines:
            print(what, code, repr(words[-900:]) if wrong else "", sep="\t", file=lines)


def may_be_apart():
    """Whether this user may give processes numbers of their own, asked in a process that ends."""
    child = os.fork()
    if child == 0:
        os._exit(ctypes.CDLL(None).unshare(NEW_NUMBERS) != 0)
    return os.waitpid(child, 0)[1] == 0


def start(place, number, ends, apart, signed):
    """Fork a process that works; with a namespace for its number, a process in between."""
    child = os.fork()
    if child:
        return child
    try:
        if apart:
            assert ctypes.CDLL(None).unshare(NEW_NUMBERS) == 0, "no permission to make a namespace"
            inner = os.fork()
            if inner:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)
        at_work(place, number, ends, signed)
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=(place / f"user-{number}" / "broken").open("w"))
        os._exit(1)


def outcomes(place):
    """What each command ended with, counted, and the words of those that should not have ended so."""
    counts, wrong = Counter(), [f"broken: {path.read_text()[-900:]}" for path in place.glob("user-*/broken")]
    for path in sorted(place.glob("user-*/told")):
        for line in path.read_text().splitlines():
            what, code, words = line.split("\t", 2)
            counts[what] += 1
            wrong += [f"{what}: {code} {words}"] * bool(words)
    return counts, wrong


def acknowledged(place):
    """The versions whose publishers were told that they are there."""
    versions = {f"high/first-{seed}@1.0.0" for seed in range(3)}
    for path in place.glob("user-*/told"):
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        codes = [line[1] for line in lines if line[0] == "publish"]
        number = path.parent.name.removeprefix("user-")
        versions |= {f"high/mine-{number}@1.0.{n}" for n, code in enumerate(codes) if code == "0"}
    return versions


def crowd(place, seconds, *, apart, signed):
    """Let them work; how often each command ended, and what is wrong."""
    begin(place, signed)
    ends = time.monotonic() + seconds
    children = [start(place, number, ends, apart, signed) for number in range(PROCESSES)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    counts, wrong = outcomes(place)
    wrong += [f"a process ended with {code}" for code in codes if code]
    index = Index.from_bytes((place / "registry" / "index.json").read_bytes(), where="the registry")
    there = {f"{path}@{version}" for path, releases in index.cells.items() for version in releases}
    wrong += [f"lost: {version}" for version in acknowledged(place) - there]
    wrong += lost(place / HOME, set()) + [f"litter: {path}" for path in litter(place)]
    return counts, wrong, len(there), len(blobs_in(place / HOME))


def main(seconds, *, apart, signed):
    if apart and not may_be_apart():
        return 77  # as a test that is left out
    warm()
    shorten()
    with tempfile.TemporaryDirectory() as folder:
        counts, wrong, versions, kept = crowd(Path(folder), seconds, apart=apart, signed=signed)
    print("| command | times |\n|---|---|")
    for what in counts:
        print(f"| {what} | {counts[what]:,} |")
    where = "namespaces of their own" if apart else "one namespace, a signed registry" if signed else "one namespace"
    print(f"\n{PROCESSES} processes of {where}, {seconds:.0f} s: {sum(counts.values()):,} commands,")
    print(f"{versions} versions in the registry, {kept} files in the cache, {len(wrong)} wrong")
    print(*Counter(words[:1000] for words in wrong).most_common(20), sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), apart="apart" in sys.argv, signed="signed" in sys.argv))
