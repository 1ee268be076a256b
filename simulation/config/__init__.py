"""What an experiment says: its sections, its strategy by name, the user's functions."""
