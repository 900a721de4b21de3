"""Supervised probes of representations: classifiers and regressions on arrays, scored on groups held out."""
