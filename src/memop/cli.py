"""The command line: `memop run`, `crds`, `convert`, `status`, `doctor` and `completion`."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from memop import __version__
from memop.errors import ConfigurationError, LeadershipLost, MemopError

WATCH_PERIOD = 2.0  # seconds
SHORTEST_WATCH = 0.5


def kubectl_plugin() -> int:
    """`kubectl memop`: kubectl runs any program called kubectl-memop."""
    return main(prog="kubectl memop")


def main(argv: Sequence[str] | None = None, *, prog: str = "memop") -> int:
    """Exit code: 0 done, 1 failed or lost the Lease, 2 unusable flags, kubeconfig or manifest, 3 something was lost.

    130: ended by Ctrl-C.
    """
    try:
        arguments = _parser(prog).parse_args(argv)
        code = int(arguments.do(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, and Python must not try once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ConfigurationError as error:
        print(f"memop: {error}", file=sys.stderr)
        return 2
    except LeadershipLost as error:
        print(f"memop: {error}; ending so that no two processes act", file=sys.stderr)
        return 1
    except MemopError as error:
        print(f"memop: {error}", file=sys.stderr)
        return 1
    return code


def _parser(prog: str) -> argparse.ArgumentParser:
    from memop.settings import add_flags

    parser = argparse.ArgumentParser(prog=prog, description="A Kubernetes operator for memcached.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"memop {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run the operator", description="Run the operator until SIGTERM.", allow_abbrev=False
    )
    add_flags(run)
    run.set_defaults(do=_run)
    crds = commands.add_parser(
        "crds",
        allow_abbrev=False,
        help="print the CRDs",
        description="Print the CRDs as YAML: memop crds | kubectl apply --server-side -f -",
    )
    crds.add_argument("--compat", action="store_true", help="the CRDs of the other operators' kinds that memop serves")
    crds.set_defaults(do=_crds)
    convert = commands.add_parser(
        "convert",
        allow_abbrev=False,
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
        allow_abbrev=False,
        help="show pools and clusters: ready pods, memory, hit ratio, items, evictions, connections",
        description="Show the Memcacheds and MemcachedClusters of a namespace, and what each memcached counts, with "
        "the rights of your kubeconfig (the ClusterRole memop-status has them all). It asks the pods through the API "
        "server's port forwarding; where that is not allowed, the rest is shown.",
        epilog="Exit code: 0 when all are ready; 1 when one is not, or the API server cannot be asked; 2 for unusable "
        "flags or kubeconfig. --watch ends by Ctrl-C, with the code of the last look.",
    )
    _add_where(status)
    status.add_argument(
        "--pods", action="store_true", help="a line for each pod, too; for proxies, their configuration"
    )
    status.add_argument("--no-stats", action="store_false", dest="stats", help="ask the API server only, not the pods")
    status.add_argument(
        "-w",
        "--watch",
        nargs="?",
        type=_seconds,
        const=WATCH_PERIOD,
        metavar="SECONDS",
        help=f"look again and again (default: every {WATCH_PERIOD:g} s), with rates since the last look",
    )
    status.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        help="default: table in a terminal, json in a pipe (watching: a document a line)",
    )
    status.set_defaults(do=_status)
    doctor = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="find what keeps memop or its caches from working, and say how to mend it",
        description="Look at the definitions, memop's pods, its Lease, admission (tried by a dry run), its rights, and "
        "every object that it serves, with the rights of your kubeconfig; what you may not read is said. Nothing is "
        "changed.",
        epilog="Exit code: 0 when nothing is in trouble; 1 when something is, or the API server cannot be asked; 2 for "
        "unusable flags or kubeconfig.",
    )
    _add_where(doctor)
    doctor.add_argument("-o", "--output", choices=("text", "json"), help="default: text in a terminal, json in a pipe")
    doctor.set_defaults(do=_doctor)
    completion = commands.add_parser(
        "completion",
        allow_abbrev=False,
        help="print a script by which a shell completes memop's commands and flags",
        description="Print the script. bash: memop completion bash > /etc/bash_completion.d/memop; "
        "zsh: memop completion zsh > a directory of $fpath/_memop",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(do=_completion)
    return parser


def _add_where(parser: argparse.ArgumentParser) -> None:
    """The flags of who asks an API server, as kubectl has them."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", metavar="NS", help="default: the kubeconfig's")
    where.add_argument(
        "-A", "--all-namespaces", action="store_const", const="", dest="namespace", help="all that you may read"
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, the pod's own")
    parser.add_argument("--context", metavar="NAME", help="default: the kubeconfig's current one")


def _run(arguments: argparse.Namespace) -> int:
    # For `memop status`; structlog would take it along (4 MiB) wherever it is installed, to print tracebacks.
    sys.modules["rich"] = None  # type: ignore[assignment]
    from memop.app import run
    from memop.settings import from_flags

    run(from_flags(arguments))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    import asyncio

    from memop.clock import Clock
    from memop.status.command import Options, status

    options = Options(
        namespace=arguments.namespace,
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        as_json=(arguments.output or ("table" if sys.stdout.isatty() else "json")) == "json",
        pods=arguments.pods,
        stats=arguments.stats,
        watch=arguments.watch,
    )
    return asyncio.run(status(options, sys.stdout, Clock()))


def _doctor(arguments: argparse.Namespace) -> int:
    import asyncio

    from memop.clock import Clock
    from memop.doctor.command import Options, doctor

    options = Options(
        namespace=arguments.namespace,
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        as_json=(arguments.output or ("text" if sys.stdout.isatty() else "json")) == "json",
    )
    return asyncio.run(doctor(options, sys.stdout, Clock()))


def _seconds(text: str) -> float:
    """For argparse. Raises: ValueError, ArgumentTypeError."""
    seconds = float(text)
    if not SHORTEST_WATCH <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from {SHORTEST_WATCH:g} on")
    return seconds


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


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    sys.stdout.write(shtab.complete(_parser("memop"), arguments.shell) + "\n")
    return 0


def _read(name: str) -> str:
    """Raises: ConfigurationError."""
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
