"""Examples: experiments and studies in TOML, and the demonstration that ``make demo`` runs."""
