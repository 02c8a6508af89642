"""Pages from the templates in this folder: all text is escaped, and an unknown name is an error.

A page loads nothing and runs nothing: no script, no font, no address outside of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batteries.text import plain
from registry.catalog import check_names
from registry.reports.number_format import interval, number, place

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """Return a filled template; the same values give the same bytes."""
    return environment().get_template(template).render(values)


@cache
def environment(*folders: Path) -> Environment:
    """Return the environment of the templates in this folder and in further ones."""
    import jinja2  # not before a page is written: commands without one start faster

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, *folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {
        "number": number,
        "interval": lambda bounds: interval(*bounds),
        "place": place,
        "check_name": check_names.printed,
    }
    environment.filters |= filters
    return environment


def _visible(value: object) -> object:
    """Replace control characters, such as those that change the direction of text; markup has passed here before."""
    return value if hasattr(value, "__html__") else plain(str(value))
