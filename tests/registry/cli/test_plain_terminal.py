"""Words from files and registries on a terminal: neither markup nor control characters have an effect."""

import io

import pytest
from rich.console import Console

from registry.cli.terminal import progress
from registry.cli.terminal.console import emit
from registry.reports.fitted_table import FittedTable

HOSTILE = "low/[/x] [red]\x1b]0;title\x07\x1b[2J\nforged"
TITLE = "\x1b]0;"  # begins a change of the terminal's title


def shown_working():
    with progress.working(HOSTILE):
        pass


def shown_adoption():
    with progress.AdoptionBar() as bar:
        bar.moved(1, 2, HOSTILE)


def shown_trials():
    with progress.TrialBar() as bar:
        bar.of(HOSTILE)(HOSTILE, 1, 2)


def shown_adaptation():
    with progress.AdaptationBar(2, HOSTILE) as bar:
        bar.stepped(1, 0.5, None)


@pytest.mark.parametrize("show", [shown_working, shown_adoption, shown_trials, shown_adaptation])
def test_names_in_a_bar_are_plain_text_of_one_line(show, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "stderr", lambda: Console(file=written, force_terminal=True, width=120))
    show()
    assert TITLE not in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()
    assert not any(line.startswith("forged") for line in written.getvalue().splitlines())


def test_names_in_headings_are_plain_text(capsys):
    """Probes of a manifest are headings of its tables."""
    table = FittedTable("", HOSTILE, optional=(HOSTILE,), wrapping=(HOSTILE,), title=HOSTILE)
    table.add_row("MSE", "0.5")
    emit(table, HOSTILE, wide=True)
    out = capsys.readouterr().out
    assert "[/x] [red]" in out
    assert "\x1b" not in out
    assert "\x07" not in out
