"""The demonstration: federated against centralised, three strategies, the report.

``make demo`` runs it; ``python -m examples.demo --seed 1`` repeats it with another seed. Runs that
are complete are skipped, so that a second time takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from simulation.cli.endings import bad_input, endings, quiet, say
from simulation.records.reading import read_rounds

HERE = Path(__file__).parent

REFERENCE = {("centralised", 0): 0.139, ("centralised", 5): 0.843} | {
    ("federated", 1): 0.755,
    ("federated", 5): 0.847,
}
"""Accuracy on the test set as measured elsewhere for this scenario, by kind and round."""

SHOWN = (
    "report.html",
    "figures/accuracy.pdf",
    "figures/comparison.pdf",
    "figures/labels.pdf",
    "tables/final_server_accuracy.tex",
)
"""Files of the report that are named at the end."""


def main(
    seed: Annotated[int, typer.Option(min=0, help="Decides every random number")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the runs and of the report")] = Path(
        "runs/demo"
    ),
) -> None:
    """Run the demonstration."""
    console = Console(highlight=False)
    with bad_input():
        quiet()
        scenario = out / "scenario"
        console.rule("1. Ten clients, five rounds, against five epochs of centralised training")
        compare(console, HERE / "fashion_mnist.toml", scenario, seed)
        console.print(against_reference(scenario, seed))
        console.rule("2. Three strategies on 100 clients with different labels")
        compare(console, HERE / "strategies.toml", out / "strategies", seed)
        console.rule("3. Figures and tables")
        import analysis

        report = out / "report"
        files = analysis.report([scenario, out / "strategies"], report)
        console.print(f"{len(files)} files in {report}. Open first:", soft_wrap=True)
        for path in (report / name for name in SHOWN):
            if path in files:
                console.print(f"  {path}", soft_wrap=True, markup=False)


def compare(console: Console, file: Path, out: Path, seed: int) -> None:
    """Run a study, or an experiment beside its centralised baseline."""
    from simulation.config.experiment import read
    from simulation.studies import study
    from simulation.studies.screen import StudyScreen

    data = read(file)
    if "strategies" not in data:
        strategies = [data.pop("strategy", "fedavg")]
        data = {"experiment": data, "strategies": strategies, "centralised": True}
    plan = study.expand(study.parse_study({**data, "seeds": [seed]}))
    screen = StudyScreen(plan, out, console)
    with endings(out, "make demo", lambda: screen.begun), screen:
        outcome = study.carry_out(plan, out, screen.watch)
    screen.finish(outcome)
    for name, error in outcome.failed.items():
        say(f"{name} failed: {error}; see {out / name / 'run.log'}")
    if outcome.failed:
        raise typer.Exit(1)


def against_reference(scenario: Path, seed: int) -> Table:
    """Return the accuracy of every round beside the reference."""
    columns = {"federated": "fedavg", "centralised": "centralised"}
    found = {
        (kind, record["round"]): record["server_accuracy"]
        for kind, run in columns.items()
        for record in read_rounds(scenario / f"{run}-seed{seed}")
    }
    caption = "Reference: the scenario as it was measured before Sunflower"
    table = Table(title="Accuracy on the test set", caption=caption)
    table.add_column("Round", justify="right")
    for kind in columns:
        table.add_column(kind.capitalize(), justify="right")
        table.add_column("(reference)", justify="right", style="dim")
    for round in sorted({number for _, number in found}):
        cells = [
            f"{source[kind, round]:.1%}" if (kind, round) in source else ""
            for kind in columns
            for source in (found, REFERENCE)
        ]
        table.add_row(str(round), *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
