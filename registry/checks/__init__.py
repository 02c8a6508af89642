"""Checks of the viability test: protocols, and what each check makes of readings, claims and trials."""
