"""What a contract of all kinds beside the cell needs of each: two versions of an artifact, another one, and damage."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import composer
from batteries.io import canonical_json
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedLabel
from registry.catalog.reference import Reference
from registry.stores.snapshot import locate
from tests.support import maps, models, vaes

KINDS = ("model", "maps", "vae")


@dataclass(frozen=True)
class PackedKind:
    """One kind.

    Attributes:
        kind: Its name.
        name: Of the artifact of two versions.
        other: Of the other artifact.
        refusal: Code of an error where a cell is wanted.
        schema: Oldest schema of an index or a lock that has it.
        values: By file: the first version, the later one, and the other artifact.
        lock: Of the cells, where the value has none itself.
        same: Whether two values are the same.
    """

    kind: str
    name: str
    other: str
    refusal: str
    schema: str
    values: dict[str, Any]
    lock: Any
    same: Callable[[Any, Any], bool]

    @property
    def path(self):
        return f"{self.kind}/{self.name}"

    @property
    def code(self):
        return self.kind.upper()

    @property
    def form(self):
        return FORMS[self.kind]

    @property
    def first(self):
        return self.values[self.name]

    def pack(self, value, path, **said):
        """Write a file, and its manifest beside it."""
        label = PackedLabel(**{"name": self.name, "version": "1.0.0", "license": "MIT", "description": "made by hand"} | said)
        composer.pack(value, path, label, **({} if self.lock is None else {"lock": self.lock}))

    def files(self, folder):
        """All files of the kind: ``NAME``, ``NAME-later`` and ``OTHER``."""
        for file, value in self.values.items():
            said = {"version": "1.1.0", "description": "later"} if file.endswith("-later") else {}
            self.pack(value, folder / f"{file}.safetensors", name=file.removesuffix("-later"), **said)

    def manifest(self, folder, file=None):
        """Manifest of one of the files."""
        path = folder / f"{file or self.name}.json"
        return self.form.manifest.from_bytes(path.read_bytes(), where=path)


@cache
def packed_kind(kind) -> PackedKind:
    """Kind by its name."""
    if kind == "model":
        made = models.model()
        values = {"trio": made, "trio-later": made, "least": models.least()}
        return PackedKind("model", "trio", "least", "A_MODEL", "1.1", values, None, _computes_the_same)
    if kind == "vae":
        values = {"three": vaes.vae(), "three-later": vaes.vae(seed=1), "other": vaes.vae(arrays=1)}
        return PackedKind("vae", "three", "other", "A_VAE", "1.3", values, None, vaes.same)
    of = maps.container()
    five = maps.consensus(of)
    values = {"five": five, "five-later": five.of([0, 2, 3]), "pair": maps.direct(of, "noise", "low")}
    return PackedKind("maps", "five", "pair", "MAPS", "1.2", values, of.lock, maps.same)


def _computes_the_same(first, second):
    channels = first.container.groups[0].spec.channels
    return models.same(first, second, models.images()[:, :channels])


def found(text, where):
    """The one artifact of a reference."""
    (located,) = locate([Reference.parse(text)], where)
    return located


def blob_of(where, text):
    """Its file in a folder."""
    return Path(where) / found(text, where).blob_key


def damage(path, place=-1):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def rewritten(change):
    """A change of the manifest beside a file."""

    def rewrite(path):
        beside = path.with_suffix(".json")
        value = json.loads(beside.read_bytes())
        change(value)
        beside.write_bytes(canonical_json.dump(value))

    return rewrite
