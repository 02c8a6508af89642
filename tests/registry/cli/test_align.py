"""``batteries align``, as a user runs it: it finds what was planted, as a table, as JSON, as a page, as maps in a file."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import batteries
import composer
import registry
from batteries import Cell, CellSpec, probe
from registry.answers.alignment import ALIGNING
from registry.answers.transfer import ANSWERS
from registry.cli import align, main
from tests.composer.procrustes.test_procrustes import rotation
from tests.registry.reports.test_viability_page import needs_chromium, read, shown, words_of
from tests.support.cells import from_model, publish, python, tiny, tree, turned

SPEC = CellSpec(V=8, D=4, patch_size=16, hidden=8, depth=0, heads=2, smooth_width=2)
FINE = CellSpec(V=6, D=4, patch_size=8, hidden=6, depth=0, heads=2, smooth_width=2)
LARGE = CellSpec(V=5, D=4, patch_size=64, hidden=2, depth=0, heads=2, smooth_width=2)
PAIR = ("high/one", "high/twin")
TRIO = (*PAIR, "high/stranger")
ALIGNED = ALIGNING["align"]


def photographic(cell: Cell) -> Cell:
    """The same, said to have learned photographs."""
    data = cell.manifest.training.data.model_copy(update={"kind": "photos"})
    training = cell.manifest.training.model_copy(update={"data": data})
    return Cell(cell.weights, cell.manifest.model_copy(update={"training": training}))


def published(cell: Cell) -> Cell:
    """The same, said to have learned the published noise mix."""
    data = cell.manifest.training.data.model_copy(update={"noise_mix": "published"})
    training = cell.manifest.training.model_copy(update={"data": data})
    return Cell(cell.weights, cell.manifest.model_copy(update={"training": training}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cell, its twin in another frame, strangers, one of another grid, one of grey images, and some of photographs."""
    folder = tmp_path_factory.mktemp("registry")
    one = from_model(SPEC, 0, "one")
    photo = photographic(from_model(SPEC, 5, "photo"))
    for cell in (
        one,
        turned(one, "twin", rotation(4, 1, reflect=True).numpy()),
        from_model(SPEC, 7, "stranger"),
        from_model(FINE, 3, "fine"),
        tiny("grey"),
        photo,
        photographic(turned(photo, "print", np.eye(4))),
        *(published(from_model(SPEC, seed, name)) for seed, name in ((8, "theirs"), (9, "likewise"))),
        *(from_model(LARGE, seed, f"large-{seed}") for seed in (0, 1)),
        from_model(CellSpec(V=8, D=4, patch_size=24, hidden=4, depth=0, heads=2), 1, "odd"),
    ):
        publish(cell, folder)
    return folder


@pytest.fixture
def run(folder, capsys):
    def run(*words, code=0):
        found = main(["align", *map(str, words), "--registry", str(folder)])
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


@pytest.mark.slow
def test_what_was_planted_is_found_and_nothing_else(run):
    out, err = run(*TRIO)
    assert err == ""
    first, *lines = out.splitlines()
    assert first == (
        "omega of 3 cells on noise16-64 (all cells learned noise): 256 images, 16 regions of each, 19 untrained cells at each "
        "end, seed 0"
    )
    rows = {tuple(line.split()[:2]): line.split() for line in lines if line.startswith("high/")}
    assert {pair: row[8] for pair, row in rows.items()} == {
        PAIR: "yes",
        ("high/one", "high/stranger"): "no",
        ("high/twin", "high/stranger"): "no",
    }
    assert rows[PAIR][9:] == ["1.000", "1.000"]  # the cosines, directly and by way of the frame
    assert "1 of 3 pairs is related at 5% after Holm's correction." in lines[-1]


