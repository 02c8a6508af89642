"""Pages, charts, tables and sentences that report on cells, alignments and verdicts."""
