"""Finished parts of viability tests, kept on disk."""

import itertools

from batteries.io.canonical_json import Document
from registry.viability.result_cache import ResultCache


class Part(Document):
    number: int


def counting():
    numbers = itertools.count()
    return lambda: Part(number=next(numbers))


def test_a_result_is_made_once(tmp_path):
    make = counting()
    assert [ResultCache(tmp_path).recall(Part, {"seed": 0}, make).number for _ in range(3)] == [0, 0, 0]
    assert ResultCache(tmp_path).recall(Part, {"seed": 1}, make).number == 1


def test_a_fresh_cache_makes_it_again_and_keeps_the_new_one(tmp_path):
    make = counting()
    ResultCache(tmp_path).recall(Part, {"seed": 0}, make)
    assert ResultCache(tmp_path, fresh=True).recall(Part, {"seed": 0}, make).number == 1
    assert ResultCache(tmp_path).recall(Part, {"seed": 0}, make).number == 1


def test_a_damaged_result_is_made_again(tmp_path):
    make = counting()
    ResultCache(tmp_path).recall(Part, {"seed": 0}, make)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert ResultCache(tmp_path).recall(Part, {"seed": 0}, make).number == 1


def test_nothing_is_kept_without_a_folder():
    make = counting()
    assert [ResultCache().recall(Part, {}, make).number for _ in range(2)] == [0, 1]
