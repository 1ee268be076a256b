"""The entries of the catalogue: a function from options to an :class:`Algorithm` each.

Its signature is the list of options and their defaults, the first line of its docstring the
update rule. x is the model, delta what the clients moved it by, n_i a client's examples. With
``weights="uniform"`` every n_i is 1; the default, None, is ``"examples"``, or ``"uniform"`` where
cohorts are drawn by size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strategies import checks
from strategies import citations as papers
from strategies.adaptive import AdaptiveClip, AdaptiveClipped, AdaptiveMu, proximal_as_told
from strategies.algorithm import Algorithm
from strategies.citations import Citation
from strategies.clients import measuring_loss, one_step, plain, proximal
from strategies.drift import Dynamic, Scaffold, control_variate, dynamic
from strategies.personal import LAST, keeping
from strategies.privacy import GaussianNoise, clipped
from strategies.reducers import FairMean, NormalizedMean, WeightedMean
from strategies.robust import Bulyan, GeometricMedian, Krum, Median, TrimmedMean
from strategies.schedules import Schedule
from strategies.servers import adagrad, adam, average, momentum, yogi
from strategies.weights import Weights

Builder = Callable[..., Algorithm]


@dataclass(frozen=True)
class Entry:
    """An algorithm of the catalogue.

    Args:
        key: the name used on the command line, such as ``"fedprox"``.
        title: the name used in figures, such as ``"FedProx"``.
        citation: the paper; None for a plug-in that names none.
        builder: a function from options to the algorithm.
        grids: options that a study should tune, each with the values to try.
        gain: what the server multiplies a steady update by besides its learning rate, as a
            function of the options; None for 1.
    """

    key: str
    title: str
    citation: Citation | None
    builder: Builder
    grids: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    gain: Callable[[Mapping[str, Any]], float] | None = None

    @property
    def rule(self) -> str:
        """The update rule in one line."""
        return (inspect.getdoc(self.builder) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Options and their defaults."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters}

    @property
    def bibtex(self) -> str:
        """The citation as BibTeX; empty without one."""
        return self.citation.bibtex if self.citation else ""

    def build(self, **options: Any) -> Algorithm:
        """Return the algorithm.

        Raises:
            ValueError: for an unknown option or a value out of range.
        """
        for name in options:
            checks.one_of(f"option of {self.key}", name, self.options)
        return self.builder(**options)


ADAPTIVITY = (1e-4, 1e-3, 1e-2)
"""Values of tau to try: Reddi et al. go from 1e-5 to 1e-1, and find 1e-3 good nearly everywhere."""

ENTRIES: dict[str, Entry] = {}
"""All algorithms by key, in the order of definition."""


def _entry(
    title: str,
    citation: Citation,
    gain: Callable[[Mapping[str, Any]], float] | None = None,
    **grids: tuple[float, ...],
) -> Callable[[Builder], Builder]:
    """Add a builder to the catalogue under its own name, hyphens for underscores.

    Learning rates are in no grid: a study tunes them around what they are. Nor are options that
    say what a strategy is to withstand or keep (byzantine, epsilon, layers), and those of private
    ones: every try would cost privacy that nobody accounts for.
    """

    def add(builder: Builder) -> Builder:
        key = builder.__name__.replace("_", "-")
        ENTRIES[key] = Entry(key, title, citation, builder, grids, gain)
        return builder

    return add


@_entry("FedAvg", papers.MCMAHAN_2017)
def fedavg(learning_rate: float | Schedule = 1.0, weights: Weights = None) -> Algorithm:
    """Move the model by the mean delta: x <- x + lr * sum_i n_i delta_i / sum_i n_i."""
    return Algorithm("FedAvg", plain(), WeightedMean(weights), average(learning_rate))


@_entry("FedSGD", papers.MCMAHAN_2017)
def fedsgd(learning_rate: float | Schedule = 1.0, weights: Weights = None) -> Algorithm:
    """Average one full gradient of each client: x <- x - client_lr * sum_i n_i grad_i / n."""
    return Algorithm("FedSGD", one_step(), WeightedMean(weights), average(learning_rate))


@_entry("FedProx", papers.LI_2020_FEDPROX, mu=(0.001, 0.01, 0.1, 1.0))
def fedprox(
    mu: float | Schedule = 0.01, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Pull clients towards the model: g <- g + mu * (w - x), then as FedAvg.

    The paper chooses mu for each data set from {0.001, 0.01, 0.1, 1}.
    """
    return Algorithm("FedProx", proximal(mu), WeightedMean(weights), average(learning_rate))


