"""Every line of the README's shell sessions runs as it stands; its Python and its viability test run in ``.ci/base``.

``python -m tests.project.test_readme`` runs them too, and prints how long each line took.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.cells import ROOT

README = (ROOT / "README.md").read_text()
SESSIONS = ("session", "registry")
COMPUTING = ("align", "compose", "encode", "publish", "reconstruct", "train")


def lines(name):
    """Commands of one session."""
    (block,) = re.findall(rf"<!-- {name} -->\n```\n(.*?)```\n<!-- /{name} -->", README, re.S)
    return [line.split("  #")[0].rstrip() for line in block.splitlines()]


def run(line, folder, home):
    """Run a line as a user does in a clone; the program is the one beside this interpreter."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "BATTERIES_HOME": str(home), "MPLBACKEND": "agg"}
    settings.pop("BATTERIES_REGISTRY", None)
    return subprocess.run(["bash", "-c", line], cwd=folder, env=settings, capture_output=True, text=True, timeout=600)


def clone(folder):
    """Make a folder with what the sessions use of a clone."""
    shutil.copytree(ROOT / "batteries" / "photographs", folder / "batteries" / "photographs")
    return folder


def words(line, folder):
    """Arguments of the program in a line, as bash hands them to it."""
    said = f'batteries() {{ printf "%s\\0" "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", said], cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_every_line_runs(name, tmp_path, monkeypatch, capsys):
    """What needs torch runs in this process, which has it loaded; ``.ci/base`` starts such programs."""
    folder = clone(tmp_path / "clone")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    for line in lines(name):
        if (given := words(line, folder))[0] in COMPUTING:
            code, out, err = commands.run(capsys, *given)
        else:
            ran = run(line, folder, tmp_path / "home")
            code, out, err = ran.returncode, ran.stdout, ran.stderr
        assert code == 0, f"{line}\n{out}\n{err}"


def test_the_first_screen_has_the_two_commands_that_set_everything_up():
    first = README.split("## ")[0]
    assert re.findall(r"^make (\w+)", first, re.M) == ["demo", "test"]


def test_every_page_and_picture_is_there():
    linked = re.findall(r"\]\(((?!http)[^)#]+)", README)
    assert [place for place in linked if not (ROOT / place).exists()] == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        place = clone(Path(folder) / "clone")
        for line in (line for name in SESSIONS for line in lines(name)):
            started = time.perf_counter()
            code = run(line, place, Path(folder) / "home").returncode
            print(f"{time.perf_counter() - started:6.1f} s  exit {code}  {line}", flush=True)
