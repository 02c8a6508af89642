"""Seconds a file of adopting the shelf of public checkpoints in one command: from a folder, killed on the way and resumed, and
from a repository of a local Hub.

    python -m tests.support.shelf_times
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import huggingface_hub

from tests.batteries.packaging.test_public_shelf import SHELF, written
from tests.support.hubserver import serving

ADOPT = [sys.executable, "-m", "batteries", "adopt"]
OPTIONS = ["--input", "plain", "--noise", "--name", "{band}/{parent}", "--threads", "1"]
KILLED_AFTER = 20  # rows


def write_shelf(folder: Path) -> int:
    """Write every file of the shelf that needs no option of its user, each in a folder of its own; return their number."""
    chosen = {name: item for name, item in SHELF.items() if not item.options}
    for name, item in chosen.items():
        place = folder / re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        place.mkdir(parents=True)
        written(place, item)
    return len(chosen)


def states(place: str, out: Path, environment: dict[str, str]) -> tuple[Counter[str], float]:
    """Adopt a place; return the numbers of rows by state, and the seconds."""
    since = time.monotonic()
    words = [*ADOPT, place, *OPTIONS, "--out", str(out), "--json"]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(found.stdout)
    return Counter(row["state"] for row in answer["files"]), time.monotonic() - since


def kill_on_the_way(place: str, out: Path, environment: dict[str, str]) -> None:
    """Adopt a place, and kill the command after some rows."""
    words = [*ADOPT, place, *OPTIONS, "--out", str(out)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(KILLED_AFTER):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)


def told(words: str, found: tuple[Counter[str], float], files: int) -> None:
    """Print the result of a command."""
    counts, seconds = found
    listed = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    print(f"{words}: {files} files, {listed}; {seconds:.1f} s, {seconds / files:.2f} s a file", flush=True)


def main() -> None:
    """Run the command."""
    with tempfile.TemporaryDirectory() as name, serving() as hub:
        top = Path(name)
        files = write_shelf(top / "shelf")
        alone = {home: {**os.environ, "BATTERIES_HOME": str(top / home)} for home in ("whole", "killed", "hub")}
        told("folder", states(str(top / "shelf"), top / "out", alone["whole"]), files)
        kill_on_the_way(str(top / "shelf"), top / "again", alone["killed"])
        told("folder, killed and resumed", states(str(top / "shelf"), top / "again", alone["killed"]), files)
        client = huggingface_hub.HfApi(endpoint=hub.url, token=hub.token)
        client.create_repo("them/shelf")
        client.upload_folder(repo_id="them/shelf", folder_path=top / "shelf")
        told("repository", states("hf://them/shelf", top / "hub", {**alone["hub"], "HF_ENDPOINT": hub.url}), files)


if __name__ == "__main__":
    main()
