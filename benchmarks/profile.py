"""Profile of a training step by operator, printed by ``python -m benchmarks.profile [low|high] [ours|plain]``."""

from __future__ import annotations

import sys

from torch.profiler import ProfilerActivity, profile

from batteries import threads
from benchmarks.step import BATCH, stepper

STEPS = 5


def main(band: str, way: str) -> None:
    """Print each operator's own time over five steps after three to warm up, on the one thread that a profile sees."""
    threads(1)
    step = stepper(way, band, BATCH)
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(STEPS):
            step()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"{band}, {way}, batch {BATCH}: {total / STEPS / 1e3:.0f} ms a step")
    for row in rows[:14]:
        print(f"{100 * row.self_cpu_time_total / total:5.1f}%  {row.self_cpu_time_total / STEPS / 1e3:7.1f} ms  {row.key[:60]}")


if __name__ == "__main__":
    main(*(sys.argv[1:] + ["low", "ours"][len(sys.argv) - 1 :]))
