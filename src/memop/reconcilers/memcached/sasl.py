"""Authentication of clients (-Y): the password file, from a Secret."""

from memop.api.memcached import Sasl
from memop.reconcilers.objects import Json

_VOLUME, _DIRECTORY, _FILE = "sasl-credentials", "/etc/memcached/sasl", "password-file"


def secret_name(sasl: Sasl) -> str:
    """Empty where none is named, which only a CR that is older than the CRD's rules can do: the pods are refused."""
    return sasl.credentials_secret_ref.name if sasl.credentials_secret_ref else ""


def arguments() -> list[str]:
    return ["-Y", f"{_DIRECTORY}/{_FILE}"]


def volume(sasl: Sasl) -> Json:
    """The one key that is needed: while the Secret lacks it the pod waits, and its events say for what."""
    items = [{"key": _FILE, "path": _FILE}]
    return {"name": _VOLUME, "secret": {"secretName": secret_name(sasl), "items": items, "defaultMode": 0o644}}


def mount() -> Json:
    return {"name": _VOLUME, "mountPath": _DIRECTORY, "readOnly": True}
