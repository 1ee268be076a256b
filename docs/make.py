"""Write the pages that are made from the code: every option, and every strategy with its formula.

python docs/make.py            # write docs/options.md and docs/strategies.md
python docs/make.py --check    # exit 1 if they are not current
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.cli.options import OPTIONS
from simulation.config.experiment import Experiment
from simulation.population.partition import KINDS
from simulation.studies.study import Study
from strategies.entries import ENTRIES
from strategies.entry import Entry

HERE = Path(__file__).parent

MADE = "<!-- Written by docs/make.py: change the code, then run it again. -->\n"

ABOUT = {
    "name": "label in figures and tables; made of the strategy and its options otherwise",
    "mode": "the baselines: `centralised`, one client with the rows of all; `local`, each alone",
    "dataset": "[a built-in, `module:function`, a path or `hf:NAME`](writing-a-dataset.md)",
    "model": "[`cnn`, `lenet`, `mlp`, `logistic` or `module:function`](writing-a-model.md)",
    "init": "[weights to start from](writing-a-model.md#weights-to-start-from); its content counts",
    "cohort": "clients of a round (a whole number), or their share (up to 1); all by default",
    "data.features": "columns that are inputs; all but label, owner, weight and index by default",
    "data.label": "column of the labels; `label` by default",
    "data.label_type": "`classes`: whole floats are class numbers; `numbers`: a regression",
    "data.weight": "column that tells how much a row counts: sample weights",
    "data.encode": "text columns become one input per text that occurs, 0 or 1",
    "data.scale": "what inputs are multiplied by, for any dataset; 1/255 for uint8 images, else 1",
    "data.owner": "column that tells whose a row is; `writer_id`, `user_id` and the like",
    "faults.min_replies": "clients that must answer in a round",
    "faults.checkpoint_every": "rounds between two checkpoints",
    "faults.checkpoint_seconds": "seconds between two checkpoints; 10 where neither is given",
    "partition.kind": "how rows are dealt, as below",
    "partition.classes_per_client": "for `pathological`",
    "partition.shards_per_client": "for `shards`",
    "partition.examples_per_client": "for `on-demand`",
    "partition.law": "of `on-demand` with alpha: `symmetric` draws a client's labels by "
    "Dir(alpha, ..., alpha), `prior` by Dir(alpha * the classes' shares) as Hsu et al. (2019, "
    "arXiv 1909.06335): with 10 classes alike 0.3 of the first is 3 of the second",
    "partition.beta": "for `pachinko`: concentration of classes within a group; 10 where none is "
    "given",
    "partition.groups": "for `pachinko`: the group of each class, a number; the superclasses of "
    "CIFAR-100 for `cifar100`",
    "partition.path": "for `file`: CSV or Parquet with the columns `row` and `client`, both from "
    "0; rows left out are nobody's",
    "partition.path_sha256": "of its content, which counts; written by Sunflower",
    "partition.noise": "feature skew: client i of N adds Gaussian noise of variance "
    "noise * (i + 1) / N to its inputs (bytes: of their full range)",
    "partition.rotations": "feature skew: client i turns its pictures by (i mod rotations) parts "
    "of a turn",
    "partition.root": "training examples that the server keeps, drawn, which no client has; "
    "`fltrust` trains on them",
    "partition.validation": "part of a client's rows that it keeps for validation",
    "training.local_epochs": "epochs a client trains, perhaps a part of one: "
    "ceil(epochs * steps of an epoch) steps",
    "training.local_steps": "optimiser steps that every client takes, in the place of epochs: "
    "who has few examples goes through them again",
    "training.batch_size": "examples of a local step; `all`: every step takes all that a client "
    "has",
    "training.optimizer": "a Keras optimizer by name, or [a table with its options]"
    "(writing-a-model.md); else the model's own, else `sgd`",
    "training.learning_rate": "step size of the clients; else the model's own, else 0.05",
    "training.decay": "how the learning rate changes from round to round: "
    "[a table, or its kind](#trainingdecay)",
    "training.decay.kind": "in round r: `exponential` eta factor^(r - 1); `step` "
    "eta factor^floor((r - 1) / every); `cosine` eta (end + (1 - end) (1 + cos(pi (r - 1) / "
    "rounds)) / 2); `inverse-sqrt` eta / sqrt(1 + (r - 1) / scale)",
    "training.decay.warmup": "w rounds in which the rate rises, eta r / (w + 1); r counts from "
    "their end",
    "training.momentum": "goes to optimizers that know it",
    "training.loss": "a Keras loss by name; else the model's own, else sparse cross-entropy",
    "strategy.name": "see [strategies](strategies.md); its options are further keys of the table",
    "evaluation.server": "measure the model on the server's test set, unless layers of it stay on "
    "the clients",
    "evaluation.clients": "measure it on the clients' validation rows",
    "evaluation.every": "rounds between two measurements; the last round is always measured",
    "evaluation.all_clients": (
        "measure every client at the end, for figures of fairness; `auto`: where it costs less "
        "than a tenth of the run"
    ),
    "evaluation.metrics": "[names of what is measured](writing-a-model.md) beyond loss and "
    "accuracy, in training, on clients and server: of classes `f1`, `precision`, `recall`, "
    "`balanced_accuracy`, `auc`, `per_class`, `confusion`, `top5` and the like, of numbers `mae`, "
    "`mse`, `rmse`, `r2`",
    "evaluation.batch_size": "examples at a time; changes no figure",
    "sampling.kind": "how cohorts are drawn; by default `poisson` [with noise](privacy.md), else "
    "`uniform`",
    "sampling.candidates": "clients that `power-of-choice` asks for their loss",
    "compression.kind": "[how clients encode their updates](compression.md)",
    "compression.fraction": "of the entries, for `top-k` and `random-k`, 0.01 by default; counters "
    "by entries, for `sketch`, 0.1 by default",
    "compression.bits": "of an entry: for `qsgd`, 4 by default; for `rounding`, 8",
    "compression.bucket": "entries with one norm, for `qsgd`; 512 by default",
    "compression.stochastic": "for `rounding`: at random (the default) or to the nearest",
    "compression.rank": "of each matrix, for `low-rank`; 2 by default",
    "compression.rows": "of the table of `sketch`; 5 by default",
    "compression.keep": "of the entries, which are read from a `sketch`; 0.01 by default",
    "compression.download": "how [the model comes to the clients](compression.md#the-way-down): a "
    "kind, or a table with its options",
    "compression.download.kind": "the encoding of how the model differs from what clients have",
    **{
        f"compression.download.{key}": f"as `compression.{key}`"
        for key in ("fraction", "bits", "bucket", "stochastic", "rank", "rows", "keep")
    },
    "compression.step": "how far the server moves an entry, for `majority-vote`",
    "compression.error_feedback": "clients keep what they have not sent for their next update; the "
    "default with `top-k`, `random-k`, `sign`, `low-rank` and `sketch`, to be had with `rounding`",
    "attack.kind": "what attackers send; none by default",
    "attack.fraction": "part of the registered clients that attacks",
    "attack.strength": "of the attack; each kind has its own default",
    "attack.source": "`label-flip`: the class whose labels are flipped; all of them by default; "
    "`semantic-backdoor`: the class whose examples are relabelled",
    "attack.target": "`label-flip`, `semantic-backdoor`: the class that they become; `backdoor`: "
    "what the pattern stands for, by default class 0",
    "attack.poisoned": "`backdoor`: part of an attacker's pictures that has the pattern; "
    "`semantic-backdoor`: part of its examples that give way; 0.5 by default",
    "attack.feature": "`semantic-backdoor`: what the relabelled examples have most of: far from "
    "their class's mean (`edge`, the default), `bright`, `dark`",
    "attack.rare": "`semantic-backdoor`: part of the source class that has the feature, which is "
    "dealt to nobody; 0.05 by default",
    "resources.backend": "what computes: `auto` is JAX where workers have a GPU that it can use, "
    "else [TensorFlow](gpus.md)",
    "resources.lanes": "clients that a worker of JAX [trains side by side](gpus.md#lanes); as many "
    "as its memory holds",
    "resources.client_gpus": "GPUs of a worker, or part; 1 with `--backend jax` on a machine with "
    "a GPU, else 0",
    "resources.cpu_nodes": "with GPUs: nodes that have none [take part too](gpus.md)",
    "resources.engine": "[`ray`, `flower` or `inline`](how-it-works.md)",
}
"""What a key means, where neither a flag's help nor a section's docstring says it."""

OPTIONS_HEAD = """# Every option

