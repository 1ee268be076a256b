"""Everything that knows Flower: messages, strategies, apps, its runtime."""
