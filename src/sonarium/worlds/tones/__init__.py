"""Tones whose factors are planted, rendered from an index alone; and SynTone's data sets."""
