"""Processes are killed (-9) at random moments of a publish and of a pull. Whatever the moment, nobody reads a corrupt byte,
what was acknowledged stays, a version is there whole or not at all, and the next start leaves no temporary byte.

A campaign runs in a process of its own: it has no threads, and so may fork. ``publishes`` and ``pulls`` are for registries of
any kind; what is particular to a folder is said in the functions that call them.
"""

import ast
import os
import random
import warnings
from pathlib import Path

import pytest

from batteries.errors import NotFoundError
from batteries.io.canonical_json import sha256
from registry.stores.cache import Cache
from registry.stores.directory import ASIDE, DirectoryStore
from registry.stores.settings import open_store
from registry.stores.snapshot import Snapshot
from registry.transfer.pull import pull
from registry.transfer.verify import verify_store
from tests.support.cells import litter, publish, python, tiny
from tests.support.hubserver import TOKEN, apart
from tests.support.killer import DONE, Killer, work_apart
from tests.support.soak import many

CELLS = [tiny(name, seed=seed) for seed, name in enumerate("abc")]
BYTES = {sha256(data) for cell in CELLS for data in (cell.to_bytes(), cell.manifest.to_bytes())}
ROUND = 8  # versions in one registry, so that looking at it stays quick


@pytest.mark.slow
def test_publish_to_a_folder(tmp_path):
    run("publishes_to_a_folder", tmp_path)


@pytest.mark.slow
def test_pull_from_a_folder(tmp_path):
    run("pulls_from_a_folder", tmp_path)


@pytest.mark.slow
def test_publish_to_a_hub(tmp_path):
    with apart() as url:
        run("publishes_to_a_hub", tmp_path, url, kills=many(30, 250))


@pytest.mark.slow
def test_pull_from_a_hub(tmp_path):
    with apart() as url:
        run("pulls_from_a_hub", tmp_path, url, kills=many(30, 250))


CHEAP = ("publish", "pull --out", "mirror", "lock", "gc", "fsck")
COMPUTING = ("site", "compose", "adopt", "train", "vae train", "adapt")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP + many((), COMPUTING))
def test_a_command_that_was_killed_ends_as_if_it_was_not_when_it_is_run_again(name):
    code = "import sys; from tests.support.kills import main; sys.exit(main(int(sys.argv[1]), sys.argv[2:]))"
    ended = python(code, many(3, 3 if name in COMPUTING else 160), name, timeout=3600, OMP_NUM_THREADS="1")
    assert ended.returncode == 0, ended.stderr


def run(campaign, *arguments, kills=None):
    """Run a function of this file in a new process, with the number of kills and a seed after its other arguments."""
    seed = random.randrange(2**32)
    code = f"import sys; from tests.batteries.io.test_kills import {campaign} as work; "
    code += "work(*sys.argv[1:-2], *map(int, sys.argv[-2:]))"
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = python(code, *arguments, kills or many(70, 250), seed, timeout=3600, **one)
    print(ended.stdout)
    assert ended.returncode == 0, f"seed {seed}\n{ended.stderr}"


def publishes_to_a_folder(folder, kills, seed):
    """The campaign of publishes to a folder."""
    left = []

    def start_again(address):
        left.extend(litter(Path(address)))
        DirectoryStore(address)
        assert litter(Path(address)) == []

    publishes(lambda n: str(Path(folder, f"registry-{n}")), start_again, kills, seed)
    assert left  # or the kills were not in the middle of anything


def pulls_from_a_folder(folder, kills, seed):
    """The campaign of pulls from a folder."""
    address = Path(folder, "registry")
    for cell in CELLS:
        publish(cell, address)
    pulls(str(address), folder, kills, seed)


def publishes_to_a_hub(folder, url, kills, seed):
    """The campaign of publishes to a Hub: one commit a publish, so that nothing can be half there."""
    with_hub(folder, url)
    publishes(lambda n: f"hf://lab/registry-{n}", lambda address: None, kills, seed, look=in_a_process(whole_versions))


def pulls_from_a_hub(folder, url, kills, seed):
    """The campaign of pulls from a Hub."""
    with_hub(folder, url)
    in_a_process(lambda: {publish(cell, "hf://lab/cells").number for cell in CELLS})()
    pulls("hf://lab/cells", folder, kills, seed, look=in_a_process(pull_all))


def with_hub(folder, url):
    """Point the client at a local Hub."""
    warnings.filterwarnings("ignore", "Use 'content=<", DeprecationWarning)
    os.environ.update(HF_ENDPOINT=url, HF_TOKEN=TOKEN, BATTERIES_HOME=str(Path(folder, "home")))


def in_a_process(work):
    """The same work in a forked process: connections bring threads, and a process with threads is not to fork."""

    def apart(*arguments):
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            work_apart(lambda: os.write(mouth, repr(work(*arguments)).encode()), mouth)
        os.close(mouth)
        with os.fdopen(ear, "rb") as heard:
            said = heard.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return ast.literal_eval(said[1 : -len(DONE)].decode())

    return apart


def publishes(address_of, start_again, kills, seed, look=None):
    """Kill publishes, and look at the registry after each of them.

    Args:
        address_of: From a number to the address of a new registry.
        start_again: Does with an address what the next writer does first, and checks that nothing temporary is left.
        kills: How many.
        seed: Of the moments.
        look: Stands in for :func:`whole_versions`.
    """
    killer = Killer(seed)
    done = 0
    while killer.kills < kills:
        address, version = address_of(done // ROUND), f"1.0.{done}"
        if done % ROUND == 0:
            told = set()
        cell = tiny("abc"[done % 3], version, seed=done)
        if killer.kill(lambda cell=cell, address=address: publish(cell, address)):
            told.add(f"{cell.name}@{version}")
            done += 1
        assert (look or whole_versions)(address) >= told
        start_again(address)
    killer.report()


def pulls(address, folder, kills, seed, look=None):
    """Kill pulls into a cache that is cold or half full, and look at the cache after each of them.

    Args:
        address: A registry that has ``CELLS``.
        folder: Where the caches are put.
        kills: How many.
        seed: Of the moments.
        look: Stands in for :func:`pull_all` where nothing is killed.
    """
    killer = Killer(seed)
    number = left = 0
    # few kills may all miss the moment between a temporary file and its name: then some more
    while killer.kills < kills or (not left and killer.kills < 10 * kills):
        os.environ["BATTERIES_HOME"] = str(Path(folder, f"home-{number}"))
        cache = Cache()
        ended = killer.kill(lambda: pull_all(address))
        held = {digest: cache.path(digest) for digest in BYTES if cache.path(digest).exists()}
        assert all(sha256(path.read_bytes()) == digest for digest, path in held.items())
        left += len(litter(cache.folder))
        cache.sweep()
        assert litter(cache.folder) == []
        if ended or killer.rng.random() < 0.5:
            (look or pull_all)(address)
            assert not (cache.folder / ASIDE).exists()
            number += 1
    killer.report()
    assert left  # or the kills were not in the middle of anything


def pull_all(address):
    """Pull the cells; they are the right ones."""
    cells = pull(*(cell.name for cell in CELLS), registry=address)
    assert [cell.to_bytes() for cell in cells] == [cell.to_bytes() for cell in CELLS]


def whole_versions(address):
    """The versions that a reader sees, each of which it can read."""
    try:
        snapshot = Snapshot.take(open_store(address))
    except NotFoundError:  # nothing was published yet
        return set()
    assert [finding for finding in verify_store(snapshot.store) if not finding.ok] == []
    return {f"{path}@{version}" for path, releases in snapshot.index.cells.items() for version in releases}
