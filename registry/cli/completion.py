"""What a shell offers where a reference is to be typed: cells, models and maps of the registry in force, and aliases.

It is quiet whatever is wrong, and never asks the network.
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
    """What a reference that starts so could be.

    Args:
        context: Of the command line so far; a ``--registry`` in it counts.
        incomplete: What is typed already.

    Returns:
        Aliases, ``band/name``, ``model/name`` and ``maps/name``. Of a registry that is not on this machine, what was there
        when its index was read last.
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
    str, typer.Argument(metavar="REFERENCE", help="[registry/]band/name[@version], or an alias.", autocompletion=references)
]
References = Annotated[
    list[str],
    typer.Argument(metavar="REFERENCE...", help="Cells, ranges of versions, aliases.", autocompletion=references),
]
MaybeReferences = Annotated[
    list[str] | None,
    typer.Argument(metavar="[REFERENCE...]", help="Cells, ranges of versions, aliases.", autocompletion=references),
]
