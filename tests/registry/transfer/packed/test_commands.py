"""The commands of all kinds: list, show, verify, pull, lock, diff, mirror, yank, fsck, publish."""

from pathlib import Path

import pytest

import composer
from batteries.io import canonical_json
from composer.artifact.maps.document import SavedMaps
from registry.answers.maintenance import MAINTENANCE
from registry.answers.transfer import ANSWERS
from tests.support.cells import publish, python
from tests.support.commands import answered, run
from tests.support.packed_kinds import packed_kind


def rows(answer, kind):
    """Those of one kind."""
    return getattr(answer, kind.form.kind.plural)


@pytest.mark.slow
def test_a_kind_is_listed_where_it_is_asked_for(kind, folder, capsys):
    listed, plural = answered(capsys, ANSWERS["list"], "list", "--registry", folder), kind.form.kind.plural
    assert ([cell.reference for cell in listed.cells], listed.models, listed.maps) == (["high/tiny@1.0.0"], (), ())
    both = sorted([f"{kind.path}@1.1.0", f"{kind.kind}/{kind.other}@1.0.0"])
    for words, wanted in (
        ([f"--{plural}"], both),
        ([f"{kind.kind}/*"], both),
        ([kind.name[:3], f"--{plural}"], [f"{kind.path}@1.1.0"]),
        ([kind.path], [f"{kind.path}@1.1.0"]),
    ):
        listed = answered(capsys, ANSWERS["list"], "list", *words, "--registry", folder)
        assert [one.reference for one in rows(listed, kind)] == wanted
        assert len(listed.cells) + len(listed.models) + len(listed.maps) + len(listed.vaes) == len(wanted)
    assert len(rows(answered(capsys, ANSWERS["list"], "list", f"--{plural}", "--all", "--registry", folder), kind)) == 3
    code, out, err = run(capsys, "list", kind.other[:3], f"--{plural}", "--registry", folder)
    assert (code, f"{plural}: 1 of 2" in err, f"{kind.kind}/{kind.other}@1.0.0" in out) == (0, True, True)
    code, out, err = run(capsys, "list", f"{kind.kind}/*", "--where", "D == 4", "--registry", folder)
    assert (code, out, "condition on another kind than cells" in err) == (2, "", True)
    assert run(capsys, "list", "--maps", "--models", "--registry", folder)[:2] == (2, "")


def test_a_list_of_maps_says_what_they_are_into(folder, capsys):
    listed = answered(capsys, ANSWERS["list"], "list", "--maps", "--registry", folder)
    assert [one.summary.target for one in listed.maps] == ["frame", "high/cell-3@1.0.0"]
    _, out, _ = run(capsys, "list", "pai", "--maps", "--registry", folder)
    assert all(text in out for text in ("omega", "2 x 2"))


TOLD = {"model": ("by.router", "model/trio"), "maps": ("high/cell-2", "maps/five"), "vae": ("high/coarse", "vae/three")}


@pytest.mark.slow
def test_show(kind, folder, capsys):
    for version, description in (("", "later"), ("@1.0.0", "made by hand")):
        words = "show", f"{kind.path}{version}", "--registry", folder
        shown = answered(capsys, ANSWERS[f"show-{kind.kind}"], *words)
        assert (shown.reference, shown.manifest.identity.description) == (
            f"{kind.path}{version or '@1.1.0'}",
            description,
        )
        _, out, _ = run(capsys, *words)
        assert all(text in out for text in TOLD[kind.kind])


def test_show_of_maps_says_both_ends(folder, capsys):
    shown = answered(capsys, ANSWERS["show-maps"], "show", "maps/five@1.0.0", "--registry", folder)
    assert (shown.manifest.frame.rows, len(shown.manifest.sources)) == (32, 5)
    _, out, _ = run(capsys, "show", "maps/pair", "--registry", folder)
    assert all(text in out for text in ("maps/pair@1.0.0", "high/cell-0", "high/cell-3", shown.manifest.probe[:8]))


