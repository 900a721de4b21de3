"""Recordings read from disk: listed, distrusted, cached, cut into clips."""
