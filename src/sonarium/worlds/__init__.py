"""Worlds: sound with known factors, rendered, read from disk, or encoded by another run."""
