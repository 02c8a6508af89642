"""A user's images as a cell takes them: files and arrays read, framed, and brought to its scale."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
