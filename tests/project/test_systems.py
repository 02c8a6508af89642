"""Systems and surroundings: a working directory that is gone, streams that are closed or full, Windows, macOS."""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.compatibility import refused, works
from tests.support.cells import ROOT, python

PROGRAM = "import sys; from batteries_entry import main; sys.exit(main())"
SHIPPED = "low/fresnel-256"
PACKAGES = ("batteries", "composer", "registry")
SOURCES = [*sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")), ROOT / "batteries_entry.py"]
LAYER = {
    "batteries/io/filesystem.py",
    "batteries/engine/processors.py",
    "batteries/engine/process_memory.py",
    "batteries/io/operating_system.py",
}  # where what only some systems have is asked for
POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
LINUX = {"sched_getaffinity", "posix_fadvise", "copy_file_range", "sendfile", "memfd_create", "O_TMPFILE", "O_DIRECT", "splice"}


def run(shell, *arguments, cwd=ROOT, program=PROGRAM, **environment):
    """The program behind a line of shell, which finds it in ``"$@"``."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}", "bash", sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


IN_TURN = """
import contextlib, io, json, os, sys
from batteries_entry import main
answers = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main()
    answers.append((code, err.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture
def gone(tmp_path):
    """Run the program, or one of another source, in a folder that was removed."""
    folder = tmp_path / "gone"
    return lambda *arguments, **more: run(f'mkdir {folder}; cd {folder}; rmdir {folder}; "$@"', *arguments, **more)


@pytest.mark.slow
@works("Disks and systems", "a working directory that was deleted", note="relative paths: one typed error")
def test_a_deleted_working_directory_stops_relative_paths_only(gone, tmp_path):
    fine = [
        ["list"],
        ["show", SHIPPED],
        ["pull", SHIPPED, "--out", str(tmp_path / "out")],
        ["compose", SHIPPED, "--out", str(tmp_path / "one.safetensors")],  # which needs torch
    ]
    refused = {3: [["list", "--registry", "cells"], ["diff", "a.lock", "b.lock"]]}
    refused[8] = [["pull", SHIPPED, "--out", "out"], ["lock", SHIPPED]]
    ran = gone(json.dumps([*fine, *refused[3], *refused[8]]), program=IN_TURN)  # one start of Python, which loads torch there
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout)
    assert [code for code, _ in answers] == [0, 0, 0, 0, 3, 3, 8, 8], answers
    for _, err in answers[len(fine) :]:
        assert (err.count("error:"), "Traceback" in err) == (1, False), err
    assert gone("list").returncode == 0
    assert gone("pull", SHIPPED, BATTERIES_HOME="home").returncode == 2


def test_a_deleted_working_directory_in_python(tmp_path):
    code = (
        "import os, sys, tempfile; f = tempfile.mkdtemp(); os.chdir(f); os.rmdir(f)\n"
        "import registry, batteries\n"
        f"cells = registry.pull('{SHIPPED}', registry={str(ROOT / 'manifests')!r})\n"
        f"batteries.Cell.read(cells[0].write({str(tmp_path)!r}))\n"
    )
    ran = python(code, PYTHONPATH=str(ROOT))
    assert ran.returncode == 0, ran.stderr


STREAMS = [
    ('"$@" <&-', ["list"], 0, ""),
    ('"$@" 2>&-', ["list"], 0, ""),
    ('"$@" 2>/dev/full', ["list"], 0, ""),
    ('"$@" | head -1', ["list"], 0, ""),
    ('"$@" | true', ["list", "--json"], 0, ""),
    ('"$@" >&-', ["list"], 8, "OUTPUT"),
    ('"$@" >&-', ["list", "--json"], 8, "OUTPUT"),
    ('"$@" >/dev/full', ["list"], 8, "OUTPUT"),
    ('"$@" >/dev/full', ["list", "--json"], 8, "OUTPUT"),
    ('"$@" >/dev/full', ["--help"], 8, "OUTPUT"),
    ('"$@" <&- >&- 2>&-', ["list"], 8, ""),
    ('"$@" 2>&-', ["show", "low/nosuch"], 3, ""),
    ('"$@" 2>/dev/full', ["show", "low/nosuch"], 3, ""),
    ('"$@" >&- 2>&-', ["nosuch"], 2, ""),
    ('"$@" >&-', ["nosuch", "--json"], 2, ""),
    ('umask 077; "$@"', ["list"], 0, ""),
    ('ulimit -n 20; "$@"', ["list"], 0, ""),
    ('env -u TERM "$@"', ["list"], 0, ""),
    ('LC_ALL=C LANG=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii "$@"', ["list"], 0, ""),
    ('TZ=Nowhere/Nothing "$@"', ["list"], 0, ""),
    ('PYTHONOPTIMIZE=2 "$@"', ["list"], 0, ""),
    ('PYTHONWARNINGS=error "$@"', ["list"], 0, ""),
    ('PYTHONDONTWRITEBYTECODE=1 "$@"', ["verify", SHIPPED], 0, ""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "arguments", "code", "word"), STREAMS)
@works("Disks and systems", "stdin, stdout or stderr closed; a reader that leaves", note="a closed stdout: exit code 8")
@refused("Disks and systems", "stdout on a full disk", "OUTPUT")
def test_streams_and_surroundings(shell, arguments, code, word):
    ran = run(shell, *arguments)
    assert ran.returncode == code, ran.stderr
    assert word in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with blank", "zwölf", "new\nline", "日本"])
@works("Disks and systems", "folders with blanks, new lines and letters of any script, in any locale")
def test_folders_of_any_name(tmp_path, name):
    for locale in ("C", "C.UTF-8"):
        ran = run('"$@"', "pull", SHIPPED, "--out", tmp_path / name, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert ran.returncode == 0, ran.stderr
        ran = run('"$@"', "pull", SHIPPED, BATTERIES_HOME=str(tmp_path / name / "home"), LC_ALL=locale)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / name / "low" / "fresnel-256.safetensors").is_file()


@pytest.mark.slow
def test_closed_streams_do_not_lend_their_numbers_to_files(tmp_path):
    ran = run('"$@" <&- >&- 2>&-', "pull", SHIPPED, "--out", tmp_path / "out")
    assert ran.returncode == 8
    assert python(
        "import sys; from batteries import Cell; Cell.read(sys.argv[1])", tmp_path / "out/low/fresnel-256.safetensors"
    )


ON_WINDOWS = """
import os, sys, zoneinfo
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "fork", "getuid", "geteuid"):
    delattr(os, name)
sys.modules["fcntl"] = None
kill = os.kill
os.kill = lambda *_: sys.exit("a process would have been ended")
sys.platform = "win32"
"""


@pytest.mark.slow
@refused("Disks and systems", "Windows", "PLATFORM", note="the Windows Subsystem for Linux works as Linux does")
def test_windows_is_one_typed_refusal_at_the_start():
    ran = python(ON_WINDOWS + "from batteries_entry import main; sys.exit(main())", "list")
    assert ran.returncode == 6
    expected = "error: unsupported operating system: expected Linux or macOS, got win32"
    assert ran.stderr.splitlines()[0].startswith(expected)
    assert "Traceback" not in ran.stderr
    for line in ("from batteries.io import atomic_files", "from batteries import Cell", "from registry import pull"):
        ran = python(ON_WINDOWS + line)
        assert ran.stderr.splitlines()[-2].startswith("batteries.errors.PolicyError: unsupported operating system"), ran.stderr


ON_MACOS = """
import os, sys, zoneinfo
sys.platform = "darwin"
for name in ("sched_getaffinity", "posix_fadvise", "posix_fallocate", "copy_file_range", "sendfile", "memfd_create",
             "O_TMPFILE", "O_DIRECT", "splice", "eventfd", "getrandom", "pipe2", "preadv", "pwritev", "fdatasync"):
    if hasattr(os, name):
        delattr(os, name)
def audit(event, arguments):
    if event == "open" and str(arguments[0]).startswith("/proc"):
        raise SystemExit(f"opens {arguments[0]}")
"""


@pytest.mark.slow
@works("Disks and systems", "macOS", note="simulated: what only Linux has is taken away; not run on a Mac")
def test_nothing_is_needed_that_only_linux_has(tmp_path):
    code = (
        "import numpy, torch\n" + ON_MACOS + "import registry, batteries\n"
        "from tests.support.cells import publish\n"
        "cell = registry.pull('low/fresnel-256', registry=sys.argv[2])[0]\n"
        "publish(cell, sys.argv[1]); registry.pull(cell.name, registry=sys.argv[1])\n"
    )
    ran = python(code, tmp_path / "registry", ROOT / "manifests")
    assert ran.returncode == 0, ran.stderr


def names_in(path):
    """Modules and attributes that a file names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("/proc/", "/sys/")):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_file_system_layer_names_what_some_systems_lack(path):
    if path.relative_to(ROOT).as_posix() in LAYER:
        return
    found = {name for name in names_in(path) if name in POSIX | LINUX or name.startswith(("/proc/", "/sys/", "O_"))}
    allowed = {
        "registry/cli/terminal/console.py": {"O_WRONLY"},
        "batteries_entry.py": {"O_RDONLY", "O_RDWR"},
    }  # which every system has
    assert found <= allowed.get(path.relative_to(ROOT).as_posix(), set())
