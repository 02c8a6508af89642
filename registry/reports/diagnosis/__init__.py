"""Page and table of a diagnosis."""
