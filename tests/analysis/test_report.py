import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import load, plot, report
from analysis.methods import bibtex_key, methods, plain
from analysis.summarise import default_target
from analysis.text import ALPHA
from benchmarks.report import GIGABYTES, MEGABYTES, measure, write_runs

PROX = """@inproceedings{li2020federated,
  title = {Federated Optimization in Heterogeneous Networks},
}"""


@pytest.fixture(scope="module")
def made(study: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return report(study, tmp_path_factory.mktemp("report"))


def test_every_file_is_there_and_named(made: list[Path]) -> None:
    assert made[0].name == "report.html"
    folder = made[0].parent
    assert set(made) == {p for p in folder.rglob("*") if p.is_file()}
    assert all(path.stat().st_size > 0 for path in made)
    for stem in ("accuracy", "loss", "alpha", "labels", "client_cdf", "rounds_to_target"):
        assert {folder / f"figures/{stem}.png", folder / f"figures/{stem}.pdf"} <= set(made)
    for kind in ("csv", "tex", "md"):
        assert folder / f"tables/final_server_accuracy.{kind}" in made


def test_figures_that_no_longer_apply_go(
    study: Path, single: Path, tmp_path: Path, few: Path
) -> None:
    report(study, tmp_path, formats=["pdf"], names=few)
    assert (tmp_path / "tables/ranks.csv").exists()
    assert (tmp_path / "figures/alpha.pdf").exists()
    (tmp_path / "figures/mine.pdf").write_text("kept")
    report(single, tmp_path, formats=["pdf"], names=few)
    assert not (tmp_path / "figures/alpha.pdf").exists()
    assert not (tmp_path / "tables/ranks.csv").exists()
    assert (tmp_path / "figures/mine.pdf").exists()


def test_runs_that_did_not_finish_are_left_out_and_named(tmp_path, make_run, few) -> None:
    make_run(tmp_path / "runs/good", "FedAvg", rounds=3)
    make_run(tmp_path / "runs/bad", "FedProx(mu=0.1)", rounds=3, status="failed")
    text = report(tmp_path / "runs", tmp_path / "out", formats=(), names=few)[0].read_text()
    assert "1 of 2 runs: bad (failed after round 3 of 3)." in text
    table = (tmp_path / "out/tables/final_server_accuracy.md").read_text()
    assert "FedAvg" in table and "FedProx" not in table


def test_running_runs_alone_can_be_looked_at(tmp_path, make_run, few) -> None:
    make_run(tmp_path / "run", rounds=3, status="running")
    text = report(tmp_path / "run", tmp_path / "out", formats=(), names=few)[0].read_text()
    assert "left out of every" not in text
    assert "No run is complete:</b> what follows is how far they are" in text
    assert "running" in text


def test_unknown_options_are_named_before_anything_is_written(single: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("style", "band", "test"):
        with pytest.raises(ValueError, match=rf"^{name}: must be one of .*, got 'none'$"):
            report(single, out, **{name: "none"})
    with pytest.raises(ValueError, match=r"no run here"):
        report(tmp_path, out)
    assert not out.exists()


def test_one_figure_of_one_setting(study: Path, tmp_path: Path) -> None:
    wide = plot("accuracy", study, tmp_path, formats=["svg"])
    alone = plot("accuracy", study, tmp_path, setting=f"{ALPHA} = 0.1", formats=["svg"])
    assert [p.name for p in wide + alone] == ["accuracy.svg", "accuracy-alpha0.1.svg"]
    widths = [float(re.search(r'width="([\d.]+)pt"', p.read_text())[1]) for p in wide + alone]
    assert widths == pytest.approx([72 * 6.75, 72 * 3.25])
    with pytest.raises(ValueError, match=r"^setting: 'none' is none of "):
        plot("accuracy", study, tmp_path, setting="none")


def test_the_target_is_that_of_the_study(study: Path, tmp_path: Path, monkeypatch) -> None:
    seen: list[float] = []

    def drawn(*_: object, target: float, **__: object) -> object:
        seen.append(target)
        raise ValueError("seen")

    monkeypatch.setattr(sys.modules["analysis.report"], "draw", drawn)
    for setting in (None, f"{ALPHA} = 0.1", f"{ALPHA} = 1"):
        with pytest.raises(ValueError, match="seen"):
            plot("rounds_to_target", study, tmp_path, setting=setting)
    assert seen == [default_target(load(study).rounds)] * 3


@pytest.mark.parametrize("lines", ["", '{"round": 0, "server_accuracy": null}\n'])
def test_runs_without_measurements_give_a_page(tmp_path, make_run, lines: str) -> None:
    folder = make_run(tmp_path / "run", rounds=1, per_client=False, status="running")
    (folder / "rounds.jsonl").write_text(lines)
    files = report(folder, tmp_path / "out", formats=())
    assert "1 run: 1 federated strategy and 1 seed; 0 rounds in all." in files[0].read_text()


def test_methods_say_what_the_runs_say(study: Path) -> None:
    text, entries = methods(load(study), {"FedProx(mu=0.1)": PROX})
    keys = [bibtex_key(e) for e in entries]
    cited = re.findall(r"\\cite\{([^}]*)\}", text)
    assert {key for group in cited for key in group.split(",")} == set(keys)
    assert "li2020federated" in keys and len(keys) == len(set(keys))
    for fact in (
        "20 clients, of which 10 take part in a round, for 20 rounds",
        r"$\alpha \in \{0.1, 1\}$",
        r"225\,034 parameters",
        "batch size 32",
        r"FedAvg, FedProx($\mu$=0.1)~\cite{li2020federated} and FedAdam",
        "3 seeds (0, 1 and 2)",
        "Every setting is run",
        "by a paired t-test",
        r"Holm's correction",
    ):
        assert fact in text
    readable = plain(text)
    assert "\\" not in readable and "225,034" in readable and "FedProx(μ=0.1)" in readable
    assert f"{ALPHA} in {{0.1, 1}}" in readable


def test_methods_tell_epochs_only_where_no_steps_are_counted(tmp_path, make_run) -> None:
    for name, training in (
        ("steps", {"local_epochs": 1, "local_steps": 5, "batch_size": 32}),
        ("epochs", {"local_epochs": 2, "local_steps": None, "batch_size": 32}),
    ):
        folder = tmp_path / name
        make_run(folder / "run", rounds=1, per_client=False, experiment={"training": training})
    text, _ = methods(load(tmp_path / "steps"))
    assert "with 5 local steps, batch size 32." in text
    text, _ = methods(load(tmp_path / "epochs"))
    assert "with 2 local epochs, batch size 32." in text
    text, _ = methods(load(tmp_path))
    assert "with 2 local epochs (swept), 5 local steps (swept), batch size 32." in text


def test_methods_tell_what_the_server_keeps(tmp_path, make_run) -> None:
    kept = {"partition": {"kind": "iid", "root": 77}}
    make_run(tmp_path / "run", rounds=1, per_client=False, experiment=kept)
    assert "i.i.d.; 77 examples stay with the server" in plain(methods(load(tmp_path))[0])


def test_methods_name_every_setting_with_its_source(tmp_path, make_run) -> None:
    sources = {
        "partition": [("dirichlet", "yurochkin2019bayesian,li2022silos"),
                      ("inner-dirichlet", "acar2021federated"), ("shards", "mcmahan2017"),
                      ("quantity", "li2022silos"), ("pachinko", "reddi2021adaptive"),
                      ({"kind": "iid", "noise": 0.1}, "li2022silos"),
                      ({"kind": "iid", "rotations": 4}, "ghosh2020efficient")],
        "sampling": [("by-size", "efraimidis2006weighted"), ("power-of-choice", "cho2020client")],
        "attack": [("label-flip", "fang2020local"), ("noise", "blanchard2017machine"),
                   ("sign-flip", "li2019rsa"), ("scale", ""), ("free-rider", "fraboni2021free"),
                   ("alie", "baruch2019little"), ("ipm", "xie2020fall"),
                   ("min-max", "shejwalkar2021"), ("min-sum", "shejwalkar2021"),
                   ("fang", "fang2020local"), ("backdoor", "gu2017badnets,bagdasaryan2020how"),
                   ({"kind": "semantic-backdoor", "source": 1, "target": 7},
                    "bagdasaryan2020how,wang2020tails"),
                   ({"kind": "label-flip", "source": 1, "target": 7}, "tolpegin2020data")],
        "realism": [({"stragglers": 0.9}, "li2020federated"), ({"dropout": 0.15}, ""),
                    ({"availability": 0.75}, ""), ({"over_selection": 0.3}, "bonawitz2019towards")],
    }  # fmt: skip
    for table, cases in sources.items():
        for i, (value, key) in enumerate(cases):
            more = value if isinstance(value, dict) else {"kind": value, "fraction": 0.2}
            folder = tmp_path / f"{table}{i}"
            make_run(folder, rounds=1, per_client=False, experiment={table: more})
            text, entries = methods(load(folder))
            assert key in text, (table, value)
            assert "hsu2019measuring" not in text
            assert not key or any(key.split(",")[0] in bibtex_key(e) for e in entries)
            for number in more.values() if table == "realism" else ():
                assert f"{number}" in text
            assert "\\" not in plain(text) and "$" not in plain(text)


def test_methods_tell_how_the_server_encodes_its_model(tmp_path, make_run) -> None:
    for i, (table, words, key) in enumerate([
        ({"kind": "top-k", "fraction": 0.05}, "the largest entries, a fraction of 0.05",
         "aji2017sparse"),
        ({"kind": "qsgd", "bits": 4, "bucket": 512}, "in 4 bits an entry, QSGD, buckets of 512",
         "alistarh2017qsgd"),
    ]):  # fmt: skip
        asked = {"compression": {"kind": "none", "download": table}}
        make_run(tmp_path / str(i) / "a", rounds=1, per_client=False, experiment=asked)
        text, entries = methods(load(tmp_path / str(i)))
        sentence = "The server sends how its model differs from the one that clients have ("
        assert f"{sentence}{words}), and later what was lost; who was away is" in plain(text)
        for one in (key, "tang2019doublesqueeze", "philippenko2021preserved"):
            assert one in text and one in [bibtex_key(entry) for entry in entries]


def test_methods_tell_how_clients_encode_what_they_send(tmp_path, make_run) -> None:
    memory = "and keep what they have not sent for their next update (error feedback)."
    for i, (table, sentence, keys) in enumerate([
        ({"kind": "top-k", "fraction": 0.01, "error_feedback": True}, "Clients send the largest "
         f"entries of their update, a fraction of 0.01, {memory}", "aji2017sparse"),
        ({"kind": "random-k", "fraction": 0.1, "error_feedback": False}, "Clients send randomly "
         "drawn entries of their update, a fraction of 0.1.", "stich2018sparsified"),
        ({"kind": "qsgd", "bits": 4, "bucket": 512}, "Clients send their update in 4 bits an entry "
         "(QSGD, buckets of 512).", "alistarh2017qsgd"),
        ({"kind": "sign", "error_feedback": True}, "Clients send the signs of their update and the "
         f"mean size of each weight's entries, {memory}", "karimireddy2019error"),
        ({"kind": "majority-vote", "step": 0.001}, "Clients send the signs of their update, of "
         "which the server takes the majority (step 0.001).", "bernstein2019signsgd"),
        ({"kind": "ternary"}, "Clients send their update in three values (TernGrad).",
         "wen2017terngrad"),
        ({"kind": "rounding", "bits": 8, "error_feedback": False}, "Clients send their update "
         "rounded to 8 bits an entry.", "suresh2017distributed"),
        ({"kind": "sketch", "fraction": 0.1, "rows": 5, "keep": 0.01, "error_feedback": False},
         "Clients send a count sketch of their update (counters by a fraction of 0.1 of its "
         "entries in 5 rows), of which the server reads the largest, a fraction of 0.01.",
         "rothchild2020fetchsgd"),
        ({"kind": "low-rank", "rank": 2, "error_feedback": True}, "Clients send their update as "
         f"matrices of rank 2 (PowerSGD), {memory}", "vogels2019powersgd"),
    ]):  # fmt: skip
        folder = tmp_path / str(i)
        make_run(folder, rounds=1, per_client=False, experiment={"compression": table})
        text, entries = methods(load(folder))
        assert sentence in plain(text)
        assert keys in text and keys in [bibtex_key(entry) for entry in entries]
    two = tmp_path / "two"
    make_run(two / "a", rounds=1, per_client=False, experiment={"compression": {"kind": "none"}})
    make_run(two / "b", rounds=1, per_client=False, experiment={"compression": {"kind": "sign"}})
    assert "With sign, clients send the signs" in plain(methods(load(two))[0])


def test_the_page_links_its_files_and_warns_of_versions(tmp_path, make_run) -> None:
    for i, version in enumerate(("3.14.0", "3.15.1")):
        folder = make_run(tmp_path / f"runs/{i}", seed=i, rounds=1)
        config = json.loads((folder / "config.json").read_text())
        config["versions"]["keras"] = version
        (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "runs/figures.toml").write_text('figures = ["accuracy"]\ntables = ["cost"]')
    page = report(tmp_path / "runs", tmp_path / "out", formats=("svg", "pdf"))[0]
    text = page.read_text()
    links = re.findall(r'<a href="([^"#]+)">([^<]+)</a>', text)
    kinds = ["CSV", "TEX", "TABULAR.TEX", "MD", "SVG", "PDF", "TEX", "BIB"]
    assert [name for _, name in links] == kinds
    assert all((tmp_path / "out" / file).exists() for file, _ in links)
    assert "Different versions:</b> keras 3.14.0 and 3.15.1." in text


def test_only_fashion_mnist_is_cited_as_fashion_mnist(tmp_path, make_run) -> None:
    others = ("my.py:fashion-mnist", "data/fashion-mnist.npz", "not-fashion-mnist")
    for name, mine in (("fashion-mnist", True), *((name, False) for name in others)):
        folder = make_run(tmp_path / str(len(name)), rounds=1, experiment={"dataset": name})
        text, entries = methods(load(folder))
        assert f"The dataset {name}" in text
        assert ("xiao2017fashion" in text) == mine
        assert any("xiao2017fashion" in e for e in entries) == mine


def test_methods_tell_who_trained_how(tmp_path, make_run) -> None:
    def training(**values: object) -> dict[str, object]:
        return {"training": {"local_epochs": 1, "batch_size": 32, **values}}

    adam = {"name": "adam", "beta_1": 0.8}
    for i, (label, values) in enumerate((
        ("FedAvg", training(optimizer="sgd", learning_rate=0.1)),
        ("FedProx", training(optimizer="sgd", learning_rate=0.1, local_steps=5)),
        ("SCAFFOLD", training(optimizer="sgd", learning_rate=0.1)),
        ("FedDyn", training(optimizer="sgd", learning_rate=0.1)),
        ("FedAdam", training(optimizer=adam, learning_rate=0.03, momentum=0.0)),
    )):  # fmt: skip
        make_run(tmp_path / str(i), label, clients=1, cohort=1, rounds=1, experiment=values)
    text, _ = methods(load(tmp_path))
    for fact in (
        "with 1 client, of which 1 takes part in a round, for 1 round.",
        "1 local epoch (FedAvg, FedAdam, SCAFFOLD and FedDyn), 5 local steps (FedProx), batch",
        "optimiser adam (beta 1 0.8) (FedAdam) and sgd (the others)",
        "learning rate 0.03 (FedAdam) and 0.1 (the others).",
    ):
        assert fact in text, text
    alone, _ = methods(load(tmp_path / "0"))
    assert "with 1 local epoch, batch size 32, optimiser sgd, learning rate 0.1." in alone
    swept = {
        rate: make_run(tmp_path / f"swept/{rate}", rounds=1,
                       experiment=training(optimizer="sgd", learning_rate=rate, local_epochs=2))
        for rate in (0.01, 0.1)
    }  # fmt: skip
    text, _ = methods(load(*swept.values()))
    assert (
        "2 local epochs, batch size 32, optimiser sgd, learning rate 0.01 and 0.1 (swept)" in text
    )


def test_methods_tell_who_has_how_many_seeds(tmp_path, make_run) -> None:
    for label, seeds in (("FedAvg", 3), ("FedProx", 3), ("FedAdam", 1)):
        for seed in range(seeds):
            make_run(tmp_path / f"{label}{seed}", label, seed=seed, rounds=1)
    text, _ = methods(load(tmp_path))
    assert "FedAvg and FedProx with 3 seeds; FedAdam with 1 seed. They also" in text
    assert "Every setting" not in text


def test_citations_come_from_the_runs(tmp_path, make_run, few) -> None:
    folder = make_run(tmp_path / "run", "FedProx(mu=0.1)", rounds=1)
    config = json.loads((folder / "config.json").read_text())
    config["citations"] = [{"title": "FedProx", "citation": "Li et al.", "bibtex": PROX}]
    (folder / "config.json").write_text(json.dumps(config))
    files = report(folder, tmp_path / "out", formats=(), names=few)
    bib = next(p for p in files if p.name == "references.bib").read_text()
    assert PROX in bib
    assert r"~\cite{li2020federated}" in (tmp_path / "out/methods.tex").read_text()


HOSTILE = '"><script>document.title="bad"</script><img src=x onerror=alert(1)>&\'\\input{x}'


def test_hostile_strings_are_only_text(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", HOSTILE, rounds=2)
    config = json.loads((folder / "config.json").read_text())
    config["experiment"] |= {"name": HOSTILE, "dataset": HOSTILE, "model": HOSTILE}
    config["versions"] = {HOSTILE: HOSTILE}
    config["hash"] = HOSTILE
    config["citations"] = ["@misc{" + HOSTILE + ",}"]
    (folder / "config.json").write_text(json.dumps(config))
    files = report(folder, tmp_path / "out", formats=())
    text = files[0].read_text()
    assert text.count("<script>") == 2  # the page's own
    assert "<img src=x" not in text and "onerror=alert(1)>" not in text.replace("&gt;", "")
    assert "&lt;script&gt;document.title=&quot;bad&quot;&lt;/script&gt;" in text
    for path in files:
        if path.suffix == ".tex":
            assert "\\input{" not in path.read_text()
    assert all(p.resolve().is_relative_to(tmp_path / "out") for p in files)


def test_the_page_loads_nothing_and_describes_its_images(made: list[Path]) -> None:
    text = made[0].read_text()
    assert not re.findall(r'src="(?!data:)|<link [^>]*href="(?!data:)', text)
    links = re.findall(r'<a [^>]*href="([^"]*)"', text)
    assert links and not [link for link in links if re.match(r"[a-z]+:|//", link)]
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) >= 14
    for image in images:
        assert len(re.search(r'alt="([^"]*)"', image)[1]) > 15
        assert 'src="data:image/svg+xml,<svg ' in image
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert "@media (prefers-color-scheme: dark)" in text
    assert "sunflower plot accuracy " in text


@pytest.mark.soak
def test_many_runs_take_little_memory_and_a_small_page(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", 200, 500)
    taken = measure(tmp_path / "runs", tmp_path / "out")
    assert taken["memory"] < GIGABYTES * 1e9
    assert 2e6 < taken["page"] < MEGABYTES * 1e6  # plotly.js alone is 2 MB
    frame = pd.read_csv(tmp_path / "out/tables/final_server_accuracy.csv")
    assert len(frame) == 20 and (frame["n"] == 10).all()
    told = re.search(
        r"(\d+) of 501 rounds are drawn here", (tmp_path / "out/report.html").read_text()
    )
    assert told and 50 < int(told[1]) < 501


def test_analysis_imports_no_engine() -> None:
    code = (
        "import sys, analysis; "
        "print([m for m in ('ray', 'tensorflow', 'keras', 'flwr', 'strategies', 'simulation', "
        "'scipy', 'seaborn', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
