"""``python -m simulation.cli``: the command ``sunflower``."""

from simulation.cli.commands import main

main()
