"""The self-contained HTML page of a report: it opens offline and escapes every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from analysis.runs import Runs
from analysis.tables import Table

CSS = """
:root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#666;--line:#ddd;--tint:#f5f5f3}
@media(prefers-color-scheme:dark){
:root{--ink:#e8e6e3;--paper:#161719;--soft:#a5a29c;--line:#3a3b3e;--tint:#222326}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure img{display:block;width:100%;height:auto;background:#fff;padding:.5rem}
figcaption,caption{padding:.6rem .8rem;font-size:.9rem;color:var(--soft);text-align:left}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th button{all:unset;cursor:pointer;font-weight:600}
th button:focus-visible{outline:2px solid currentColor}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
""".strip()


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its name, its caption (also its alternative text), its data URI."""

    name: str
    caption: str
    source: str


def page(runs: Runs, pictures: Sequence[Picture], tables: Sequence[Table]) -> str:
    """Return the page of a report as HTML."""
    names = {str(c.get("experiment", {}).get("name") or "") for c in runs.configs.values()}
    title = names.pop() if len(names) == 1 else ""
    title = f"{title or 'Federated learning'}: report"
    figures = "".join(
        f'<figure id="{escape(p.name)}"><img alt="{escape(p.caption)}" src="{escape(p.source)}">'
        f"<figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in pictures
    )
    body = f"""<h1>{escape(title)}</h1>
<p>{escape(summary_line(runs))}</p>
<h2>Tables</h2>{"".join(t.html() for t in tables)}
<h2>Figures</h2><div class="figures">{figures}</div>"""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def summary_line(runs: Runs) -> str:
    """Say in one sentence what was run."""
    table = runs.table
    parts = [
        f"{len(table)} runs",
        f"{table['label'].nunique()} strategies and baselines",
        f"{table['seed'].nunique()} seeds",
    ]
    if len(runs.settings) > 1:
        parts.append(f"{len(runs.settings)} settings")
    unfinished = int((table["status"] != "complete").sum())
    tail = f" {unfinished} of them are not complete." if unfinished else ""
    return ", ".join(parts) + "." + tail
