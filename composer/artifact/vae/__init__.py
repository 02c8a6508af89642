"""Battery VAEs: manifest, document, saving and loading.

Modules are imported on first use, because commands that need no torch read the table of kinds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
