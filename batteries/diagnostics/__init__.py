"""Diagnostics of a cell: figures of every stage from images to reconstructions, each with its formula and its error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
