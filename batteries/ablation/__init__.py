"""Ablation programs: many runs as one file of data, carried out, resumed and read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
