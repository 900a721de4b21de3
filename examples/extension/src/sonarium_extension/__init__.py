"""A world, a front end, two models, an agent with its environment, a measure and a room for Sonarium."""
