"""A learner and a world brought to the measures: splits, tasks, controls, and aggregation over training seeds."""
