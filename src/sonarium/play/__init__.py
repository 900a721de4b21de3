"""Rooms walked by keyboard, and agents watched and scored in them."""
