"""Classifiers that teach: frozen ones for distillation, dense ones for token labels."""
