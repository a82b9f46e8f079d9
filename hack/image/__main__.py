"""Command line of the image: `python -m hack.image --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from hack.cluster.__main__ import main as cluster_command
from hack.cluster.binaries import architecture
from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress
from hack.image.archive import Image, open_image
from hack.image.build import ARCHITECTURES, build
from hack.image.sbom import bill

_LARGEST = 5


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--platform",
        choices=[f"linux/{name}" for name in ARCHITECTURES],
        help="default: this machine's; another is built without an emulator, and cannot be run here",
    )
    common.add_argument("--builder-image", metavar="IMAGE", help="from a registry; default: made here, of Debian")
    common.add_argument("--runtime-image", metavar="IMAGE", help="from a registry; default: made here, of Debian")
    root = argparse.ArgumentParser(prog="python -m hack.image", description="memop's image, built with buildah.")
    commands = root.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", parents=[common], help="build it, unless that is done; say what is in it")
    make.add_argument("--load", metavar="CLUSTER", help="import it into the test cluster of that name")
    list_ = commands.add_parser("sbom", parents=[common], help="write its bill of materials, CycloneDX JSON")
    list_.add_argument("--archive", type=Path, help="of this docker-archive instead, e.g. from `docker save`")
    list_.add_argument("--output", type=Path, help="a file; default: standard output")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    progress = Progress(Console(highlight=False, soft_wrap=True, stderr=True))
    try:
        archive = getattr(arguments, "archive", None) or _build(arguments, progress)
        with open_image(archive) as image:
            if arguments.command == "sbom":
                text = json.dumps(bill(image), indent=2) + "\n"
                if arguments.output:
                    arguments.output.write_text(text)
                else:
                    sys.stdout.write(text)
                return 0
            print("\n".join([*summary(image), f"archive: {archive}"]))
        return cluster_command(["load-image", "--name", arguments.load, str(archive)]) if arguments.load else 0
    except ClusterError as error:
        print(error.render(), file=sys.stderr)
        return 1


def _build(arguments: argparse.Namespace, progress: Progress) -> Path:
    name = arguments.platform.removeprefix("linux/") if arguments.platform else architecture()
    return build(name, progress, builder=arguments.builder_image, runtime=arguments.runtime_image)


def summary(image: Image) -> Iterator[str]:
    """Sizes of the image and its layers, and what takes most of each."""
    sizes = [(layer.size(), layer.compressed_size()) for layer in image.layers]
    platform = f"{image.config['os']}/{image.config['architecture']}"
    plain, packed = map(sum, zip(*sizes, strict=True))
    yield f"{', '.join(image.tags)} {platform}: {_sizes(plain, packed)}"
    for number, (layer, (size, compressed)) in enumerate(zip(image.layers, sizes, strict=True)):
        rooms: Counter[str] = Counter()
        for path, (owner, member) in image.files.items():
            if owner is layer:
                rooms[_room(path)] += member.size
        largest = ", ".join(f"{name} {_mib(taken)}" for name, taken in rooms.most_common(_LARGEST))
        yield f"  layer {number}: {_sizes(size, compressed)}: {largest} …"
    parts = bill(image)["components"]
    python = [part for part in parts if "pkg:deb/" not in part["purl"]]
    yield f"  {len(python)} Python distributions: {', '.join(part['name'] for part in python)}"
    yield f"  {len(parts) - len(python)} Debian packages"


def _room(path: str) -> str:
    """The Python package, or the directory, that a file belongs to."""
    _, _, inside = path.partition("dist-packages/")
    return inside.split("/")[0] if inside else "/".join(path.split("/")[:3])


def _sizes(plain: int, compressed: int) -> str:
    return f"{_mib(plain)} MiB, {_mib(compressed)} MiB compressed"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


if __name__ == "__main__":
    sys.exit(main())
