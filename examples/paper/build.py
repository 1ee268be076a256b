"""Articles with every figure and table of a study: in two columns as IEEE's and ICML's, and in one.

    sunflower compare examples/strategies.toml
    python -m examples.paper.build runs/strategies

They are compiled where there is a TeX system (latexmk or tectonic); a box that is more than a point
too wide is an error. Without one only their sources are written.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import report

HERE = Path(__file__).parent
ARTICLES = {"two-columns": "ieee", "icml": "icml", "one-column": "neurips"}
"""The articles, with the style of their figures and tables."""

OVERFULL = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide\)")


def write(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write the sources of all articles; return their main files."""
    made = []
    for name, style in ARTICLES.items():
        folder = out / name
        report(list(runs), folder, style, formats=("pdf",))
        tables = sorted(p for p in (folder / "tables").glob("*.tex") if ".tabular" not in p.name)
        whole = [p for p in tables if "longtable" not in p.read_text(encoding="utf-8")]
        long = [p for p in tables if p not in whole]
        lines = [rf"\input{{tables/{path.stem}}}" for path in whole]
        (folder / "tables.tex").write_text("\n".join(lines) + "\n", encoding="utf-8")
        lines = [rf"\input{{tables/{path.stem}}}" for path in long]
        (folder / "appendix.tex").write_text("\n".join(lines) + "\n", encoding="utf-8")
        made.append(folder / f"{name}.tex")
        shutil.copy(HERE / f"{name}.tex", made[-1])
    return made


def compiler() -> list[str] | None:
    """Return the command that compiles an article; None where there is no TeX system."""
    if shutil.which("latexmk"):
        return ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error"]
    return ["tectonic", "--keep-logs"] if shutil.which("tectonic") else None


def overfull(log: str) -> list[float]:
    """Return by how many points boxes are too wide, where it is more than one."""
    return [float(points) for points in OVERFULL.findall(log) if float(points) > 1]


def main(runs: Sequence[Path], out: Path) -> int:
    """Write and compile all articles; return the exit status."""
    articles, command = write(runs, out), compiler()
    if command is None:
        print(f"examples/paper: no latexmk or tectonic here; the sources are in {out}")
        return 0
    for article in articles:
        done = subprocess.run([*command, article.name], cwd=article.parent, check=False)
        if done.returncode:
            return done.returncode
        log = article.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        if wide := overfull(log):
            print(f"{article}: {len(wide)} boxes too wide, by up to {max(wide)} pt")
            return 1
        print(article.with_suffix(".pdf"))
    return 0


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]] or [Path("runs/strategies")]
    sys.exit(main(given, HERE / "build"))
