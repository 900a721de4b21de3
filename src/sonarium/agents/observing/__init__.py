"""Encoders of observations, whose embeddings are the inputs of an agent's networks."""
