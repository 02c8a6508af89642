"""Signed registries: keys that a reader pins, the check of a signature on every reading, and signed changes."""
