"""Writes ``docs/benchmarks.md``, its pictures, and the figures in other pages from the results.

The text stands in ``benchmarks/templates``. Numbers are only inserted. In another page the figures stand between two
lines of comment, which name the template: ``<!-- benchmarks: NAME -->`` and ``<!-- /benchmarks -->``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks import pictures
from benchmarks.boots import RELOAD_SECONDS, AllBoots, Booted
from benchmarks.peers import Peer, Peers
from benchmarks.results import Results, Run
from benchmarks.scrapes import GOAL
from benchmarks.sections import SECTIONS
from benchmarks.server import TOP
from benchmarks.spread import Spread, differences, ratios, spread
from benchmarks.turns import CLIENTS
from benchmarks.variants import BARE

DOCS = TOP / "docs"
PAGES = ("README.md", "docs/design.md", "docs/metrics.md")
"""Pages that have figures of the results."""
BLOCK = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A peer beside the bare server of its rounds."""

    peer: Peer
    cpu: Spread
    more: Spread
    ratio: Spread
    throughput: Spread
    throughput_ratio: Spread
    p99: Spread
    p99_ratio: Spread
    requests: int


def row(peer: Peer, bare: Peer) -> Row:
    """Return a peer's figures, with ratios to bare in the same round."""
    cpu, bare_cpu = ([one.cpu for one in of.rounds] for of in (peer, bare))
    throughput, bare_throughput = ([one.throughput for one in of.rounds] for of in (peer, bare))
    p99, bare_p99 = ([one.p99 for one in of.rounds] for of in (peer, bare))
    return Row(
        peer,
        spread(cpu),
        differences(cpu, bare_cpu),
        ratios(cpu, bare_cpu),
        spread(throughput),
        ratios(throughput, bare_throughput),
        spread(p99),
        ratios(p99, bare_p99),
        sum(one.requests for one in peer.rounds),
    )


def rows(peers: Peers) -> dict[str, dict[str, list[Row]]]:
    """Return the rows by kind of worker and by group. Each group begins with bare."""
    found: dict[str, dict[str, list[Row]]] = {}
    bare: Peer | None = None
    for peer in peers.peers:
        if peer.variant == BARE:
            bare = peer
        if bare is None:
            raise ValueError("the first of a group is not bare")
        found.setdefault(peer.worker, {}).setdefault(peer.group, []).append(row(peer, bare))
    return found


def boots(found: AllBoots) -> list[dict[str, Any]]:
    """Return the rows of starts and reloads."""
    return [
        {
            "booted": booted,
            "reload": spread(reloads) if reloads else None,
            "hung": len(booted.rounds) - len(reloads),
            **{
                name: spread([getattr(one, name) for one in booted.rounds])
                for name in ("start", "boot_cpu", "worker_memory", "master_memory")
            },
        }
        for booted in found.booted
        for reloads in [[one.reload for one in booted.rounds if one.reload is not None]]
    ]


def boots_of(found: AllBoots, group: str, variant: str, *, preload: bool) -> Booted:
    """Return the rounds of that variant."""
    [booted] = [one for one in found.booted if (one.group, one.variant, one.preload) == (group, variant, preload)]
    return booted


def around(figures: Spread, digits: int = 1) -> str:
    """Return the median, and the quartiles in brackets if there are any."""
    text = f"{figures.median:,.{digits}f}"
    return text if figures.is_single else f"{text} ({figures.low:,.{digits}f} to {figures.high:,.{digits}f})"


def decimal(value: float, digits: int = 1) -> str:
    """Return a number with so many digits behind the point."""
    return f"{value:,.{digits}f}"


def least_and_most(values: Sequence[float], digits: int = 0) -> str:
    """Return the least and the greatest of these numbers."""
    least, most = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return least if least == most else f"{least} to {most}"


def costs(results: Results, workers: Sequence[str]) -> list[float]:
    """Return the microseconds of CPU per request that the hooks take in these kinds of workers."""
    return [
        case.cost("hooks").more.median
        for case in results["turns"].figures.cases
        if case.worker.partition(",")[0] in workers
    ]


def shares(results: Results, workers: Sequence[str]) -> list[float]:
    """Return these costs as percent of the bare request."""
    return [
        case.cost("hooks").ratio.median * 100 - 100
        for case in results["turns"].figures.cases
        if case.worker.partition(",")[0] in workers
    ]


def environment(results: Results) -> Environment:
    """Return what fills the templates."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    made.filters |= {"around": around, "decimal": decimal, "least_and_most": least_and_most}
    runs: dict[str, Run] = {name: result.run for name, result in results.items()}
    made.globals |= {
        **{("loop_figures" if name == "loop" else name): result.figures for name, result in results.items()},
        "runs": runs,
        "machines": machines(runs),
        "sections": SECTIONS,
        "rows": rows(results["peers"].figures),
        "boot_rows": boots(results["boots"].figures),
        "boots_of": lambda *given, preload=False: boots_of(results["boots"].figures, *given, preload=preload),
        "goal": results["scrapes"].figures.at(*GOAL),
        "reload_seconds": RELOAD_SECONDS,
        "clients": CLIENTS,
        "spread": spread,
        "ratios": ratios,
        "differences": differences,
        "costs": lambda *workers: costs(results, workers),
        "shares": lambda *workers: shares(results, workers),
    }
    return made


def machines(runs: dict[str, Run]) -> list[tuple[Any, list[str]]]:
    """Return each machine with its versions, and the sections that ran there."""
    found: list[tuple[Any, list[str]]] = []
    for name, run in runs.items():
        for machine, names in found:
            if machine == run.machine:
                names.append(name)
                break
        else:
            found.append((run.machine, [name]))
    return found


def document(results: Results) -> str:
    """Return the text of ``docs/benchmarks.md``."""
    return environment(results).get_template("benchmarks.md").render()


def with_figures(page: str, results: Results) -> str:
    """Return a page with the figures between its comments written anew."""
    made = environment(results)
    return BLOCK.sub(lambda found: found[1] + made.get_template(f"{found[2]}.md").render() + found[3], page)


def write(results: Results, into: Path | None) -> None:
    """Write document and pictures, into this folder or else into docs, and then the figures in the other pages, too."""
    folder = into or DOCS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(document(results))
    pictures.draw(results, rows(results["peers"].figures), folder)
    for name in PAGES if into is None else ():
        page = TOP / name
        page.write_text(with_figures(page.read_text(), results))
