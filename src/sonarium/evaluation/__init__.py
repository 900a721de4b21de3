"""Evaluation of a learner on a world: splits, tasks, controls, and aggregation over training seeds."""
