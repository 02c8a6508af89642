"""The card of a registry on the Hub: tables of its artifacts and how to pull them. Pure: an index in, Markdown out."""

from __future__ import annotations

from typing import Any

from batteries.cell import model_card
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from registry.catalog.index import Index

HEADER = ("cell", "family", "parameters", "D", "CV", "CV (axial)", "MSE", "probe", "licence", "verdict")


def registry_card(index: Index, address: str) -> str:
    """Return the card of a registry. The same index and address give the same bytes.

    Args:
        index: Index of the registry.
        address: Address as a user would type it.
    """
    releases = [release for _, _, release in index.everything()]
    rows = [_row(index, path) for path in sorted(index.cells)]
    parts = [
        model_card.front_matter(release.summary.license for release in releases),
        f"# Cells in {model_card.escape(address)}\n",
        f"A registry of cells: trained miniature PatchSVAE autoencoders. Versions: {len(releases)}, in index {index.number}.\n",
        model_card.table(HEADER, rows),
        *(_table(index, form) for form in FORMS.values() if index.table(form.kind.plural)),
        _usage(index, address),
        "The newest version of each cell. CVs and MSE are those on its own probe; verdicts are attestations, which are in this "
        "repository too. This page is rewritten with every publish.\n",
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
        model_card.figure(summary.axial_cv),
        model_card.figure(summary.mse),
        summary.own_probe,
        summary.license,
        _verdict(index, release.blob.sha256, release.yanked),
    )


def _table(index: Index, form: ArtifactForm[Any]) -> str:
    """Return the table of a kind other than cells."""
    table, columns = index.table(form.kind.plural), [column for column in form.columns if column.on_card]
    rows = []
    for path in sorted(table):
        version = index.newest(path) or index.versions(path)[-1]
        release = table[path][version]
        texts = (column.text(release.summary) for column in columns)
        rows.append((f"{path}@{version}", *texts, release.summary.license, release.yanked or "-"))
    return model_card.table((form.kind.name, *(column.name for column in columns), "licence", "yanked"), rows)


def _verdict(index: Index, cell: str, yanked: str | None) -> str:
    found = [f"{attested.verdict} ({protocol})" for protocol, attested in sorted(index.attestations.get(cell, {}).items())]
    return ", ".join(found if yanked is None else [f"yanked: {yanked}", *found]) or "-"


def _usage(index: Index, address: str) -> str:
    """Return example commands for the first artifact that can be pulled by name."""
    paths = (path for path, _, _ in index.everything())
    example = next((path for path in paths if index.newest(path)), "band/name")
    commands = (
        f"pip install {model_card.LIBRARY}",
        f"batteries pull {example} --registry {address}",
        f"batteries verify --all --registry {address}",
    )
    return "\n".join(("```", *commands, "```\n"))
