"""Time and memory of an inspection, by size of the images, on one thread, each in a process of its own.

python examples/inspection_sizes.py           # prints the table
python examples/inspection_sizes.py --write   # also writes it to docs/results/forensics.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from pages import RESULTS, put, table

CELL = "high/freckles-64"
SIZES = (64, 128, 256, 512, 1024)
PAGE = RESULTS / "forensics.md"
WORDS = """`python examples/inspection_sizes.py --write`: `batteries inspect {cell} --size N` on one thread. CPU time and peak
memory are of the whole process, with Python and torch. Time beyond 256 pixels is that of attention over all patches of
an image, which grows with their square; all else runs a few patches at a time, and from 512 pixels on there are fewer
images."""
# the command, then the CPU time and the peak memory of its process, in KiB
MEASURED = """
import json, resource, sys
from registry.cli import main
code = main(sys.argv[1:])
spent = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu": spent.ru_utime + spent.ru_stime, "peak": spent.ru_maxrss}), file=sys.stderr)
sys.exit(code)
"""


def measured(size: int) -> list[str]:
    """Inspect images of a size in a process of its own, and return a row of the table."""
    words = ["inspect", CELL, "--size", str(size), "--threads", "1", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=True, env=environment)
    spent, (found,) = json.loads(done.stderr.splitlines()[-1]), json.loads(done.stdout)["sizes"]
    return [
        str(size),
        f"{found['patches']:,}",
        str(found["images"]),
        f"{spent['cpu']:.0f} s",
        f"{spent['peak'] * 1024 / 1e6:,.0f} MB",
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Time and memory of an inspection by size.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    text = table(["pixels", "patches of an image", "images", "CPU time", "peak memory"], [measured(size) for size in SIZES])
    print(text)
    if arguments.write:
        words = WORDS.format(cell=CELL).replace("\n", " ")
        put(PAGE, "Published forensics, and ours", "sizes", f"## Time and memory\n\n{words}\n\n{text}")


if __name__ == "__main__":
    main()
