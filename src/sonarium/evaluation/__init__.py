"""A learner and a world brought to the measures: extraction, tasks, controls, aggregation over seeds."""
