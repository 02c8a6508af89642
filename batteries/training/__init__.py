"""Training: plan, trainer and checkpoints."""
