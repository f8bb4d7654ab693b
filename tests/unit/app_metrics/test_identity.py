"""Identities in the names of the files: of the master, workers and forked processes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from gunicorn_prom_hooks.app_metrics.identity import Identity, Owner, owner
from tests.helpers.app_metrics_setup import in_new_process
from tests.helpers.forks import in_fork


def family_tree(suffix: str) -> dict[str, Any]:
    claims = 0

    def claim() -> str:
        nonlocal claims
        claims += 1
        return f"p{os.getpid()}{suffix}"

    identity = Identity(suffix, claim)

    def myself() -> list[str]:
        assert claims == 0
        assert identity() == identity()
        assert claims == 1
        return [identity(), f"p{os.getpid()}{suffix}"]

    def worker() -> dict[str, Any]:
        nonlocal claims
        first = identity()
        claims = 0
        identity.become_worker(12)
        return {
            "before": [first, f"p{os.getpid()}{suffix}"],
            "is": identity(),
            "child": in_fork(myself),
            "grandchild": in_fork(lambda: in_fork(myself)),
            "after": identity(),
        }

    return {
        "master": identity(),
        "child": in_fork(myself),
        "worker": in_fork(worker),
        "master after": identity(),
        "of slot": identity.of_slot(7),
        "of number": identity.of_number(8),
        "claims": claims,
    }


@pytest.mark.parametrize("suffix", ["", "-4242"])
def test_identities_of_master_workers_and_forked_processes_differ(suffix: str) -> None:
    """Master and worker have their own; a forked process claims one when it first needs it, and only once."""
    found = in_new_process(family_tree, suffix)
    worker = found.pop("worker")
    assert found.pop("child")[0].startswith("p")
    assert found == {
        "master": f"m{suffix}",
        "master after": f"m{suffix}",
        "of slot": f"s7{suffix}",
        "of number": f"p8{suffix}",
        "claims": 0,
    }
    assert worker["is"] == worker["after"] == f"s12{suffix}"
    for who in ("before", "child", "grandchild"):
        identity, expected = worker[who]
        assert identity == expected
    assert worker["child"] != worker["grandchild"] != worker["before"]


@pytest.mark.parametrize(
    ("identity", "kind", "number", "master"),
    [
        ("s0", "s", 0, None),
        ("s0-12", "s", 0, 12),
        ("s317-4194304", "s", 317, 4194304),
        ("m", "m", None, None),
        ("m-12", "m", None, 12),
        ("gone", "gone", None, None),
        ("gone-12", "gone", None, 12),
        ("p34", "p", 34, None),
        ("p34-12", "p", 34, 12),
        ("34", "", 34, None),
        ("34-12", "", 34, 12),
        *((garbage, None, None, None) for garbage in ("", "p", "s", "-12", "p-12", "s-12", "m3", "m3-12", "gone3")),
        *((garbage, None, None, None) for garbage in ("x34", "s0-", "p34-x", "p34-12-5", "34 ", "34\n", "p+34", "sp3")),
        *(
            (garbage, None, None, None)
            for garbage in ("p٣٤", "٣٤", "s0-١٢", "p³", "p34-۱۲", "P34", "p3.4", "p0x2", "worker_8", "visits")
        ),
    ],
)
def test_owner_of_an_identity_is_its_kind_number_and_master_or_none(
    identity: str, kind: str | None, number: int | None, master: int | None
) -> None:
    """What kind of process it is, its number, and the master's pid if it is told; else nothing."""
    assert owner(identity) == Owner(kind, number, master)


def test_owner_parses_every_identity_that_is_generated() -> None:
    """What we call processes is what we read of the names."""
    identity = Identity("-12", lambda: "p5-12")
    assert owner(identity()) == Owner("m", None, 12)
    assert owner(identity.of_slot(3)) == Owner("s", 3, 12)
    identity._forked()
    assert owner(identity()) == owner(identity.of_number(5)) == Owner("p", 5, 12)
