"""Rendering of episodes: floor plans, sound fields, films, and text for terminals."""
