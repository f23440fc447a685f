"""Leaving the package: what of a host's model becomes a program, and the formats of programs."""