@pytest.mark.slow
def test_verify_and_pull(kind, folder, capsys, tmp_path):
    verified = answered(capsys, ANSWERS["verify"], "verify", kind.path, "high/tiny", "--registry", folder)
    assert [finding.kind for finding in verified.findings] == ["manifest", "blob"] * 2
    words = ["pull", kind.path, "high/tiny", "--registry", folder, "--out", tmp_path / "out"]
    pulled = answered(capsys, ANSWERS["pull"], *words)
    assert [one.reference for one in (*pulled.cells, *rows(pulled, kind))] == ["high/tiny@1.0.0", f"{kind.path}@1.1.0"]
    path = tmp_path / "out" / kind.kind / f"{kind.name}.safetensors"
    assert rows(pulled, kind)[0].path == str(path)
    composer.load(path)
    publish(path, tmp_path / "again")
    words = ["pull", f"{kind.path}@1.0.0", kind.path, "--out", tmp_path / "x", "--registry", folder]
    assert run(capsys, *words)[:2] == (2, "")


@pytest.mark.slow
def test_a_pull_says_how_many_there_are_of_each_kind(folder, capsys):
    words = ["pull", "maps/five", "high/tiny", "model/least", "maps/pair", "--registry", folder]
    pulled = answered(capsys, ANSWERS["pull"], *words)
    assert [one.reference for one in (*pulled.cells, *pulled.models, *pulled.maps)] == [
        "high/tiny@1.0.0",
        "model/least@1.0.0",
        "maps/five@1.1.0",
        "maps/pair@1.0.0",
    ]
    code, _, err = run(capsys, *words)
    assert (code, err.splitlines()[-1]) == (0, "fetched and verified: cells 1, models 1, maps 2")


@pytest.mark.slow
def test_lock_diff_mirror_yank_fsck(kind, folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locked = answered(capsys, MAINTENANCE["lock"], "lock", kind.path, "high/tiny", "--registry", folder)
    assert [one.path for one in (*locked.cells, *rows(locked, kind))] == ["high/tiny", kind.path]
    pulled = answered(capsys, ANSWERS["pull"], "pull", "--locked", "cells.lock")
    assert [one.reference for one in rows(pulled, kind)] == [f"{kind.path}@1.1.0"]
    answered(capsys, MAINTENANCE["lock"], "lock", "high/tiny", "--out", "less.lock", "--registry", folder)
    assert run(capsys, "diff", "less.lock", "cells.lock")[2] == f"different: {kind.form.kind.plural} 1\n"
    assert rows(answered(capsys, MAINTENANCE["mirror"], "mirror", folder, tmp_path / "mirror"), kind) == 3
    assert run(capsys, "yank", f"{kind.path}@1.1.0", "--reason", "old", "--registry", folder)[0] == 0
    assert "yanked: old" in run(capsys, "show", f"{kind.path}@1.1.0", "--registry", folder)[1]
    checked = 10 + 9  # manifests and files: two versions of the model are one
    assert answered(capsys, MAINTENANCE["fsck"], "fsck", "--registry", folder).checked == checked


SUMMARY = {"model": ("cells", 5), "maps": ("tokens", "omega"), "vae": ("bottleneck", 8)}


def test_published_by_the_command(kind, files, capsys, tmp_path):
    path = files / f"{kind.name}.safetensors"
    published = answered(capsys, ANSWERS["publish"], "publish", path, "--to", tmp_path / "registry")
    field, value = SUMMARY[kind.kind]
    assert (str(published.reference), getattr(published.release.summary, field)) == (f"{kind.path}@1.0.0", value)


@pytest.mark.slow
def test_no_command_takes_torch(kind, folder, files, tmp_path):
    code = f"""
import sys
from registry.cli import main
kind, path, folder = {kind.form.kind.plural!r}, {kind.path!r}, {str(folder)!r}
for words in (["list", f"--{{kind}}"], ["show", path], ["pull", path], ["verify", "--all"]):
    assert main([*words, "--registry", folder]) == 0
for command in ("compose", "align"):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
assert main(["publish", {str(files / kind.name)!r} + ".safetensors", "--to", {str(tmp_path / "new")!r}]) == 0
assert main(["mirror", folder, {str(tmp_path / "mirror")!r}]) == 0
print("torch" in sys.modules)
"""
    done = python(code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_a_file_of_maps_says_all_that_its_manifest_says(files):
    said = composer.read(files / "five.safetensors")
    assert isinstance(said, SavedMaps)
    assert packed_kind("maps").manifest(files).lock == canonical_json.sha256(canonical_json.dump(said.lock))
    assert Path(files / "five.json").stat().st_size < 64 * 2**10
