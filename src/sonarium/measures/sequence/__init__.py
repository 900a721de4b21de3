"""Measures of sequences of symbols and of what generates them."""
