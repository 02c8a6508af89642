"""The training loop: its plan, its trainer, its checkpoints."""
