"""Playing in rooms: a person by keyboard, in a window or a terminal, or scripted agents that are evaluated."""
