"""What stays on disk: run folders, checkpoints, clients' states, logs."""
