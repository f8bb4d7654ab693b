"""Which users may write to a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gunicorn_prom_hooks.cli.check.config_files import may_write

OTHER = 54_321
"""A user and a group that own nothing."""


@pytest.mark.parametrize(
    ("mode", "owner", "group", "others"),
    [(0o700, True, False, False), (0o770, True, True, False), (0o777, True, True, True), (0o077, False, True, True)],
)
def test_mode_decides_which_users_may_write(tmp_path: Path, mode: int, owner: bool, group: bool, others: bool) -> None:
    """Another user than that of this process is judged by owner, group and mode."""
    tmp_path.chmod(mode)
    uid, gid = tmp_path.stat().st_uid, tmp_path.stat().st_gid
    assert may_write(str(tmp_path), OTHER, OTHER) == others
    assert may_write(str(tmp_path), OTHER, gid) == group
    if uid == os.geteuid():
        assert may_write(str(tmp_path), uid, gid) == (owner or uid == 0)


def test_root_may_write_everywhere(tmp_path: Path) -> None:
    """The user 0 may write to a directory of any mode."""
    tmp_path.chmod(0o500)
    assert may_write(str(tmp_path), 0, 0)
