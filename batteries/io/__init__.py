"""Files and text: canonical JSON, atomic files, the file system behind them, and text for messages."""
