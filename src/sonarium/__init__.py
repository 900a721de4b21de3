"""Sonarium: learning from sound where the causes of the sound are known."""

__version__ = "0.1.0"
