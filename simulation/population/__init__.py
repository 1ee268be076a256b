"""Who the clients are and how they behave: partitions, attackers, stragglers."""
