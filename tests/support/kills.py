"""Commands killed (-9) at random moments; as a program, many of them, with a table of what was found.

python -m tests.support.kills COUNT [COMMAND ...]   # COUNT kills in all, a tenth of the share for commands that compute

Each command works in a folder of its own: a user's files, a registry, a home. After a kill, every file there has the bytes
that it had before, or those that the command gives it when it is let: nothing is lost, and nothing half-visible. The same
command, run again, ends as one that was never killed, to the byte, and leaves no temporary file.
"""

import contextlib
import functools
import gc
import importlib
import io
import os
import pkgutil
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import typer.main
from PIL import Image

from batteries.io.canonical_json import sha256
from registry.cli import main as batteries
from registry.stores.directory import ASIDE
from tests.support import vaes
from tests.support.adaptation import LITTLE, small_cell
from tests.support.cells import litter, publish, tiny, tree
from tests.support.checkpoints import saved, state
from tests.support.killer import Killer
from tests.support.viability import measure_little, one_of_a_group

HOME = "home"  # of the command: notes with times, and the cache
KERNELS = Path(__file__).parents[2] / ".pytest_cache"  # compiled once, as for the tests: a home is empty before each command
OLD = 90_000.0  # seconds: beyond every grace


@dataclass(frozen=True)
class Command:
    """A command, and the folder that it works in.

    Attributes:
        words: Its words.
        make: Makes the folder before it.
        computes: Whether it takes long.
        codes: Its exit codes.
    """

    words: str
    make: Callable[[Path], object]
    computes: bool = False
    codes: frozenset[int] = frozenset({0})


@dataclass
class Found:
    """What was found in the folders of a command.

    Attributes:
        littered: Kills after which there were temporary files.
        unfinished: Kills after which the command was not done.
        wrong: Words of what must not be.
    """

    littered: int = 0
    unfinished: int = 0
    wrong: list[str] = field(default_factory=list)


def cells_in(place, count=3):
    for seed in range(count):
        publish(tiny(f"cell-{seed}", seed=seed), place / "registry")


def a_cell(place):
    cells_in(place)
    tiny("mine", seed=9).write(place / "mine")


def filled_cache(place):
    cells_in(place, 8)
    in_folder(place, "pull high/* --registry registry", frozenset({0}))
    aged(place / HOME)


def aged(folder):
    """Make files as old as those that may be removed."""
    for path in folder.rglob("*"):
        os.utime(path, times=(time.time() - OLD,) * 2)


def damaged_cache(place):
    filled_cache(place)
    for path in blobs_in(place / HOME)[::3]:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    aged(place / HOME)


def two_sectors(place):
    for name in ("fine-a", "fine-b"):
        publish(vaes.cells()[name], place / "registry")
    (place / "pictures").mkdir()
    for number in range(4):
        noise = random.Random(number).randbytes(64 * 64 * 3)
        Image.frombytes("RGB", (64, 64), noise).save(place / "pictures" / f"{number}.png")


def a_checkpoint(place):
    saved(place, {"model_state_dict": state()}, "x.pt")


def a_small_cell(place):
    small_cell().write(place)


NOISE = "--noise --steps 4 --batch 2 --threads 1"
COMMANDS = {
    "publish": Command("publish mine/mine.safetensors --to registry", a_cell),
    "pull --out": Command("pull high/* --registry registry --out cells", cells_in),
    "mirror": Command("mirror registry copy", cells_in),
    "lock": Command("lock high/* --registry registry", cells_in),
    "gc": Command("gc --max-size 1k", filled_cache),
    "fsck": Command("fsck --repair", damaged_cache, codes=frozenset({0, 4})),
    "site": Command("site public --registry registry --threads 1", cells_in, computes=True),
    "compose": Command(
        "compose high/fine-a high/fine-b --registry registry --images pictures --out m.safetensors --threads 1",
        two_sectors,
        computes=True,
    ),
    "adopt": Command("adopt x.pt --name high/x --input plain --noise --out cells --threads 1", a_checkpoint, computes=True),
    "train": Command(
        f"train high/x-32 {NOISE} --size 32 --set V=12 --set hidden=8 --run run --out cells", lambda place: None, computes=True
    ),
    "vae train": Command(
        f"vae train high/fine-a high/fine-b {NOISE} --size 16 --every 2 --bottleneck 4 --run run --out pair.safetensors"
        " --registry registry",
        two_sectors,
        computes=True,
    ),
    "adapt": Command(
        "adapt small-64.safetensors --task naming --steps 2 --batch 4 --out cells --threads 1",
        a_small_cell,
        computes=True,
        codes=frozenset({0, 6}),  # killed after the cell is there, it is refused: no file is written over
    ),
}


