"""The options of the command line, each once: its flag, its key in a TOML file, its help.

Commands take all of them by :func:`with_options`; :func:`overlay` puts what was given over what
a file says. Only Click and Typer are imported here, so that ``--help``
answers at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import click
import typer

from simulation.config.overlay import toml_value

TEXT, NUMBER = "text", "number"


@dataclass(frozen=True)
class Option:
    """An option.

    Args:
        flag: such as ``--batch-size``.
        key: its dotted key in an experiment file.
        kind: ``text`` is taken as it is; a ``number`` is read as TOML.
        metavar: what the help shows for the value.
        help: one line.
        panel: the heading it stands under.
    """

    flag: str
    key: str
    kind: str
    metavar: str
    help: str
    panel: str

    @property
    def parameter(self) -> str:
        """Name of the function's parameter."""
        return self.flag.removeprefix("--").replace("-", "_")


_WHAT, _HOW, _WHERE = "Data and clients", "Training", "Where it runs"

OPTIONS = (
    Option(
        "--dataset",
        "dataset",
        TEXT,
        "NAME",
        "'sunflower datasets', module:function or a path",
        _WHAT,
    ),
    Option("--data-dir", "data_dir", TEXT, "DIR", "Folder that holds the dataset's files", _WHAT),
    Option("--model", "model", TEXT, "NAME", "cnn, lenet, mlp, logistic or module:function", _WHAT),
    Option(
        "--partition",
        "partition.kind",
        TEXT,
        "KIND",
        "iid, dirichlet, inner-dirichlet, pathological, shards, on-demand or natural",
        _WHAT,
    ),
    Option("--alpha", "partition.alpha", NUMBER, "A", "Concentration; alone: dirichlet", _WHAT),
    Option("--clients", "clients", NUMBER, "N", "Registered clients", _WHAT),
    Option("--cohort", "cohort", NUMBER, "N|SHARE", "Clients of a round, or their share", _WHAT),
    Option(
        "--sampling",
        "sampling",
        TEXT,
        "KIND",
        "uniform, poisson, by-size, round-robin or power-of-choice",
        _WHAT,
    ),
    Option("--devices", "devices", TEXT, "KIND", "equal, lognormal, uniform, zipf, tiers", _WHAT),
    Option(
        "--schedule",
        "schedule",
        TEXT,
        "KIND",
        "synchronous, deadline, buffered, asynchronous ...",
        _HOW,
    ),
    Option(
        "--init", "init", TEXT, "FILE", "Weights to start from, as of a run's model.keras", _HOW
    ),
    Option("--rounds", "rounds", NUMBER, "N", "Rounds", _HOW),
    Option("--local-epochs", "training.local_epochs", NUMBER, "N", "Epochs a client trains", _HOW),
    Option("--batch-size", "training.batch_size", NUMBER, "N", "Examples of a local step", _HOW),
    Option("--learning-rate", "training.learning_rate", NUMBER, "LR", "Clients' step size", _HOW),
    Option(
        "--strategy", "strategy", TEXT, "NAME", "See 'sunflower strategies', or module:name", _HOW
    ),
    Option("--seed", "seed", NUMBER, "N", "Decides every random number", _HOW),
    Option("--engine", "resources.engine", TEXT, "NAME", "ray, flower or inline", _WHERE),
    Option("--backend", "resources.backend", TEXT, "NAME", "auto, tensorflow or jax", _WHERE),
    Option(
        "--lanes", "resources.lanes", NUMBER, "N", "Clients side by side in a worker (JAX)", _WHERE
    ),
    Option(
        "--workers", "resources.workers", NUMBER, "N", "Worker processes; as many as fit", _WHERE
    ),
    Option("--client-cpus", "resources.client_cpus", NUMBER, "N", "CPUs of a worker", _WHERE),
    Option(
        "--client-gpus", "resources.client_gpus", NUMBER, "N", "GPUs of a worker, or part", _WHERE
    ),
    Option("--track", "track", TEXT, "A,B", "tensorboard, mlflow, wandb or module:Class", _WHERE),
    Option("--address", "resources.address", TEXT, "HOST", "A running Ray cluster to join", _WHERE),
)

SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the file, as --set strategy.mu=0.1",
        rich_help_panel=_WHERE,
    ),
]


def with_options(
    *but: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every option but some, collected in its parameter ``given`` by key.

    Args:
        but: flags to leave out.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        chosen = [option for option in OPTIONS if option.flag not in but]

        def run(**values: Any) -> None:
            given = {o: values.pop(o.parameter) for o in chosen}
            pairs = {o.key: _read(o, v) for o, v in given.items() if v is not None}
            command(given={**pairs, **_pairs(values.pop("set_"))}, **values)

        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.signature(command, eval_str=True)
        own = [p.replace(kind=keyword) for p in signature.parameters.values() if p.name != "given"]
        added = [
            inspect.Parameter(o.parameter, keyword, default=None, annotation=_annotation(o))
            for o in chosen
        ]
        sets = inspect.Parameter("set_", keyword, default=None, annotation=SET)
        parameters = [*own, *added, sets]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return wrap


def _annotation(option: Option) -> Any:
    # Text for numbers too: one validation, with one kind of message, for the command line and
    # for files.
    return Annotated[
        str | None,
        typer.Option(
            option.flag, metavar=option.metavar, help=option.help, rich_help_panel=option.panel
        ),
    ]


def _read(option: Option, text: str) -> Any:
    return text if option.kind == TEXT else toml_value(text)


def _pairs(texts: Sequence[str] | None) -> dict[str, Any]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not all(key.strip().split(".")):
            raise click.UsageError(f"--set must be KEY=VALUE, got {text!r}")
        pairs[key.strip()] = toml_value(value.strip())
    return pairs
