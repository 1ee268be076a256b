"""The notebook runs from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples/fashion_mnist.ipynb"

RAY = """
import ray
ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    _node_ip_address="127.0.0.1",
)
"""
"""One Ray for all six runs; without it each starts its own, which takes longer than training."""


ROUNDS = re.compile(r'"rounds": \d+')
SHORT = '"rounds": 1, "resources": {"engine": "inline"}'


def structure(notebook: nbformat.NotebookNode) -> dict[str, list[str]]:
    """What each cell shows: kinds of outputs, columns of tables, texts without their numbers."""
    found: dict[str, list[str]] = {}
    for cell in notebook.cells:
        if cell["cell_type"] != "code" or "id" not in cell:
            continue
        found[cell["id"]] = []
        for output in cell["outputs"]:
            data = output.get("data", {})
            head = re.search(r"<thead.*?</thead>", data.get("text/html", ""), re.DOTALL)
            text = output.get("text", "") if "text" in output else ""
            if "text/html" not in data and "image/png" not in data:
                text += data.get("text/plain", "")
            names = re.findall(r"<th[^>]*>(.*?)</th>", head[0], re.DOTALL) if head else []
            numberless = re.sub(r"\d+(\.\d+)?", "#", text)
            found[cell["id"]].append(
                " ".join([output["output_type"], *sorted(data), *names, numberless])
            )
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_the_notebook_runs(whole: bool, tmp_path: Path) -> None:
    """Every cell; in short the first round of each run, without the start of Ray's workers."""
    notebook = nbformat.read(NOTEBOOK, 4)
    stored = structure(notebook)
    if whole:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(RAY))
    else:
        found = [ROUNDS.subn(SHORT, cell["source"]) for cell in notebook.cells]
        assert sum(count for _, count in found) == 2
        for cell, (source, _) in zip(notebook.cells, found, strict=True):
            cell["source"] = source
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=resources).execute()
    made = structure(notebook)
    assert {cell: made[cell] for cell in stored} == stored  # what is shown is what comes out
    last = notebook.cells[-1]["outputs"][-1]["data"]["text/plain"]
    assert last == "True"  # the same experiment and seed, the same bits
    assert (tmp_path / "runs/notebook/federated/model.keras").exists()
    assert (tmp_path / "runs/report/report.html").exists()


def test_the_notebook_shows_its_outputs_and_no_paths() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    cells = [c for c in notebook.cells if c["cell_type"] == "code"]
    assert sum(bool(c["outputs"]) for c in cells) >= 5
    kinds = {k for c in cells for o in c["outputs"] for k in o.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert "/home/" not in NOTEBOOK.read_text() and "/tmp/" not in NOTEBOOK.read_text()
