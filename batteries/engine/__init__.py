"""Where and how work runs: threads, processors, and torch apart from a program's global settings."""