def in_folder(place, words, codes):
    """Run a command in a folder, and say what it said where its exit code is another one."""
    os.chdir(place)
    os.environ.update(BATTERIES_HOME=str(place / HOME), XDG_CONFIG_HOME=str(place / "config"))
    said = os.open(place.parent / "said", os.O_CREAT | os.O_TRUNC | os.O_RDWR)
    kept = os.dup(2)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = batteries(words.split())
    if code not in codes:
        os.dup2(kept, 2)
        raise AssertionError(f"{words}: exit code {code}: {(place.parent / 'said').read_text()[-2000:]}")


def blobs_in(home):
    return sorted(path for path in home.rglob("*") if path.is_file() and len(path.name) == 64)


def by_the_user(place):
    """Everything in a folder but the command's home."""
    return {name: data for name, data in tree(place).items() if name.split("/")[0] not in (HOME, "config")}


def campaign(name, kills, seed):
    """Kill a command so often; what was found, and the killer."""
    command, killer, found = COMMANDS[name], Killer(seed), Found()
    with tempfile.TemporaryDirectory() as folder:
        before, place = (Path(folder, part, "place") for part in ("before", "now"))
        before.mkdir(parents=True)
        killer.let(lambda: command.make(before))
        killer.took.clear()
        shutil.copytree(before, place)
        killer.let(lambda: in_folder(place, command.words, command.codes))
        old, new, damaged = by_the_user(before), by_the_user(place), {path.read_bytes() for path in blobs_in(before / HOME)}
        while killer.kills < kills:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(before, place)
            done = killer.kill(lambda: in_folder(place, command.words, command.codes))
            found.unfinished += not done
            found.littered += bool(litter(place))
            found.wrong += half_visible(by_the_user(place), old, new) + lost(place / HOME, damaged)
            killer.let(lambda: in_folder(place, command.words, command.codes))
            found.wrong += different(by_the_user(place), new) + [f"litter: {path}" for path in litter(place)]
            found.wrong += lost(place / HOME, set() if name == "fsck" else damaged)
    return found, killer


def half_visible(now, old, new):
    """Files that have neither their old bytes nor their new ones, and old ones that are gone though the command keeps them."""
    strange = [
        f"half-visible: {name}"
        for name, data in now.items()
        if data is not None and not name.rpartition("/")[2].startswith(".") and data not in (old.get(name), new.get(name))
    ]
    return strange + [f"lost: {name}" for name in old.keys() & new.keys() if name not in now]


def lost(home, damaged):
    """Blobs that are none: their bytes are not those of their digest, nor were they so before."""
    aside = home / ASIDE
    blobs = [path for path in blobs_in(home) if aside not in path.parents]
    return [f"damaged: {path.name}" for path in blobs if sha256(data := path.read_bytes()) != path.name and data not in damaged]


def different(now, new):
    """What is not as after a command that was never killed."""
    return [f"not as without a kill: {name}" for name in now.keys() | new.keys() if now.get(name, 0) != new.get(name, 0)]


def shorten():
    """Measure on little, so that what is killed is rarely a measurement."""

    def put(target, value):
        module, _, name = target.rpartition(".") if isinstance(target, str) else (target, "", "")
        setattr(pkgutil.resolve_name(module), name, value)

    def setattr_(*given):
        if len(given) == 2:
            put(*given)
        else:
            setattr(*given)

    measure_little(setattr_)
    for module in ("adapting", "adapted", "domains"):
        put(f"composer.adaptation.{module}.probe", one_of_a_group)
    put("composer.adaptation.domains.NUMBERS", LITTLE)
    put("registry.transfer.publish.refuse_false_figures", lambda cell: None)  # cells made by hand


def warm():
    """Do what every command does before its work: not imports and the making of options are to be killed."""
    for package in ("batteries", "composer", "registry"):
        for one in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            with contextlib.suppress(ImportError):
                importlib.import_module(one.name)
    typer.main.get_command = functools.cache(typer.main.get_command)
    with contextlib.redirect_stdout(io.StringIO()):
        batteries(["--version"])
    gc.freeze()  # or each process would copy the memory of all


def main(count, names):
    """Kill every command, and print the table; 1 if anything was wrong."""
    chosen, faults = names or list(COMMANDS), 0
    os.environ.setdefault("NUMBA_CACHE_DIR", str(KERNELS))
    warm()
    shorten()
    weights = {name: 0.1 if COMMANDS[name].computes else 1.0 for name in chosen}
    print(
        "| command | kills | not done then | temporary files then | wrong | seconds let |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in chosen:
        share = max(1, round(count * weights[name] / sum(weights.values())))
        found, killer = campaign(name, share, f"kills {name}")
        faults += len(found.wrong)
        seconds = statistics.median(killer.took)
        print(
            f"| {name} | {killer.kills} | {found.unfinished} | {found.littered} | {len(found.wrong)} | {seconds:.3f} |",
            flush=True,
        )
        for words in found.wrong[:20]:
            print(f"  {name}: {words}", file=sys.stderr, flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
