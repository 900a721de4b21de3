"""Worlds: sound with what is known of its factors, rendered, read from disk, or encoded by another run."""
