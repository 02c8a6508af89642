"""Adaptation: a cell learns in a host under terms that hold it, and becomes a new cell."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
