import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batteries.cell.cell import Cell
from registry.catalog.index import Index
from registry.cli import browse, main
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.settings import config_file
from registry.stores.signed.changes import change_index
from registry.transfer.remarks import attest
from tests.support.cells import ROOT, attestation, publish, python, tiny, tree

CLI = "import sys; from registry.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    publish(tiny("other", seed=1, description="[bold]not markup[/bold] \x1b[31mnot red"), folder)
    publish(tiny("other", "2.0.0-rc.1", seed=2), folder)
    attest(attestation(tiny()), folder)
    return folder


def said(capsys, *arguments, code=0):
    """Run a command; its stdout and its stderr."""
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def answered(capsys, *arguments, code=0):
    return json.loads(said(capsys, *arguments, "--json", code=code).out)


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_list_as_a_table(folder, capsys):
    captured = said(capsys, "list", "--registry", folder)
    for text in ("reference", "high/tiny@1.0.0", "high/other@1.0.0", "johanna", "0.9200 ± 0.0123", "viable (quick-1)", "129"):
        assert text in captured.out
    assert "2.0.0-rc.1" not in captured.out
    assert "cells: 2 of 2" in captured.err
    assert max(len(line) for line in captured.out.splitlines()) > 120  # not cut to the 80 columns of no terminal


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("high/*", ["high/other", "high/tiny"]), ("tin", ["high/tiny"]), ("*o*r", ["high/other"]), ("low/*", [])],
)
def test_list_by_pattern(folder, capsys, pattern, found):
    rows = answered(capsys, "list", pattern, "--registry", folder)["cells"]
    assert [row["reference"].split("@")[0] for row in rows] == found


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("viable", ["high/tiny@1.0.0"]),
        ("not viable", ["high/other@1.0.0", "high/other@2.0.0-rc.1"]),
        ("D == 4 and mse < 0.3 and name != 'tiny'", ["high/other@1.0.0", "high/other@2.0.0-rc.1"]),
        ("version in ('2.0.0-rc.1',)", ["high/other@2.0.0-rc.1"]),
        ("verdict == 'walked back'", []),
    ],
)
def test_list_by_condition(folder, capsys, condition, found):
    rows = answered(capsys, "list", "high/*", "--all", "--where", condition, "--registry", folder)["cells"]
    assert [row["reference"] for row in rows] == found


def test_a_condition_is_read_before_the_registry(capsys, tmp_path):
    error = answered(capsys, "list", "--where", "D = 16", "--registry", tmp_path / "nothing", code=2)["error"]
    assert error["code"] == "WHERE"


def test_show_by_range_and_by_alias(folder, capsys):
    assert answered(capsys, "show", "high/other@^1", "--registry", folder)["version"] == "1.0.0"
    assert answered(capsys, "show", "high/other@>=2.0.0-rc.1, <3", "--registry", folder)["version"] == "2.0.0-rc.1"
    config_file().parent.mkdir(parents=True)
    config_file().write_text('[aliases]\nbest = "high/tiny@1"\n')
    assert answered(capsys, "show", "best", "--registry", folder)["reference"] == "high/tiny@1.0.0"


def test_list_as_json(folder, capsys):
    answer = answered(capsys, "list", "--all", "--registry", folder)
    assert (answer["registry"], answer["number"]) == (str(folder), 4)
    rows = {row["reference"]: row for row in answer["cells"]}
    assert set(rows) == {"high/other@1.0.0", "high/other@2.0.0-rc.1", "high/tiny@1.0.0"}
    tiny_row = rows["high/tiny@1.0.0"]
    assert tiny_row["sha256"] == tiny().digest
    assert tiny_row["summary"]["cv"] == 0.92
    assert tiny_row["attestations"]["quick-1"]["verdict"] == "viable"


def test_show(folder, capsys):
    out = said(capsys, "show", "high/other", "--registry", folder).out
    for text in ("noise16-64", "untrained", "trajectory", "sphere", tiny(seed=1).digest, "effective_rank.value", "Apache-2.0"):
        assert text in out
    assert "[bold]not markup[/bold]" in out
    assert "\x1b" not in out
    answer = answered(capsys, "show", "high/tiny", "--registry", folder)
    assert answer["manifest"] == json.loads(tiny().manifest.to_bytes())
    assert answer["attestations"]["quick-1"]["verdict"] == "viable"


