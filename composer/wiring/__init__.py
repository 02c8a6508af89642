"""Compositions: which cell feeds what, as data, and the models they become."""
