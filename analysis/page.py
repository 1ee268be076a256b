"""The self-contained HTML page of a report: it opens offline, loads nothing, escapes every text."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from importlib.resources import files
from typing import Any

from analysis.cells import Table
from analysis.interactive import library, packed, to_json
from analysis.latex import tabular
from analysis.methods import in_words, plain, settings_of, versions_of
from analysis.runs import Runs
from analysis.summarise import BANDS
from analysis.text import typeset

WEB = files("analysis") / "web"
"""Styles and scripts of the page."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Args:
        name: its name in the registry and of its files.
        caption: what it shows, also the alternative text.
        source: the image as a data URI, safe inside double quotes.
        narrow: the same with its panels below each other; "" where it has one.
        files: where it is on disk, below the page.
        latex: the float that shows it.
    """

    name: str
    caption: str
    source: str
    narrow: str = ""
    files: Sequence[str] = ()
    latex: str = ""


@dataclass(frozen=True)
class Contents:
    """What a page shows.

    Args:
        title: the heading.
        runs: the runs that the figures and tables are about.
        pictures: the figures.
        tables: the tables.
        findings: what the tables say, a sentence each.
        methods: the methods paragraph in LaTeX.
        references: its BibTeX entries.
        paths: the run folders as they were given, for the commands that make it again.
        commands: those that made the runs, where their folders say so.
        options: what differed from the defaults, for these commands.
        cautions: what a reader must know before the numbers.
        curves: what :func:`analysis.interactive.interactive` returned.
    """

    title: str
    runs: Runs
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    findings: Sequence[str] = ()
    methods: str = ""
    references: Sequence[str] = ()
    paths: Sequence[str] = ()
    commands: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    cautions: Sequence[str] = ()
    curves: Mapping[str, Any] | None = None


def page(contents: Contents) -> str:
    """Return the page of a report as HTML."""
    scripts = [read("page.js")]
    blocks = code = ""
    narrow = {p.name: unescape(p.narrow) for p in contents.pictures if p.narrow}
    if narrow:  # packed: most readers have room for the others
        blocks += block("narrow", to_json(narrow))
    if contents.curves is not None:
        code = library()
        scripts.append(read("curves.js"))
        blocks += block("curves-library", code) + block("curves-data", to_json(contents.curves))
    hashes = " ".join(f"'sha256-{digest(s)}'" for s in [*scripts, *([code] if code else [])])
    # Nothing but this page's own scripts, styles and images: no request can leave it.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {hashes}; base-uri 'none'; form-action 'none'"
    )
    title = escape(contents.title)
    own = [table for table in contents.tables if table.name == "runs"]
    parts = [
        f'<header><h1>{title}</h1><p class="about">{escape(in_words(contents.runs))}</p></header>',
        navigation(contents),
        findings(contents),
        explore(contents),
        '<h2 id="tables">Tables</h2>',
        *[linked(table) for table in contents.tables if table not in own],
        '<h2 id="figures">Figures</h2><div class="figures">',
        *[figure(picture) for picture in contents.pictures],
        "</div>",
        methods(contents),
        settings(contents.runs),
        '<h2 id="runs">Runs</h2>',
        *[linked(table) for table in own],
        reproduce(contents),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{read('page.css')}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main>\n{blocks}"
        + "".join(f"<script>{script}</script>" for script in scripts)
        + "</body></html>\n"
    )


def read(name: str) -> str:
    """Return a style or a script of the page."""
    return (WEB / name).read_text(encoding="utf-8").strip()


def digest(script: str) -> str:
    """Return what the page's policy knows a script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def block(name: str, text: str) -> str:
    """Return packed text that the page's scripts unpack."""
    return f'<script type="application/gzip" id="{name}">{packed(text)}</script>\n'


