"""Sealed files: a document and tensors in one file, with digests of every byte, for documents of any kind."""
