"""Charts of pages: scales, bars, curves and maps, drawn by coordinates."""
