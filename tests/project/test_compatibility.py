"""docs/compatibility.md says what the tests show, and every row has one."""

from collections import Counter

import pytest

from tests.compatibility import PAGE, page, rows, rows_of


@pytest.mark.slow
def test_the_page_is_what_the_tests_say():
    assert PAGE.read_text() == page(), "python -m tests.compatibility writes it"


@pytest.mark.slow
def test_nothing_is_said_twice():
    assert [what for what, times in Counter((row.area, row.what) for row in rows()).items() if times > 1] == []


@pytest.mark.slow
def test_there_are_forty_and_none_is_silent():
    found = rows()
    assert len(found) >= 40
    assert all(row.answer == "works" or row.answer.startswith("refused: `") for row in found)


def test_a_row_is_read_from_a_test(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.compatibility.ROOT", tmp_path)
    path = tmp_path / "test_it.py"
    path.write_text('@works("torch", "a tool", note="once")\n@refused("torch", "another", "NO")\ndef test_a(): ...\n')
    first, second = rows_of(path)
    assert (first.what, first.answer, first.note, first.test) == ("a tool", "works", "once", "test_it.py::test_a")
    assert (second.what, second.answer) == ("another", "refused: `NO`")
