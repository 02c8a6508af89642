"""Where a registry's bytes live: in memory, in a folder, on the Hub, in the cache."""
