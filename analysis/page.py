"""The self-contained HTML page of a report: it opens offline, loads nothing, escapes every text."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from analysis.cells import Table
from analysis.methods import in_words, plain, settings_of, versions_of
from analysis.runs import Runs
from analysis.text import typeset

CSS = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#5d5d5d;--line:#ddd;--tint:#f5f5f3}
@media(prefers-color-scheme:dark){
:root{--ink:#e8e6e3;--paper:#161719;--soft:#a5a29c;--line:#3a3b3e;--tint:#222326}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{line-height:1.2;margin:.5rem 0}
h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
nav a{display:inline-block;margin-right:1rem}a{color:inherit}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure.wide{grid-column:1/-1}
figure img{display:block;width:100%;height:auto;max-width:52rem;margin:0 auto;background:#fff;
padding:.5rem}
figure .card{background:#fff}
figcaption{padding:.6rem .8rem;font-size:.9rem}
caption{padding:.3rem 0 .6rem;font-size:.9rem;color:var(--soft);text-align:left;
white-space:normal;min-width:min(30rem,100vw - 2rem);max-width:min(60rem,100vw - 2rem)}
code,pre{font:.85em/1.45 ui-monospace,monospace}
pre{background:var(--tint);padding:.8rem;border-radius:6px;overflow-x:auto;white-space:pre-wrap}
details{margin:1rem 0}summary{cursor:pointer;font-weight:600}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left}
.n{text-align:right}td.long{white-space:normal;overflow-wrap:anywhere;min-width:12rem}
th button{all:unset;cursor:pointer;font-weight:600}
th button:focus-visible{outline:2px solid currentColor}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
.caution{border:2px solid #c62828;border-radius:6px;padding:.3rem .8rem;margin:1rem 0}
.caution ul{margin:.4rem 0;padding-left:1.2rem}
.soft{color:var(--soft);font-size:.9rem}
""".strip()

# Sorts a table by the column whose header was clicked; cells without a number come last.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentNode, column = head.cellIndex, body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const number = (text) => (text.trim() === "" ? NaN : Number(text));
    const compare = (a, b) => {
      const x = number(key(a)), y = number(key(b));
      if (!isNaN(x) && !isNaN(y)) return x === y ? 0 : x < y === down ? 1 : -1;
      if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
      return key(a).localeCompare(key(b), "en", { numeric: true }) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(compare));
  });
}
""".strip()


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Args:
        name: its name in the registry and of its files.
        caption: what it shows, also the alternative text.
        source: the image as a data URI.
        wide: whether it is drawn across the page.
        files: where it is on disk, below the page.
    """

    name: str
    caption: str
    source: str
    wide: bool = False
    files: Sequence[str] = ()


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
        options: what differed from the defaults, for these commands.
        cautions: what a reader must know before the numbers.
    """

    title: str
    runs: Runs
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    findings: Sequence[str] = ()
    methods: str = ""
    references: Sequence[str] = ()
    paths: Sequence[str] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    cautions: Sequence[str] = ()


def page(contents: Contents) -> str:
    """Return the page of a report as HTML."""
    script = SCRIPT
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing but this page's own script, styles and images: no request can leave it.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    title = escape(contents.title)
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{escape(in_words(contents.runs))}</p>",
        cautions(contents),
        "".join(f"<p>{escape(typeset(text))}</p>" for text in contents.findings),
        '<nav><a href="#tables">Tables</a><a href="#figures">Figures</a>'
        '<a href="#methods">Methods</a><a href="#settings">Settings</a><a href="#runs">Runs</a>'
        '<a href="#reproduce">Reproduce</a></nav>',
        '<h2 id="tables">Tables</h2>',
        *[linked(table) for table in contents.tables if table.name != "runs"],
        '<h2 id="figures">Figures</h2><div class="figures">',
        *[figure(picture) for picture in contents.pictures],
        "</div>",
        methods(contents),
        settings(contents.runs),
        '<h2 id="runs">Runs</h2>',
        *[linked(table) for table in contents.tables if table.name == "runs"],
        reproduce(contents),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main><script>{script}</script></body></html>\n"
    )


def figure(picture: Picture) -> str:
    """Return a figure with its caption and the names of its files."""
    name, caption = escape(picture.name), escape(picture.caption)
    kind = ' class="wide"' if picture.wide else ""
    return (
        f'<figure id="{name}"{kind}><div class="card">'
        f'<img alt="{caption}" src="{escape(picture.source)}"></div>'
        f"<figcaption>{caption} {links(picture.files)}</figcaption></figure>"
    )


def links(files: Sequence[str]) -> str:
    """Return links to files below the page, each named by its kind."""
    found = [
        f'<a href="{escape(file)}">{escape(file.partition(".")[2].upper())}</a>' for file in files
    ]
    return f'<span class="soft">{" ".join(found)}</span>' if found else ""


def linked(table: Table) -> str:
    """Return a table with links to its files."""
    stem = f"tables/{table.name}"
    files = [f"{stem}.{kind}" for kind in ("csv", "tex", "tabular.tex", "md")]
    return f"{table.html()}{links(files)}"


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
        f'<h2 id="methods">Methods</h2><p>{escape(plain(contents.methods))}</p>'
        "<details><summary>LaTeX</summary>"
        f"<pre>{escape(contents.methods)}</pre></details>"
        "<details><summary>BibTeX</summary>"
        f"<pre>{escape(chr(10).join(contents.references))}</pre></details>"
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
        f'<div class="scroll"><table>{"".join(rows)}</table></div>'
        f'<div class="scroll"><table>{"".join(versions)}</table></div>'
    )


def reproduce(contents: Contents) -> str:
    """Return the commands that make the figures again."""
    where = " ".join(shlex.quote(p) for p in contents.paths) or "RUNS"
    given = {k: f" --{k} {shlex.quote(v)}" if v else f" --{k}" for k, v in contents.options.items()}
    drawn = "".join(
        text for name, text in given.items() if name not in ("test", "baseline", "bold")
    )
    lines = [f"sunflower report {where}{''.join(given.values())}"]
    lines += [f"sunflower plot {p.name} {where}{drawn}" for p in contents.pictures]
    return (
        '<h2 id="reproduce">Reproduce</h2><p>Every number in a table is in '
        "<code>tables/*.csv</code>, unrounded and with the names of its runs; every run folder "
        "holds the experiment that made it in <code>config.json</code>.</p>"
        f"<pre>{escape(chr(10).join(lines))}</pre>"
    )