def test_a_yanked_and_a_degenerate_cell_say_so(folder, capsys):
    store = DirectoryStore(folder)

    def edit(index):
        release = index.cells["high/tiny"]["1.0.0"]
        summary = release.summary.model_copy(update={"cv": None, "cv_standard_error": None, "ratio": None})
        changed = release.model_copy(update={"yanked": "wrong photographs", "summary": summary})
        return index.model_copy(update={"number": 5, "cells": {"high/tiny": {"1.0.0": changed}}})

    change_index(store, edit)
    out = said(capsys, "list", "--registry", folder).out
    assert "degenerate" in out
    assert "yanked: wrong photographs, viable (quick-1)" in out


def test_pull_says_where(folder, capsys, tmp_path):
    captured = said(capsys, "pull", "high/other", "high/tiny", "--registry", folder)
    rows = [line.split("\t") for line in captured.out.splitlines()]
    assert [row[0] for row in rows] == ["high/other@1.0.0", "high/tiny@1.0.0"]
    assert rows[1][1] == str(Cache().path(tiny().digest))
    answer = answered(capsys, "pull", "high/tiny", "--out", tmp_path / "out", "--registry", folder)
    path = tmp_path / "out" / "high" / "tiny.safetensors"
    assert answer["cells"][0]["path"] == str(path)
    assert Cell.read(path).digest == tiny().digest


def test_pull_does_not_write_one_version_over_another(folder, capsys, tmp_path):
    references = ("high/other@1.0.0", "high/other@2.0.0-rc.1")
    error = answered(capsys, "pull", *references, "--out", tmp_path / "out", "--registry", folder, code=2)["error"]
    assert error["code"] == "OUT_CLASH"
    assert not (tmp_path / "out").exists()
    assert len(answered(capsys, "pull", *references, "--registry", folder)["cells"]) == 2


@pytest.mark.usefixtures("by_hand")
def test_publish(folder, capsys, tmp_path):
    path = tiny("new", seed=3).write(tmp_path / "cells")
    answer = answered(capsys, "publish", path, "--to", folder)
    assert (answer["reference"], answer["number"], answer["new"]) == ("high/new@1.0.0", 5, True)
    again = said(capsys, "publish", path, "--to", folder)
    assert again.out == f"high/new@1.0.0\tsha256:{tiny('new', seed=3).digest}\n"
    assert "already published" in again.err
    tiny("new", seed=4).write(tmp_path / "cells")
    error = answered(capsys, "publish", path, "--to", folder, code=6)["error"]
    assert error["code"] == "VERSION_EXISTS"
    assert "another version" in error["remedy"]


def test_a_denied_band_leaves_nothing(capsys, tmp_path):
    path = tiny(cv=0.2, band="high").write(tmp_path / "cells")
    error = answered(capsys, "publish", path, "--to", tmp_path / "registry", code=6)["error"]
    assert error["code"] == "BAND_DENIED"
    assert error["expected"].startswith("off")
    assert not (tmp_path / "registry").exists()


def test_verify(folder, capsys):
    assert answered(capsys, "verify", "high/tiny", "--registry", folder)["ok"]
    captured = said(capsys, "verify", "--all", "--registry", folder)
    assert "faults: 0" in captured.err
    damage(folder / "blobs" / tiny().digest)
    captured = said(capsys, "verify", "--all", "--registry", folder, code=4)
    assert "FAULT" in captured.out
    assert "DIGEST_MISMATCH" in captured.err
    answer = answered(capsys, "verify", "--all", "--registry", folder, code=4)
    assert [row["error"]["code"] for row in answer["findings"] if not row["ok"]] == ["DIGEST_MISMATCH"]
    assert not answered(capsys, "verify", "high/nothing", "--registry", folder, code=3)["ok"]


