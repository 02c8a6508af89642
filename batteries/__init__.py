"""Cells: architecture, files, training and measurement.

Names load on first use, so that a command that needs no tensors starts without importing torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