@pytest.mark.slow
def test_everything_that_is_shown_is_in_the_answer(run):
    out, _ = run(*TRIO, "--json", "--swap", "--seed", 3)
    answer = ALIGNED.model_validate_json(out)
    assert json.loads(out) == answer.model_dump(mode="json")
    chosen = probe("noise16-64")
    assert (answer.probe, answer.probe_digest, answer.clusters, answer.seed) == ("noise16-64", chosen.digest, 256, 3)
    assert (answer.images, answer.regions, answer.untrained) == ((256, 3, 64, 64), (4, 4), 19)
    assert [cell.reference for cell in answer.cells] == [f"{name}@1.0.0" for name in TRIO]
    assert all(cell.spectrum is None for cell in answer.cells)
    assert [pair.related for pair in answer.pairs] == [True, False, False]
    assert answer.related == 1
    assert answer.pairs[0].lift == answer.pairs[0].r2 - answer.pairs[0].shuffled.mean
    assert [(swap.source, swap.target) for swap in answer.swaps[:3]] == [PAIR, (TRIO[0], TRIO[2]), PAIR[::-1]]
    assert (answer.page, answer.path, answer.manifest) == (None, None, None)
    cells = registry.pull(*TRIO, registry=answer.command.split()[-1])
    table = composer.compare(composer.compose(cells), chosen.images, clusters=chosen.cluster, seed=3)
    assert [pair.r2 for pair in answer.pairs] == pytest.approx([pair.direct.r2 for pair in table.pairs], abs=1e-9)
    assert [pair.p for pair in answer.pairs] == pytest.approx(table.p_values)


