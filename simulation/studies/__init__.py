"""Many runs: strategies, settings and seeds, side by side."""
