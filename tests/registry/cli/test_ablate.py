"""``batteries ablate``: forecast, runs, report, and what it refuses; tests/batteries/ablation/test_driver.py has the runs."""

import json

import pytest

from batteries.ablation import driver
from batteries.engine.tasks import Outcome
from batteries.errors import StoreError
from registry.cli import main
from tests.support.ablations import TINY, filled, report


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program, in the folder that commands are given in; its runs are reports made before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_bytes(TINY)

    def run(tasks, **options):
        for task in tasks:
            made = task.arguments[0]
            if made.name == "S/one/high" and not (tmp_path / "space").exists():
                yield Outcome(task, error=StoreError("no space", code="NO_SPACE", where="a disk"))
                continue
            names = {"group": made.group, "variant": made.variant, "identity": made.identity, "plan": made.plan}
            timing = driver.Timing(seconds=1.0, step_seconds=0.1, peak_bytes=1)
            yield Outcome(task, (report().model_copy(update=names), timing))

    monkeypatch.setattr("registry.cli.terminal.options.run", run)
    return tmp_path


def test_a_run_that_failed_is_told_and_the_next_time_goes_on(program, capsys):
    assert main(["ablate", "tiny.toml"]) == 8
    out, err = capsys.readouterr()
    assert out == "tiny\ttiny\t3 of 4 runs\n"
    assert "S/one/high: no space in a disk [NO_SPACE]" in err
    assert main(["ablate", "tiny.toml", "--json"]) == 8
    answer = json.loads(capsys.readouterr().out)
    assert (answer["done"], answer["failed"][0]["run"], answer["failed"][0]["error"]["code"]) == (3, "S/one/high", "NO_SPACE")
    (program / "space").touch()
    assert main(["ablate", "tiny.toml"]) == 0
    assert capsys.readouterr().out == "tiny\ttiny\t4 of 4 runs\n"


def test_a_report_writes_tables_and_a_page(program, capsys):
    filled(program / "folder")
    assert main(["ablate", "report", "folder"]) == 0
    name, count, *files = capsys.readouterr().out.strip().split("\t")
    assert (name, count) == ("tiny", "4 of 4 runs")
    assert [file.rpartition("/")[2] for file in files] == [
        *("band_matrix.csv", "anomalies.csv", "group_summaries.csv", "uniformity_diagnostic.csv", "snapshot_meta.json"),
        "index.html",
    ]
    assert all((program / file).stat().st_size for file in files)
    assert main(["ablate", "report", "folder", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == files


def test_a_damaged_timing_is_told_and_the_report_goes_on(program, capsys):
    filled(program / "folder")
    for text in (b"", b"{", b'{"seconds": 1.0}', b"x" * 2**17):
        (program / "folder" / "S" / "zero" / "high" / "timing.json").write_bytes(text)
        assert main(["ablate", "report", "folder"]) == 0
        out, err = capsys.readouterr()
        assert "4 of 4 runs" in out
        assert "unreadable timing is left out" in err
        assert "[TIMING]" in err
        meta = json.loads((program / "folder" / "snapshot_meta.json").read_bytes())
        assert (meta["computations_timed"], meta["hours_timed"]) == (0, 0)


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["report"], 2, "USAGE"),
        (["report", "folder", "--group", "S"], 2, "USAGE"),
        (["report", "nowhere"], 3, "NO_RUNS"),
        (["tiny.toml", "folder"], 2, "USAGE"),
        (["tiny.toml", "--group", "Z"], 2, "NO_GROUP"),
        (["tiny.toml", "--band", "low"], 2, "NO_BAND"),
        (["nothing"], 3, "NO_PROGRAM"),
        (["nothing.toml"], 3, "NO_FILE"),
        (["broken.toml"], 4, "TOML"),
        (["published", "--group", "G", "--out", "folder"], 6, "OTHER_PROGRAM"),
    ],
)
def test_what_is_refused(program, words, code, name, capsys):
    filled(program / "folder")
    (program / "broken.toml").write_text("name =")
    before = {path: path.stat().st_mtime_ns for path in (program / "folder").rglob("*")}
    assert main(["ablate", *words]) == code
    assert f"[{name}]" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (program / "folder").rglob("*")}


@pytest.mark.slow
def test_a_forecast_runs_nothing_and_counts_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_bytes(TINY)
    filled(tmp_path / "tiny", left_out=("S/one/high", "N/none/high"))
    before = sorted((tmp_path / "tiny").rglob("*"))
    assert main(["ablate", "tiny.toml", "--dry-run", "--workers", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["runs"], answer["missing"], answer["computations"], answer["workers"]) == (4, 2, 2, 1)
    assert [(row["group"], row["runs"], row["missing"]) for row in answer["groups"]] == [("S", 2, 1), ("N", 2, 1)]
    assert answer["minutes"] == pytest.approx(sum(row["minutes"] for row in answer["groups"]))
    assert answer["memory"] > 2**27
    assert sorted((tmp_path / "tiny").rglob("*")) == before
