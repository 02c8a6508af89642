"""Names, trust and transport of cells: where they are published, how they are found, fetched and checked.

Names load on first use, so that ``batteries --help`` starts at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