ERRORS = {
    "an unknown cell": (("pull", "high/tinny"), 3, "NO_CELL"),
    "an unknown version": (("show", "high/tiny@9.0.0"), 3, "NO_VERSION"),
    "a malformed reference": (("pull", "Tiny"), 2, "BAD_REFERENCE"),
    "a range without a version": (("show", "high/tiny@^3"), 3, "NO_VERSION"),
    "an unknown alias": (("show", "tiny"), 3, "NO_ALIAS"),
    "an unknown registry": (("show", "lab/high/tiny"), 3, "NO_REGISTRY"),
    "nothing to pull": (("pull",), 2, "USAGE"),
    "nothing to verify": (("verify",), 2, "USAGE"),
    "too much to verify": (("verify", "high/tiny", "--all"), 2, "USAGE"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(folder, capsys, name):
    arguments, code, wanted = ERRORS[name]
    before = tree(folder)
    captured = said(capsys, *arguments, "--registry", folder, "--json", code=code)
    error = json.loads(captured.out)["error"]
    assert error["code"] == wanted
    assert set(error) == {"code", "what", "expected", "found", "where", "remedy"}
    assert captured.err.startswith("error: ")
    captured = said(capsys, *arguments, "--registry", folder, code=code)
    assert captured.out == ""
    assert tree(folder) == before


def test_damage_has_its_exit_code(folder, capsys):
    damage(folder / "blobs" / tiny().digest)
    assert answered(capsys, "pull", "high/tiny", "--registry", folder, code=4)["error"]["code"] == "DIGEST_MISMATCH"
    damage(folder / "high" / "tiny" / "1.0.0.json")
    assert answered(capsys, "show", "high/tiny", "--registry", folder, code=4)["error"]["code"] == "DIGEST_MISMATCH"
    damage(folder / "index.json")
    said(capsys, "list", "--registry", folder, code=4)


def test_no_registry_there(capsys, tmp_path):
    assert answered(capsys, "list", "--registry", tmp_path / "x", code=3)["error"]["code"] == "NO_REGISTRY"
    assert "without a slash" in answered(capsys, "list", "--registry", f"{tmp_path}/embedded/", code=3)["error"]["remedy"]
    assert answered(capsys, "list", "--registry", tmp_path, code=3)["error"]["code"] == "NO_INDEX"
    assert answered(capsys, "list", "--registry", "gopher://a/b", code=2)["error"]["code"] == "SCHEME"
    assert answered(capsys, "publish", tmp_path / "x.safetensors", "--to", tmp_path, code=3)["error"]["code"] == "NO_FILE"
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("list", "--nothing"), ("show",), ("publish", "x.safetensors"), ("show", "a", "b")]
)
def test_usage_errors(capsys, arguments):
    captured = said(capsys, *arguments, code=2)
    assert captured.out == ""
    assert "batteries" in captured.err


class OutOfMemoryError(RuntimeError):
    """An error of torch's name for a full GPU."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 1 TB"),
        OutOfMemoryError("CUDA out of memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_a_lack_of_memory_is_no_bug(capsys, monkeypatch, folder, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(browse, "open_snapshot", full)
    captured = said(capsys, "list", "--registry", folder, "--json", code=8)
    assert json.loads(captured.out)["error"]["code"] == "MEMORY"
    assert "Traceback" not in captured.err


def test_a_bug_says_that_it_is_one(capsys, monkeypatch, folder):
    def broken(*_, **__):
        raise RuntimeError("surprise")

    monkeypatch.setattr(browse, "open_snapshot", broken)
    captured = said(capsys, "list", "--registry", folder, "--json", code=1)
    assert json.loads(captured.out)["error"]["code"] == "BUG"
    assert "a bug in batteries" in captured.err
    assert "Traceback" in captured.err


def test_an_interrupt_is_130(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(browse, "open_snapshot", interrupted)
    assert main(["list"]) == 130


def test_a_read_only_registry_stays_as_it_is(folder, capsys):
    before = tree(folder)
    for arguments in (("list",), ("show", "high/tiny"), ("pull", "high/tiny"), ("verify", "--all")):
        said(capsys, *arguments, "--registry", folder)
    assert tree(folder) == before
    assert Index.from_bytes(DirectoryStore(folder, writable=False).read_index(), where="test").number == 4


@pytest.mark.slow
def test_only_what_measures_imports_torch(folder, tmp_path):
    code = """
import shlex, sys
from registry.cli import main
for line in sys.argv[1:]:
    assert main(shlex.split(line)) == 0, line
    assert "torch" not in sys.modules, line
"""
    lines = [f"{line} --registry {folder}" for line in ("list", "show high/tiny", "pull high/tiny", "verify --all")]
    run = python(code, "--help", *lines, f"lock high/tiny --registry {folder} --out {tmp_path}/cells.lock", "list --help")
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_help_is_there_at_once():
    started = time.perf_counter()
    run = python(CLI, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert time.perf_counter() - started < 5  # 0.5 s on an idle machine; the bound is for a busy one
    for command in ("list", "show", "pull", "publish", "verify"):
        assert command in run.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written(folder):
    command = [sys.executable, "-c", CLI, "list", "--registry", str(folder)]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 8
    assert "output cannot be written" in run.stderr
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert run.returncode == 0
    assert "Traceback" not in run.stderr
