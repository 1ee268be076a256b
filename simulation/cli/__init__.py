"""The command ``sunflower``."""

from simulation.cli.commands import main as main
