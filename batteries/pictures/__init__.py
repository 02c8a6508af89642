"""A user's images as a cell takes them: files and arrays read, framed, brought to scale."""
