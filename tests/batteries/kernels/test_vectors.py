"""The words of vectors against numpy's, for both dtypes and for widths of one register and of several."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")
words = pytest.importorskip("batteries.kernels.vectors")

njit, vectors = words.njit, words.vectors
KINDS = [(np.float32, 16), (np.float32, 64), (np.float64, 4), (np.float64, 8)]
every_kind = pytest.mark.parametrize(("dtype", "width"), KINDS)


def numbers(dtype, count, seed=0):
    return np.random.default_rng(seed).normal(size=count).astype(dtype)


def test_the_name_of_a_type_says_dtype_and_width():
    names = {vectors(dtype, width).kind.name for dtype, width in KINDS}
    assert names == {"float32x16", "float32x64", "float64x4", "float64x8"}


def test_the_words_of_one_dtype_and_width_are_made_once():
    assert vectors(np.float64, 8) is vectors(np.float64, 8)


@every_kind
def test_operators_and_functions(dtype, width):
    made = vectors(dtype, width)
    load, fill, store = made.load, made.fill, words.store
    root, magnitude, where_above, any_above, total = (
        words.root,
        words.magnitude,
        words.where_above,
        words.any_above,
        words.total,
    )

    @njit
    def run(x, y, out):
        a, b = load(x, 1), load(y, 3)
        store(out, 0, (a + b) / (a * b) - fill(0.25))
        store(out, width, root(magnitude(a)))
        store(out, 2 * width, where_above(a, b, a, b))
        return total(a), any_above(a, b), any_above(a, a)

    x, y, out = numbers(dtype, width + 1), numbers(dtype, width + 3, 1), np.empty(3 * width, dtype)
    summed, some, none = run(x, y, out)
    a, b = x[1:], y[3:]
    wanted = (a + b) / (a * b) - dtype(0.25), np.sqrt(np.abs(a)), np.where(a > b, a, b)
    assert np.allclose(out, np.concatenate(wanted), rtol=1e-5)
    assert np.isclose(summed, a.sum(), rtol=1e-4)
    assert (some, none) == (bool((a > b).any()), False)


@every_kind
def test_nan_is_above_nothing_and_nothing_above_it(dtype, width):
    made = vectors(dtype, width)
    fill, any_above = made.fill, words.any_above

    @njit
    def run(x, y):
        return any_above(fill(x), fill(y))

    assert not run(np.nan, 0.0)
    assert not run(0.0, np.nan)
    assert run(1.0, 0.0)


@every_kind
def test_a_part_is_read_and_written_and_nothing_beyond(dtype, width):
    made = vectors(dtype, width)
    load_part, store, store_part = made.load_part, words.store, words.store_part

    @njit
    def run(x, count, whole, part):
        value = load_part(x, 0, count)
        store(whole, 0, value)
        store_part(part, 1, value, count)

    for count in (-1, 0, 1, width - 1, width, width + 5):
        there = min(max(count, 0), width)
        x, whole, part = numbers(dtype, there), np.ones(width, dtype), np.full(width + 2, 7, dtype)
        run(x, count, whole, part)
        assert (whole == np.concatenate([x, np.zeros(width - there)])).all()
        assert (part == np.concatenate([[7], x, np.full(width + 1 - there, 7)])).all()


@every_kind
@pytest.mark.slow
def test_slots_of_scratch_are_whole_vectors_on_their_boundary(dtype, width):
    made = vectors(dtype, width)
    scratch, load_slot, store_slot = made.scratch, made.load_slot, words.store_slot

    @njit
    def run(x):
        memory = scratch(3)
        memory[:] = x
        store_slot(memory, 0, load_slot(memory, 1) + load_slot(memory, 2))
        return memory

    x = numbers(dtype, 3 * width)
    found = run(x)
    assert found.ctypes.data % (width * x.itemsize) == 0
    assert (found[:width] == x[width : 2 * width] + x[2 * width :]).all()
    assert (found[width:] == x[width:]).all()


@every_kind
def test_several_at_once(dtype, width):
    made = vectors(dtype, width)
    load, load_several, spread_several, zero_several = made.load, made.load_several, made.spread_several, made.zero_several
    add_products, add_outer, add_several, add_dot = words.add_products, words.add_outer, words.add_several, words.add_dot
    store, store_several = words.store, words.store_several

    @njit
    def run(x, y, out):
        sums = add_products(spread_several(y, 2, 3), load(x, 0), y, 1)
        sums = add_outer(sums, load(x, 1), y, 0, 4)
        store_several(out, 0, width, add_several(sums, x, 0, width))
        store(out, 3 * width, add_dot(load(x, 2), load_several(x, 0, width, 3), y, 5))
        store_several(out, 4 * width, width, zero_several(2))

    x, y, out = numbers(dtype, 4 * width), numbers(dtype, 9, 1), np.empty(6 * width, dtype)
    run(x, y, out)
    rows = x[: 3 * width].reshape(3, width)
    sums = y[2:5, None] + x[:width] * y[1:4, None] + x[1 : width + 1] * y[[0, 4, 8], None] + rows
    dot = x[2 : width + 2] + (rows * y[5:8, None]).sum(axis=0)
    assert np.allclose(out, np.concatenate([sums.ravel(), dot, np.zeros(2 * width)]), rtol=1e-4, atol=1e-5)


def test_vectors_of_two_kinds_are_not_added():
    eight, four = vectors(np.float64, 8).fill, vectors(np.float64, 4).fill

    @njit
    def run():
        return eight(1.0) + four(1.0)

    with pytest.raises(numba.TypingError, match="No implementation of function"):
        run()
