"""What an agent observes, as numbers that its networks read."""
