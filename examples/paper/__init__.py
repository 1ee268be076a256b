"""Articles with every figure and table of a study."""