def navigation(contents: Contents) -> str:
    """Return links to the parts of the page."""
    parts = ["Findings", "Explore", "Tables", "Figures", "Methods", "Settings", "Runs", "Reproduce"]
    if contents.curves is None:
        parts.remove("Explore")
    links = "".join(f'<a href="#{part.lower()}">{part}</a>' for part in parts)
    return f'<nav aria-label="Parts of the page">{links}</nav>'


def findings(contents: Contents) -> str:
    """Return what the tables say, a sentence each, after what a reader must know before."""
    items = "".join(f"<li>{escape(typeset(text))}</li>" for text in contents.findings)
    listed = f'<ul class="findings">{items}</ul>' if items else ""
    return f'<h2 id="findings">Findings</h2>{cautions(contents)}{listed}'


def explore(contents: Contents) -> str:
    """Return the curves that answer to the reader, empty until the page's script fills them."""
    data = contents.curves
    if data is None:
        return ""
    views = {"band": "Band", "each": "Each seed", "logX": "Log x", "logY": "Log y"}
    buttons = "".join(
        f'<button type="button" class="chip" data-toggle="{key}">{text}</button>'
        for key, text in views.items()
    )
    choices = "".join(
        f'<label>{text} <select data-part="{name}"></select></label>'
        for name, text in (("metric", "Show"), ("axis", "against"), ("setting", "where"))
    )
    rows = "".join(
        f'<div class="row"><span>{text}</span><div class="chips" role="group" '
        f'aria-label="{text}" data-part="{name}"></div></div>'
        for name, text in (("labels", "Strategies"), ("seeds", "Seeds"))
    )
    thinned = (
        f" {data['shown']} of {data['recorded']} rounds are drawn here; tables and figures use all."
        if data["shown"] < data["recorded"]
        else ""
    )
    return (
        '<h2 id="explore">Explore</h2><div class="card" id="curves">'
        f'<div class="controls" data-part="controls" hidden><div class="row">{choices}</div>{rows}'
        f'<div class="row"><span>View</span><div class="chips">{buttons}</div></div></div>'
        '<div data-part="plot"></div><p data-part="status" role="status"></p>'
        "<noscript><p>Without JavaScript the figures below show the same.</p></noscript>"
        f'<p class="soft">Means and bands ({BANDS[data["band"]]}) are over the seeds chosen here. '
        "Drag, or press the buttons, to zoom; double-click to see all again, and a strategy or a "
        f"seed to see it alone.{thinned}</p></div>"
    )


def figure(picture: Picture) -> str:
    """Return a figure with its caption and the names of its files."""
    name, caption = escape(picture.name), escape(picture.caption)
    kind = "card wide" if picture.narrow else "card"
    more = copy(f"float-{picture.name}", picture.latex, "Copy LaTeX") if picture.latex else ""
    return (
        f'<figure id="{name}" class="{kind}"><img alt="{caption}" src="{picture.source}">'
        f"<figcaption>{caption} {links(picture.files, more)}</figcaption></figure>"
    )


def links(files: Sequence[str], more: str = "") -> str:
    """Return links to files below the page, each named by its kind, and what else there is."""
    found = [
        f'<a href="{escape(file)}">{escape(file.partition(".")[2].upper())}</a>' for file in files
    ]
    return f'<span class="files">{"".join(found)}{more}</span>' if found or more else ""


def copy(name: str, text: str, what: str = "Copy") -> str:
    """Return a button that copies a text which the page does not show."""
    return f'{copies(name, what)}<span hidden id="{escape(name)}">{escape(text)}</span>'


def copies(name: str, what: str = "Copy") -> str:
    """Return a button that copies the text of the element called ``name``."""
    return f'<button type="button" class="copy" data-copy="{escape(name)}">{what}</button>'


def linked(table: Table) -> str:
    """Return a table with links to its files."""
    stem = f"tables/{table.name}"
    files = [f"{stem}.{kind}" for kind in ("csv", "tex", "tabular.tex", "md")]
    more = copy(f"tabular-{table.name}", tabular(table), "Copy LaTeX")
    return (
        f'<div class="card table" id="table-{escape(table.name)}">'
        f"<p>{headed(typeset(table.caption))}</p>"
        f"{table.html(captioned=False)}{links(files, more)}</div>"
    )


