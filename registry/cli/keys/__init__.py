"""Commands of keys and signatures."""
