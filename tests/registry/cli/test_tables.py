"""Tables in a terminal of 80 and of 120 columns, and in a pipe."""

import io

import pytest
from rich.console import Console

from registry.catalog import check_names
from registry.cli import main
from registry.reports.figures import number
from registry.reports.fitted_table import FittedTable
from registry.stores.cache import Cache
from registry.transfer.remarks import attest
from tests.support.cells import attestation, publish, tiny
from tests.support.terminals import in_terminal


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "registry"
    publish(tiny("a-cell-of-a-long-name"), folder)
    publish(tiny("other", seed=1), folder)
    attest(attestation(tiny("a-cell-of-a-long-name")), folder)
    return folder


def drawn(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def figures():
    table = FittedTable("name", "a", "b", "words", optional=("a", "b"), wrapping=("words",))
    table.add_row("low/one", "11111", "22222", "some words about it")
    return table


def test_columns_are_left_out_in_their_order_and_named():
    assert drawn(figures(), 60)[0].split() == ["name", "a", "b", "words"]
    narrow = drawn(figures(), 36)
    assert narrow[0].split() == ["name", "b", "words"]
    assert " ".join(narrow).endswith("left out for width: a; --wide shows them")
    assert drawn(figures(), 30)[0].split() == ["name", "words"]


def test_only_columns_that_may_wrap_do():
    lines = drawn(figures(), 22)
    assert any(line.startswith("low/one") for line in lines)
    assert max(map(len, lines)) <= 22
    table = FittedTable("name", "verdict")
    table.add_row("low/one", "a verdict of many words")
    assert drawn(table, 24)[2] == "low/one  a verdict of m…"


def test_text_is_plain():
    table = FittedTable("name")
    table.add_row("[bold]x[/bold] \x1b[31m")
    assert drawn(table, 80)[2] == "[bold]x[/bold] \N{REPLACEMENT CHARACTER}[31m"


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_list_has_one_line_a_cell(folder, columns):
    code, lines = in_terminal(columns, "list", "--registry", folder)
    assert code == 0
    assert max(map(len, lines)) <= columns
    (row,) = [line for line in lines if line.startswith("high/a-cell")]
    assert row.startswith("high/a-cell-of-a-long-name@1.0.0  0.9200 ± 0.0123  ")
    assert "viable (quick-1)" in row
    assert any("--wide" in line for line in lines)


@pytest.mark.slow
def test_wide_shows_everything(folder, capsys):
    _, lines = in_terminal(80, "list", "--wide", "--registry", folder)
    assert main(["list", "--registry", str(folder)]) == 0
    assert [line.rstrip() for line in lines] == capsys.readouterr().out.splitlines()
    assert lines[0].split()[-1] == "family"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "verify", "fsck", "pull"])
def test_other_answers_fit_too(folder, command):
    words = {"fsck": (), "pull": ("high/other", "--out", folder.parent / "o")}.get(command, ("high/other",))
    code, lines = in_terminal(80, command, *words, "--registry", folder)
    assert code == 0
    if command != "pull":  # whose paths are not cut
        assert max(map(len, lines), default=0) <= 80
    assert not any("\t" in line for line in lines)


def test_pipes_have_tabs(folder, capsys):
    assert main(["pull", "high/other", "--registry", str(folder)]) == 0
    digest = tiny("other", seed=1).digest
    assert capsys.readouterr().out == f"high/other@1.0.0\t{Cache().path(digest)}\n"
    assert main(["verify", "high/other", "--registry", str(folder)]) == 0
    assert f"ok\tblob\tblobs/{digest}\t-" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("value", [8e-6, -3e-5, 9.99e-4, 1e-30, 0.00051])
@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_no_figure_is_printed_as_zero(value, decimals):
    assert float(number(value, decimals)) == pytest.approx(value, rel=0.01)


def test_printed_names_of_checks_have_no_comma():
    for name in ("error, mean", "error, claimed", "error, untrained", "lift, name the noise type", "lift, a task", "rank"):
        assert "," not in check_names.printed(name)
    assert check_names.listed(["error, mean", "rank"]) == "error vs mean, rank"
