"""A kind of artifact that the package does not know: notes about cells, some numbers in a file. A folder, and a row."""
