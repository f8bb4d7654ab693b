"""Damaged files of every kind beside good ones: nothing raises, nothing hangs, nothing good is lost."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.helpers.app_metrics import Process, Reader, rows

SEEDS = [1, 2, 3, 4, 5]
DAMAGED = 1000
PREFIXES = ["counter", "histogram", "gauge_sum", "gauge_all", "gauge_liveall", "gauge_mostrecent", "gauge_livemin"]
FOREIGN = ["x.db", "counter.db", ".db", "gauge_.db", "gauge_x_1.db", "info_1.db", "COUNTER_1.db", "counter_1.db.bak"]
SECONDS = 20.0


def good_files(folder: Path) -> dict[str, bytes]:
    """Files of several processes, by name."""
    for identity in ("good1", "good2"):
        process = Process(folder, identity)
        for number, kind in enumerate(("counter", "histogram", "sum", "all", "liveall", "mostrecent", "livemin")):
            for label in ("", "é", "😀\n", "x" * 50):
                process.record(kind, f"metric_{kind}", {"label": label, "process": identity}, number + 0.5)
        process.close()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The data with some damage, or none at all."""
    used = int.from_bytes(data[:4], "little")
    kind = chance.randrange(6)
    if kind == 0:
        return data[: chance.randrange(used)]
    if kind == 1:
        return chance.randbytes(chance.randrange(200))
    if kind == 2:
        return chance.choice([b"", bytes(8), bytes(100), data[:8] + bytes(used), b"\xff" * 100, data[8:]])
    if kind == 3:
        return chance.randrange(used + 30).to_bytes(4, "little") + data[4:]
    raw = bytearray(data[:used])
    for _ in range(chance.randrange(1, 4)):
        raw[chance.randrange(used)] ^= 1 << chance.randrange(8) if kind == 4 else chance.randrange(1, 256)
    return bytes(raw)


def no_file(path: Path, chance: random.Random) -> None:
    """Something that is no file, or cannot be opened."""
    kind = chance.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    else:
        path.symlink_to("/dev/zero")


def fails_theirs(path: Path) -> bool:
    """Whether prometheus_client fails on this file."""
    try:
        for family in MultiProcessCollector.merge([str(path)]):  # type: ignore[no-untyped-call]
            generate_latest(Fixed([family]))
    except UnicodeEncodeError:  # of lone surrogates, for which we do better
        return False
    except Exception:  # noqa: BLE001 - it may be anything
        return True
    return False


class Fixed:
    """Families as a collector."""

    def __init__(self, families: Any) -> None:
        self._families = families

    def collect(self) -> Any:
        return self._families


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_are_reported_and_all_others_are_merged(tmp_path: Path, seed: int) -> None:
    """Each file that prometheus_client fails on is told; all others are merged as it would, and in bounded time."""
    chance = random.Random(seed)
    good = good_files(tmp_path)
    whole = [name for name in good if "good1" in name]
    no_files = set()
    for number in range(DAMAGED):
        name = chance.choice(whole).replace("good1", f"{number}\udcff" if number % 100 == 7 else f"{number}")
        if chance.randrange(20) == 0:
            no_file(tmp_path / name, chance)
            no_files.add(name)
        else:
            (tmp_path / name).write_bytes(damaged(good[chance.choice(whole)], chance))
            os.utime(tmp_path / name, (0.0, 0.0))  # those without size are that for long
    for name in FOREIGN:
        (tmp_path / name).write_bytes(b"garbage")

    reader = Reader(tmp_path)
    start = time.process_time()
    page = generate_latest(reader)
    families = reader.collect()
    took = time.process_time() - start
    assert took < SECONDS / len(SEEDS)
    assert page

    bad = {os.fsencode(name).replace(b"\xff", b"?").decode(): name for name in os.listdir(tmp_path)}
    told = {bad[name] for name in reader.bad}
    assert not told & set(good)
    assert not told & set(FOREIGN)
    assert no_files <= told
    rest = [tmp_path / name for name in os.listdir(tmp_path) if name not in no_files and name not in FOREIGN]
    failing = {path.name for path in rest if fails_theirs(path)}
    assert failing <= told
    assert len(failing) > DAMAGED / 4
    merged = [str(path) for path in rest if path.name not in told]
    assert len(merged) > len(good) + DAMAGED / 20
    assert rows(families) == rows(MultiProcessCollector.merge(merged))  # type: ignore[no-untyped-call]


def test_file_damaged_between_collects_leaves_other_files_complete(tmp_path: Path) -> None:
    """Whatever is written over a file from one collect to the next, the good ones stay complete and it never raises."""
    good = good_files(tmp_path)
    victims = [name for name in good if "good2" in name]
    reader = Reader(tmp_path)
    whole = reader.rows()
    chance = random.Random(0)
    told = 0
    for _ in range(400):
        victim = chance.choice(victims)
        (tmp_path / victim).write_bytes(damaged(good[victim], chance))
        os.utime(tmp_path / victim, (0.0, 0.0))
        found = rows(reader.collect())
        told += len(reader.bad)
        assert reader.bad.keys() <= {victim}
        left = [str(tmp_path / name) for name in os.listdir(tmp_path) if name not in reader.bad]
        assert not fails_theirs(tmp_path / victim) or victim in reader.bad
        assert found == rows(MultiProcessCollector.merge(left))  # type: ignore[no-untyped-call]
        (tmp_path / victim).write_bytes(good[victim])
        assert reader.rows() == whole
    assert told > 100
