"""The command line: `memop run`, `memop crds`, `memop convert` and `memop status`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from memop import __version__
from memop.errors import ConfigurationError, LeadershipLost, MemopError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed or lost the Lease, 2 unusable flags, kubeconfig or manifest, 3 something was lost."""
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.do(arguments))
    except ConfigurationError as error:
        print(f"memop: {error}", file=sys.stderr)
        return 2
    except LeadershipLost as error:
        print(f"memop: {error}; ending so that no two processes act", file=sys.stderr)
        return 1
    except MemopError as error:
        print(f"memop: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from memop.settings import add_flags

    parser = argparse.ArgumentParser(prog="memop", description="A Kubernetes operator for memcached.")
    parser.add_argument("--version", action="version", version=f"memop {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the operator", description="Run the operator until SIGTERM.")
    add_flags(run)
    run.set_defaults(do=_run)
    crds = commands.add_parser(
        "crds",
        help="print the CRDs",
        description="Print the CRDs as YAML: memop crds | kubectl apply --server-side -f -",
    )
    crds.add_argument("--compat", action="store_true", help="the CRDs of the other operators' kinds that memop serves")
    crds.set_defaults(do=_crds)
    convert = commands.add_parser(
        "convert",
        help="turn other operators' manifests into memop's",
        description="Print the native manifest for each MemcachedCluster of ianlewis.org, Mcrouter, Memshack and "
        "Memcached of cache.example.com, also within a List. What a field has no equivalent for is said in a comment. "
        "Documents of other kinds are printed unchanged.",
        epilog="Exit code: 0 when nothing is lost; 3 when something has no equivalent; 2, and nothing is printed, when "
        "a document is not usable.",
    )
    convert.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        dest="filenames",
        help="a YAML or JSON file of any number of documents, - for standard input; may be given several times",
    )
    convert.set_defaults(do=_convert)
    status = commands.add_parser(
        "status",
        help="show pools and clusters",
        description="Show every Memcached and MemcachedCluster of a namespace, with the rights of your kubeconfig.",
        epilog="Exit code: 0 when all are ready, 1 when one is not or the API server cannot be asked.",
    )
    status.add_argument("-n", "--namespace", metavar="NS", help="default: the kubeconfig's")
    status.add_argument("-A", "--all-namespaces", action="store_true", dest="everywhere")
    status.add_argument(
        "--proxies",
        action="store_true",
        help="ask each proxy which configuration it has (needs create on pods/portforward)",
    )
    status.add_argument(
        "-o", "--output", choices=("table", "json"), help="default: table in a terminal, json in a pipe"
    )
    status.set_defaults(do=_status)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    # For `memop status`; structlog would take it along (4 MiB) wherever it is installed, to print tracebacks.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from memop.app import run
    from memop.settings import from_flags

    run(from_flags(arguments))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    import asyncio

    from memop.status import status

    output = arguments.output or ("table" if sys.stdout.isatty() else "json")
    return asyncio.run(
        status(
            arguments.namespace,
            everywhere=arguments.everywhere,
            proxies=arguments.proxies,
            as_json=output == "json",
            out=sys.stdout,
        )
    )


def _crds(arguments: argparse.Namespace) -> int:
    from memop.api.schema import crd, foreign_kinds, kinds, to_yaml

    sys.stdout.write(to_yaml(crd(kind) for kind in (foreign_kinds() if arguments.compat else kinds())))
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from memop.convert import convert

    converted = convert([(name, _read(name)) for name in arguments.filenames])
    if converted.errors:
        raise ConfigurationError("\nmemop: ".join(converted.errors))
    sys.stdout.write(converted.text)
    if converted.lost:
        print(f"memop: {converted.lost} without equivalent: see the comments", file=sys.stderr)
    return 3 if converted.lost else 0


def _read(name: str) -> str:
    """Raises: ConfigurationError."""
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
