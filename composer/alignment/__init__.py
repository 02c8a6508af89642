"""Analyses that run a container: token alignment, pair scores, swaps, relays and untrained nulls."""
