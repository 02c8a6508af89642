"""Names, version ranges, the index, releases and attestations. Pure: nothing here reads or writes files."""
