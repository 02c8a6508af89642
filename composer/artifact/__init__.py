"""Artifacts: models, maps and other kinds, each as one file with a manifest. One folder per kind, and a table of kinds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["kinds"])
