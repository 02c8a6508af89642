"""Publish, find, fetch and verify cells and other artifacts.

Public names load lazily, to keep ``batteries --help`` fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
