"""Pictures and films of rooms."""
