"""All pairs: planted kinship found directly and by way of the frame, and nulls that say no, however cells share an image."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import composer.alignment.untrained_null
from batteries import CellSpec
from batteries.errors import InputError, NotFoundError
from batteries.geometry import holm
from batteries.model.patch_svae import untrained
from batteries.packaging.package import UNTRAINED_SEED
from composer import compare, compose
from composer.alignment.pairs import FLOOR, _by_way_of_the_frame, untrained_for
from composer.alignment.untrained_null import _null, _rows, crossed, seed_groups, untrained_group, untrained_nulls
from composer.grids import pool
from composer.procrustes import FewSamplesWarning, score
from composer.procrustes.held_out import Split
from composer.procrustes.scores import LEVEL, shuffles_for
from tests.composer.procrustes.test_procrustes import draw, rotation
from tests.support.cells import from_model, turned

SPEC = CellSpec(V=16, D=4, patch_size=8, hidden=16)
FINE = CellSpec(V=12, D=4, patch_size=4, hidden=8)
WIDE = CellSpec(V=16, D=8, patch_size=8, hidden=16)


def images(count=40, seed=0, size=16):
    """Of a brightness each, so that all cells have something in common."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.randn(count, 1, 1, 1, generator=generator)
    return 2 * bright + 0.2 * torch.randn(count, 3, size, size, generator=generator)


def container(*specs, **how):
    return compose({f"c{seed}": from_model(spec, seed, f"c{seed}") for seed, spec in enumerate(specs)}, **how)


def kin(noise, cells=4, b=400, g=2, d=3):
    """Tokens of cells that see one hidden thing, each in its own turn and with its own noise."""
    hidden = draw(b, g, d)
    return {f"c{i}": (hidden + noise * draw(b, g, d, seed=50 + i)) @ rotation(d, i, reflect=i == 1) for i in range(cells)}


# Direct, and by way of the frame.


@pytest.mark.parametrize("kind", ["omega", "moment", "frames", "rows"])
def test_turned_twins_are_one_cell_directly_and_by_way_of_the_frame(kind):
    one = from_model(SPEC, 0, "one")
    others = {f"t{i}": turned(one, f"t{i}", rotation(4, i, reflect=i == 2).numpy()) for i in (1, 2)}
    table = compare(compose({"one": one, **others}, dtype=torch.float64), images(), tokens=kind, untrained=0)
    assert [(pair.source, pair.target) for pair in table.pairs] == [("one", "t1"), ("one", "t2"), ("t1", "t2")]
    for pair in table.pairs:
        assert pair.direct.r2 == pytest.approx(1, abs=1e-6)
        assert pair.through.r2 == pytest.approx(pair.direct.r2, abs=1e-6)
        assert pair.through.cosine == pytest.approx(pair.direct.cosine, abs=1e-6)
    assert table.related() == (True, True, True)


def test_a_pair_is_scored_as_by_itself():
    model, x, clusters = container(SPEC, WIDE, FINE), images(), torch.arange(40) // 2
    table = compare(model, x, clusters=clusters, untrained=0, seed=3)
    out = model(x, ("omega",))
    for pair in table.pairs:
        ends = (pool(out[name].omega, out[name].grid, (2, 2)) for name in (pair.source, pair.target))
        assert pair.direct == score(*ends, clusters=clusters, seed=3, shuffles=shuffles_for(3, FLOOR))
        assert pair.direct.untrained is None
        assert pair.p_value == pair.direct.shuffled.p_value
    assert table.p_values == holm([pair.p_value for pair in table.pairs])
    assert table.pair("c2", "c0") == table.pair("c0", "c2") == table.pairs[1]
    assert (table.names, table.kind, table.grid, table.ends) == (("c0", "c1", "c2"), "omega", (2, 2), model.ends)


def test_the_cosine_has_no_direction_and_r2_hardly_one():
    model = container(SPEC, WIDE, FINE, SPEC)
    names = [("c0", "c1"), ("c2", "c3"), ("c0", "c2")]
    there, back = (compare(model, images(100), pairs=chosen, untrained=0) for chosen in (names, [n[::-1] for n in names]))
    for one, other in zip(there.pairs, back.pairs, strict=True):
        assert (one.source, one.target) == (other.target, other.source)
        assert one.direct.cosine == pytest.approx(other.direct.cosine, abs=1e-9)
        assert one.direct.r2 == pytest.approx(other.direct.r2, abs=0.02)
        assert one.through.cosine == pytest.approx(other.through.cosine, abs=1e-9)


