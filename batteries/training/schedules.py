"""Schedules of the learning rate: the share of the peak rate at a step, determined by the step and the length of the run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "cosine", "onecycle", "linear", "restarts"]
WARM_UP = 0.1  # share of a one-cycle run spent rising
FINAL_RATE = 0.01  # share of the peak rate at the end of every schedule but ``constant``
RESTARTS = 4  # equal periods of a run with warm restarts (Loshchilov and Hutter 2017); their number is ours


def share(schedule: Schedule, step: int, steps: int) -> float:
    """Return the share of the peak rate at a step.

    - ``constant``: 1.
    - ``cosine``: from 1 at step 0 along half a cosine to :data:`FINAL_RATE` at the end.
    - ``onecycle``: a linear rise from :data:`FINAL_RATE` during the first :data:`WARM_UP` of the run, then as ``cosine``.
    - ``linear``: from 1 at step 0 along a line to :data:`FINAL_RATE` at the end.
    - ``restarts``: a ``cosine`` in each of :data:`RESTARTS` equal periods. Number and equal lengths are ours: the published
      program names the schedule only.

    Args:
        schedule: Name of the schedule.
        step: Step counted from 0; ``steps`` itself is the end, which no step is taken at.
        steps: Steps of the run.

    Returns:
        Share in (0, 1].

    >>> [round(share("restarts", step, 8), 3) for step in range(9)]
    [1.0, 0.505, 1.0, 0.505, 1.0, 0.505, 1.0, 0.505, 0.01]
    """
    done = step / steps
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return FINAL_RATE + (1 - FINAL_RATE) * (1 - done)
        case "cosine":
            return _cosine(done, 1.0)
        case "restarts":
            period = min(RESTARTS * step // steps, RESTARTS - 1)
            return _cosine(RESTARTS * step - period * steps, steps)
        case "onecycle":
            if done < WARM_UP:
                return FINAL_RATE + (1 - FINAL_RATE) * done / WARM_UP
            return _cosine(done - WARM_UP, 1 - WARM_UP)


def _cosine(done: float, period: float) -> float:
    """Return the share after a part of a period, from 1 at 0 to :data:`FINAL_RATE` at its end."""
    falling = (1 + math.cos(math.pi * done / period)) / 2
    return FINAL_RATE + (1 - FINAL_RATE) * falling
