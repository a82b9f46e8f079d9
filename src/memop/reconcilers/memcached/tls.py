"""TLS towards clients: how memcached listens, and its certificate, from a Secret.

`args` are the ones that existing users know (-Z and the files). They say nothing of addresses, and a client certificate
is checked only if one is shown; so what makes memcached listen and demand stands in `command`.

The address `*` makes memcached bind every family that the pod has, 0.0.0.0 and [::], as it does without -l. To name
both would end it on a node without IPv6, and 0.0.0.0 alone would be out of reach in a cluster without IPv4. Every pod
has 127.0.0.1, IPv6-only or not.
"""

from memop.api.memcached import Tls
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.ports import CLIENT_PORT, LOOPBACK_PORT, TLS_PORT
from memop.reconcilers.objects import Json

_VOLUME, _DIRECTORY = "tls-certificates", "/etc/memcached/tls"
_CERTIFICATE, _KEY, _CA = "tls.crt", "tls.key", "ca.crt"


def secret_name(instance: Instance, tls: Tls) -> str:
    """Where the certificate is: the user's Secret, or the one that cert-manager is to fill.

    Empty where neither is named, which only a CR that is older than the CRD's rules can do: the pods are refused.
    """
    if tls.issuer_ref is not None:
        return f"{instance.key.name}-memcached-tls"
    return tls.certificate_secret_ref.name if tls.certificate_secret_ref else ""


def command(tls: Tls) -> list[str]:
    """The program with the listeners, and the demand for a client certificate, which `ssl_ca_cert` alone is not."""
    client = f"notls:*:{CLIENT_PORT}" if tls.allow_plaintext else f"*:{CLIENT_PORT}"
    listeners = f"{client},*:{TLS_PORT},notls:127.0.0.1:{LOOPBACK_PORT}"
    return ["memcached", "-l", listeners, *(["-o", "ssl_verify_mode=2"] if tls.enable_client_cert else [])]


def arguments(tls: Tls) -> list[str]:
    files = {"ssl_chain_cert": _CERTIFICATE, "ssl_key": _KEY}
    if tls.enable_client_cert:
        files["ssl_ca_cert"] = _CA
    return ["-Z", *(part for option, file in files.items() for part in ("-o", f"{option}={_DIRECTORY}/{file}"))]


def volume(instance: Instance, tls: Tls) -> Json:
    """The keys that are needed: while the Secret lacks one the pod waits, and its events say for what."""
    keys = (_CERTIFICATE, _KEY, *((_CA,) if tls.enable_client_cert else ()))
    items = [{"key": key, "path": key} for key in keys]
    secret = {"secretName": secret_name(instance, tls), "items": items, "defaultMode": 0o644}
    return {"name": _VOLUME, "secret": secret}


def mount() -> Json:
    return {"name": _VOLUME, "mountPath": _DIRECTORY, "readOnly": True}
