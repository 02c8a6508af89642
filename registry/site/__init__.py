"""Static site of a registry: a catalogue, a page for every version of every artifact, and an index as JSON."""
