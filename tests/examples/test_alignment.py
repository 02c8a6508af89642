"""The examples of read-outs across cells and of a large consensus: run small, and their parts on results made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import batteries
import composer
import registry
from tests.support.examples import RESULTS, example, rows

transfer, consensus = map(example, ("transfer", "consensus"))


def written(name):
    """An example's section of the page."""
    text = (RESULTS / "alignment.md").read_text().split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    assert f"`python examples/{name}.py --write`" in text
    return text


@pytest.mark.slow
def test_a_read_out_across_two_cells(monkeypatch):
    """One pair and one seed of fewer images, beside the page's means over five."""
    monkeypatch.setattr(transfer, "PARTS", {"map": 8, "learn": 16, "judge": 16})
    found = transfer.measure(transfer.PAIRS[:1], seeds=1)
    kept = {row[3]: row for row in rows(written("transfer")) if row[:2] == transfer.PAIRS[0]}
    assert [one.kind for one in found] == list(kept) == list(transfer.KINDS)
    for one in found:
        mine, theirs = one.row, kept[one.kind]
        assert mine[:4] == theirs[:4]
        shown = [(float(a.split()[0]), float(b.split()[0])) for a, b in zip(mine[4:], theirs[4:], strict=True)]
        assert all(a == pytest.approx(b, abs=0.15) for a, b in shown)
    assert all(found[2].mean("mapped") > found[2].mean(way) + 0.1 for way in transfer.CONTROLS)


@pytest.mark.slow
def test_parts_and_seeds_have_their_own_images():
    made = [transfer.images(part, seed) for part in transfer.PARTS for seed in (0, 1)]
    assert [len(types) for _, types in made] == [16 * transfer.PARTS[part] for part in transfer.PARTS for _ in (0, 1)]
    firsts = torch.stack([images[0].flatten() for images, _ in made])
    assert torch.corrcoef(firsts).fill_diagonal_(0).abs().max() < 0.05  # the first is Gaussian noise
    assert torch.equal(made[0][0], transfer.images("map", 0)[0])


