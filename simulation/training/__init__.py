"""Local training of clients in one process, on any backend."""
