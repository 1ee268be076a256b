"""How calls reach workers, and how a cohort is folded."""
