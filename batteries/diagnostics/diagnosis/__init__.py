"""The universal diagnostic of a cell: kinds of images, sizes, tiles, noise, compression, fingerprints and a verdict."""
