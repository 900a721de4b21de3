"""Playing in rooms by keyboard, in a window or a terminal, and evaluation of scripted and trained agents."""
