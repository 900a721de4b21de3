"""Figures, sounds and the page of what a run has learnt; everything works offline."""
