"""Execution: threads, processors, and isolation from torch's global settings."""