@_entry("FedProx adaptive", papers.LI_2020_FEDPROX)
def fedprox_adaptive(
    mu: float = 0.0,
    step: float = 0.1,
    patience: int = 5,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
    window: int = 5,
) -> Algorithm:
    """As FedProx with mu + 0.1 when the loss rises, mu - 0.1 when it fell five times in a row.

    The loss is the mean of `window` rounds, or that of a round where all clients take part.
    """
    rule = AdaptiveMu(average(learning_rate), mu, step, patience, window)
    return Algorithm("FedProx adaptive", proximal_as_told(), WeightedMean(weights), rule)


def _of_momentum(options: Mapping[str, Any]) -> float:
    """Return 1 / (1 - beta): what steady updates come to under momentum."""
    return 1 / (1 - float(options["beta"]))


@_entry("FedAvgM", papers.HSU_2019, gain=_of_momentum, beta=(0.7, 0.9, 0.97))
def fedavgm(
    learning_rate: float | Schedule = 1.0,
    beta: float = 0.9,
    nesterov: bool = False,
    weights: Weights = None,
) -> Algorithm:
    """Add momentum on the server: v <- beta * v + delta, x <- x + lr * v.

    Steady updates move the model by lr / (1 - beta) times their size: ten times with the defaults.
    """
    rule = momentum(learning_rate, beta, nesterov)
    return Algorithm("FedAvgM", plain(), WeightedMean(weights), rule)


