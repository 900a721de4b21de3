"""Songbirds: a voice with known gestures, a grammar of syllables, and a pupil that learns both."""
