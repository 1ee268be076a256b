"""Figures of the benchmarks, in the style of the analysis module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def throughput(bars: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw images/s of every peer and shape: bars are medians, dots are runs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns

    from analysis import appearance, style

    frame = pd.DataFrame(bars)
    shapes = list(dict.fromkeys(frame["shape"]))
    middle = frame.groupby("peer")["images/s"].median()
    peers = sorted(middle.index, key=lambda peer: -middle[peer])
    colours = {p: appearance.COLOURS[0] if p == "Sunflower" else "#b0b0b0" for p in peers}
    with style.styled() as paper:
        size = (paper.page, 0.45 + 0.19 * len(peers))
        figure, axes = plt.subplots(1, len(shapes), figsize=size, sharey=True, squeeze=False)
        for ax, shape in zip(axes[0], shapes, strict=True):
            part = frame[frame["shape"] == shape]
            common: dict[str, Any] = {
                "data": part,
                "x": "images/s",
                "y": "peer",
                "order": peers,
                "ax": ax,
            }
            sns.barplot(
                **common,
                hue="peer",
                palette=colours,
                estimator="median",
                errorbar=None,
                legend=False,
                saturation=1,
            )
            sns.stripplot(**common, color="black", size=2, jitter=False)
            for place, peer in enumerate(peers):
                rates = part.loc[part["peer"] == peer, "images/s"]
                if len(rates):
                    text = f" {rates.median():,.0f}"
                    ax.text(rates.max(), place, text, va="center", fontsize=paper.size - 2)
            clients, _, images = shape.partition("x")
            ax.set(
                title=f"{int(clients):,} clients x {images} images", xlabel="images/s", ylabel=""
            )
            ax.set_xlim(0, 1.25 * frame["images/s"].max())
            ax.grid(axis="y", visible=False)
        figure.savefig(path, dpi=200)
        plt.close(figure)


def memory(series: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw resident memory of every process over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns

    from analysis import appearance, style

    rows = [
        {"process": name, "round": number + 1, "memory": value}
        for name, values in series.items()
        for number, value in enumerate(values)
    ]
    with style.styled() as paper:
        figure, ax = plt.subplots(figsize=(paper.column, 0.7 * paper.column))
        sns.lineplot(
            pd.DataFrame(rows),
            x="round",
            y="memory",
            hue="process",
            style="process",
            palette=list(appearance.COLOURS[: len(series)]) if len(series) <= 7 else None,
            ax=ax,
        )
        ax.set(ylabel="resident memory [MB]", ylim=(0, None))
        figure.savefig(path, dpi=200)
        plt.close(figure)


def cuts(costs: Mapping[float, float], limit: float, path: Path) -> None:
    """Draw what a cut link costs against how long it was cut.

    Args:
        costs: seconds that the longest round took more, by seconds of the cut.
        limit: seconds beyond the cut's that are allowed.
        path: of the figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from analysis import appearance, style

    lengths = sorted(costs)
    with style.styled() as paper:
        figure, ax = plt.subplots(figsize=(paper.column, 0.7 * paper.column))
        allowed = [length + limit for length in lengths]
        ax.plot(lengths, allowed, color="#b0b0b0", linestyle="--", label=f"cut + {limit:g} s")
        values = [costs[length] for length in lengths]
        ax.plot(lengths, values, color=appearance.COLOURS[0], marker="o", label="measured")
        ax.set(xlabel="link cut for [s]", ylabel="longest round, more [s]", ylim=(0, None))
        ax.legend()
        figure.savefig(path, dpi=200)
        plt.close(figure)
