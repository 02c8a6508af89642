"""Bytes on disk and text for people: canonical JSON, files that are whole or absent, and the file system behind them."""
