"""Comparisons of items by their codes: ABX, retrieval, verification."""
