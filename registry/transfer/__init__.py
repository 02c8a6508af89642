"""Cells, models and maps on their way: pull, publish, mirror, lock, verify, query."""
