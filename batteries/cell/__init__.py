"""The cell: its spec, its manifest, its file of weights, its input scale and its model card."""
