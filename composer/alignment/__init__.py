"""What runs a container: tokens aligned, pairs scored, swaps, relays, nulls."""
