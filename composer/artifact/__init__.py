"""Artifacts: models, maps, and any kind that joins, each as one file with its manifest. A folder a kind, a table of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["kinds"])
