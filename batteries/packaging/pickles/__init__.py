"""Checkpoints in torch's zip format, read as data."""
