"""Scripted and learning agents. An agent is given observations, never a room."""
