"""Export of models: the exported part of a host's model, and the formats of programs."""
