"""Battery VAE: many cells implanted as the start of one trainable model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
