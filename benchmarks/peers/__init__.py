"""One module per peer, each run in a process of its own; all report through ``work.emit``."""
