"""Orthogonal Procrustes analysis of tensors: maps, a consensus frame, and scores. Runs no container."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
