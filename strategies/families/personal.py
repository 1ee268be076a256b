"""Entries with layers, or whole models, that stay on the client."""

from __future__ import annotations

from strategies import checks
from strategies import citations_clients as papers
from strategies.algorithm import Algorithm
from strategies.clustered import ClusteredMean, Clusters, best_of
from strategies.entry import Family
from strategies.personal import LAST, beside, fixed_head, in_turns, keeping
from strategies.phases import EXCEPT
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule
from strategies.second_models import mixed, moreau
from strategies.servers import average
from strategies.sharpness import meta
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("FedPer", papers.ARIVAZHAGAN_2019)
def fedper(
    layers: int = 1, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Keep the last layers on the client and average the others as FedAvg does."""
    checks.integer("layers", layers, ">= 1")
    rule = keeping(f"{LAST}{layers}")
    return Algorithm("FedPer", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedBN", papers.LI_2021_FEDBN)
def fedbn(
    layers: str = "*batch_normalization*",
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Keep batch normalisation on the client and average the other layers as FedAvg does."""
    return Algorithm("FedBN", keeping(layers), WeightedMean(weights), average(learning_rate))


@FAMILY.entry("LG-FedAvg", papers.LIANG_2020)
def lg_fedavg(
    layers: int = 1, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Keep all but the last layers on the client and average these as FedAvg does."""
    checks.integer("layers", layers, ">= 1")
    rule = keeping(f"{EXCEPT}{LAST}{layers}")
    return Algorithm("LG-FedAvg", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedBABU", papers.OH_2022)
def fedbabu(
    layers: int = 1,
    tuning_epochs: float = 1,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Train all but the last layers, which stay as initialised, and average these as FedAvg does.

    A client's model, which is measured, is the server's after `tuning_epochs` of training all
    layers on the client's data.
    """
    rule = fixed_head(layers, tuning_epochs)
    return Algorithm("FedBABU", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedRep", papers.COLLINS_2021)
def fedrep(
    layers: int = 1,
    head_epochs: float = 10,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Train the client's own last layers first, then the others; average these as FedAvg does.

    The others are trained as the experiment says (``local_epochs``), with the last layers as they
    are by then.
    """
    rule = in_turns(layers, head_epochs)
    return Algorithm("FedRep", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("Ditto", papers.LI_2021_DITTO, mu=(0.1, 1.0, 2.0))
def ditto(
    mu: float | Schedule = 1.0,
    personal_epochs: float | None = None,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Train FedAvg's model, and a model of the client's own by g + mu * (v - x).

    x are the received weights, v the client's own model, which begins as those of its first round
    and is trained for ``personal_epochs`` (None: as long as the other one). The paper chooses mu,
    its lambda, for each data set.
    """
    rule = beside(mu, personal_epochs)
    return Algorithm("Ditto", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("APFL", papers.DENG_2020, alpha=(0.25, 0.5, 0.75))
def apfl(
    alpha: float = 0.5,
    adaptive: bool = False,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Train FedAvg's model w, and one of the client's own for alpha * v + (1 - alpha) * w.

    v, that of the client, lasts from round to round; the mixture at the end of a round is the
    client's model. With `adaptive` each client's alpha follows its gradient, once a round. Clients
    train with SGD; a step takes two gradients.
    """
    rule = mixed(alpha, adaptive)
    return Algorithm("APFL", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("pFedMe", papers.DINH_2020, mu=(1.0, 5.0, 15.0))
def pfedme(
    mu: float | Schedule = 15.0,
    personal_rate: float | Schedule = 0.05,
    steps: int = 5,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Step towards a model of the client's own near the weights: g <- mu * (w - v); then as FedAvg.

    On each batch v <- v - personal_rate * (grad F(v) + mu * (v - w)), `steps` times; v is the
    client's model. mu is the paper's lambda, the server's learning rate its beta. The clients'
    learning rate times mu should not exceed 1, or steps lead past v.
    """
    rule = moreau(mu, personal_rate, steps)
    return Algorithm("pFedMe", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("Per-FedAvg", papers.FALLAH_2020, rate=(0.001, 0.01, 0.1))
def per_fedavg(
    rate: float = 0.01,
    hessian: bool = False,
    personal_steps: int = 1,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Train a model for a step of the clients' own: g <- grad F(w - rate * g); then as FedAvg.

    A client's model, which is measured, is the server's after `personal_steps` of SGD at `rate`.
    With `hessian` gradients are those of F(w - rate * grad F(w)), by a difference of gradients;
    without, of first order. A step takes four gradients, or two, all on its batch.
    """
    rule = meta(rate, hessian, personal_steps)
    return Algorithm("Per-FedAvg", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("IFCA", papers.GHOSH_2020)
def ifca(
    clusters: int = 2, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Keep several models; each client trains the one that has the least loss on its examples.

    Each model moves by the mean of the clients who trained it, as FedAvg does. Clients are measured
    with the one that has the least loss on their training examples; moving statistics are common to
    all models.
    """
    reducer = ClusteredMean(clusters, weights)
    return Algorithm("IFCA", best_of(clusters), reducer, Clusters(clusters, learning_rate))