Every key below can stand in an experiment file (TOML), in `Experiment(...)` of Python, and on the
command line as `--set KEY=VALUE`; the common ones have a flag of their own. Unknown keys and values
out of range are answered in one line, with exit status 2.

```toml
# experiment.toml
dataset = "fashion-mnist-mini"
clients = 50
cohort = 0.2
strategy = { name = "fedprox", mu = 0.1 }

[partition]
kind = "dirichlet"
alpha = 0.3
```

```sh
sunflower run experiment.toml --rounds 3 --set training.momentum=0.9
```

`partition`, `strategy`, `sampling`, `attack`, `compression`, `devices` and `schedule` may be
written as a string, which is their name, and `init` as one, which is its path.
In a study file all of them stand under `experiment`, beside [the study's own keys](#a-study).
"""

STRATEGIES_HEAD = """# Strategies

x is the global model, delta_i what client i moved it by, n_i its examples, w a client's weights
under way and g their gradient. Options are keys of the table `strategy`:
`--strategy fedprox --set strategy.mu=0.1`. A server's learning rate, and mu, may be a
schedule over rounds, of the kinds `constant`, `step` (`value`, `every`, `factor`), `exponential`
(`value`, `factor`), `cosine` (`value`, `rounds`, `end`) and `inverse-sqrt` (`value`, `scale`), each
with a `warmup` (formulas: `help(strategies.schedules)`):
`{ name = "fedadam", learning_rate = { kind = "exponential", value = 0.1, factor = 0.99 } }`.

`weights` says how a mean weighs the clients: `"examples"` (n_i) or `"uniform"` (each n_i is 1).
Left open it is `"examples"`, but `"uniform"` where [`sampling`](options.md) is `by-size` or
`power-of-choice`: these draw clients in proportion to n_i, and weighing them by n_i again would
count the size twice (Li et al. 2020, arXiv 1907.02189, scheme I; here nobody is drawn twice in a
round). `config.json` says which it was. An explicit `weights = "examples"` is done as asked, with
such a sampling too.

```python
from strategies import FedProx, catalog

FedProx(mu=0.1)  # a Flower strategy, ready to run anywhere
catalog.build("fedprox", mu=0.1)  # the algorithm alone: client rule, reducer, server rule
catalog.entry("fedprox").bibtex  # how to cite it
```

`sunflower tune` chooses, for each strategy of a study, the clients' learning rate, the server's
where it is not the plain mean's 1, and the options that have a grid below. Options that the study
sets or sweeps stay as they are; `tune.options.fedprox.mu = [0.01, 0.1]` in the study's file gives
another grid, `tune.options.fedprox = {}` none ([`tune`](options.md#tune)). What a strategy would be
run with untuned is always tried as well. FedAvgM moves the model by lr / (1 - beta) times a
steady update: its server rates go from 1 - beta, whose step is 1, to 1.

`sunflower strategies` prints the same list. [Writing a strategy](writing-a-strategy.md) shows how
the parts combine.
"""


STUDY_TABLES = """### `sweep`

Lists and ranges are crossed with each other; the lists of a `paired` table go side by side.

```toml
[sweep]
partition.alpha = [0.1, 1.0]                                    # a list
clients = { start = 10, stop = 1000, num = 3, log = true }      # a range: 10, 100, 1000
strategy.mu = { start = 0.5, stop = 2.0, step = 0.5 }           # stop is part of it

[[sweep.paired]]                                                # keys that move together
rounds = [100, 50]
training.local_epochs = [1, 2]
```

### `tune`

The grid of `sunflower tune STUDY.toml`, all combinations for each strategy by itself:

```toml
[tune]
learning_rates = [0.01, 0.03, 0.1]                       # of clients; for all strategies
server_learning_rates = { fedadam = [0.003, 0.01] }      # or a list for each strategy by name
options = { fedprox = { mu = [0.01, 0.1] } }             # in place of the catalogue's
rounds = 50                                              # of the tuning runs
seeds = [7]
widen = 3                                                # grids grow by up to so many values
```

Without `learning_rates`: half a decade to each side of `training.learning_rate`. Without
`server_learning_rates`: half a decade to each side of the server's own. A server that takes the
mean as it is (learning rate 1) is tuned only by a list with its name: one for all strategies is for
servers that have a step size to tune. Without `options`: [the catalogue's](strategies.md), and
`options.fedprox = {}` tunes none. Without `rounds` and `seeds`: those of the study, of which the
first seed.

What a strategy would be run with untuned is always among what is tried. `--strategies a,b` tunes
these alone, with the options that the file gives them, and adds them to what was chosen before for
the same experiment; `sunflower compare` uses what is there and says which strategies are not tuned.
With `widen` a grid grows where the best lies at its end: the next value, by the grid's own step and
with all else as it was chosen, until one is no better.
A choice at the edge of its grid is told, on the screen and in the report, whose methods paragraph
says how rates were chosen.
"""

WITHIN_A_CELL = ("/Init", "/Optimizer", "/StrategyConfig")
"""Sections that have no table of their own."""


def options_page() -> str:
    """Return the page of all options."""
    schema = Experiment.model_json_schema()
    flags = {option.key: option for option in OPTIONS}
    lines = [MADE, OPTIONS_HEAD]
    top, tables = [], {}
    for name, field in schema["properties"].items():
        inner = _resolved(field, schema)
        if "properties" in inner:
            tables[name] = inner
        else:
            top.append((name, field))
    lines.append(_table("The experiment", "", Experiment, top, flags))
    for name, inner in tables.items():
        model: Any = _section(Experiment.model_fields[name].annotation)
        rows = list(inner["properties"].items())
        lines.append(_table(f"`{name}`", f"{name}.", model, rows, flags))
        if name == "partition":
            kinds = [f"| `{kind}` | {_escaped(about)} |" for kind, about in KINDS.items()]
            lines.append("\n".join(["| kind | rows |", "|---|---|", *kinds]) + "\n")
        for key, field in inner["properties"].items():
            within = _resolved(field, schema)
            if "properties" in within:
                part = _section(model.model_fields[key].annotation)
                rows = list(within["properties"].items())
                whole = f"{name}.{key}"
                lines.append(_table(f"`{whole}`", f"{whole}.", part, rows, flags))
    lines.append(_study_table())
    return "\n".join(lines)


def _study_table() -> str:
    """Return the keys of a study file, with what its class's docstring says of them."""
    block = (inspect.getdoc(Study) or "").partition("Args:\n")[2]
    told = {
        m[1]: " ".join(m[2].split()).rstrip(".")
        for m in re.finditer(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", block, re.DOTALL | re.MULTILINE)
    }
    schema = Study.model_json_schema()["properties"]
    lines = [
        "## A study\n",
        "`sunflower compare STUDY.toml`; one run folder for each of its runs.\n",
    ]
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    for name, field in schema.items():
        about = re.sub(r" \(see [^)]*\)", "", _plain(told[name]))
        value = _kind(field) or "table"
        cells = (f"`{name}`", value, _default(field), about)
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    return "\n".join([*lines, "", STUDY_TABLES])


def _section(annotation: Any) -> Any:
    """Return the section of a table that may be left out."""
    return next((part for part in get_args(annotation) if part is not type(None)), annotation)


def _resolved(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    several = [*field.get("allOf", []), *field.get("anyOf", [])]
    inner = [o["$ref"] for o in several if "$ref" in o and not o["$ref"].endswith(WITHIN_A_CELL)]
    reference = field.get("$ref") or next(iter(inner), None)
    found: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else field
    return found


def _table(
    title: str,
    prefix: str,
    model: Any,
    rows: list[tuple[str, Mapping[str, Any]]],
    flags: Mapping[str, Any],
) -> str:
    text = inspect.getdoc(model) or ""
    first = text.partition("\n")[0]
    told = {
        m[1]: " ".join(m[2].split()).rstrip(".")
        for m in re.finditer(r"``(\w+)``: (.*?)(?=\s``\w+``:|\Z)", text, flags=re.DOTALL)
    }
    # "``a``, ``b``: text" says the same of both.
    for several, about in re.findall(r"((?:``\w+``, )+)``\w+``: ([^`]*)", text):
        told |= dict.fromkeys(re.findall(r"\w+", several), " ".join(about.split()).rstrip("."))
    lines = [f"## {title}\n", re.sub(r" \(see [^)]*\)", "", _plain(first)) + "\n"]
    lines += ["| key | flag | value | default | |", "|---|---|---|---|---|"]
    for name, field in rows:
        key = prefix + name
        flag = flags.get(key) or (flags.get(prefix[:-1]) if name in ("kind", "name") else None)
        about = ABOUT.get(key) or told.get(name) or (flag.help if flag is not None else "")
        shown = f"`{flag.flag}`" if flag is not None else ""
        limits = ", ".join(dict.fromkeys(_limits(model.model_fields[name])))
        kind = f"{_kind(field)} {limits}".strip()
        cells = (f"`{key}`", shown, kind, _default(field), _plain(about))
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _kind(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = [_kind(o) for o in field["anyOf"] if o.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in field:
        return f"`{field['const']}`"
    if str(field.get("$ref")).endswith("/Init"):
        return "path"
    if str(field.get("$ref")).endswith(("/Decay", "/StrategyConfig", "/Download")):
        return "table or text"
    if str(field.get("$ref")).endswith("/Optimizer"):
        return "table"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    names = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    names |= {"string": "text", "array": "list", "object": "table"}
    return names.get(str(field.get("type")), "")


def _limits(found: Any) -> Iterator[str]:
    """Yield the limits in a field's annotations, which Pydantic's schema leaves out for ours."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    for name, sign in signs.items():
        limit = getattr(found, name, None)
        if limit is not None:
            yield f"{sign} 2^63" if limit == 2**63 else f"{sign} {limit:g}"
    for part in (*getattr(found, "metadata", ()), *getattr(found, "__metadata__", ())):
        yield from _limits(part)
    for part in get_args(getattr(found, "annotation", found)):
        if not isinstance(part, str):
            yield from _limits(part)


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default is None or isinstance(default, dict):
        return ""
    if isinstance(default, list):
        return f"`{json.dumps(default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _plain(text: str) -> str:
    """Return a docstring's text as Markdown."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def strategies_page() -> str:
    """Return the page of all strategies."""
    lines = [MADE, STRATEGIES_HEAD]
    for entry in ENTRIES.values():
        lines += list(_strategy(entry))
    return "\n".join(lines)


def _strategy(entry: Entry) -> Iterator[str]:
    yield f"## {entry.title}: `{entry.key}`\n"
    text = (inspect.getdoc(entry.builder) or "").split("\n\n")
    rule, colon, formula = text[0].partition(": ")
    if colon:
        yield f"{rule}:\n\n```text\n{formula.rstrip('.')}\n```\n"
    else:
        yield f"{rule}\n"
    for paragraph in text[1:]:
        yield f"{' '.join(paragraph.split())}\n"
    parts = entry.build()
    for what, part in (("On the server", parts.server), ("Reducer", parts.reducer)):
        block = _block(part)
        if block:
            yield f"{what}, `{type(part).__name__}`:\n\n```text\n{block}\n```\n"
    options = ", ".join(f"`{name} = {value}`" for name, value in entry.options.items())
    yield f"Options: {options}.\n"
    if entry.grids:
        grids = [f"`{k}` of {', '.join(f'{v:g}' for v in g)}" for k, g in entry.grids.items()]
        yield f"`sunflower tune` tries {' and '.join(grids)}.\n"
    if entry.citation is not None:
        yield f"Source: {entry.citation}\n"


def _block(part: Any) -> str:
    """Return the formulas of a part's docstring: the first literal block in it."""
    found = re.search(r"::\n\n((?: {4}.*\n|\n)+)", (inspect.getdoc(type(part)) or "") + "\n")
    return textwrap.dedent(found[1]).strip() if found else ""


PAGES = {"options.md": options_page, "strategies.md": strategies_page}


def main() -> int:
    """Write the pages; with ``--check`` only tell whether they are current."""
    stale = [n for n, page in PAGES.items() if _text(HERE / n) != page()]
    for name in stale:
        if "--check" in sys.argv:
            print(f"docs/{name} is not current: python docs/make.py")
        else:
            (HERE / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"docs/{name}")
    return 1 if stale and "--check" in sys.argv else 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
