"""From an experiment, or a Flower app, to a run folder."""
