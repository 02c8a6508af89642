"""The viability test: its protocol, its trials, its verdict."""
