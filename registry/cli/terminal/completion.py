"""Shell completion of references: cells, models and maps of the chosen registry, and aliases.

Errors give no completions and no output; the network is never used.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Annotated

import typer

from batteries.errors import BatteriesError, StoreWarning
from registry.stores import settings
from registry.stores.snapshot import open_snapshot


def references(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a reference.

    Args:
        context: Command line so far; its ``--registry``, if any, is used.
        incomplete: Text typed so far.

    Returns:
        Aliases, ``band/name``, ``model/name`` and ``maps/name`` that start with the text; for a remote registry, from the
        index that was last cached.
    """
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        with contextlib.suppress(BatteriesError):
            found += settings.settings().aliases
        with contextlib.suppress(BatteriesError):
            index = open_snapshot(context.params.get("registry"), mode="offline").index
            found += {path for path, _, _ in index.everything()}
    return sorted(text for text in found if text.startswith(incomplete))


OneReference = Annotated[
    str, typer.Argument(metavar="REFERENCE|FILE", help="[registry/]band/name[@version], or a file.", autocompletion=references)
]
References = Annotated[
    list[str],
    typer.Argument(metavar="REFERENCE...", help="Names, version ranges or aliases.", autocompletion=references),
]
MaybeReferences = Annotated[
    list[str] | None,
    typer.Argument(metavar="[REFERENCE...]", help="Names, version ranges or aliases.", autocompletion=references),
]
