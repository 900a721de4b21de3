"""Contrastive predictive coding."""
