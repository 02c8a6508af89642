"""From a finished run, or somebody else's checkpoint, to a cell."""
