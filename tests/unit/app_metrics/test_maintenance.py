"""The files that the master reads, and bad ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gunicorn_prom_hooks.app_metrics import maintenance
from gunicorn_prom_hooks.app_metrics.reading.file_names import FileName
from gunicorn_prom_hooks.settings import Settings
from tests.helpers.app_metrics_setup import in_new_process, started

LEFT_OUT = "gunicorn_prom_hooks: application metrics: file '{file}' is left out: {reason}"


def reads(path: str, identities: list[str]) -> list[bool]:
    """Whether files of these identities are read."""
    metrics = started(Settings(multiproc_dir=path))[0]
    here = str(os.getpid())
    found = []
    for identity in identities:
        name = identity.replace("US", here)
        found.append(metrics._maintenance._reads(f"counter_{name}.db", FileName("counter", "", False, name)))
    metrics.close()
    return found


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        (True, {"m-US": True, "s3-US": True, "p5-US": True, "gone-US": True, "7-US": True, "DEAD": True, "US": True}),
        (True, {"m-DEAD": False, "s3-DEAD": False, "pDEAD-DEAD": False, "US-DEAD": False, "s3": True, "thing": True}),
        (False, {"m": True, "s3": True, "p7": True, "DEAD": True, "US": True, "m-DEAD": False}),
    ],
)
def test_files_of_another_server_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool, expected: dict[str, bool]
) -> None:
    """Files of this server and files with a number are read; those of another server are not."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    identities = [identity.replace("DEAD", str(2**30)) for identity in expected]
    found = in_new_process(reads, str(tmp_path) if shared else "", identities)
    assert dict(zip(expected, found, strict=True)) == expected


def bad_files(path: str, files: int, most: int) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """What is logged and counted after three collects."""
    maintenance.MAX_LOGGED = most  # type: ignore[misc]
    metrics, server, errors = started(Settings(multiproc_dir=path))
    for number in range(files):
        (Path(path) / f"counter_s{number}-{os.getpid()}.db").write_bytes(b"x")
    for _ in range(3):
        metrics.collect()
    counts = dict(errors.counts)
    metrics.close()
    return [(level, line.replace(f"-{os.getpid()}", "")) for level, line in server.log.lines], counts


@pytest.mark.parametrize(("files", "most", "told"), [(1, 1000, 1), (5, 1000, 5), (5, 2, 2)])
def test_bad_file_is_logged_once_and_counted_at_each_collect(tmp_path: Path, files: int, most: int, told: int) -> None:
    """Each file has one line, up to so many of them, and is counted at each collect."""
    lines, counts = in_new_process(bad_files, str(tmp_path), files, most)
    assert counts == {"app_metrics_file": 3 * files}
    assert len(lines) == len(set(lines)) == told
    possible = {("error", LEFT_OUT.format(file=f"counter_s{n}.db", reason="only 1 bytes")) for n in range(files)}
    assert set(lines) <= possible
