"""Commands that look inside a cell."""
