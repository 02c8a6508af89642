"""Sealed files: a document and tensors in one file, every byte under a digest. It knows no document of ours."""
