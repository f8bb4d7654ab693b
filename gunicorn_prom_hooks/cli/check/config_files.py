"""The directories that a configuration names, checked without writing to them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ...settings import Settings, named_directory
from ..findings import Finding
from .config_ports import unix_folders

_LOG_FILES: Final = ("accesslog", "errorlog")


def check_directories(cfg: Any, settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each directory that cannot be written.

    Args:
        cfg: gunicorn's.
        settings: of this package.
    """
    if settings.app_metrics:
        yield from _check_app_metrics(cfg, settings)
    if cfg.worker_tmp_dir:
        yield from _check(cfg.worker_tmp_dir, "worker_tmp_dir", "No worker could start", cfg.uid, cfg.gid)
    if cfg.pidfile:
        yield from _check(_folder(cfg.pidfile), "the folder of pidfile", "gunicorn would not start")
    for name in _LOG_FILES:
        path = getattr(cfg, name)
        if path not in (None, "", "-"):
            yield from _check(_folder(path), f"the folder of {name}", "gunicorn would not start")
    for folder in unix_folders(cfg):
        yield from _check(folder, "the folder of a Unix socket in bind", "gunicorn would not start")


def _check_app_metrics(cfg: Any, settings: Settings) -> Iterator[Finding]:
    named = named_directory(cfg.env) or named_directory()
    path = named if settings.multiproc_dir is None else settings.multiproc_dir
    effect = "The application's own metrics would be missing"
    if path:
        existing = Path(os.path.abspath(path))
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        # One that is missing is made, and given to the user of the workers.
        ids = (cfg.uid, cfg.gid) if existing == Path(os.path.abspath(path)) else (None, None)
        yield from _check(str(existing), f"the directory of the application's metrics, {path!r}:", effect, *ids)
    elif settings.port:
        try:
            tempfile.gettempdir()
        except FileNotFoundError as error:
            yield Finding(f"there is no directory for temporary files: {error.strerror}", f"{effect}: set TMPDIR")


def _check(path: str, name: str, effect: str, uid: int | None = None, gid: int | None = None) -> Iterator[Finding]:
    if not os.path.isdir(path):
        yield Finding(f"{name} {path!r} is not a directory", f"{effect}: make it, or name another one")
    elif not may_write(path, os.geteuid(), os.getegid()):
        yield Finding(f"{name} {path!r} cannot be written by this user", f"{effect}: change its owner or its mode")
    elif uid is not None and gid is not None and not may_write(path, uid, gid):
        yield Finding(f"{name} {path!r} cannot be written by user {uid}", f"{effect}: change its owner or its mode")


def may_write(path: str, uid: int, gid: int) -> bool:
    """Return whether this user may make files in a directory."""
    if uid == os.geteuid():
        return os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if uid == 0:
        return True
    found = os.stat(path)
    both = stat.S_IWOTH | stat.S_IXOTH
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return (found.st_mode >> shift) & both == both


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
