"""Takes out of a directory of installed distributions what memop never loads, and compiles the rest.

A step of the image's build (Dockerfile), where there is the standard library alone: `python3 prune.py DIRECTORY`.
"""

from __future__ import annotations

import compileall
import csv
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from py_compile import PycInvalidationMode

# Whole distributions, by whose wish they are in the lock. tests/unit/hack/test_prune.py runs memop without them.
LEFT_OUT = {
    "certifi": "kubernetes_asyncio's generated client",
    "python-dateutil": "kubernetes_asyncio's generated client",
    "six": "kubernetes_asyncio's generated client",
    "tzdata": "python-dateutil; the base has Debian's",
    "urllib3": "kubernetes_asyncio's generated client",
    "markdown-it-py": "rich, for Markdown",
    "mdurl": "markdown-it-py",
    "pygments": "rich, for source code",
}
# Of these packages only these parts; `memop.client` reads configuration with kubernetes_asyncio and asks with aiohttp.
KEPT_PARTS = {"kubernetes_asyncio": {"__init__.py", "config"}}
_MODULES = (".py", ".so")
_DIRECTORIES = ("__pycache__", "test", "tests")
_FOR_COMPILERS = (".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx")
SITE = "/usr/local/lib/python3.11/dist-packages"  # where the Dockerfile puts the directory


def prune(site: Path) -> None:
    """Leaves source, for tracebacks, and a .pyc of each that is never checked against it: the root is read-only."""
    for path in [*unwanted(site)]:
        _remove(path)
    for directory in sorted((path for path in site.rglob("*") if path.is_dir()), reverse=True):
        if not any(directory.iterdir()):
            directory.rmdir()
    for distribution in distributions(path=[str(site)]):
        _correct_record(distribution, site)
    compiled = compileall.compile_dir(
        site, quiet=1, stripdir=str(site), prependdir=SITE, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not compiled:
        raise SystemExit(f"{site}: not everything compiles")


def unwanted(site: Path) -> Iterator[Path]:
    """Files and directories; some may lie in others."""
    for distribution in distributions(path=[str(site)]):
        if distribution.name.lower() in LEFT_OUT:
            yield from _files(distribution, site)
    for package, parts in KEPT_PARTS.items():
        yield from (path for path in (site / package).glob("*") if path.name not in parts)
    # What wheels have beside their packages: commands, a README.
    yield from (
        path for path in site.glob("*") if path.name == "bin" or (path.is_file() and path.suffix not in _MODULES)
    )
    for path in site.rglob("*"):
        if path.name in _DIRECTORIES or path.suffix in _FOR_COMPILERS or path.match("*_test.py"):
            yield path


def _files(distribution: Distribution, site: Path) -> list[Path]:
    """What is there of it; RECORD also names commands, in directories that `--target` has elsewhere."""
    paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    return [path for path in paths if path.exists() and path.resolve().is_relative_to(site.resolve())]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _correct_record(distribution: Distribution, site: Path) -> None:
    """RECORD lists what is there, for scanners and for the image's own test."""
    left = {str(path.relative_to(site)) for path in _files(distribution, site)}
    record = next(site / name for name in left if name.endswith(".dist-info/RECORD"))
    rows = [row for row in csv.reader(record.read_text().splitlines()) if row[0] in left]
    with record.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    prune(Path(sys.argv[1]))
