"""Reference of the public names of a module: directives that take each docstring from the code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

PACKAGES = ("batteries", "composer", "registry")


@cache
def public_modules() -> tuple[str, ...]:
    """Return the packages, and the modules among their public names that list public names themselves."""
    return tuple(sorted({path for package in PACKAGES for path in _listed(package)}))


def _listed(path: str) -> Iterator[str]:
    module = importlib.import_module(path)
    yield path
    for name in module.__all__:
        if path in PACKAGES and isinstance(getattr(module, name), ModuleType):
            yield from _listed(f"{path}.{name}")


def page(path: str) -> str:
    """Return reStructuredText that documents every name in the ``__all__`` of a module; a module in it is linked to its page.

    Raises:
        ModuleNotFoundError: If there is no such module.
    """
    module = importlib.import_module(path)
    values = {name: getattr(module, name) for name in module.__all__}
    modules = [name for name in values if f"{path}.{name}" in public_modules()]
    index = f"Modules: {', '.join(f':doc:`{path}.{name}`' for name in modules)}\n\n" if modules else ""
    listed = "\n".join(f"   * :py:obj:`{name} <{path}.{name}>`" for name in values if name not in modules)
    entries = "\n\n".join(_entry(path, name, value) for name, value in values.items() if name not in modules)
    return f".. py:module:: {path}\n\n{index}.. container:: names\n\n{listed}\n\n{entries}\n"


def _entry(module: str, name: str, value: object) -> str:
    """Document a name where it lives; elsewhere, and for a constant or a module, say what it is."""
    path = f"{module}.{name}"
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    if kind == "data":
        words = "Module." if isinstance(value, ModuleType) else f"Constant: ``{_shown(value)}``."
        return f".. py:data:: {name}\n\n   {words}"
    if (home := _home(name, value)) != module:
        return f".. py:{kind}:: {name}\n\n   Same as :py:obj:`{home}.{name}`."
    return f".. autoclass:: {path}\n   :members:\n   :show-inheritance:" if kind == "class" else f".. autofunction:: {path}"


def _home(name: str, value: object) -> str:
    """Return the innermost module among the public ones that lists this value under this name."""
    holders = [one for one in public_modules() if getattr(importlib.import_module(one), name, None) is value]
    return max((one for one in holders if name in importlib.import_module(one).__all__), key=lambda one: one.count("."))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | dict) else repr(value)
