"""Time of a site of a made registry: made whole against running its cells alone, and made again against made whole."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
from pathlib import Path

import registry
from benchmarks.harness import Pair
from benchmarks.made_registry import make
from registry.site.pictures import pictures
from registry.stores.directory import DirectoryStore

CELLS = 30


def pairs(smoke: bool) -> list[Pair]:
    """Return a site made whole, one without a change, and one after a yank."""
    folder = Path(tempfile.mkdtemp(prefix="batteries-"))
    atexit.register(shutil.rmtree, folder)
    store, numbers = make(folder / "registry", 3 if smoke else CELLS), itertools.count()
    names = [str(one.reference) for one in registry.find(registry=store)]
    site = folder / "site"
    registry.build_site(site, store)

    def whole() -> None:
        registry.build_site(folder / str(next(numbers)), store)

    def yanked() -> None:
        registry.yank(names.pop(), "to be made again", store)
        registry.build_site(site, store)

    return [
        Pair(f"site of {len(names)} cells, tokens kept, against pulling and running them", whole, lambda: _run(names, store)),
        Pair("the same again, without a change, against whole", lambda: registry.build_site(site, store), whole),
        Pair("the same again, after a yank, against whole", yanked, whole),
    ]


def _run(names: list[str], store: DirectoryStore) -> None:
    """Make what no site can do without: the cells, and what they make of four images."""
    for cell in registry.pull(*names, registry=store):
        pictures(cell)
