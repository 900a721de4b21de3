"""Agents: scripted ones here, learning ones in files to come. An agent is given observations, never a room."""
