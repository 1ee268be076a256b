"""Encodings of every entry in a few bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies import checks
from strategies.encodings.bits import Field, Parts
from strategies.encodings.encoding import Draw, Encoding, Shapes, size_of, split, spread
from strategies.spec import Vector

CLIP = 2.5
"""Standard deviations at which :class:`Ternary` cuts the entries of a weight."""


@dataclass(frozen=True)
class QSGD(Encoding):
    """QSGD: each entry is rounded at random to one of s levels of its bucket's norm.

    For the entries v of a bucket, ``s = 2^(bits - 1) - 1`` and u uniform in [0, 1)::

        Q(v_i) = ||v||_2 / s * sign(v_i) * floor(s |v_i| / ||v||_2 + u)

    so that the mean over the draws is v. A message has the norms, and ``bits`` bits for each entry;
    the paper's code of varying length would be shorter for sparse vectors.

    Args:
        bits: of an entry, sign included, from 2 to 16.
        bucket: entries of a bucket.

    Source: Alistarh et al. (2017), arXiv 1610.02132, sections 3.1 and 4 (buckets).
    """

    bits: int = 4
    bucket: int = 512

    def __post_init__(self) -> None:
        check_bits(self.bits, 2)
        checks.integer("bucket", self.bucket, ">= 1")

    @property
    def levels(self) -> int:
        """The number of levels s."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    @override
    def damping(self) -> float:
        """1 / (1 + w), where ``E ||Q(v) - v||^2 <= w ||v||^2``; w = min(d / s^2, sqrt(d) / s).

        d is the bucket. Source: Alistarh et al. (2017), arXiv 1610.02132, lemma 3.1; Beznosikov et
        al. (2020), arXiv 2002.12410 (unbiased compressors as contractions).
        """
        bound = min(self.bucket / self.levels**2, self.bucket**0.5 / self.levels)
        return 1.0 / (1.0 + bound)

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        size = size_of(shapes)
        norms = Field("norms", -(-size // self.bucket), "float")
        return [norms, Field("levels", size, "whole", self.bits)]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        starts = np.arange(0, vector.size, self.bucket)
        squares = np.add.reduceat(np.square(vector, dtype=np.float64), starts)
        norms = np.sqrt(squares).astype(np.float32)
        each = self._each(norms, vector.size)
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.where(each > 0, np.abs(vector) / each * self.levels, 0.0)
        # A norm that was rounded down would lift the largest entry above the last level.
        whole = np.minimum(np.floor(level + draw().random(vector.size)), self.levels)
        return {"norms": norms, "levels": (np.sign(vector) * whole).astype(np.int64) + self.levels}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        level = parts["levels"].astype(np.float64) - self.levels
        each = self._each(parts["norms"], level.size)
        return (each * (level / self.levels)).astype(np.float32)

    def _each(self, norms: Vector, size: int) -> NDArray[np.float64]:
        return np.repeat(norms.astype(np.float64), self.bucket)[:size]


@dataclass(frozen=True)
class ScaledSign(Encoding):
    """The sign of each entry, and for each weight the mean of its entries' sizes.

    For the d entries v of a weight, the sign of 0 taken as +::

        C(v) = ||v||_1 / d * sign(v)

    Args:
        feedback: whether the client keeps what it has not sent.

    Source: EF-signSGD, Karimireddy et al. (2019), arXiv 1901.09847, Algorithm 1.
    """

    feedback: bool = True

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        return [Field("scales", len(shapes), "float"), Field("signs", size_of(shapes), "whole", 1)]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        means = [float(np.abs(part).mean(dtype=np.float64)) for part in split(vector, shapes)]
        return {"scales": np.array(means, np.float32), "signs": (vector >= 0).astype(np.uint8)}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        scale = spread(parts["scales"], shapes)
        return np.where(parts["signs"] == 1, scale, -scale).astype(np.float32)


@dataclass(frozen=True)
class Ternary(Encoding):
    """TernGrad: each entry is -1, 0 or 1 times the largest size of its weight's entries.

    For the entries v of a weight with standard deviation sigma::

        g_i = max(-2.5 sigma, min(v_i, 2.5 sigma))    s = max_i |g_i|
        t_i = s * sign(g_i) with probability |g_i| / s, else 0

    so that the mean over the draws is g. Five entries are in a byte.

    Source: Wen et al. (2017), arXiv 1705.07878, section 3 (ternarising and clipping by layer).
    """

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        return [Field("scales", len(shapes), "float"), Field("signs", size_of(shapes), "three")]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        limits = [CLIP * float(part.std(dtype=np.float64)) for part in split(vector, shapes)]
        # A weight of one entry, or of equal ones, does not deviate: it is not cut.
        most = [x if x > 0 else np.inf for x in limits]
        limit = spread(np.array(most), shapes)
        size = np.minimum(np.abs(vector).astype(np.float64), limit)
        scales = np.array([part.max() for part in split(size, shapes)], np.float32)
        each = spread(scales.astype(np.float64), shapes)
        kept = draw().random(vector.size) * each < size
        return {"scales": scales, "signs": np.sign(vector).astype(np.int64) * kept + 1}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        return (spread(parts["scales"], shapes) * (parts["signs"] - 1)).astype(np.float32)


@dataclass(frozen=True)
class Rounding(Encoding):
    """Each entry is rounded to one of 2^bits values that lie evenly from a weight's least to most.

    With l and h the least and the largest entry of a weight, ``a = (h - l) / (2^bits - 1)``, and u
    uniform in [0, 1), or 1/2 for rounding to the nearest::

        Q(v_i) = l + a floor((v_i - l) / a + u)

    Args:
        bits: of an entry, from 1 to 16.
        stochastic: whether u is drawn; the mean over the draws is then v.
        feedback: whether the client keeps what it has not sent.

    Source: Suresh et al. (2017), arXiv 1611.00429, section 2.2.
    """

    bits: int = 8
    stochastic: bool = True
    feedback: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits, 1)

    @property
    def levels(self) -> int:
        """The number of steps from the least to the largest value."""
        return int(2**self.bits) - 1

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        return [
            Field("least", len(shapes), "float"), Field("largest", len(shapes), "float"),
            Field("levels", size_of(shapes), "whole", self.bits),
        ]  # fmt: skip

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        each = split(vector, shapes)
        least = np.array([part.min() for part in each], np.float32)
        largest = np.array([part.max() for part in each], np.float32)
        start, step = self._grid(least, largest, shapes)
        up = draw().random(vector.size) if self.stochastic else 0.5
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.where(step > 0, np.floor((vector - start) / step + up), 0.0)
        level = np.clip(level, 0, self.levels).astype(np.int64)
        return {"least": least, "largest": largest, "levels": level}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        start, step = self._grid(parts["least"], parts["largest"], shapes)
        return (start + step * parts["levels"]).astype(np.float32)

    def _grid(
        self, least: Vector, largest: Vector, shapes: Shapes
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = least.astype(np.float64), largest.astype(np.float64)
        return spread(low, shapes), spread((high - low) / self.levels, shapes)


def check_bits(value: int, least: int) -> None:
    """Raise ValueError for a number of bits that is not from ``least`` to 16."""
    checks.integer("bits", value, ">= 1")
    if not least <= value <= 16:
        raise ValueError(f"bits must be from {least} to 16, got {value}")