def planted(noise, widths=(6, 6)):
    """Tokens (B, G, width) of two ends, the first of them the second turned, stretched and moved, and noise."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(30, 8, widths[1], generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(widths[1], widths[0], generator=generator, dtype=torch.float64)).Q
    source = 3 * target @ turn + noise * torch.randn(30, 8, widths[0], generator=generator, dtype=torch.float64) + 5
    return source, target


def spread(tokens):
    return (tokens - tokens.mean(dim=(0, 1))).square().mean().item()


def test_a_map_by_way_of_a_frame_keeps_the_spread_and_one_of_least_squares_does_not():
    source, target = planted(0.0)
    for fitted in (transfer.by_frame, transfer.least_squares):
        assert torch.allclose(fitted(source, target)(source), target, atol=1e-6)
    source, target = planted(9.0)
    mapped, shrunk = transfer.by_frame(source, target)(source), transfer.least_squares(source, target)(source)
    assert spread(mapped) == pytest.approx(spread(target), rel=0.05)
    assert spread(shrunk) < 0.3 * spread(target)
    assert (mapped - shrunk).mean().abs() < 1e-6  # of one mean


def test_without_its_rotation_a_map_moves_and_stretches_only():
    source, target = planted(0.0)
    found = transfer.unturned(transfer.by_frame(source, target))(source)
    assert torch.allclose(found.mean(dim=(0, 1)), target.mean(dim=(0, 1)), atol=1e-6)
    assert spread(found) == pytest.approx(spread(target), rel=1e-6)
    moved = (source - source.mean(dim=(0, 1))) / 3
    assert torch.allclose(found, moved + target.mean(dim=(0, 1)), atol=1e-6)


def test_narrower_tokens_get_the_width_of_the_read_out():
    source, target = planted(0.1, (3, 6))
    for fitted in (transfer.by_frame, transfer.least_squares):
        assert fitted(source, target)(source).shape == target.shape


def test_features_are_mean_and_spread_over_regions():
    found = transfer.features(torch.tensor([[[1.0, 2.0], [3.0, 2.0]]]))
    assert found.tolist() == [[2, 2, 1, 0]]


def read(pair=("low/a", "low/b"), kind="omega", **changes):
    means = {
        "own": 0.5,
        "mapped": 0.7 if kind == "moment" else 0.2,
        "least squares": 0.0625,
        "unturned": 0.1,
        "untouched": 0.05,
        "shuffled": 0.1,
        "untrained": 0.0625,
    } | {way.replace("_", " "): mean for way, mean in changes.items()}
    return transfer.Transfer(pair, True, kind, {way: (mean - 0.01, mean, mean + 0.01) for way, mean in means.items()})


def test_a_row_of_transfers():
    assert read(mapped=0.28125).row == (
        *("low/a", "low/b", "one", "omega", "0.500 ± 0.006", "0.281 ± 0.006", "0.50"),
        *("0.062 ± 0.006", "0.100 ± 0.006", "0.050 ± 0.006", "0.100 ± 0.006", "0.062 ± 0.006"),
    )
    assert len(read().row) == 5 + len(transfer.WAYS)
    one = transfer.Transfer(("low/a", "high/b"), False, "S", {"mapped": (0.3, 0.5, 0.4), "own": (0.1, 0.4, 0.1)})
    assert one.band == ""
    assert one.above("mapped", "own") == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)  # differences .2, .1, .3


HIGH = ("high/a", "high/b")


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ([], None),
        ([read(kind="moment", unturned=0.7)], "LOW, moment"),
        ([read(kind="moment", mapped=0.15)], "within a band"),
        ([read(untouched=0.2)], "omega and S, within"),
        ([read(HIGH, shuffled=0.2)], "omega and S, within"),
        ([read(least_squares=0.1)], "omega and S: by the map"),
    ],
)
def test_claims_of_transfers_can_fail(changed, wrong):
    usual = {(one.pair, one.kind): one for one in (read(), read(kind="moment"), read(HIGH), read(HIGH, "moment"))}
    usual |= {(one.pair, one.kind): one for one in changed}
    failed = [claim for claim, holds in transfer.claims(list(usual.values())).items() if not holds]
    assert len(failed) == (wrong is not None)
    assert all(claim.startswith(wrong) for claim in failed)


@pytest.fixture(scope="module")
def small():
    """A dozen cells, and two that join."""
    patch = pytest.MonkeyPatch()
    patch.setattr(consensus, "EVERY", 16)
    yield consensus.measure(12, 2)
    patch.undo()


@pytest.mark.slow
def test_a_consensus_of_a_dozen(small):
    assert small.cells == 12
    assert len(small.scores) == 12 + 2 + 3 + 9
    assert [len(small.of(what, "low")) for what in consensus.KINDS] == [4, 2, 1, 1, 3]
    assert [len(small.of(what, "high")) for what in consensus.KINDS] == [5, 0, 1, 1, 3]
    assert small.kept
    assert 0 < small.change < 0.2
    assert len(small.cost.joining) == 2
    assert min(small.cost.ratio, small.cost.frame, small.cost.forward, small.cost.weights) > 0
    assert small.worse.keys() == {consensus.NOISE[0]}
    assert all(1 < ratio < 1.1 for ratio in small.worse[consensus.NOISE[0]])


@pytest.mark.slow
def test_the_page_has_the_lines_of_the_large_one(small):
    mine, theirs = rows(consensus.section(small)), rows(written("consensus"))
    cost = len(small.cost.rows) + 1
    assert [row[0].replace("of 2", "of 10") for row in mine[:cost]] == [row[0] for row in theirs[:cost]]
    assert mine[cost] == theirs[cost]
    assert {row[:2] for row in mine[cost:]} <= {row[:2] for row in theirs[cost:]}


def test_a_copy_has_noise_of_the_stated_size_and_is_a_cell():
    (cell,) = registry.pull("high/johanna-64")
    copy = consensus.perturbed(cell, 0.05, 3)
    for name, array in cell.weights.items():
        size = np.sqrt(np.mean(np.square(copy.weights[name] - array)) / np.mean(np.square(array)))
        assert copy.weights[name].dtype == np.float32
        assert array.size < 100 or size == pytest.approx(0.05, rel=0.15)
    assert batteries.Cell.from_bytes(copy.to_bytes(), copy.manifest, where="a copy").digest == copy.digest != cell.digest
    assert consensus.perturbed(cell, 0.05, 3).digest == copy.digest != consensus.perturbed(cell, 0.05, 4).digest


def test_a_crowd_is_the_cells_and_copies_in_turn():
    names = ("high/johanna-64", "high/attractor-64")
    found = consensus.crowd(names, 5)
    assert list(found) == [*names, "high/johanna-64, 0.5%, 0", "high/attractor-64, 0.5%, 1", "high/johanna-64, 1.0%, 2"]
    assert len({cell.digest for cell in found.values()}) == 5


def test_what_a_cell_is_to_the_consensus():
    shipped, other = consensus.SHIPPED[0], consensus.OTHERS[0]
    names = (shipped, f"{shipped}, 0.5%, 0", other, f"{other}, 0.5%, 1", "low/fresnel-64", "low/fresnel-64, untrained, 0")
    wanted = [*consensus.KINDS[:2], "joined", *consensus.KINDS[2:]]
    assert [consensus.kind_of(name) for name in names] == wanted


def test_a_map_that_moved_is_seen():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(8, 4, 3, generator=generator)
    ends = {name: shared + 0.1 * torch.randn(8, 4, 3, generator=generator) for name in "abc"}
    first = composer.procrustes.consensus.consensus(ends)
    grown = composer.procrustes.consensus.joined(first, {"d": ends["a"] + 1})
    assert consensus.same(first, grown)
    ends["c"] = ends["c"] + 1e-6
    assert not consensus.same(first, composer.procrustes.consensus.consensus(ends))


def large(r2=None, **changes):
    """What was measured, by hand: R2 by kind, LOW and HIGH alike."""
    means = dict(zip(consensus.KINDS, (0.5, 0.4, 0.2, 0.1, 0.0), strict=True)) | (r2 or {})
    base = (consensus.SHIPPED[0], f"{consensus.SHIPPED[0]}, 0.5%, 0", *consensus.OTHERS[:1], consensus.PHOTOGRAPHS[0])
    names = dict(zip(consensus.KINDS, (*base, f"{consensus.PHOTOGRAPHS[0]}, untrained, 0"), strict=True))
    swapped = [(name, name.replace("low/", "high/")) for name in names.values()]
    scores = {}
    for (kind, value), pair in zip(means.items(), swapped, strict=True):
        for name in pair:
            null = SimpleNamespace(mean=-0.01, exceeding=int(kind == "untrained"))
            scores[name] = SimpleNamespace(r2=value, shuffled=null)
    cost = consensus.Cost(0.1, 9.0, 3.0, 1.0, (0.1, 0.05, 0.2), 10.0, 50.0, 80.0)
    return consensus.Found(
        **{"cost": cost, "cells": 4, "scores": scores, "kept": True, "change": 0.005, "worse": {0.005: [1.2]}} | changes
    )


def test_rows_of_a_consensus():
    found = large()
    assert found.cost.rows[3:7] == [
        ("maps and scores, which is the rest of aligning", "5.00 s"),
        ("joining one cell, median of 3", "0.100 s"),
        ("tokens and frame again, over joining one", "40"),
        ("aligning all again, scores and all, over joining one", "100"),
    ]
    assert found.rows[0] == ("in it, as it ships", "low", "0.500", "0.500 to 0.500", "-0.010", "1 of 1")
    assert found.rows[-1] == ("untrained", "high", "0.000", "0.000 to 0.000", "-0.010", "0 of 1")


SLOW = consensus.Cost(0.1, 9.0, 0.5, 0.4, (0.1,), 10.0, 50.0, 80.0)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (large(), None),
        (large(kept=False), "cells join"),
        (large(cost=SLOW), "joining one"),
        (large(change=0.02), "made again"),
        (large({"untrained": 0.25}), "cells of other trainings"),
        (large({"in it, a copy": 0.1}), "and farther"),
        (large({"photograph cell": 0.25}), "and LOW ones"),
    ],
)
def test_claims_of_a_consensus_can_fail(found, wrong):
    failed = [claim for claim, holds in consensus.claims(found).items() if not holds]
    assert len(failed) == (wrong is not None)
    assert all(claim.startswith(wrong) for claim in failed)


def test_what_is_written_and_when_it_fails(monkeypatch, tmp_path, capsys):
    usual = [read(), read(kind="moment"), read(HIGH), read(HIGH, "moment")]
    for module, right, wrong in (
        (transfer, usual, [read(untouched=0.3), read(kind="moment")]),
        (consensus, large(), large(kept=False)),
    ):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
        monkeypatch.setattr(module, "measure", lambda found=right: found)
        assert module.main(["--write"]) == 0
        monkeypatch.setattr(module, "measure", lambda found=wrong: found)
        assert module.main([]) == 1
        assert "NO" in capsys.readouterr().out
    text = (tmp_path / "alignment.md").read_text()
    assert text.startswith("# Alignment, measured\n")
    assert text.index("## Aligned tokens used") < text.index("## Two hundred cells")
    assert "NO" not in text