def test_the_command_of_an_answer_gives_the_same_answer(run, capsys, folder):
    out, _ = run(*PAIR, "--tokens", "moment", "--probe", "photos-64", "--untrained", 2, "--json")
    command = json.loads(out)["command"].split()
    assert command[:4] == ["batteries", "align", "high/one@1.0.0", "high/twin@1.0.0"]
    assert main([*command[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out) | {"probe_because": "as asked"}
    assert str(folder) in command


@pytest.mark.parametrize(
    ("cells", "words", "name", "because"),
    [
        (PAIR, [], "noise16-64", "all cells learned noise"),
        (("high/photo", "high/print"), [], "photos-64", "all cells learned photographs"),
        (("high/photo", "high/one"), [], "noise16-64", "some cells learned noise, some photographs"),
        (("high/photo", "high/print"), ["--probe", "noise16-64"], "noise16-64", "as asked"),
        (("high/theirs", "high/likewise"), [], "noise16p-64", "all cells learned noise"),
        (("high/theirs", "high/photo"), [], "noise16p-64", "some cells learned noise, some photographs"),
        (("high/theirs", "high/one"), [], "noise16-64", "cells learned noise of several mixes"),
    ],
)
def test_the_probe_is_of_what_the_cells_learned(run, cells, words, name, because):
    out, _ = run(*cells, *words, "--untrained", 0, "--json")
    answer = ALIGNED.model_validate_json(out)
    assert (answer.probe, answer.probe_because, answer.untrained) == (name, because, 0)
    assert answer.clusters == {"noise16-64": 256, "noise16p-64": 256, "photos-64": 16}[name]
    assert answer.pairs[0].untrained is None
    assert "Untrained cells were left out" in answer.summary[-1]


def test_too_few_untrained_cells_to_say_anything_are_warned_of(run):
    out, err = run(*PAIR, "--untrained", 2)
    assert err == "warning: 2 untrained cells at each end give p-values of 0.11 or more, too high for 1 pair: 19 are enough\n"
    assert "None of 1 pair is related" in out


def test_what_the_library_warns_of_is_said_once(run, monkeypatch):
    whole = probe("noise16-64")
    few = dataclasses.replace(whole, images=whole.images[:8], group=whole.group[:8])
    monkeypatch.setattr(batteries, "probe", lambda name: few)
    words = "4 rows for 10 dimensions: unrelated tokens fit as well, so judge the map on other images"
    out, err = run("high/large-0", "high/large-1", "--tokens", "moment", "--untrained", 0, "--json")
    assert ALIGNED.model_validate_json(out).warnings == (words,)
    assert err == f"warning: {words}\n"


@pytest.mark.slow
def test_finer_cells_are_averaged_or_refused(run):
    out, _ = run("high/one", "high/fine", "--untrained", 0, "--json")
    answer = ALIGNED.model_validate_json(out)
    assert (answer.regions, answer.grid) == ((4, 4), "coarsest")
    _, err = run("high/one", "high/fine", "--grid", "exact", code=2)
    assert "cells with different grids" in err


@pytest.mark.slow
def test_the_maps_are_those_of_the_library_and_publish(run, tmp_path, folder):
    path = tmp_path / "kin.safetensors"
    out, err = run(*TRIO, "--untrained", 0, "--tokens", "S", "--out", path, "--version", "0.2.0", "--json")
    answer = ALIGNED.model_validate_json(out)
    assert (answer.path, answer.manifest.path, answer.manifest.identity.version) == (str(path), "maps/kin", "0.2.0")
    assert f"maps/kin@0.2.0: {answer.manifest.file.size} bytes" in err
    maps, chosen = composer.load(path), probe("noise16-64")
    made = composer.compose(registry.pull(*TRIO, registry=folder))
    fitted = composer.align(made, chosen.images, tokens="S", clusters=chosen.cluster)
    assert (maps.names, maps.kind, maps.probe) == (TRIO, "S", answer.images_digest)
    assert all(torch.equal(one.rotation, other.rotation) for one, other in zip(maps.maps, fitted.maps, strict=True))
    assert {pairing.source for pairing in maps.pairings} == {cell.tensors for cell in answer.cells}
    registry.publish(path, tmp_path / "lab")
    assert registry.pull("maps/kin", registry=tmp_path / "lab")[0].names == TRIO


@needs_chromium
def test_the_page_opens_and_says_what_was_found(run, tmp_path, folder):
    path = tmp_path / "page.html"
    out, _ = run(*TRIO, "--html", path, "--swap", "--json")
    answer = ALIGNED.model_validate_json(out)
    assert answer.page == str(path)
    chosen, container = probe("noise16-64"), composer.compose(registry.pull(*TRIO, registry=folder))
    spectra = composer.spectra(container, chosen.images, clusters=chosen.cluster)
    for cell in answer.cells:
        assert cell.spectrum.left == pytest.approx(spectra[cell.cell].left.tolist(), abs=1e-9)
        assert cell.spectrum.variance == pytest.approx(spectra[cell.cell].variance.tolist())
    words = words_of(shown(path, tmp_path))
    for told in (*answer.summary, *(cell.sha256 for cell in answer.cells), answer.probe_digest, answer.command):
        assert told in words
    drawn = [attributes for tag, attributes in read(path.read_text()).started if tag == "g"]
    # two maps of three pairs, each in two places
    assert [one["class"] for one in drawn if one.get("class") == "sure"] == ["sure"] * (2 * 2 + 2)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "too few cells"),
        (["high/one"], 2, "FEW_CELLS"),
        (["high/one", "high/one@1.0.0"], 6, "duplicate cell"),
        (["high/one", "high/none"], 3, "no such cell"),
        (["high/one", "model/pair"], 2, "registry.pull("),
        (["one", "high/twin"], 3, "unknown name"),
        ([*PAIR, "--tokens", "cats"], 2, "omega | S | moment | frames | rows"),
        ([*PAIR, "--tokens", "S", "--swap"], 2, "expected omega | rows"),
        ([*PAIR, "--grid", "finest"], 2, "coarsest | exact"),
        ([*PAIR, "--probe", "cats"], 2, "photos-64"),
        ([*PAIR, "--untrained", "-1"], 2, "--untrained"),
        ([*PAIR, "--seed", "x"], 2, "--seed"),
        ([*PAIR, "--name", "x"], 2, "--out"),
        ([*PAIR, "--out", "maps.pt"], 2, ".safetensors"),
        ([*PAIR, "--html", "none/page.html"], 2, "missing parent folder"),
        (["high/one", "high/odd"], 2, "multiples of 24"),
        (["high/one", "high/grey"], 6, "MIXED_INPUT"),
        (["high/one", "high/fine", "--tokens", "rows"], 2, "cells with different numbers of rows of M"),
    ],
)
def test_what_cannot_be_aligned(run, tmp_path, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    out, err = run(*words, code=code)
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    assert tree(tmp_path) == {}


def test_more_pairs_than_a_table_has_room_for_are_refused_before_anything_is_fetched(run):
    _, err = run(*(f"high/cell-{n}" for n in range(36)), code=6)
    assert "too many pairs: expected at most 600, got 630, of 36 cells [MANY_PAIRS]" in err
    assert align.MOST_PAIRS == 600


def test_an_error_is_one_object_and_a_changed_cell_is_one_of_integrity(run, folder, tmp_path, capsys):
    out, _ = run("high/one", "--json", code=2)
    assert ANSWERS["error"].model_validate_json(out).error.code == "FEW_CELLS"
    publish(from_model(SPEC, 0, "one"), tmp_path)
    publish(from_model(SPEC, 1, "two"), tmp_path)
    (blob, *_) = [path for path in (tmp_path / "blobs").iterdir() if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    assert main(["align", "high/one", "high/two", "--registry", str(tmp_path), "--json"]) == 4
    ANSWERS["error"].model_validate_json(capsys.readouterr().out)


@pytest.mark.slow
def test_help_starts_without_torch():
    code = "import sys; from registry.cli import main; main(['align', '--help']); print('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"
