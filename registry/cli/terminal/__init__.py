"""The terminal itself: help, choices, log lines and signals."""
