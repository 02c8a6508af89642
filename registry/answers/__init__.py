"""Answers of the commands under ``--json``."""
