"""Ready-made Flower strategies: ``FedProx(mu=0.1, cohort=Cohort(size=10))``."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from strategies import catalog
from strategies.cohort import Cohort
from strategies.federated import Federated
from strategies.spec import Spec


class Ready(Protocol):
    """A function from an algorithm's options to a strategy."""

    def __call__(
        self,
        *,
        cohort: Cohort | None = None,
        evaluate: Cohort | None = ...,
        spec: Spec | None = None,
        seeded_noise: bool | None = None,
        **options: Any,
    ) -> Federated:
        """Return the strategy."""


READY: dict[str, Ready] = {}
"""The ready-made strategies by their key in the catalogue."""


def _ready(symbol: str, name: str) -> Ready:
    """Return a function that builds the catalogue's ``name`` as a Flower strategy.

    It takes the options of the catalogue's entry and ``cohort``, ``evaluate``, ``spec`` and
    ``seeded_noise`` of :class:`Federated`, all by name.

    Raises:
        ValueError: if the catalogue has no such entry.
    """
    found = catalog.entry(name)

    def strategy(
        *,
        cohort: Cohort | None = None,
        evaluate: Cohort | None = Cohort(),  # noqa: B008 - a frozen value
        spec: Spec | None = None,
        seeded_noise: bool | None = None,
        **options: Any,
    ) -> Federated:
        return Federated(found.build(**options), cohort, evaluate, spec, seeded_noise)

    own = [
        p
        for p in inspect.signature(strategy).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    options = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(found.builder).parameters.values()
    ]
    strategy.__name__ = strategy.__qualname__ = symbol
    strategy.__doc__ = f"{found.rule}\n\nSource: {found.citation}"
    strategy.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
    READY[name] = strategy
    return strategy


FedAvg = _ready("FedAvg", "fedavg")
FedSGD = _ready("FedSGD", "fedsgd")
FedProx = _ready("FedProx", "fedprox")
FedAvgM = _ready("FedAvgM", "fedavgm")
FedAdagrad = _ready("FedAdagrad", "fedadagrad")
FedAdam = _ready("FedAdam", "fedadam")
FedYogi = _ready("FedYogi", "fedyogi")
FedAMS = _ready("FedAMS", "fedams")
FedExP = _ready("FedExP", "fedexp")
FedACG = _ready("FedACG", "fedacg")
FedNova = _ready("FedNova", "fednova")
Scaffold = _ready("Scaffold", "scaffold")
FedDyn = _ready("FedDyn", "feddyn")
FedDC = _ready("FedDC", "feddc")
FedCM = _ready("FedCM", "fedcm")
MimeLite = _ready("MimeLite", "mimelite")
MOON = _ready("MOON", "moon")
FedNTD = _ready("FedNTD", "fedntd")
FedLC = _ready("FedLC", "fedlc")
FedDecorr = _ready("FedDecorr", "feddecorr")
FedProto = _ready("FedProto", "fedproto")
FedDistill = _ready("FedDistill", "feddistill")
FedPer = _ready("FedPer", "fedper")
FedBN = _ready("FedBN", "fedbn")
FedRep = _ready("FedRep", "fedrep")
Ditto = _ready("Ditto", "ditto")
LGFedAvg = _ready("LGFedAvg", "lg-fedavg")
FedBABU = _ready("FedBABU", "fedbabu")
PerFedAvg = _ready("PerFedAvg", "per-fedavg")
APFL = _ready("APFL", "apfl")
PFedMe = _ready("PFedMe", "pfedme")
IFCA = _ready("IFCA", "ifca")
FedSAM = _ready("FedSAM", "fedsam")
FedASAM = _ready("FedASAM", "fedasam")
MoFedSAM = _ready("MoFedSAM", "mofedsam")
FedSpeed = _ready("FedSpeed", "fedspeed")
QFedAvg = _ready("QFedAvg", "q-fedavg")
TERM = _ready("TERM", "term")
AFL = _ready("AFL", "afl")
FedDisco = _ready("FedDisco", "feddisco")
FedMedian = _ready("FedMedian", "median")
FedTrimmedMean = _ready("FedTrimmedMean", "trimmed-mean")
FedKrum = _ready("FedKrum", "krum")
FedMultiKrum = _ready("FedMultiKrum", "multi-krum")
RFA = _ready("RFA", "rfa")
FedBulyan = _ready("FedBulyan", "bulyan")
FedCentredClipping = _ready("FedCentredClipping", "centred-clipping")
Bucketing = _ready("Bucketing", "bucketing")
NNM = _ready("NNM", "nnm")
DnC = _ready("DnC", "dnc")
FedFoolsGold = _ready("FedFoolsGold", "foolsgold")
FedSignGuard = _ready("FedSignGuard", "signguard")
FLTrust = _ready("FLTrust", "fltrust")
NormClipping = _ready("NormClipping", "norm-clipping")
FedProxAdaptive = _ready("FedProxAdaptive", "fedprox-adaptive")
DPFedAvgAdaptive = _ready("DPFedAvgAdaptive", "dp-fedavg-adaptive")
DPFedAvg = _ready("DPFedAvg", "dp-fedavg")
