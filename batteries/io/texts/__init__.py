"""Texts from any hand: what stands in for another file, and what costs a reader more than its bytes."""
