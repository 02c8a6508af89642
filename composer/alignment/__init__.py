"""Cells compared on the tokens they make of the same images: pairs, swaps, relays and nulls."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