@pytest.mark.parametrize("noise", [0.3, 0.6, 1.0])
def test_by_way_of_the_frame_lengths_cost_r2_and_not_the_cosine(noise):
    """Direct R2 r^2 is 2 r - 1 by way of the frame, which many cells bring near to what is hidden."""
    tokens = kin(noise, cells=8)
    split = Split.drawn(torch.arange(400), torch.Generator().manual_seed(0))
    (found,) = _by_way_of_the_frame(tokens, split, [("c0", "c1")])
    direct, r = score(tokens["c0"], tokens["c1"], shuffles=1), 1 / (1 + noise**2)
    assert direct.r2 == pytest.approx(r**2, abs=0.05)
    assert found.r2 == pytest.approx(2 * r - 1, abs=0.05)
    assert found.cosine == pytest.approx(direct.cosine, abs=0.01)


def test_the_frame_is_not_of_the_half_that_is_judged():
    """Strangers, of whom a frame of all images would make kin."""
    tokens = {f"c{i}": draw(12, 2, 3, seed=i) for i in range(8)}
    split = Split.drawn(torch.arange(12), torch.Generator().manual_seed(0))
    pairs = [(one, other) for one in tokens for other in tokens if one < other]
    found = [through.cosine for through in _by_way_of_the_frame(tokens, split, pairs)]
    assert abs(sum(found)) / len(found) < 0.05


# Untrained cells.


def test_r2_of_many_pairs_at_once_is_that_of_each():
    clusters = torch.arange(24) // 2
    tokens = [draw(24, 4, d, seed=seed) + draw(24, 1, 1) for seed, d in enumerate((3, 5, 3, 2))]
    split = Split.drawn(clusters, torch.Generator().manual_seed(7))
    rows = [_rows(own, split) for own in tokens]
    found = crossed(rows, rows[::-1], split)
    for i, one in enumerate(tokens):
        for j, other in enumerate(tokens[::-1]):
            assert float(found[i, j]) == pytest.approx(score(one, other, clusters=clusters, seed=7, shuffles=1).r2, abs=1e-9)


def test_the_null_has_every_pair_with_an_untrained_cell_in_it():
    split = Split.drawn(torch.arange(24), torch.Generator().manual_seed(0))
    tokens = {"a": draw(24, 4, 3, seed=1), "b": draw(24, 4, 3, seed=1) @ rotation(3, 0) + draw(24, 4, 3, seed=2)}
    drawn = {spec: [draw(24, 4, spec.D, seed=100 * spec.D + i) for i in range(10)] for spec in (SPEC, WIDE)}
    (null,) = untrained_nulls(tokens, {"a": SPEC, "b": WIDE}, drawn, split, [("a", "b")])
    first, second = drawn[SPEC][:5], drawn[WIDE][5:]
    r2 = [[score(one, other, shuffles=1).r2 for other in (*second, tokens["b"])] for one in (*first, tokens["a"])]
    table = torch.tensor(r2, dtype=torch.float64)
    assert null.mean == pytest.approx(float(table[:5, :5].mean()))
    assert null.sd == pytest.approx(float(table[:5, :5].std()))
    assert (null.draws, null.exceeding) == (35, int((table >= table[5, 5]).sum()) - 1)
    assert null.p_value == 1 / 36, "a planted relation is above them all"


@pytest.mark.parametrize("effect", [0.0, 3.0])
def test_the_p_value_is_exact_whatever_rows_and_columns_have_in_common(effect):
    """A cell that predicts everything, or that everything predicts: untrained pairs alone would be exceeded far too often."""
    generator = torch.Generator().manual_seed(0)
    trials, count = 4000, 9
    rows, columns, noise = (
        torch.randn(trials, *shape, generator=generator, dtype=torch.float64)
        for shape in ((count + 1, 1), (1, count + 1), (count + 1, count + 1))
    )
    tables = effect * (rows + columns) + noise
    flagged = sum(_null(table, count, count, count).p_value <= LEVEL for table in tables)
    assert flagged / trials == pytest.approx(LEVEL, abs=0.011), "three standard errors"
    alone = (tables[:, :count, :count] >= tables[:, -1:, -1:]).sum(dim=(1, 2))
    assert sum(_null(table, count, count, count).exceeding == 0 for table in tables) / trials < 0.01 + 0.005
    above = float((alone == 0).double().mean()) * (1 + count**2)
    assert above > 2 if effect else above == pytest.approx(1, abs=0.4), "above all untrained pairs, as often as it should be"


@pytest.mark.slow
def test_cells_that_never_learned_are_not_related_however_much_they_share():
    """They see the same brightness: shuffled images tell them from strangers, other untrained cells see it as well."""
    raw, shuffled, related = [], [], []
    for seed in range(3):
        specs = [SPEC, FINE, SPEC, FINE, SPEC, FINE]
        cells = {f"c{i}": from_model(spec, 100 * seed + i, f"c{i}") for i, spec in enumerate(specs)}
        table = compare(compose(cells), images(seed=seed))
        raw += [pair.direct.untrained.p_value for pair in table.pairs]
        shuffled += [pair.direct.shuffled.p_value for pair in table.pairs]
        related.append(any(table.related()))
    assert sum(p <= LEVEL for p in shuffled) > len(shuffled) / 2
    assert sum(p <= LEVEL for p in raw) <= 6, "45 at 0.05: 2.3, in threes and fours that share a cell"
    assert sum(related) <= 1, "of three tables at 0.05 each, two have a probability below 1%"


