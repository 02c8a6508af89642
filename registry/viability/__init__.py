"""The viability test: protocol, trials, checks and verdict."""
