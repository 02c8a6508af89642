"""Pages, charts, tables and sentences about cells, alignments and verdicts."""
