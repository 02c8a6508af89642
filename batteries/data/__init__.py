"""What cells learn from and are measured on: noise, photographs, probes, and training batches."""
