"""How the updates of a process's clients are encoded, and what they keep of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulation.config.compression import encoding_of
from simulation.config.experiment import Experiment
from simulation.training.measured import TrainedClient
from strategies.encodings import bits
from strategies.encodings.encoding import Encoding, Shapes
from strategies.encodings.reading import draws
from strategies.spec import Spec, Vector


@dataclass(frozen=True)
class Encoder:
    """Encodes updates, each with the draws of its round and client.

    Args:
        encoding: what is lost.
        shapes: of the trained weights.
        size: T, how many entries they have.
        seed: of the experiment.
    """

    encoding: Encoding
    shapes: Shapes
    size: int
    seed: int

    def sent(self, trained: TrainedClient, round: int, error: Vector | None) -> TrainedClient:
        """Return a trained client with the update that the server reads, and what it keeps.

        How far it moved stays known, as with clipping. An update that is not finite goes as it is:
        it is looked for where updates are folded.

        Args:
            trained: the client.
            round: the round, from 1.
            error: what it has not sent so far [T]; None: nothing.
        """
        update = trained.update
        whole = np.array(update.delta, np.float32)
        own = whole[: self.size].copy()
        if self.encoding.feedback and error is not None:
            whole[: self.size] += error
        exact = whole[: self.size]
        if whole.shape != update.delta.shape or not np.isfinite(exact).all():
            return replace(trained, error=error if self.encoding.feedback else None)

        def draw() -> np.random.Generator:
            return draws(self.seed, round, update.client)

        parts = self.encoding.parts(exact, self.shapes, draw)
        read = self.encoding.vector(parts, self.shapes, draw)
        kept = exact - read if self.encoding.feedback else None
        whole[: self.size] = read
        moved = np.concatenate([own, whole[self.size :]])
        update = replace(update, delta=whole, moved=moved)
        return replace(trained, update=update, error=kept, parts=parts)

    def message(self, trained: TrainedClient) -> bytes | None:
        """Return the message of a trained client; None for an update that goes as it is."""
        if trained.parts is None:
            return None
        return bits.pack(self.encoding.fields(self.shapes), trained.parts)


def encoder_of(experiment: Experiment, spec: Spec) -> Encoder | None:
    """Return what encodes the updates of a run's clients; None where they go as they are."""
    encoding = encoding_of(experiment)
    if encoding is None:
        return None
    shapes = spec.shapes[: spec.trainable]
    return Encoder(encoding, shapes, spec.trainable_size, experiment.seed)
