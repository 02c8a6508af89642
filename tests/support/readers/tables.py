"""Readers of TOML: the configuration file, defaults of adoptions, ablation programs, compositions."""

import os
import tomllib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import tomli_w

from batteries.ablation import program
from batteries.packaging import shelf
from batteries.packaging.checkpoint_places import CheckpointFile
from composer.wiring.composition import Composition
from registry.stores import settings
from tests.support.ablations import TINY
from tests.support.readers.documents import folder
from tests.support.readers.reader import Reader, plain

CONFIG = b"""
registry = "team"
[registries]
team = "/srv/cells"
hub = "hf://lab/cells@v1"
[aliases]
photo = "low/fresnel-64@^2"
"""
DEFAULTS = b"""
["*"]
input = "plain"
noise = "batteries"

["ablations/*.pt"]
heads = 4
photos = ["a/*.png", "b"]
unbounded-alpha = true
"""
COMPOSITION = b"""
schema_version = "1.0"
output = "routed"

[cells]
noise = "high/johanna-64@1.0.0"
photo = "high/fresnel-64"

[nodes.swap]
kind = "relay"
source = "noise"
target = "photo"
tokens = "rows"

[nodes.routed]
kind = "route"
of = ["swap", "photo"]
"""


def written(value: Any) -> bytes:
    """TOML; without the values that TOML cannot hold."""
    return tomli_w.dumps(_held(value)).encode("utf-8", "surrogatepass")


def _held(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _held(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_held(part) for part in value if part is not None]
    return value


def of_table(text: bytes, read: Callable[[bytes], object]) -> Reader:
    """A reader that writes nothing: what it takes is taken as it is."""

    def taken(data: bytes) -> bytes:
        read(data)
        return data

    return Reader(text, plain, written, taken, lambda data: tomllib.loads(data.decode()))


def config() -> Reader:
    def read(data: bytes) -> None:
        os.environ["XDG_CONFIG_HOME"] = str(folder())  # that of a user's, which other tests must not see
        path = settings.config_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        settings.settings()

    return of_table(CONFIG, read)


def defaults() -> Reader:
    place = folder() / "shelf"
    place.mkdir(exist_ok=True)
    one = CheckpointFile(str(place / "a.pt"), PurePosixPath("ablations/a.pt"), bytes, lambda name: b"", place)

    def read(data: bytes) -> None:
        (place / shelf.DEFAULTS).write_bytes(data)
        for item in shelf.items([one], {}):
            item.options.command(item.where)

    return of_table(DEFAULTS, read)


TABLES: dict[str, Callable[[], Reader]] = {
    "configuration": config,
    "defaults of adoptions": defaults,
    "ablation program": lambda: of_table(TINY, lambda data: program.parse(data, where="a mutant")),
    "composition": lambda: of_table(COMPOSITION, lambda data: Composition.from_toml(data.decode(errors="replace"), where="x")),
}
