"""One process's share of a round: chunks of clients, their states, who fails."""
