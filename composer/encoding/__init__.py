"""Cells run over many images, in bounded memory: tokens into one file, reconstructions into pictures."""
