"""Names of checks as they are printed.

Published attestations keep the names they were written with; a comma in such a name would read as two names in a list.
"""

from __future__ import annotations

from collections.abc import Iterable

PRINTED = {
    "error, mean": "error vs mean",
    "error, claimed": "error vs manifest",
    "CV, claimed": "CV vs manifest",
    "error, untrained": "error vs untrained",
    "error, worst type": "error on the worst type",
    "error, worst image": "error on the worst image",
    "error, mirrored": "error on mirror images",
    "read-out, M": "read-out of M",
    "read-out, omega": "read-out of omega",
}
HOST_AUDIT = "host audit"  # the only check of a host, and of no cell
LIFT = "lift, "  # before the name of a task


def printed(name: str) -> str:
    """Return the name of a check as it is printed.

    >>> printed("error, untrained"), printed("lift, denoise"), printed("frozen CV")
    ('error vs untrained', 'lift to denoise', 'frozen CV')
    """
    return f"lift to {name.removeprefix(LIFT)}" if name.startswith(LIFT) else PRINTED.get(name, name)


def listed(names: Iterable[str]) -> str:
    """Return names of checks as a list.

    >>> listed(["error, mean", "lift, name the noise type"])
    'error vs mean, lift to name the noise type'
    """
    return ", ".join(map(printed, names))
