"""The command line: `memop run` and `memop crds`."""

import argparse
import sys
from collections.abc import Sequence

from memop import __version__
from memop.errors import ConfigurationError, LeadershipLost, MemopError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed or lost the Lease, 2 unusable flags or kubeconfig."""
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
    crds.set_defaults(do=_crds)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from memop.app import run
    from memop.settings import from_flags

    run(from_flags(arguments))
    return 0


def _crds(_arguments: argparse.Namespace) -> int:
    from memop.api.schema import crds, to_yaml

    sys.stdout.write(to_yaml(crds()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
