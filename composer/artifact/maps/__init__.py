"""Maps between cells: manifest, document, and from memory to a file and back.

The modules load on first use: the table of kinds is read by commands that need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
