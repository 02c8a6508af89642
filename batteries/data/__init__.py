"""Data to train and measure cells: noise, photographs, probes and training batches."""
