"""What `memop run` can be told, in one frozen record: by flags, else by `MEMOP_…` in the environment."""

import argparse
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE, DEFAULT_IMAGE
from memop.api.memcached_cluster import DEFAULT_BUILTIN_IMAGE, DEFAULT_MCROUTER_IMAGE
from memop.errors import ConfigurationError

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # DNS-1123
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def boolean(text: str) -> bool:
    """`true` or `false`, as Go's flags take them."""
    try:
        return {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}[text.lower()]
    except KeyError:
        raise ValueError("wants true or false") from None


def duration(text: str) -> float:
    """Seconds from Go's form (`15s`, `1m30s`, `500ms`) or a plain number."""
    try:
        total = float(text)
    except ValueError:
        match = _DURATION.fullmatch(text)
        if not text or match is None:
            raise ValueError("wants a duration like 15s, 500ms or 1m30s") from None
        hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
        total = hours * 3600 + minutes * 60 + seconds + millis / 1000
    if not math.isfinite(total):
        raise ValueError("wants a duration that ends, like 15s, 500ms or 1m30s")
    return total


def names(text: str) -> tuple[str, ...]:
    """The names between the commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"wants one of {', '.join(allowed)}")
        return text

    return parse


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError("wants a whole number of at least 1")
    return int(text)


def _port(text: str) -> int:
    if not 1 <= int(text) <= 65535:
        raise ValueError("wants a port, 1 to 65535")
    return int(text)


def _flag(default: Any, help_: str, parse: Callable[[str], Any] = str, metavar: str = "") -> Any:
    return field(default=default, metadata={"help": help_, "parse": parse, "metavar": metavar})


@dataclass(frozen=True, slots=True)
class Settings:
    """Field `leader_elect` is flag `--leader-elect` and variable `MEMOP_LEADER_ELECT`. Durations are in seconds."""

    kubeconfig: str | None = _flag(
        None, "kubeconfig file; else $KUBECONFIG, ~/.kube/config, in-cluster", metavar="FILE"
    )
    watch_namespaces: tuple[str, ...] = _flag((), "namespaces to watch, comma-separated; all when empty", names, "NS,…")
    leader_elect: bool = _flag(False, "act only while holding the Lease; needed with more than one replica", boolean)
    leader_election_id: str = _flag("d4f3c8a2.c5c3.io", "name of the Lease", metavar="NAME")
    leader_election_namespace: str = _flag("", "namespace of the Lease; memop's own when empty", metavar="NS")
    leader_election_lease_duration: float = _flag(15.0, "how long others wait for a silent leader", duration, "DUR")
    leader_election_renew_deadline: float = _flag(10.0, "how long the leader tries to renew", duration, "DUR")
    leader_election_retry_period: float = _flag(2.0, "pause between tries", duration, "DUR")
    metrics_bind_address: str = _flag(":8443", "address of /metrics, 0 turns it off", metavar="ADDR")
    metrics_secure: bool = _flag(
        True, "serve /metrics by TLS, to whom TokenReview and SubjectAccessReview admit", boolean
    )
    metrics_cert_path: str = _flag(
        "", "directory of tls.crt and tls.key for /metrics; self-signed when empty", metavar="DIR"
    )
    health_probe_bind_address: str = _flag(":8081", "address of /healthz and /readyz, 0 turns them off", metavar="ADDR")
    enable_webhooks: bool = _flag(False, "serve admission webhooks", boolean)
    webhook_port: int = _flag(9443, "port of the admission webhooks", _port, "PORT")
    webhook_cert_path: str = _flag(
        "",
        "directory of tls.crt and tls.key for the webhooks; when empty memop makes them and tells the API server",
        metavar="DIR",
    )
    webhook_name: str = _flag(
        "memop-webhook",
        "name of the webhooks' Service and of both webhook configurations; their Secret has -cert behind it",
        metavar="NAME",
    )
    allow_privileged_pods: bool = _flag(
        False, "let a Memcached ask for privileged, root or host access in its security contexts", boolean
    )
    memcached_image: str = _flag(DEFAULT_IMAGE, "image of pools that name none", metavar="IMAGE")
    builtin_proxy_image: str = _flag(
        DEFAULT_BUILTIN_IMAGE, "image of memcached as a proxy, where the cluster names none", metavar="IMAGE"
    )
    twemproxy_image: str = _flag(
        "", "image of twemproxy where the cluster names none; none is maintained publicly", metavar="IMAGE"
    )
    mcrouter_image: str = _flag(
        DEFAULT_MCROUTER_IMAGE, "image of mcrouter where the cluster names none", metavar="IMAGE"
    )
    exporter_image: str = _flag(DEFAULT_EXPORTER_IMAGE, "image of exporters where the pool names none", metavar="IMAGE")
    no_default_uid: bool = _flag(
        False, "leave the choice of the pods' uid to the cluster, as OpenShift wants it", boolean
    )
    cluster_domain: str = _flag("cluster.local", "the cluster's DNS domain", metavar="NAME")
    secret_resync_interval: float = _flag(
        60.0, "how often the metadata of Secrets that pools name are read again", duration, "DUR"
    )
    max_concurrent_reconciles: int = _flag(16, "reconciles at once, for each kind", _positive, "N")
    kube_api_qps: float | None = _flag(
        None, "limit of requests a second to the API server; none by default", float, "N"
    )
    shutdown_timeout: float = _flag(15.0, "how long a shutdown waits for reconciles in flight", duration, "DUR")
    log_level: str = _flag(
        "info", "debug, info, warning or error", _choice("debug", "info", "warning", "error"), "LEVEL"
    )
    log_format: str | None = _flag(
        None, "json or console; console in a terminal, json elsewhere", _choice("json", "console"), "FORMAT"
    )

    def __post_init__(self) -> None:
        lease, renew, retry = (
            self.leader_election_lease_duration,
            self.leader_election_renew_deadline,
            self.leader_election_retry_period,
        )
        if not lease > renew > retry * 1.2 > 0:
            raise ConfigurationError(
                "--leader-election-lease-duration must exceed --leader-election-renew-deadline, and that 1.2 times "
                f"--leader-election-retry-period (given: {lease:g}s, {renew:g}s, {retry:g}s)"
            )
        for flag, namespaces in (
            ("--watch-namespaces", self.watch_namespaces),
            ("--leader-election-namespace", (self.leader_election_namespace,) * bool(self.leader_election_namespace)),
        ):
            for namespace in namespaces:
                if not _LABEL.fullmatch(namespace):
                    raise ConfigurationError(
                        f"{flag}={','.join(namespaces)}: {namespace!r} is no namespace: at most 63 lower-case letters, "
                        "digits and inner dashes"
                    )
        for flag, seconds in (
            ("--shutdown-timeout", self.shutdown_timeout),
            ("--secret-resync-interval", self.secret_resync_interval),
        ):
            if not seconds > 0:
                raise ConfigurationError(f"{flag}={seconds:g}s: wants more than 0")
        if self.kube_api_qps is not None and not 0 < self.kube_api_qps < math.inf:
            raise ConfigurationError(
                f"--kube-api-qps={self.kube_api_qps:g}: wants a number above 0; without the flag there is no limit"
            )
        if not _DNS_1035.fullmatch(self.webhook_name):
            raise ConfigurationError(
                f"--webhook-name={self.webhook_name}: wants a Service's name: at most 63 lower-case letters, digits "
                "and inner dashes, a letter first"
            )


def add_flags(parser: argparse.ArgumentParser, environ: Mapping[str, str] = os.environ) -> None:
    """Give `parser` every flag of `Settings`; the help tells the defaults, the environment's included."""
    for item in fields(Settings):
        flag, variable = "--" + item.name.replace("_", "-"), "MEMOP_" + item.name.upper()
        default, parse = item.default, _named(flag, item.metadata["parse"])
        if variable in environ:
            default = _named(variable, item.metadata["parse"])(environ[variable])
        shown = (
            ",".join(default)
            if isinstance(default, tuple)
            else str(default).lower()
            if default in (True, False)
            else default
        )
        text = item.metadata["help"] + (f" (default {shown})" if shown not in (None, "") else "")
        if item.metadata["parse"] is boolean:
            parser.add_argument(
                flag, type=parse, nargs="?", const=True, default=default, help=text, metavar="true|false"
            )
        else:
            parser.add_argument(flag, type=parse, default=default, help=text, metavar=item.metadata["metavar"])


def _named(source: str, parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse`, with errors that name the flag or variable and the value."""

    def wrapped(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{source}={text}: {error}") from None

    return wrapped


def from_flags(arguments: argparse.Namespace) -> Settings:
    return Settings(**{item.name: getattr(arguments, item.name) for item in fields(Settings)})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message)


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of `memop run ARGV`, for tools and tests. Raises: ConfigurationError."""
    parser = _Parser(prog="memop run", allow_abbrev=False)
    add_flags(parser, environ)
    return from_flags(parser.parse_args(argv))
