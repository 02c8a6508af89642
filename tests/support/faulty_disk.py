"""Disks that fail, that remember, and that live in memory.

What is tested is the code that ships: it only gets another disk (``batteries.io.filesystem.use``).
"""

import errno
import itertools
import os
import stat
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import pytest

from batteries.io.filesystem import Disk

SHORT = -1  # in place of an error: a read or a write moves half of the bytes that it could
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)
UNREAD = pytest.mark.filterwarnings("ignore:unreadable configuration file ignored")  # said, and the command goes on


class HastyDisk(Disk):
    """A disk without fsync, for tests in which no power is lost."""

    def fsync(self, descriptor):
        pass


class FaultyDisk:
    """A disk whose call number ``nth`` fails, counted from 0; with ``lasting``, so do all that follow it.

    A close or an unlock that fails has happened all the same, as on Linux.

    Attributes:
        hit: The name of the first call that failed; None while there was none.
        descriptors: Those that were not given back.
    """

    def __init__(self, nth, fault, *, lasting=False):
        self.nth, self.fault, self.lasting = nth, fault, lasting
        self.hit = None
        self.descriptors = set()
        self._real = HastyDisk()
        self._count = itertools.count()

    def __getattr__(self, name):
        if name not in vars(Disk):
            raise AttributeError(name)
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name, arguments):
        number = next(self._count)
        due = number == self.nth or (self.lasting and number > self.nth)
        if due:
            self.hit = self.hit or name
        if due and self.fault == SHORT:
            due, arguments = False, _halved(name, arguments)
        if due and name not in {"close", "unlock"}:
            raise OSError(self.fault, os.strerror(self.fault))
        if name == "close":
            self.descriptors.remove(arguments[0])  # first: another thread may be given the same number at once
        result = getattr(self._real, name)(*arguments)
        if name in {"open", "follow", "open_folder", "create"}:
            self.descriptors.add(result)
        if due:
            raise OSError(self.fault, os.strerror(self.fault))
        return result


def _halved(name, arguments):
    match name, arguments:
        case "read", (descriptor, size):
            return descriptor, max(1, size // 2)
        case "write", (descriptor, data):
            return descriptor, data[: max(1, len(data) // 2)]
    return arguments


class RecordingDisk:
    """A disk that writes down every change and every fsync, in its own words; nothing is really synced.

    Attributes:
        log: Tuples of a word and its operands.
    """

    def __init__(self, real):
        self.log = []
        self._real = real
        self._paths = {}  # of the descriptors that may be synced

    def __getattr__(self, name):  # what changes nothing
        return getattr(self._real, name)

    def acknowledge(self, what):
        """Note that somebody was told so."""
        self.log.append(("acknowledge", what))

    def open_folder(self, path):
        descriptor = self._real.open_folder(path)
        self._paths[descriptor] = path
        return descriptor

    def create(self, path):
        descriptor = self._real.create(path)
        self._paths[descriptor] = path
        self.log.append(("create", path))
        return descriptor

    def write(self, descriptor, data):
        written = self._real.write(descriptor, data)
        self.log.append(("write", self._paths[descriptor], bytes(data[:written])))
        return written

    def fsync(self, descriptor):
        self.log.append(("fsync", self._paths[descriptor]))

    def mkdir(self, path):
        self._real.mkdir(path)
        self.log.append(("mkdir", path))

    def link(self, source, target):
        self._real.link(source, target)
        self.log.append(("link", source, target))

    def replace(self, source, target):
        self._real.replace(source, target)
        self.log.append(("replace", source, target))

    def unlink(self, path):
        self._real.unlink(path)
        self.log.append(("unlink", path))

    def lock(self, path, seconds):
        new = not _is_there(self._real, path)
        held = self._real.lock(path, seconds)
        if new:
            self.log.append(("create", path))
        return held


def _is_there(disk, path):
    try:
        disk.lstat(path)
    except FileNotFoundError:
        return False
    return True


class MemoryDisk:
    """A disk in memory that starts with a tree.

    Attributes:
        tree: Every path with its bytes; None: a folder. A link's bytes are shared until one of the two is replaced.
    """

    def __init__(self, tree):
        self.tree = dict(tree)
        self._open = {}  # descriptor: [path, how far it was read]
        self._next = itertools.count(1000)

    def open(self, path):
        self._node(path)
        descriptor = next(self._next)
        self._open[descriptor] = [path, 0]
        return descriptor

    open_folder = follow = open

    def create(self, path):
        self._free(path)
        self.tree[path] = b""
        return self.open(path)

    def read(self, descriptor, size):
        path, start = self._open[descriptor]
        part = self.tree[path][start : start + size]
        self._open[descriptor][1] += len(part)
        return part

    def map(self, descriptor, size):
        return bytearray(self.tree[self._open[descriptor][0]][:size])

    def write(self, descriptor, data):
        self.tree[self._open[descriptor][0]] += bytes(data)
        return len(data)

    def fsync(self, descriptor):
        assert descriptor in self._open

    def close(self, descriptor):
        del self._open[descriptor]

    def fstat(self, descriptor):
        return self.lstat(self._open[descriptor][0])

    def lstat(self, path):
        data = self._node(path)
        mode, size = (stat.S_IFDIR, 0) if data is None else (stat.S_IFREG, len(data))
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def scan(self, folder):
        folder = Path(folder)
        if self._node(folder) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
        return nullcontext(iter([Entry(path, data) for path, data in self.tree.items() if path.parent == folder != path]))

    def mkdir(self, path):
        self._free(path)
        self.tree[path] = None

    def link(self, source, target):
        self._free(target)
        self.tree[target] = self._node(source)

    def replace(self, source, target):
        self.tree[target] = self._node(source)
        del self.tree[source]

    def unlink(self, path):
        self._node(path)
        del self.tree[path]

    def lock(self, path, seconds):
        self._node(path.parent)
        self.tree.setdefault(path, b"")
        return self.open(path)

    def lock_folder(self, folder, seconds):
        return self.open(folder)

    def unlock(self, held):
        self.close(held)

    def allow(self, descriptor, mode):
        assert descriptor in self._open

    def _node(self, path):
        if path not in self.tree:
            raise FileNotFoundError(errno.ENOENT, "nothing there", str(path))
        return self.tree[path]

    def _free(self, path):
        self._node(path.parent)
        if path in self.tree:
            raise FileExistsError(errno.EEXIST, "there already", str(path))


class Entry(namedtuple("Entry", ["where", "data"])):
    """What ``os.DirEntry`` says of a file or a folder."""

    name = property(lambda self: self.where.name)
    path = property(lambda self: str(self.where))

    def is_dir(self, *, follow_symlinks):
        return self.data is None

    def is_file(self, *, follow_symlinks):
        return self.data is not None


class LackingDisk(HastyDisk):
    """A disk without some operations: each of these fails always, with an errno of its own."""

    def __init__(self, **errors):
        self._errors = errors

    def __getattribute__(self, name):
        number = object.__getattribute__(self, "_errors").get(name) if not name.startswith("_") else None
        if number is None:
            return object.__getattribute__(self, name)

        def fail(*_):
            raise OSError(number, os.strerror(number))

        return fail
