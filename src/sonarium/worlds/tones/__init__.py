"""Tones with planted factors, rendered from an index alone; and SynTone's data sets."""
