"""Networks around cells: what a task is learned with."""
