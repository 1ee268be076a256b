"""Aggregation strategies for federated learning, as small parts that combine.

A guided tour::

    from strategies import FedProx, Cohort
    strategy = FedProx(mu=0.1, cohort=Cohort(size=10))     # a Flower strategy, ready to run

    from strategies import Algorithm, Federated, Median, adam, clipped, proximal
    mine = Algorithm("mine", proximal(0.1), clipped(Median(), 1.0), adam(0.01))
    strategy = Federated(mine, Cohort(fraction=0.1, seed=7))         # parts combine

    from strategies import catalog
    catalog.names()                                        # everything there is, with citations
"""
# ruff: noqa: RUF022, I001
# fmt: off

# the types and their laws
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule, Local
from strategies.protocols import Reducer, Round, ServerRule, State
from strategies.spec import Spec, Vector
from strategies.updates import Mean, Update
# what a client does
from strategies.clients import measuring_loss, one_step, plain, proximal
from strategies.distilling import calibrating, contrasting, decorrelating, distilling
from strategies.drift import control_variate, dynamic
from strategies.shared_direction import client_momentum, decoupled
from strategies.mime import Mime, fixed_momentum
from strategies.objective import Objective
from strategies.personal import beside, fixed_head, in_turns, keeping
from strategies.phases import Phase
from strategies.direction import Direction
from strategies.clustered import ClusteredMean, Clusters, best_of
from strategies.second_models import mixed, moreau
from strategies.sharpness import extrapolated, meta, sharp_momentum, sharpness_aware
# how many updates become one
from strategies.reducers import FairMean, MeasuredMean, NormalizedMean, TiltedMean, WeightedMean
from strategies.discrepancy import DiscrepancyMean, telling_discrepancy
from strategies.robust import Bulyan, GeometricMedian, Krum, Median, TrimmedMean
from strategies.centred import CentredClipping, Recalling
from strategies.mixing import Bucketed, NearestNeighbours
from strategies.filters import DivideAndConquer, FoolsGold, SignGuard
from strategies.trust import TrustedMean
from strategies.privacy import GaussianNoise, clipped
from strategies.accounting import epsilon, noise_multiplier
# how the server moves the model, and values that depend on the round
from strategies.servers import adagrad, adam, average, momentum, yogi
from strategies.schedules import Constant, Cosine, Exponential, InverseSqrt, Step, WarmUp
from strategies.adaptive import AdaptiveClip, AdaptiveClipped, AdaptiveMu, proximal_as_told
# who takes part, and the Flower strategy
from strategies.cohort import Cohort
from strategies.federated import Federated
# everything by name, and ready to run
from strategies import catalog
from strategies.by_class import ClassMeans, matching, prototypes
from strategies.ready import (
    AFL, RFA, TERM, DPFedAvg, DPFedAvgAdaptive, FedACG, FedAMS, FedAdagrad, FedAdam, FedAvg,
    FedAvgM,
    FedBN, FedBulyan, FedCM, FedDC, FedDyn, FedExP, FedKrum, FedMedian, FedMultiKrum, FedNova,
    FedPer, FedProx, FedProxAdaptive, FedSGD, FedTrimmedMean, FedYogi, NormClipping, QFedAvg,
    Scaffold, Bucketing, DnC, FedCentredClipping, FedFoolsGold, FedSignGuard, NNM,
    FedDecorr, FedLC, FedNTD, MOON,
    APFL, Ditto, IFCA, FedASAM, FedBABU, FedRep, LGFedAvg, PerFedAvg, FedSAM, FedSpeed,
    FedDistill, FedProto, MimeLite, MoFedSAM, PFedMe, FedDisco, FLTrust,
)

__all__ = [
    "Algorithm", "ClientRule", "Local", "Mean", "Reducer", "Round", "ServerRule", "Spec", "State",
    "Update", "Vector",
    "measuring_loss", "one_step", "plain", "proximal", "control_variate", "dynamic",
    "client_momentum", "decoupled",
    "FairMean", "MeasuredMean", "NormalizedMean", "TiltedMean", "WeightedMean",
    "Bulyan", "GeometricMedian", "Krum", "Median", "TrimmedMean", "GaussianNoise", "clipped",
    "epsilon", "noise_multiplier",
    "AdaptiveClip", "AdaptiveClipped", "AdaptiveMu", "proximal_as_told",
    "adagrad", "adam", "average", "momentum", "yogi",
    "Constant", "Cosine", "Exponential", "InverseSqrt", "Step", "WarmUp",
    "Cohort", "Federated", "catalog",
    "MOON", "FedDecorr", "FedLC", "FedNTD", "calibrating", "contrasting", "decorrelating",
    "distilling", "Objective",
    "RFA", "DPFedAvg", "DPFedAvgAdaptive", "FedAdagrad", "FedAdam", "FedAvg", "FedAvgM",
    "FedBN", "FedBulyan", "FedDyn", "FedPer", "FedProxAdaptive", "keeping",
    "FedKrum", "FedMedian", "FedMultiKrum", "FedNova", "FedProx", "FedSGD", "FedTrimmedMean",
    "FedYogi", "NormClipping", "QFedAvg", "Scaffold",
    "CentredClipping", "Recalling", "Bucketed", "NearestNeighbours",
    "DivideAndConquer", "FoolsGold", "SignGuard",
    "Bucketing", "DnC", "FedCentredClipping", "FedFoolsGold", "FedSignGuard", "NNM",
    "FedACG", "FedAMS", "FedCM", "FedDC", "FedExP", "TERM", "AFL", "MimeLite",
    "Mime", "fixed_momentum", "FedProto", "FedDistill", "ClassMeans", "matching", "prototypes",
    "Ditto", "FedRep", "Phase", "beside", "in_turns",
    "APFL", "FedASAM", "FedBABU", "FedSAM", "FedSpeed", "LGFedAvg", "MoFedSAM", "PFedMe",
    "PerFedAvg", "fixed_head", "meta", "IFCA", "best_of", "ClusteredMean", "Clusters",
    "FLTrust", "TrustedMean", "DiscrepancyMean", "FedDisco", "telling_discrepancy",
    "Direction", "extrapolated", "mixed", "moreau", "sharp_momentum", "sharpness_aware",
]
