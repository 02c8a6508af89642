"""Completion as a shell asks for it: the command runs with what was typed in its environment."""

import os
import shutil
import subprocess
import sys

import pytest

from registry.cli import main
from registry.stores import settings
from tests.support.cells import ROOT, publish, python, tiny, tree

CLI = "import sys; from registry.cli import main; code = main([]); assert 'torch' not in sys.modules; sys.exit(code)"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "registry"
    for number, name in enumerate(("tiny", "tinier", "other")):
        publish(tiny(name, seed=number), folder)
    return folder


def asked(line):
    """What bash puts into the environment, to be offered what the last word of a line could be."""
    return {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_BATTERIES_COMPLETE": "complete_bash"}


@pytest.fixture
def completed(monkeypatch, capsys):
    def complete(line, **environment):
        for name, value in {**asked(line), **environment}.items():
            monkeypatch.setenv(name, str(value))
        assert main([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return complete


@pytest.mark.parametrize("command", ["show", "pull"])
def test_references_of_the_registry_in_force(folder, completed, command):
    assert completed(f"batteries {command} high/ti", BATTERIES_REGISTRY=folder) == ["high/tinier", "high/tiny"]


def test_references_of_a_registry_that_is_named(folder, completed):
    assert completed(f"batteries show --registry {folder} h") == ["high/other", "high/tinier", "high/tiny"]


def test_aliases_are_references_too(folder, completed):
    path = settings.config_file()
    path.parent.mkdir(parents=True)
    path.write_text('[aliases]\nbest = "high/tiny@^1"\n')
    assert completed("batteries show b", BATTERIES_REGISTRY=folder) == ["best"]
    assert "best" in completed("batteries show ", BATTERIES_REGISTRY=folder)


def test_commands_and_options(completed):
    assert {"list", "show", "pull", "publish", "verify"} <= set(completed("batteries "))
    assert completed("batteries list --whe") == ["--where"]


def test_it_is_quiet_whatever_is_wrong(folder, tmp_path, completed):
    assert completed("batteries show h", BATTERIES_REGISTRY=tmp_path / "nothing") == []
    assert completed("batteries show h", BATTERIES_REGISTRY="hf://owner/never-read") == []
    assert completed("batteries show h", BATTERIES_REGISTRY="gopher://x") == []
    (folder / "index.json").write_bytes(b"{")
    assert completed("batteries show h", BATTERIES_REGISTRY=folder) == []
    settings.config_file().parent.mkdir(parents=True)
    settings.config_file().write_text("not toml")
    assert completed("batteries show h") == []


def test_it_reads_and_never_writes_to_the_registry(folder, completed):
    before = tree(folder)
    completed("batteries show high/", BATTERIES_REGISTRY=folder)
    assert tree(folder) == before


@pytest.mark.slow
def test_it_starts_without_torch_and_without_a_word(folder):
    run = python(CLI, **asked("batteries show high/ti"), BATTERIES_REGISTRY=str(folder))
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, ["high/tinier", "high/tiny"], "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_in_bash_itself(folder, tmp_path):
    command = tmp_path / "batteries"
    command.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{CLI}\n")
    command.chmod(0o755)
    script = """
eval "$(_BATTERIES_COMPLETE=source_bash batteries)"
COMP_WORDS=(batteries pull high/tin)
COMP_CWORD=2
_batteries_completion batteries
printf '%s\n' "${COMPREPLY[@]}"
"""
    run = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "BATTERIES_REGISTRY": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["high/tinier", "high/tiny"]
