"""Input images: reading files and arrays, cropping and padding, and conversion to a cell's scale."""
