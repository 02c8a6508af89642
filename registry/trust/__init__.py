"""Signatures: keys and their documents in the formats of TUF. Pure but for files of keys: bytes in, objects out."""
