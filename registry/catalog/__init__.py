"""What a registry says: names, ranges, the index, releases, attestations. Pure: it reads no bytes from anywhere."""
