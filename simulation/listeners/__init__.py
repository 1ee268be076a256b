"""Who hears a run: the terminal, the notebook, trackers."""
