"""A cluster of hosts whose network fails: seconds that a fault costs, against those that it lasts.

Three hosts with links of their own, as network namespaces of this machine: a desk for the driver
and Ray's head, and two that work. Needs root and iproute2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common, drawing
from benchmarks.common import Report, say
from benchmarks.traffic import measure, tell
from tests.hosts.network import Host, network, why_not
from tests.hosts.runs import LINKS, HostCluster, Outcome

SPARE = 15.0
"""Seconds that a cut may cost beyond its length."""

CUTS = (5.0, 15.0, 30.0, 60.0)
"""Seconds for which a link is cut."""


def main() -> None:
    """Measure, print, and write ``results/hosts``."""
    parser = common.parser(__doc__, repeats=1)
    parts = ("cuts", "links", "traffic")
    parser.add_argument("--part", choices=parts, help="only one of them")
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 4], help="of the traffic")
    given = parser.parse_args()
    if (reason := why_not()) is not None:
        raise SystemExit(f"hosts: {reason}")
    if given.part == "traffic":
        report = Report("hosts-traffic", "Traffic between hosts", given.small)
        tell(
            report, [measure(nodes) for nodes in (given.nodes[:1] if given.small else given.nodes)]
        )
        report.show()
        return
    report = Report("hosts", "Hosts whose network fails", given.small)
    with tempfile.TemporaryDirectory() as folder, network(("desk", "one", "two")) as net:
        cluster = HostCluster(net, Path(folder))
        cluster.start(("one", "two"), head="desk")
        calm = cluster.run("calm")
        report.data["calm"] = _kept(calm)
        report.text(
            f"400 clients, {len(calm.seconds)} rounds, two workers on two hosts; a round takes "
            f"{calm.typical:.1f} s. The longest round beyond that is what a fault costs."
        )
        if given.part != "links":
            cuts = CUTS[:2] if given.small else CUTS
            _table(report, "cut", [_cut(cluster, net["one"], s) for s in cuts], calm)
        if given.part != "cuts":
            links = list(LINKS)[:1] if given.small else LINKS
            _table(report, "link", [_bad(cluster, net["one"], link) for link in links], calm)
    report.show(_figure(report, calm))


def _figure(report: Report, calm: Outcome) -> Callable[[Path], None] | None:
    """Return what draws the cuts, where some were measured and all runs went to their end."""
    kept = {float(name.split()[1]): one for name, one in report.data.items() if name[:4] == "cut "}
    if len(kept) < 2 or any(one["status"] != 0 for one in kept.values()):
        return None
    costs = {length: max(0.0, one["longest"] - calm.typical) for length, one in kept.items()}
    return lambda path: drawing.cuts(costs, SPARE, path)


def _cut(cluster: HostCluster, host: Host, seconds: float) -> list[Any]:
    say(f"a worker's link is cut for {seconds:g} s in round 2")
    cluster.recover()
    return [f"{seconds:g} s", cluster.run(f"cut-{seconds:g}", lambda: host.cut_for(seconds))]


def _bad(cluster: HostCluster, host: Host, link: str) -> list[Any]:
    say(f"a worker's link: {link}")
    cluster.recover()
    host.shape(**LINKS[link])
    try:
        return [link, cluster.run(f"bad {link}".replace(" ", "-"))]
    finally:
        host.unshape()


def _table(report: Report, what: str, runs: list[list[Any]], calm: Outcome) -> None:
    rows = []
    for name, found in runs:
        report.data[f"{what} {name}"] = _kept(found)
        same = found.weights == calm.weights and found.weights is not None
        rows.append(
            [
                name,
                f"{max(0.0, found.longest - calm.typical):.1f} s" if found.status == 0 else "hangs",
                f"{1 / found.typical:.2f}" if found.status == 0 else "",
                "yes" if same else "no",
                found.summary.get("clients_lost"),
            ]
        )
    header = (what, "longest round, more", "rounds a second", "equal bits", "clients lost")
    report.table(header, rows)


def _kept(found: Outcome) -> dict[str, Any]:
    """Return what is kept of a run: when its lines came, and what it gave."""
    kept = ("weights_sha256", "clients_lost", "duration_s")
    summary = {name: value for name, value in found.summary.items() if name in kept}
    times = {"longest": found.longest, "typical": found.typical} if len(found.seconds) > 1 else {}
    return {**vars(found), **times, "said": None, "summary": summary}


if __name__ == "__main__":
    main()