@_entry("FedAdagrad", papers.REDDI_2021, tau=ADAPTIVITY)
def fedadagrad(
    learning_rate: float | Schedule = 0.1,
    beta1: float = 0.0,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Adagrad step: v <- v + delta^2, x <- x + lr * m / (sqrt(v) + tau)."""
    rule = adagrad(learning_rate, beta1, tau)
    return Algorithm("FedAdagrad", plain(), WeightedMean(weights), rule)


@_entry("FedAdam", papers.REDDI_2021, tau=ADAPTIVITY)
def fedadam(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Adam step: x <- x + lr * m / (sqrt(v) + tau), m, v moments of delta.

    The paper tunes lr for each data set; 0.01 is its choice for two of six.
    """
    rule = adam(learning_rate, beta1, beta2, tau)
    return Algorithm("FedAdam", plain(), WeightedMean(weights), rule)


@_entry("FedYogi", papers.REDDI_2021, tau=ADAPTIVITY)
def fedyogi(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Yogi step: as FedAdam, v <- v - (1 - b2) * d^2 * sign(v - d^2).

    The paper tunes lr for each data set; 0.01 is its choice for two of six.
    """
    rule = yogi(learning_rate, beta1, beta2, tau)
    return Algorithm("FedYogi", plain(), WeightedMean(weights), rule)


@_entry("FedNova", papers.WANG_2020)
def fednova(
    learning_rate: float | Schedule = 1.0,
    client_momentum: float | None = None,
    weights: Weights = None,
) -> Algorithm:
    """Average deltas per step: x <- x + lr * (sum_i p_i tau_i) * sum_i p_i delta_i / tau_i.

    tau_i allows for the momentum of the clients' SGD, which is found; `client_momentum` is for
    clients of other programs, which do not tell it.
    """
    reducer = NormalizedMean(client_momentum, weights)
    return Algorithm("FedNova", plain(), reducer, average(learning_rate))


@_entry("SCAFFOLD", papers.KARIMIREDDY_2020)
def scaffold(learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Correct client drift by control variates: g <- g - c_i + c, then the uniform mean.

    Clients train with SGD; its momentum is allowed for (c_i' = c_i - c - delta / (||a||_1 lr), with
    ||a||_1 of FedNova, which is the number of steps without momentum).
    """
    reducer = WeightedMean("uniform")
    return Algorithm("SCAFFOLD", control_variate(), reducer, Scaffold(learning_rate))


@_entry("FedDyn", papers.ACAR_2021, alpha=(0.001, 0.01, 0.1))
def feddyn(alpha: float = 0.01) -> Algorithm:
    """Regularise dynamically: g <- g - g_i + alpha * (w - x); x <- x + delta - h / alpha."""
    return Algorithm("FedDyn", dynamic(), WeightedMean("uniform"), Dynamic(alpha))


@_entry("FedPer", papers.ARIVAZHAGAN_2019)
def fedper(
    layers: int = 1, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Keep the last layers on the client and average the others as FedAvg does."""
    checks.integer("layers", layers, ">= 1")
    rule = keeping(f"{LAST}{layers}")
    return Algorithm("FedPer", rule, WeightedMean(weights), average(learning_rate))


@_entry("FedBN", papers.LI_2021_FEDBN)
def fedbn(
    layers: str = "*batch_normalization*",
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Keep batch normalisation on the client and average the other layers as FedAvg does."""
    return Algorithm("FedBN", keeping(layers), WeightedMean(weights), average(learning_rate))


@_entry("q-FedAvg", papers.LI_2020_FAIR, q=(0.001, 0.1, 1.0))
def q_fedavg(q: float = 0.1, lipschitz: float | None = None) -> Algorithm:
    """Favour large losses: x <- x + L * sum_i F_i^q delta_i / sum_i h_i.

    L is 1 / client learning rate unless given.
    """
    return Algorithm("q-FedAvg", measuring_loss(), FairMean(q, lipschitz), average())


@_entry("Median", papers.YIN_2018)
def median(learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Take the median of every coordinate: x_j <- x_j + lr * median_i delta_ij."""
    return Algorithm("Median", plain(), Median(), average(learning_rate))


@_entry("Trimmed mean", papers.YIN_2018)
def trimmed_mean(beta: float = 0.2, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Average every coordinate without its share beta of lowest and of highest values."""
    return Algorithm("Trimmed mean", plain(), TrimmedMean(beta), average(learning_rate))


@_entry("Krum", papers.BLANCHARD_2017)
def krum(byzantine: float = 0.2, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Take the one update closest to its n - f - 2 nearest neighbours."""
    return Algorithm("Krum", plain(), Krum(byzantine), average(learning_rate))


@_entry("Multi-Krum", papers.BLANCHARD_2017)
def multi_krum(
    byzantine: float = 0.2, select: int | None = None, learning_rate: float | Schedule = 1.0
) -> Algorithm:
    """Average the updates closest to their n - f - 2 nearest neighbours (n - f of them)."""
    return Algorithm("Multi-Krum", plain(), Krum(byzantine, select), average(learning_rate))


@_entry("RFA", papers.PILLUTLA_2022)
def rfa(
    iterations: int = 3,
    nu: float = 1e-6,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Take the geometric median: x <- x + lr * argmin_v sum_i n_i ||v - delta_i||."""
    reducer = GeometricMedian(iterations, nu, weights)
    return Algorithm("RFA", plain(), reducer, average(learning_rate))


@_entry("Bulyan", papers.ELMHAMDI_2018)
def bulyan(byzantine: float = 0.1, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Choose n - 2f updates by Krum, average each coordinate around their median."""
    return Algorithm("Bulyan", plain(), Bulyan(byzantine), average(learning_rate))


@_entry("Norm clipping", papers.SUN_2019, norm=(0.3, 1.0, 3.0))
def norm_clipping(
    norm: float = 1.0, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Average clipped updates: delta_i <- delta_i * min(1, norm / ||delta_i||), then as FedAvg."""
    reducer = clipped(WeightedMean(weights), norm)
    return Algorithm("Norm clipping", plain(), reducer, average(learning_rate))


@_entry("DP-FedAvg", papers.MCMAHAN_2018)
def dp_fedavg(
    norm: float = 1.0,
    noise_multiplier: float | None = None,
    learning_rate: float | Schedule = 1.0,
    target_epsilon: float | None = None,
    delta: float | None = None,
) -> Algorithm:
    """Average clipped updates, add noise: x <- x + lr * (sum delta_i / m + N(0, (z norm / m)^2)).

    m is the cohort's size in the mean, z is 1 unless given or found from target_epsilon.
    """
    reducer = clipped(WeightedMean("uniform"), norm)
    noise = _noise(noise_multiplier, target_epsilon, delta)
    return Algorithm("DP-FedAvg", plain(), reducer, average(learning_rate), noise)


@_entry("DP-FedAvg adaptive", papers.ANDREW_2021)
def dp_fedavg_adaptive(
    norm: float = 0.1,
    quantile: float = 0.5,
    rate: float = 0.2,
    noise_multiplier: float | None = None,
    learning_rate: float | Schedule = 1.0,
    target_epsilon: float | None = None,
    delta: float | None = None,
    count_noise: float | None = None,
) -> Algorithm:
    """As DP-FedAvg with norm <- norm * exp(-rate * (share within - quantile)).

    z is 1 unless given or found from target_epsilon.
    """
    reducer = AdaptiveClipped(WeightedMean("uniform"), norm)
    rule = AdaptiveClip(average(learning_rate), norm, quantile, rate)
    noise = _noise(noise_multiplier, target_epsilon, delta, count_noise)
    return Algorithm("DP-FedAvg adaptive", plain(), reducer, rule, noise)


def _noise(
    multiplier: float | None,
    target: float | None,
    delta: float | None,
    count: float | None = None,
) -> GaussianNoise:
    """Return the noise that was asked for: of multiplier 1 if nothing was."""
    if multiplier is None and target is None:
        multiplier = 1.0
    return GaussianNoise(multiplier, target, delta, count)
