"""The power goes at any moment of a publish. Every state of the disk that may be left is a good registry, with all that was
acknowledged in it.

The calls of the disk are recorded, and a model of a file system rebuilds what POSIX allows after each of them. What was
written to a file and not synced is there, or not, or half, or as zeros. Of the changes of a folder that were not synced
(a name that came, was renamed or went) any subset arrived, in order; a rename arrives whole or not at all.
"""

import copy
import itertools
import random

import pytest

from batteries.errors import BatteriesError
from batteries.io import atomic_files, filesystem
from batteries.io.filesystem import Disk
from registry.catalog.index import Index
from registry.stores.directory import DirectoryStore
from registry.transfer.remarks import attest
from registry.transfer.verify import verify_store
from tests.support.cells import attestation, publish, tiny
from tests.support.faulty_disk import HastyDisk, MemoryDisk, RecordingDisk
from tests.support.soak import many

CELLS = [tiny("a"), tiny("b", seed=1), tiny("a", "1.1.0", seed=2)]
OPINION = attestation(CELLS[0])
MOST = many(32, 4096)  # states after one call; where there are more, so many random ones


def publish_all(folder, acknowledge=lambda what: None):
    """What is recorded: three cells in two folders, and an attestation."""
    for cell in CELLS:
        publish(cell, DirectoryStore(folder))
        acknowledge(f"{cell.name}@{cell.version}")
    attest(OPINION, DirectoryStore(folder))
    acknowledge(OPINION.cell)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The log of all that, on a real disk, and the folder it is in."""
    root = tmp_path_factory.mktemp("recorded")
    recording = RecordingDisk(Disk())
    with filesystem.use(recording):
        publish_all(root / "registry", recording.acknowledge)
    return recording.log, root


class File:
    """Bytes: those that are on the device for certain, and those that a reader sees."""

    def __init__(self):
        self.synced = self.seen = b""

    def after_loss(self, choose):
        """Bytes that were not synced are not there, or torn, or zeros, or there."""
        if self.seen == self.synced:
            return self.seen
        torn = self.seen[: len(self.seen) // 2]
        return [self.synced, torn, bytes(len(self.seen)), self.seen][choose(4)]


class Folder:
    """Names: those that are on the device for certain, the changes since, and those that a reader sees."""

    def __init__(self):
        self.synced, self.changes, self.seen = {}, [], {}

    def change(self, **names):
        """Names that come (with what they name) or go (with None), all of them or none."""
        self.changes.append(names)
        _apply(self.seen, names)

    def after_loss(self, choose):
        """Any of the changes that were not synced did not arrive; those that did, did so in order."""
        names = dict(self.synced)
        for change in self.changes:
            if choose(2):
                _apply(names, change)
        return names


def _apply(names, change):
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Volume:
    """A file system as of some log, which knows what a power loss may leave of it.

    Args:
        root: A folder that is on the device from the beginning, as is what is above it.
    """

    def __init__(self, root):
        self.root = root
        self.top = Folder()

    def node(self, path):
        """What a path names."""
        node = self.top
        for part in path.relative_to(self.root).parts:
            node = node.seen[part]
        return node

    def apply(self, word, *operands):
        """Do what a line of a log says."""
        match word, operands:
            case "create", (path,):
                self.node(path.parent).change(**{path.name: File()})
            case "mkdir", (path,):
                self.node(path.parent).change(**{path.name: Folder()})
            case "write", (path, data):
                self.node(path).seen += data
            case "fsync", (path,) if path in self.root.parents:
                pass
            case "fsync", (path,):
                node = self.node(path)
                node.synced = copy.copy(node.seen)
                if isinstance(node, Folder):
                    node.changes.clear()
            case "link", (source, target):
                self.node(target.parent).change(**{target.name: self.node(source)})
            case "replace", (source, target) if source.parent == target.parent:
                self.node(source.parent).change(**{target.name: self.node(source), source.name: None})
            case "unlink", (path,):
                self.node(path.parent).change(**{path.name: None})
            case "acknowledge", _:
                pass
            case _:
                raise AssertionError(f"the model does not know {word} of {operands}")

    def tree(self, choose=None):
        """Every path with its bytes (None: a folder): what a reader sees, or what is left by one way to lose the power.

        Args:
            choose: Given a number of ways, says which; left out, nothing is lost.
        """
        found = dict.fromkeys([self.root, *self.root.parents])
        waiting = [(self.root, self.top)]
        while waiting:
            path, folder = waiting.pop()
            for name, node in (folder.after_loss(choose) if choose else folder.seen).items():
                if isinstance(node, Folder):
                    found[path / name] = None
                    waiting.append((path / name, node))
                else:
                    found[path / name] = node.after_loss(choose) if choose else node.seen
        return found

    def after_loss(self, most, rng):
        """What a power loss may leave: every tree where there are at most ``most``, else as many random ones."""
        found = list(itertools.islice(_every(self.tree), most + 1))
        return found if len(found) <= most else [self.tree(rng.randrange) for _ in range(most)]


def _every(build):
    """What ``build`` makes of every sequence of choices."""
    chosen = []  # (which, of how many)
    while True:
        position = itertools.count()

        def choose(ways, position=position):
            at = next(position)
            if at == len(chosen):
                chosen.append((0, ways))
            return chosen[at][0]

        yield build(choose)
        while chosen and chosen[-1][0] + 1 == chosen[-1][1]:
            chosen.pop()
        if not chosen:
            return
        which, ways = chosen[-1]
        chosen[-1] = which + 1, ways


def test_the_model_and_the_disk_agree(recorded):
    log, root = recorded
    volume = Volume(root)
    for line in log:
        volume.apply(*line)
    on_disk = {path: None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}
    assert volume.tree() == {**dict.fromkeys([root, *root.parents]), **on_disk}


@pytest.mark.slow
def test_every_state_after_a_power_loss_is_good(recorded):
    log, root = recorded
    states = states_of(log, root)
    assert len(states) > 50
    assert bad_among(states, root) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left_out", "expected"),
    [(["file"], {"refused"}), (["folder"], {"lost"}), (["file", "folder"], {"refused", "lost"})],
    ids=["files", "folders", "both"],
)
def test_without_fsync_the_same_states_are_not_good(recorded, left_out, expected):
    log, root = recorded
    assert kinds(bad_among(states_of(without_fsync(log, left_out), root, most=many(4, 64)), root)) >= expected


def without_fsync(log, of=("file", "folder")):
    """A log in which no file was synced, or no folder, or neither."""

    def kind(path):
        return "file" if path.suffix == atomic_files.TEMPORARY else "folder"

    return [line for line in log if line[0] != "fsync" or kind(line[1]) not in of]


def test_a_state_in_memory_is_as_good_or_bad_as_on_a_disk(recorded, tmp_path):
    log, root = recorded
    states = [*states_of(without_fsync(log), root, most=1).items()]
    for number, (state, told) in enumerate(states[:: max(1, len(states) // many(10, 1000))]):
        folder = tmp_path / str(number)
        for path, data in sorted(state):
            place = folder / path.relative_to(root) if path not in root.parents else folder
            if data is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(data)
        with filesystem.use(HastyDisk()):
            wrong = whats_wrong(folder / "registry", told)
        assert kinds(wrong) == kinds(in_memory(state, root, told))


@pytest.mark.slow
def test_killed_then_repeated_then_without_power(recorded):
    """Somebody who repeats a publish that was killed is told that it is there: then it must be, for good."""
    log, root = recorded
    states = {}
    for killed in range(len(log)):
        volume = Volume(root)
        for line in log[:killed]:
            volume.apply(*line)
        repeat = RecordingDisk(MemoryDisk(volume.tree()))
        with filesystem.use(repeat):
            publish(CELLS[0], DirectoryStore(root / "registry"))
        for line in repeat.log:
            volume.apply(*line)
        left = volume.after_loss(MOST, random.Random(killed))
        states |= {frozenset(tree.items()): {f"{CELLS[0].name}@{CELLS[0].version}"} for tree in left}
    assert bad_among(states, root) == []


def states_of(log, root, *, most=MOST):
    """Every tree that a power loss may leave after some line of a log, with what was acknowledged before it."""
    volume, told, found, rng = Volume(root), frozenset(), {}, random.Random(0)
    for line in log:
        volume.apply(*line)
        if line[0] == "acknowledge":
            told |= {line[1]}
        # a tree that may be left earlier and later must hold what was acknowledged by then
        found |= {frozenset(tree.items()): told for tree in volume.after_loss(most, rng)}
    return found


def bad_among(states, root):
    """What is wrong with any of them."""
    return [wrong for state, told in states.items() for wrong in in_memory(state, root, told)]


def in_memory(state, root, told):
    """What is wrong with a state, without writing it to a disk."""
    with filesystem.use(MemoryDisk(state)):
        return whats_wrong(root / "registry", told)


def whats_wrong(folder, told):
    """What a writer who comes after the power loss finds wrong, in words; it then repeats everything."""
    try:
        return list(_whats_wrong(folder, told))
    except BatteriesError as error:
        return [f"refused: {error}"]


def _whats_wrong(folder, told):
    store = DirectoryStore(folder)
    yield from (f"litter: {path}" for path in atomic_files.walk(folder) if path.name.endswith(atomic_files.TEMPORARY))
    data = store.read_index()
    index = Index() if data is None else Index.from_bytes(data, where="the index")
    present = {f"{path}@{version}" for path, releases in index.cells.items() for version in releases} | {*index.attestations}
    yield from (f"lost: {what}" for what in told - present)
    if data is not None:
        yield from (f"damaged: {finding.error}" for finding in verify_store(store) if not finding.ok)
    publish_all(folder)
    yield from (f"not repaired: {finding.error}" for finding in verify_store(store) if not finding.ok)


def kinds(wrong):
    """The first words of all that is wrong."""
    return {what.partition(":")[0] for what in wrong}
