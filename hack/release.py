"""A release, all but publishing it: checks the tree, fills dist/, tells what would be pushed (`make release`).

The version stands in src/memop/__init__.py. What publishes is .github/workflows/release.yml, which a pushed tag starts
and which calls this with --tag.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress
from hack.tools import tool
from memop import __version__

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
# Both SemVer, as Helm wants it, and PEP 440, as Python does.
_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-(alpha|beta|rc)\.\d+)?")


def problems(root: Path, version: str, tag: str | None = None) -> Iterator[str]:
    """What keeps the checkout at `root` from being released as `version`; with `tag`, as that tag, which exists."""
    if _VERSION.fullmatch(version) is None:
        yield f"src/memop/__init__.py: {version} is neither X.Y.Z nor X.Y.Z-rc.N"
    expected = f"v{version}"
    tagged = _git(root, "tag", "--list", expected) != ""
    if tag is None and tagged:
        yield f"the tag {expected} exists: raise __version__ in src/memop/__init__.py"
    if tag is not None and tag != expected:
        yield f"the tag is {tag}, and src/memop/__init__.py says {version}"
    elif tag is not None and expected not in _git(root, "tag", "--points-at", "HEAD").split():
        yield f"HEAD is not {tag}"
    if not notes(root, version):
        yield f"CHANGELOG.md has no section, or an empty one: ## [{version}] - YYYY-MM-DD"
    if changed := _git(root, "status", "--porcelain"):
        yield f"uncommitted changes:\n{changed}"


def stale(root: Path) -> str:
    """The generated files that `make generate` changed in a clean checkout, as git lists them; they stay changed."""
    _run(["make", "--no-print-directory", "generate"], root, "make generate")
    return _git(root, "status", "--porcelain")


def notes(root: Path, version: str) -> str:
    """The section of `version` in the changelog, less its heading; empty when there is none."""
    text = (root / "CHANGELOG.md").read_text()
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    found = re.search(rf"{heading}\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def build(dist: Path, version: str, *, image: bool = True, archive: Path | None = None) -> None:
    """Fills `dist`: sdist, wheel, chart, install.yaml, the image's bill of materials (of `archive`, if given), sums."""
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    lock = ["--build-constraints", "hack/image/build.lock", "--require-hashes"]
    _run([".venv/bin/uv", "build", "--quiet", *lock, "--out-dir", dist], ROOT, "uv build")
    (dist / ".gitignore").unlink(missing_ok=True)  # uv's
    _run([tool("helm"), "package", "manifests/chart/memop", "--destination", dist], ROOT, "helm package")
    shutil.copyfile(ROOT / "manifests" / "install.yaml", dist / "install.yaml")
    if image:
        of: list[str | Path] = ["--archive", archive] if archive else []
        bill = dist / f"memop-{version}-image.cdx.json"
        _run([sys.executable, "-m", "hack.image", "sbom", *of, "--output", bill], ROOT, "hack.image sbom")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(dist.iterdir())]
    (dist / "SHA256SUMS").write_text("".join(sums))


def plan(dist: Path, version: str) -> str:
    """What a real release publishes, and where."""
    names = yaml.safe_load(WORKFLOW.read_text())["env"]
    files = "".join(f"  {path.name}, {path.stat().st_size / 2**10:.0f} KiB\n" for path in sorted(dist.iterdir()))
    return (
        f"{dist.name}/ has what the GitHub release v{version} would:\n{files}"
        f"and {names['PLATFORMS']} images would be pushed, with provenance and bill of materials, and signed:\n"
        f"  {names['IMAGE']}:{version}\n"
        f"  oci://{names['CHARTS']}/memop:{version}\n"
        "SHA256SUMS would be signed, and the site published. To do it:\n"
        f"  git tag --sign v{version} --message v{version} && git push origin v{version}\n"
    )


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def _run(command: Sequence[str | Path], cwd: Path, what: str) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{what} failed:\n{done.stdout.strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.release", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["build", "notes"], default="build", help="notes: print them")
    parser.add_argument("--tag", help="the tag that is released; without it none may exist for the version")
    image = parser.add_mutually_exclusive_group()
    image.add_argument("--image-archive", type=Path, metavar="FILE", help="bill of materials of this docker-archive")
    image.add_argument("--no-image", action="store_true", help="no bill of materials; a build of the image needs root")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.command == "notes":
        print(notes(ROOT, __version__))
        return 0
    progress = Progress()
    try:
        with progress.phase(f"memop {__version__}", "checked"):
            found = list(problems(ROOT, __version__, arguments.tag))
            if not found and (changed := stale(ROOT)):
                found = [f"generated files were not current; commit what `make generate` made of them:\n{changed}"]
        if found:
            print("not releasable:\n" + "\n".join(f"- {problem}" for problem in found), file=sys.stderr)
            return 1
        dist = ROOT / "dist"
        with progress.phase("dist", "built", spinner=False):
            build(dist, __version__, image=not arguments.no_image, archive=arguments.image_archive)
    except ClusterError as error:
        print(error.render(), file=sys.stderr)
        return 1
    print(plan(dist, __version__), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
