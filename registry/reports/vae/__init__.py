"""Battery VAEs as tables and as a page."""
