"""Inspection of a cell as a page of HTML: tables by stage, spectrum and CV along the pipeline as charts."""

from __future__ import annotations

from registry.answers.inspection import Inspected
from registry.reports.charts import inspection_charts
from registry.reports.inspections import inspection_tables
from registry.reports.templating import render


def inspected_page(found: Inspected) -> str:
    """Return the page of an inspection; the same answer gives the same bytes."""
    return render(
        "inspection.html.j2",
        found=found,
        sizes=[f"{size.height} x {size.width}" for size in found.sizes],
        stages=inspection_tables.stages(found.definitions),
        rows=inspection_tables.rows,
        cells=lambda figures: [inspection_tables.name_of(figures), *map(inspection_tables.value, figures)],
        drawn=inspection_charts.charts(found),
        undefined=[(size, figure) for size in found.sizes for figure in size.figures if figure.undefined],
    )
