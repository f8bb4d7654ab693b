"""Run the soak: ``python -m tests.soak --seed 7 --minutes 10 --worker-class gthread``."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from tests.helpers.servers import unused_port
from tests.soak.compare import more_failures
from tests.soak.plan import WORKER_CLASSES, Plan, make_plan
from tests.soak.run import Ports, Result, run

AROUND = 16.0
"""Seconds that a run takes beside its faults: start, last faults, end."""
SHORTEST = 10.0
MOST_PROBLEMS = 20
"""That are printed of each run."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say. Return 1 if anything was found."""
    options = _options(arguments)
    workers = options.worker_class or list(WORKER_CLASSES)
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    batches = -(-len(workers) // options.at_once)
    seconds = options.seconds or max(SHORTEST, options.minutes * 60.0 / batches - AROUND)
    plans = [make_plan(seed, worker, seconds) for worker in workers]
    print(f"seed {seed}: {seconds:.0f} s of faults for each of {', '.join(workers)}", flush=True)
    if options.plan or len(plans) == 1:
        print("\n".join(map(str, plans)), flush=True)
    if options.plan:
        return 0
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    bad = False
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2 * options.at_once, mp_context=spawn) as pool:
        runs: list[tuple[Plan, Future[Result], Future[Result]]] = []
        for plan in plans:
            ports, bare = Ports(unused_port(), unused_port(), unused_port()), Ports(unused_port(), None, unused_port())
            runs.append(
                (
                    plan,
                    pool.submit(run, plan, folder / plan.worker, ports),
                    pool.submit(run, plan, folder / f"{plan.worker}-bare", bare),
                )
            )
        for plan, ours, bare_run in runs:
            bad |= _report(plan, ours.result(), bare_run.result())
    if bad:
        print(f"logs: {folder}", flush=True)
    elif options.keep:
        print(f"no problems; logs: {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return int(bad)


def _report(plan: Plan, result: Result, bare: Result) -> bool:
    """Print what a run has shown. Return whether anything was found."""
    problems = [*result.problems]
    # A bare server that fails under this plan shows a plan that is too hard, or a fault of the soak.
    problems += [f"without this package: {problem}" for problem in bare.problems]
    problems += more_failures(result.failures, result.requests, bare.failures, bare.requests)
    figures = {name: f"{value:,.1f}" for name, value in result.figures.items()}
    print(
        f"{plan.worker}: {result.requests:,} requests, {result.failures.total()} failed {dict(result.failures)}; "
        f"without this package {bare.requests:,}, {bare.failures.total()} {dict(bare.failures)}\n"
        f"  faults: {', '.join(f'{number} {name}' for name, number in sorted(result.done.items()))}\n"
        f"  {', '.join(f'{name} {value}' for name, value in figures.items())}",
        flush=True,
    )
    for fault, reason in result.skipped.items():
        print(f"  skipped {fault}: {reason}", flush=True)
    found = Counter(problems)
    for problem, times in list(found.items())[:MOST_PROBLEMS]:
        print(f"  PROBLEM {problem}{f' ({times} times)' if times > 1 else ''}", flush=True)
    if len(found) > MOST_PROBLEMS:
        print(f"  and {len(found) - MOST_PROBLEMS} more", flush=True)
    if problems:
        command = f"python -m tests.soak --seed {plan.seed} --seconds {plan.seconds:g} --worker-class {plan.worker}"
        print(f"  FAILED {plan.worker}, seed {plan.seed}: {problems[0]}; replay: {command}", flush=True)
    return bool(problems)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the plan and of the clients; default: a random one")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all kinds of workers together; default 10")
    parser.add_argument("--seconds", type=float, help="of faults for each kind of worker, instead of --minutes")
    parser.add_argument("--worker-class", action="append", choices=list(WORKER_CLASSES), help="default: all")
    parser.add_argument("--at-once", type=int, default=2, help="kinds of workers at a time; default 2")
    parser.add_argument("--plan", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run without problems")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    sys.exit(main())
