"""``batteries compare``: two cells figure by figure. Torch is imported only when the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import batteries
import registry
from batteries import diagnostics
from batteries.errors import InputError
from registry.answers.inspection import ComparedCells
from registry.cli.diagnostics.inspect import ProbeName, Sizes, inspected
from registry.cli.terminal.completion import References
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import Seed, Threads, use
from registry.cli.terminal.progress import working
from registry.reports.inspections import inspection_tables

if TYPE_CHECKING:
    from batteries.diagnostics import Comparison

FORMS = "two cells; one cell with --untrained; or one cell with two sizes"


@app.command(rich_help_panel=TEST, epilog="batteries compare high/freckles-64 --untrained")
def compare(
    context: typer.Context,
    references: References,
    size: Sizes = None,
    probe: ProbeName = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Compare with the untrained twin.")] = False,
    seed: Seed = 0,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Compare the figures of two cells, or of one at two sizes.

    A star marks a difference that survives Holm's correction over all figures; a CV differs only if the ratio leaves
    0.85 to 1.15. Figures read on the same images are paired.

    Two cells: compare A B. One cell at two sizes: compare A --size 64 --size 256. A cell and its untrained twin: compare A
    --untrained, of another seed with --seed.
    """
    use(context, threads)
    if len(references) > 2 or (len(references) == 2 and untrained):
        raise InputError("too many cells", code="USAGE", expected=FORMS, found=len(references))
    if len(references) == 1 and not untrained and len(size or []) != 2:
        raise InputError("nothing to compare with", code="USAGE", expected=FORMS, found=f"{len(size or [])} sizes")
    if probe is not None:
        batteries.probe(probe)  # refused before the pull
    cells = [registry.load(reference, registry=registry_) for reference in references]
    chosen = probe or cells[0].manifest.own_probe
    with working("comparing"):
        found = _compared(cells, chosen, size, seed if untrained else None)
    answer = ComparedCells.of(found, chosen, diagnostics.LEVEL)
    if as_json:
        emit_json(answer)
    else:
        emit(*inspection_tables.comparison(answer), wide=wide)


def _compared(cells: list[batteries.Cell], probe: str, size: list[int] | None, seed: int | None) -> Comparison:
    first = inspected(cells[0], probe, size)
    if seed is not None:
        twin, input = batteries.untrained(cells[0].spec, seed), cells[0].manifest.identity.input
        other = diagnostics.inspect(twin, probe, sizes=size or (), name=f"untrained, seed {seed}", input=input)
    elif len(cells) == 2:
        other = inspected(cells[1], probe, size)
    else:
        assert size is not None
        first, other = (first.at(side) for side in size)
    return diagnostics.compare(first, other)
