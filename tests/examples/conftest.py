"""Results of the front: a store, and a few made by hand."""

import pytest

from tests.support.front import jobs, some_results


@pytest.fixture
def store(tmp_path):
    return jobs.Store(tmp_path / "runs", tmp_path / "results" / "front.jsonl")


@pytest.fixture
def some():
    return some_results()
