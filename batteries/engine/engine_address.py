"""Address of an engine: the place where tasks run, parsed once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from batteries.errors import InputError

FORMS = "processes | ray | ray:auto | ray:HOST:PORT | ray://HOST:PORT"
HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
MOST_PORT = 65535


@dataclass(frozen=True)
class EngineAddress:
    """Place where tasks run.

    Attributes:
        kind: ``processes`` of this machine, or ``ray``.
        cluster: Address of a Ray cluster, as ``ray.init`` takes it; None for one that is started here and ends with the run.
    """

    kind: Literal["processes", "ray"]
    cluster: str | None = None

    @classmethod
    def parse(cls, text: str) -> EngineAddress:
        """Parse an address.

        ``processes`` are started here. ``ray`` starts a cluster on this machine. ``ray:auto`` joins the one that runs on it,
        and ``ray:HOST:PORT`` a cluster that this machine is a node of. ``ray://HOST:PORT`` is a client of any other.

        Raises:
            InputError: another form (``ENGINE``).
        """
        if text == "processes":
            return cls("processes")
        if text == "ray":
            return cls("ray")
        if text == "ray:auto":
            return cls("ray", "auto")
        for start, scheme in (("ray://", "ray://"), ("ray:", "")):
            place = HOST_AND_PORT.fullmatch(str(text).removeprefix(start)) if str(text).startswith(start) else None
            if place is not None and 0 < int(place[1]) <= MOST_PORT:
                return cls("ray", scheme + place[0])
        raise InputError("unknown engine", code="ENGINE", expected=FORMS, found=str(text)[:80])
