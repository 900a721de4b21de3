"""From a plan to objects, and back from a run folder; prints nothing."""
