"""Commands and code that pull, test and compose what a page shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from batteries.data.probes import PROBES
from registry.catalog.kinds import CELL
from registry.site.contents import CellEntry, Contents, Entry, PackedEntry
from registry.stores.settings import EMBEDDED


def pull_commands(contents: Contents) -> str:
    """Return commands for a registry as a whole."""
    given = _option(contents.address)
    example = next((entry for entry in contents.cells if entry.newest and entry.yanked is None), None)
    lines = [
        "pip install svae-batteries",
        f"batteries list --where 'viable'{given}",
        *([] if example is None else [f"batteries pull {example.path} --out cells{given}"]),
        f"batteries verify --all{given}",
    ]
    return "\n".join(lines)


def commands(entry: Entry, address: str) -> str:
    """Return commands that fetch a version and check it."""
    given = _option(address)
    lines = [f"batteries pull {entry.reference} --out cells{given}", f"batteries show {entry.reference}{given}"]
    if entry.located.reference.kind is CELL:
        lines.append(f"batteries validate {entry.reference} --html report.html{given}")
    return "\n".join(lines)


def cell_code(entry: CellEntry, partners: Sequence[CellEntry], address: str) -> str:
    """Return Python that pulls a cell, runs it on its own probe, and composes it with the nearest related cell."""
    named = [entry, *partners[:1]]
    references = ", ".join(f'"{one.reference}"' for one in named)
    return "\n".join(
        (
            "import batteries, composer, registry",
            "",
            f"cells = registry.pull({references}{_argument(address)})",
            *_images(entry),
            "model = composer.compose(cells, probe=images)  # a frozen nn.Module",
            "out = model(images[:4])",
            f'out["{entry.path}"].omega  # tokens (images, patches, {entry.manifest.spec.D})',
            "out.recon, out.error  # reconstructions, errors",
        )
    )


def packed_code(entry: PackedEntry, address: str) -> str:
    """Return Python that pulls an artifact of another kind."""
    kind = entry.located.reference.kind.name
    return f'import registry\n\n({kind},) = registry.pull("{entry.reference}"{_argument(address)})\nprint({kind})'


def pin(entry: Entry) -> str:
    """Return the reference that names a version by its digest."""
    return f"{entry.path}@sha256:{entry.digest}"


def _images(entry: CellEntry) -> tuple[str, ...]:
    name = entry.manifest.own_probe
    if name.partition(":")[0] in PROBES and entry.manifest.spec.channels == 3:
        return (f"images = batteries.probe({json.dumps(name)}).images",)
    spec, size = entry.manifest.spec, entry.manifest.identity.resolution
    return (f"images = ...  # (B, {spec.channels}, {size}, {size})",)


def _option(address: str) -> str:
    return "" if address == EMBEDDED else f" --registry {shlex.quote(address)}"


def _argument(address: str) -> str:
    return "" if address == EMBEDDED else f", registry={address!r}"
