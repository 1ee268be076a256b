"""What a client keeps from round to round, as one vector."""

from __future__ import annotations

LOCAL = ".local"
"""Name of the weights that stay on a client, in its state."""