def test_kin_are_related_and_a_stranger_is_not():
    one = from_model(SPEC, 0, "one")
    twin, stranger = turned(one, "twin", rotation(4, 1).numpy()), from_model(SPEC, 1, "stranger")
    table = compare(compose({"one": one, "twin": twin, "stranger": stranger}), images(), tokens="moment")
    assert table.related() == (True, False, False)
    found = table.pair("one", "twin").direct
    assert found.untrained.draws == 20**2 - 1
    assert found.lift_over_untrained == found.r2 - found.untrained.mean > 0.1


@pytest.mark.slow
def test_untrained_cells_are_run_once_and_shared(monkeypatch):
    made = []
    monkeypatch.setattr(
        composer.alignment.untrained_null, "untrained", lambda spec, seed: made.append((spec, seed)) or untrained(spec, seed)
    )
    compare(container(SPEC, SPEC, FINE, FINE, SPEC), images(), untrained=5)
    assert sorted(seed for spec, seed in made if spec == SPEC) == [UNTRAINED_SEED + seed for seed in range(10)]
    assert len(made) == 20


def test_untrained_tokens_are_those_of_untrained_cells_and_no_seed_counts_twice(monkeypatch):
    x = images(8)

    def tokens(count, like):
        where = like.groups[0].stack.dtype, "cpu", like.scale
        return [one for seeds in seed_groups(FINE, count) for one in untrained_group(FINE, seeds, *where, x, "S", (2, 2))]

    found = tokens(3, container(SPEC))
    for seed, own in enumerate(found):
        wanted = untrained(FINE, UNTRAINED_SEED + seed).tokens(x)
        assert torch.allclose(own, pool(wanted.S, wanted.grid, (2, 2)).detach(), atol=1e-5)
    monkeypatch.setattr(composer.alignment.untrained_null, "TOGETHER", 1)
    again = tokens(2, container(SPEC))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(again, found, strict=False))
    assert tokens(1, container(SPEC, dtype=torch.float64))[0].dtype == torch.float64


@given(st.integers(1, 3000))
def test_as_many_untrained_cells_as_it_takes_to_reject_all(tests):
    count = untrained_for(tests)
    assert holm([1 / (1 + count) ** 2] * tests)[0] <= LEVEL
    assert count == 19 or holm([1 / count**2] * tests)[0] > LEVEL


def test_one_seed_gives_one_table():
    model = container(SPEC, FINE)
    one, again, other = (compare(model, images(), untrained=3, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


# What cannot be compared.


def test_bad_input_is_told_by_name():
    model, x = container(SPEC, SPEC), images()
    for code, batch, how in (
        ("PAIRS", x, {"pairs": []}),
        ("PAIRS", x, {"pairs": [("c0", "c1"), ("c1", "c1")]}),
        ("UNTRAINED", x, {"untrained": -1}),
        ("TOKENS", x, {"tokens": "V"}),
        ("GRIDS", x, {"grid": "none"}),
        ("FEW_IMAGES", x[:1], {}),
        ("FEW_IMAGES", x, {"clusters": torch.arange(40) // 20}),
        ("CLUSTERS", x, {"clusters": torch.arange(3)}),
        ("CONSTANT", torch.zeros_like(x), {}),
        ("NOT_FINITE", x / 0, {}),
        ("IMAGE_SHAPE", None, {}),
    ):
        with pytest.raises(InputError) as caught:
            compare(model, batch, **how)
        assert caught.value.code == code
    with pytest.raises(InputError) as caught:
        compare(container(SPEC), x)
    assert caught.value.code == "PAIRS"
    with pytest.raises(InputError) as caught:
        compare(container(SPEC, FINE), x, tokens="rows")
    assert caught.value.code == "ROWS"
    with pytest.raises(InputError) as caught:
        compare(container(SPEC, FINE), x, grid="exact")
    assert caught.value.code == "GRIDS"
    with pytest.raises(NotFoundError, match="NO_CELL"):
        compare(model, x, pairs=[("c0", "c9")])
    with pytest.raises(NotFoundError) as missing:
        compare(container(SPEC, SPEC, SPEC), x, pairs=[("c0", "c1")], untrained=0).pair("c0", "c2")
    assert missing.value.code == "NO_PAIR"


def test_fewer_regions_than_dimensions_are_warned_of():
    with pytest.warns(FewSamplesWarning):
        compare(container(WIDE, WIDE), images(10), tokens="moment", untrained=0)
