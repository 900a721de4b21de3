"""Measures of sequences of symbols and of the processes that generate them."""
