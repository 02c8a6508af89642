"""The card of a registry on the Hub: tables of what it has, and how to pull it. Pure: an index in, Markdown out."""

from __future__ import annotations

from batteries.cell import model_card
from registry.catalog.index import Index

HEADER = ("cell", "family", "parameters", "D", "CV", "MSE", "probe", "licence", "verdict")
MODELS = ("model", "cells", "specs", "parameters", "nodes", "output", "licence", "yanked")
MAPS = ("maps", "cells", "tokens", "grid", "D", "target", "licence", "yanked")


def registry_card(index: Index, address: str) -> str:
    """The card of a registry. The same index and address give the same bytes.

    Args:
        index: Of the registry.
        address: What a user types to name it.
    """
    releases = [release for _, _, release in index.everything()]
    rows = [_row(index, path) for path in sorted(index.cells)]
    parts = [
        model_card.front_matter(release.summary.license for release in releases),
        f"# Cells in {model_card.escape(address)}\n",
        f"A registry of cells: trained miniature PatchSVAE autoencoders. Versions: {len(releases)}, in index {index.number}.\n",
        model_card.table(HEADER, rows),
        *([model_card.table(MODELS, [_model_row(index, path) for path in sorted(index.models)])] if index.models else []),
        *([model_card.table(MAPS, [_maps_row(index, path) for path in sorted(index.maps)])] if index.maps else []),
        _usage(index, address),
        "The newest version of each cell. CV and MSE are those on its own probe; verdicts are attestations, which are in this "
        "repository too. This page is written anew with every publish.\n",
    ]
    return "\n".join(parts)


def _row(index: Index, path: str) -> tuple[str, ...]:
    version = index.newest(path) or index.versions(path)[-1]
    release = index.cells[path][version]
    summary = release.summary
    return (
        f"{path}@{version}",
        summary.family,
        f"{summary.parameters:,}",
        str(summary.D),
        model_card.figure(summary.cv),
        model_card.figure(summary.mse),
        summary.own_probe,
        summary.license,
        _verdict(index, release.blob.sha256, release.yanked),
    )


def _model_row(index: Index, path: str) -> tuple[str, ...]:
    version = index.newest(path) or index.versions(path)[-1]
    release = index.models[path][version]
    summary = release.summary
    return (
        f"{path}@{version}",
        str(summary.cells),
        str(summary.groups),
        f"{summary.parameters:,}",
        str(summary.nodes),
        summary.output_kind,
        summary.license,
        release.yanked or "-",
    )


def _maps_row(index: Index, path: str) -> tuple[str, ...]:
    version = index.newest(path) or index.versions(path)[-1]
    release = index.maps[path][version]
    summary = release.summary
    return (
        f"{path}@{version}",
        str(summary.cells),
        summary.tokens,
        " x ".join(map(str, summary.grid)),
        str(summary.width),
        summary.target,
        summary.license,
        release.yanked or "-",
    )


def _verdict(index: Index, cell: str, yanked: str | None) -> str:
    found = [f"{attested.verdict} ({protocol})" for protocol, attested in sorted(index.attestations.get(cell, {}).items())]
    return ", ".join(found if yanked is None else [f"yanked: {yanked}", *found]) or "-"


def _usage(index: Index, address: str) -> str:
    """How to pull: by the first of all that can be pulled by name."""
    paths = (path for path, _, _ in index.everything())
    example = next((path for path in paths if index.newest(path)), "band/name")
    commands = (
        f"pip install {model_card.LIBRARY}",
        f"batteries pull {example} --registry {address}",
        f"batteries verify --all --registry {address}",
    )
    return "\n".join(("```", *commands, "```\n"))
