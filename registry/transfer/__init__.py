"""Transfer of cells, models and maps: pull, publish, mirror, lock, verify, query."""
