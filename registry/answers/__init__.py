"""What the commands answer under ``--json``."""
