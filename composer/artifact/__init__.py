"""Models and maps as files: their manifests, their documents, saved and loaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["kinds"])
