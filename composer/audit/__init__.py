"""Audit of a host's gradient: four diagnostics that accuracy and gradient cosine miss, and the verdict that they carry."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