def headed(caption: str) -> str:
    """Return a caption with its head, which says what is shown, apart from its explanation."""
    ends = [place for mark in (": ", ". ", "; ") if (place := caption.find(mark)) > 0]
    end = min(ends, default=len(caption))
    return f"<b>{escape(caption[:end])}</b>{escape(caption[end:])}"


def cautions(contents: Contents) -> str:
    """Say in a box before all numbers what they do not show by themselves."""
    if not contents.cautions:
        return ""
    items = []
    for text in contents.cautions:
        head, colon, rest = typeset(text).partition(":")
        items.append(f"<li><b>{escape(head + colon)}</b>{escape(rest)}</li>")
    return f'<div class="caution" role="note"><ul>{"".join(items)}</ul></div>'


def methods(contents: Contents) -> str:
    """Return the methods paragraph, to read and to paste, with its references."""
    if not contents.methods:
        return ""
    return (
        f'<h2 id="methods">Methods</h2><p class="prose">{escape(plain(contents.methods))}</p>'
        f"<p>{links(['methods.tex', 'references.bib'])} {copies('latex', 'Copy LaTeX')} "
        f"{copies('bibtex', 'Copy BibTeX')}</p>"
        "<details><summary>LaTeX</summary>"
        f'<pre id="latex">{escape(contents.methods)}</pre></details>'
        "<details><summary>BibTeX</summary>"
        f'<pre id="bibtex">{escape(chr(10).join(contents.references))}</pre></details>'
    )


def settings(runs: Runs) -> str:
    """Return the experiments' settings and the versions that ran them."""
    rows = [
        f"<tr><td><code>{escape(r['key'])}</code></td>"
        f'<td class="long">{"<b>" if r["varies"] else ""}{escape(r["values"])}'
        f"{'</b>' if r['varies'] else ''}</td></tr>"
        for r in settings_of(runs).to_dict("records")
    ]
    versions = [
        f'<tr><td>{escape(r["package"])}</td><td class="long">{escape(r["version"])}</td></tr>'
        for r in versions_of(runs).to_dict("records")
    ]
    return (
        '<h2 id="settings">Settings and versions</h2>'
        '<p class="soft">Bold: differs between runs.</p>'
        + "".join(
            f'<div class="card table"><div class="scroll"><table>{lines}</table></div></div>'
            for lines in ("".join(rows), "".join(versions))
        )
    )


def reproduce(contents: Contents) -> str:
    """Return the commands that make the runs, the report and each figure again."""
    where = " ".join(shlex.quote(p) for p in contents.paths) or "RUNS"
    given = {k: f" --{k} {shlex.quote(v)}" if v else f" --{k}" for k, v in contents.options.items()}
    drawn = "".join(
        text for name, text in given.items() if name not in ("test", "baseline", "bold")
    )
    report = f"sunflower report {where}{''.join(given.values())}"
    figures = [f"sunflower plot {p.name} {where}{drawn}" for p in contents.pictures]
    return (
        '<h2 id="reproduce">Reproduce</h2><p class="prose">Every number in a table is in '
        "<code>tables/*.csv</code>, unrounded and with the names of its runs; every run folder "
        "holds the experiment that made it in <code>config.json</code>.</p>"
        + listed("The runs", "make-runs", contents.commands)
        + listed("This report", "make-report", [report])
        + listed("A figure alone", "make-figures", figures)
    )


def listed(title: str, name: str, commands: Sequence[str]) -> str:
    """Return commands under a heading, with a button that copies them; nothing without any."""
    if not commands:
        return ""
    return f'<h3>{title} {copies(name)}</h3><pre id="{name}">{escape(chr(10).join(commands))}</pre>'
