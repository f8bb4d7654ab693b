"""Measures all sections, or those that are named, and writes the report: ``python -m benchmarks``.

The results of the sections take the place of their former ones in ``docs/benchmarks.json``, and the document and the
figures in the other pages are written anew. With ``--quick`` everything goes to ``dist/benchmarks`` instead.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks import document, results
from benchmarks.machine import cores
from benchmarks.options import Options
from benchmarks.results import Result, run_of
from benchmarks.sections import SECTIONS
from benchmarks.server import TOP
from benchmarks.variants import WORKERS


def main() -> None:
    """Measure and write."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of: {', '.join(names)}; none: all")
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument("--rounds", type=int, help="in place of each section's own number")
    parser.add_argument("--workers", nargs="+", default=[], choices=[worker.name for worker in WORKERS])
    parser.add_argument("--into", type=Path, help="a folder for results and document, in place of docs")
    parser.add_argument("--write", action="store_true", help="measure nothing, write the document")
    given = parser.parse_args()
    unknown = set(given.sections) - set(names)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if given.workers and not given.quick and given.into is None:
        parser.error("--workers is for --quick or --into: the report has all of them")
    into = given.into or (TOP / "dist" / "benchmarks" if given.quick else None)
    file = (into or TOP / "docs") / "benchmarks.json"
    options = Options(given.quick, given.rounds, tuple(given.workers))
    measured = [] if given.write else given.sections or names
    found = results.load(file, without=measured)
    whole = time.monotonic()
    everywhere = os.sched_getaffinity(0)
    for section in SECTIONS:
        if section.name not in measured:
            continue
        print(f"{section.name}: {section.title}", flush=True)
        start = time.monotonic()
        figures = section.measure(options)
        seconds = time.monotonic() - start
        found[section.name] = Result(run_of(seconds, options), figures)
        results.save(found, file)
        print(f"  {seconds:.0f} s", flush=True)
    print(f"{time.monotonic() - whole:.0f} s in all, on cores {sorted(everywhere)}; server and load on {cores()}")
    missing = [name for name in names if name not in found]
    if missing:
        print(f"no document: there are no results of {', '.join(missing)}")
        return
    document.write(results.load(file), into)
    print(f"written: {(into or TOP / 'docs') / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
