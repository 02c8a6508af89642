"""The example of diagnoses: its rows are the figures of the answers, and its sentences count their verdicts."""

import pytest

import batteries
import registry
from registry.answers.diagnosis import DiagnoseAnswer
from tests.support.cells import from_model
from tests.support.examples import RESULTS, example, rows
from tests.support.viability import SPEC

diagnostics = example("diagnostics")


@pytest.fixture(scope="module")
def answer():
    cell = from_model(SPEC, 0, "a")
    found = batteries.diagnostics.diagnose(cell, size=32, untrained=1)
    return DiagnoseAnswer.of("high/a@1.0.0", cell.digest, found)


@pytest.mark.slow
def test_a_row_has_the_figures_of_its_cell(answer):
    row = dict(zip(diagnostics.COLUMNS, diagnostics.row(answer), strict=True))
    of = {(one.key, one.place): one for one in answer.figures}
    own = of["left", "known laws"]
    assert row["cell"] == "high/a@1.0.0"
    assert (row["verdict"], row["of PCA"]) == (answer.verdict, answer.linear)
    assert row["share left at home"] == f"{own.value:.3g} ± {own.standard_error:.1g}"
    assert row["PCA"] == f"{own.linear:.3g}"
    assert row["untrained"] == f"{sum(own.untrained) / len(own.untrained):.3g}"
    assert row["1024 px"] == diagnostics.estimate(of["size", "1024 pixels"])


@pytest.mark.slow
def test_sentences_count_shared_verdicts(answer):
    word, other = answer.verdict, "specialist" if answer.verdict != "specialist" else "generalist"
    shared = answer.model_copy(update={"linear": word, "untrained": (word, other)})
    alone = answer.model_copy(update={"linear": other, "untrained": (other, other)})
    first = diagnostics.sentences([shared, alone])[0]
    assert first.startswith(
        f"2 {word}: the linear code of the same width has the same verdict in 1 cases, an untrained cell of"
    )
    assert "in 1. A shared verdict" in first


@pytest.mark.slow
def test_the_kept_page_has_every_shipped_cell():
    written = {row[0] for row in rows((RESULTS / "diagnostics.md").read_text()) if "@" in row[0]}
    assert written == {f"{cell.name}@{cell.version}" for cell in registry.pull("*/*")}
