"""The documentation: its code blocks run, its links resolve, its made pages are current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation.cli.commands import main
from simulation.config.experiment import Experiment
from simulation.population import deal
from simulation.runs import run
from simulation.studies import campaign

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NOT_RUN = {"text", "mermaid", ""}
OUTSIDE = {"make", "pip", "ray", "flwr", "export"}
"""Commands of other programs, which install something or start servers."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    for language, text in blocks(page):
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield words


def small(experiment: Experiment) -> Experiment:
    """Cut an experiment to what runs in a second, in this process; the rest stays as written."""
    data = experiment.model_dump(mode="python", exclude_unset=True)
    data |= {"rounds": 1, "resources": {"engine": "inline"}}
    if ":" not in experiment.model:
        data["model"] = "logistic"
    if experiment.dataset.startswith("fashion-mnist"):
        data["dataset"] = "fashion-mnist-mini"
    if experiment.partition.kind != "natural":
        data["clients"] = min(experiment.clients, 8)
        data.pop("cohort", None)
        if isinstance(data.get("sampling"), dict):
            data["sampling"].pop("candidates", None)
    data["training"] = {**data.get("training", {}), "local_epochs": 1}
    return Experiment.model_validate(data)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, from which the examples can be named too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def written(language: str, text: str) -> bool:
    """Write a block that begins with a file's name to that file, here."""
    name = re.match(r"# (\w+\.(?:py|toml))\n", text)
    if name is not None:
        Path(name[1]).write_text(text, encoding="utf-8")
    return name is not None


def invoke(words: list[str]) -> None:
    done = CliRunner().invoke(main, words[1:], standalone_mode=True)
    assert done.exit_code == 0, f"{shlex.join(words)}: {done.output}"


def play(page: Path) -> Iterator[list[str]]:
    """Run a page's blocks from the top; yield the words of each command."""
    names: dict[str, Any] = {"__name__": page.stem}
    for language, text in blocks(page):
        if language in NOT_RUN:
            continue
        assert language in {"python", "toml", "sh"}, f"{page.name}: a block of {language!r}"
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] not in OUTSIDE and "--app" not in words:
                    assert words[0] == "sunflower", f"{page.name}: {line}"
                    yield words
        elif not written(language, text) and language == "python":
            exec(compile(text, f"{page.name}", "exec"), names)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_blocks_run_and_commands_are_understood(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None
) -> None:
    """Python runs as printed; commands are read, checked and their data is loaded, not trained."""
    asked: list[Experiment] = []

    def prepared(experiment: Experiment, **_: Any) -> Any:
        asked.append(experiment)
        run.preflight.check(experiment, Path("runs/x"))
        run.make_strategy(experiment)
        if not experiment.dataset.startswith(("hf:", "fashion-mnist")):
            deal.prepare(experiment)
        raise KeyboardInterrupt

    for words in play(page):
        kind = words[1]
        if kind == "compare":
            invoke([*words, "--dry-run"])
        elif kind == "run" and "--resume" not in words:
            asked.clear()
            with monkeypatch.context() as patch:
                patch.setattr(run, "simulate", prepared)
                patch.setattr(run.preflight, "check_address", lambda address: None)
                done = CliRunner().invoke(main, words[1:])
            assert asked and done.exit_code == 130, f"{shlex.join(words)}: {done.output}"
        elif kind in ("strategies", "datasets", "--version", "--help"):
            invoke(words)


@pytest.mark.soak
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None
) -> None:
    """Every command, cut to a round of few clients in this process, to its end."""
    whole = run.simulate

    def shrunk(experiment: Experiment, *strategy: Any, **more: Any) -> Any:
        return whole(small(experiment), *strategy, **more)

    monkeypatch.setattr(run, "simulate", shrunk)
    monkeypatch.setattr(campaign, "simulate", shrunk)
    for words in play(page):
        invoke(words)


def test_made_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    for name, page in made.PAGES.items():
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert text == page(), f"docs/{name} is not current: python docs/make.py"


def test_every_option_is_told() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs/options.md").read_text().splitlines()]
    silent = [row[0] for row in rows if row[0].startswith("| `") and row[-1].strip(" |") == ""]
    assert not silent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            path, _, heading = target.partition("#")
            place = page.parent / path if path else page
            assert place.exists(), f"{page.name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
                assert heading in anchors, f"{page.name}: {target}"


def test_every_page_is_listed() -> None:
    listed = set(re.findall(r"\]\((\S+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert listed == {page.name for page in DOCS} - {"README.md"}


def test_troubleshooting_quotes_what_the_code_says() -> None:
    sources = [p for room in ("simulation", "strategies") for p in (ROOT / room).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    headings = re.findall(r"^## `(.*)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    assert len(headings) >= 10
    for words in headings:
        assert words in re.sub(r'"\s*\n\s*f?"', "", code), words
