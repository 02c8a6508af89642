"""Pages of a site from templates: style and scripts are in each page, and its policy allows these and no other.

A page loads nothing. All text from a registry is escaped, and its control characters are replaced or spelled out.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batteries.text import plain
from registry.reports.number_format import number
from registry.reports.templating import TEMPLATES as REPORT_TEMPLATES
from registry.reports.templating import environment
from registry.site.links import FRONT, link

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
KILO = 1000  # bytes


def render(template: str, page: str, scripts: Sequence[str] = (), **values: object) -> str:
    """Return a page of a site; the same values give the same bytes.

    Args:
        template: Name of the template.
        page: File of the page in the site.
        scripts: Names of scripts that end the page.
        values: Values of the template.
    """
    style, first, last = _text("site.css.j2"), _text("theme.js"), _text("controls.js", *scripts)
    return (
        _environment()
        .get_template(template)
        .render(
            values
            | {
                "style": style,
                "first_script": first,
                "last_script": last,
                "policy": _policy(style, first, last),
                "to": lambda target: link(target, page),
                "front": FRONT,
            }
        )
    )


@cache
def digest() -> str:
    """Return a digest of all code and templates that pages are made by."""
    folders = (TEMPLATES.parent, REPORT_TEMPLATES.parent)
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".j2", ".js"))
    return sha256(b"".join(path.name.encode() + path.read_bytes() for path in paths)).hexdigest()


def shown(value: Any) -> str | Markup:
    """Return a value of a manifest as a page shows it; a number carries its exact value, for readers that are programs.

    >>> shown(0.00560695), shown(True), shown(None)
    (Markup('<data value="0.00560695">0.005607</data>'), 'yes', '–')
    """
    from markupsafe import Markup

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return Markup('<data value="{}">{}</data>').format(repr(value), number(value))
    if value is None or value in ("", ()):
        return "\N{EN DASH}"
    if isinstance(value, str):
        return Markup("<bdi>{}</bdi>").format(plain(value))
    return Markup(", ").join(shown(item) for item in value)


def rough(error: float) -> str | Markup:
    """Return a standard error to two digits, with its exact value.

    >>> rough(0.00131043)
    Markup('<data value="0.00131043">0.0013</data>')
    """
    from markupsafe import Markup

    return Markup('<data value="{}">{}</data>').format(repr(error), number(float(f"{error:.2g}")))


def size(count: int) -> str | Markup:
    """Return a number of bytes in kilobytes.

    >>> size(1003404)
    Markup('<data value="1003404">1,003 KB</data>')
    """
    from markupsafe import Markup

    return Markup('<data value="{}">{} KB</data>').format(count, f"{count / KILO:,.0f}")


@cache
def _text(*names: str) -> Markup:
    """Return style or scripts, one after the other."""
    from markupsafe import Markup

    return Markup("\n".join(_environment().get_template(name).render() for name in names))


@cache
def _environment() -> Any:
    found = environment(TEMPLATES)
    filters: dict[str, Any] = {
        "shown": shown,
        "rough": rough,
        "size": size,
        "path": lambda path: json.dumps(list(path)),
    }
    found.filters |= filters
    return found


def _policy(style: str, *scripts: str) -> str:
    """Return the content security policy of a page: its own style and scripts by digest, and images that it holds."""
    styles, allowed = f"style-src {_hash(style)}", f"script-src {' '.join(map(_hash, scripts))}"
    return "; ".join(("default-src 'none'", styles, allowed, "img-src data:", "base-uri 'none'", "form-action 'none'"))


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
