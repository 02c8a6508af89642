"""Pages, charts, tables and sentences that report on cells, alignments, ablations and verdicts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
