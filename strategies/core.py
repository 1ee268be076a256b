"""The types and helpers that a strategy of one's own may name, together in one place.

Plug-ins import from here what :mod:`strategies` does not give; each name lives in the module that
it is imported from below.
"""

from strategies.algorithm import Algorithm
from strategies.client_rule import After, ClientRule, Hook, Local
from strategies.protocols import Noise, Reducer, Round, ServerRule, State
from strategies.random_streams import stream
from strategies.reducing import bound, finish, fold_all, merge_all
from strategies.schedules import Schedule, at_round
from strategies.spec import Spec, Vector
from strategies.updates import Mean, Update

__all__ = [
    "After",
    "Algorithm",
    "ClientRule",
    "Hook",
    "Local",
    "Mean",
    "Noise",
    "Reducer",
    "Round",
    "Schedule",
    "ServerRule",
    "Spec",
    "State",
    "Update",
    "Vector",
    "at_round",
    "bound",
    "finish",
    "fold_all",
    "merge_all",
    "stream",
]
