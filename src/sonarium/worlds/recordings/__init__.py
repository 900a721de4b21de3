"""Recordings read from disk: listed, validated, cached, cut into clips."""
