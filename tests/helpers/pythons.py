"""Gets interpreters that are missing, from Debian, into ``.pythons``: ``make pythons``. Needs no root, and no chroot.

Newer versions come as Debian's packages with their own C library, unpacked into a folder. Free-threaded ones are built
from Debian's source package. apt verifies the signatures of both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.helpers.interpreters import BUILT, WANTED, interpreters

MIRROR: Final = os.environ.get("MIRROR", "http://deb.debian.org/debian")
SUITE: Final = os.environ.get("SUITE", "forky")
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
TOOLS: Final = ("apt-get", "dpkg-deb", "patchelf", "make", "cc")


def apt(*arguments: str, cwd: Path) -> None:
    """Run apt-get with lists and packages of its own, for a system on which nothing is installed."""
    state = BUILT / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    kinds = "".join(f"{kind} [signed-by={KEYRING}] {MIRROR} {SUITE} main\n" for kind in ("deb", "deb-src"))
    (state / "sources.list").write_text(kinds)
    options = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    subprocess.run(["apt-get", "-q", *given, *arguments], check=True, cwd=cwd)


def unpack(version: str) -> None:
    """Get an interpreter as packages. It starts with the C library that it was built for."""
    root = BUILT / version
    archives = BUILT / "apt" / "cache" / "archives"
    for old in archives.glob("*.deb"):
        old.unlink()
    apt("-y", "--no-install-recommends", "--download-only", "install", f"python{version}-venv", cwd=BUILT)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
    (loader,) = (root / "usr").glob("lib64/ld-linux*.so.*")
    library = loader.resolve().parent
    executable = root / "usr" / "bin" / f"python{version}"
    patch = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(library)]
    subprocess.run(["patchelf", *patch, str(executable)], check=True)


def build(version: str) -> None:
    """Build a free-threaded interpreter."""
    sources = BUILT / "apt" / "sources" / version
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    apt("source", "--download-only", f"python{version.rstrip('t')}", cwd=sources)
    (archive,) = sources.glob("*.orig.tar.xz")
    subprocess.run(["tar", "-xf", archive.name, "--strip-components=1"], check=True, cwd=sources)
    prefix = f"--prefix={BUILT / version}"
    subprocess.run(["./configure", "-q", "--disable-gil", prefix], check=True, cwd=sources)
    subprocess.run(["make", "-s", f"-j{os.cpu_count()}"], check=True, cwd=sources)
    subprocess.run(["make", "-s", "install"], check=True, cwd=sources)


def main() -> int:
    """Get what is missing. Return 1 if one cannot be had; the others are there all the same."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        print("missing tools:", ", ".join(absent))  # noqa: T201 - its report
        return 1
    found = interpreters()
    failed = []
    missing = [version for version in WANTED if version not in found]
    if missing:
        BUILT.mkdir(exist_ok=True)
        apt("update", cwd=BUILT)
    for version in missing:
        try:
            (build if version.endswith("t") else unpack)(version)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            failed.append(version)
            print(f"{version}: {error}")  # noqa: T201 - its report
    found = interpreters()
    print("\n".join(f"{version}: {found.get(version, 'not found')}" for version in WANTED))  # noqa: T201 - its report
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
