"""Stores of a registry's bytes: in memory, in a folder, on the Hub, in the cache."""
