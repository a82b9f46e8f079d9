"""Every error that memop raises; what to do about each is its place in the tree.

    MemopError
    ├── ConfigurationError        flags, kubeconfig or files are unusable: the process ends and says why
    ├── LeadershipLost            the Lease is somebody else's or cannot be renewed: the process ends
    ├── HistoryLost               the API server was set back to an older state: caches are void, the process ends
    ├── TerminalError             nothing helps until the object changes: no retry
    └── ApiError                  a request to the API server failed (verb, resource, status, server's words)
        ├── RetryableError        the same request may succeed later: back off
        │   ├── Unreachable       no connection, or it broke; a write may have happened
        │   ├── RequestTimeout    no answer in time; a write may have happened
        │   ├── BadResponse       an answer that is not what the API promises (cut short, not JSON)
        │   ├── Throttled         429, or 503 with Retry-After
        │   ├── ServerError       any other 5xx
        │   └── Unauthorized      401, also after the credentials were read again
        ├── Conflict              409, or another uid: the object moved under us, or exists: observe again
        │   └── AlreadyExists
        ├── NotFound              404: the object, or the kind, does not exist
        ├── Gone                  410: the resourceVersion is too old: list again
        └── Rejected              400, 413, 422 and admission's refusals: the server will not take this object
            └── Forbidden         403: RBAC, quota, Pod Security or an admission policy
                └── NamespaceTerminating    nothing can be made there any more: no trouble, and nothing to do

Foreign exceptions become these in client.py and nowhere else; what the API server itself says does in `status_error`.
"""

from collections.abc import Mapping

import msgspec


class MemopError(Exception):
    """Root of the tree."""


class ConfigurationError(MemopError):
    """Flags, kubeconfig or files are unusable; the message names which and what to do."""


class LeadershipLost(MemopError):
    """This process must stop acting: its Lease is lost or could not be renewed in time."""


class HistoryLost(MemopError):
    """The API server was set back to an older state (restored from a backup): whatever was cached is void."""


class TerminalError(MemopError):
    """Nothing helps until the object changes."""


class ApiError(MemopError):
    """A request to the API server failed.

    `status` is the HTTP status, 0 where there was no answer; `reason` the server's machine-readable reason
    (`metav1.Status.reason`); `retry_after` seconds the server asked us to wait, None where it did not.
    """

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None, request: str = ""
    ) -> None:
        super().__init__(f"{request}: {message}" if request else message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.request = request


class RetryableError(ApiError):
    """The same request may succeed later."""


class Unreachable(RetryableError):
    """No connection, or it broke; a write may have happened."""


class RequestTimeout(RetryableError):
    """No answer in time; a write may have happened."""


class BadResponse(RetryableError):
    """An answer that is not what the API promises: cut short, not JSON, a line over the limit."""


class Throttled(RetryableError):
    """429, or 503 with Retry-After."""


class ServerError(RetryableError):
    """Any other 5xx."""


class Unauthorized(RetryableError):
    """401, also after the credentials were read again."""


class Conflict(ApiError):
    """409, or 422 about the uid: the object moved under us; observe again."""


class AlreadyExists(Conflict):
    """409 on a create: the name is taken."""


class NotFound(ApiError):
    """404: the object, or the whole kind, does not exist."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class Rejected(ApiError):
    """400, 413, 422: the server will not take this object as it is."""


class Forbidden(Rejected):
    """403: RBAC, quota, Pod Security or an admission policy."""


class NamespaceTerminating(Forbidden):
    """403: the namespace is being deleted."""


_UNTYPED = "failed to create typed patch object"


class _Cause(msgspec.Struct):
    field: str = ""
    reason: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []
    retry_after: float | None = msgspec.field(default=None, name="retryAfterSeconds")


class _Status(msgspec.Struct):
    """`metav1.Status`, as far as it is read."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_decode_status = msgspec.json.Decoder(_Status).decode

_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Rejected,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: RequestTimeout,
    409: Conflict,
    410: Gone,
    413: Rejected,
    422: Rejected,
    429: Throttled,
    504: RequestTimeout,
}


def status_error(
    body: bytes | msgspec.Raw, *, status: int = 0, retry_after: str | None = None, request: str = ""
) -> ApiError:
    """The error that a `metav1.Status` tells of: an answer's body, or the object of a watch's ERROR event.

    `status` is the HTTP status, 0 where only the Status tells it; `retry_after` the header's text.
    """
    try:
        told = _decode_status(body)
    except msgspec.MsgspecError:  # a proxy's page, or plain text as the API server gives for a bad path
        told = _Status(message=bytes(body)[:300].decode(errors="replace").strip())
    status = status or told.code
    causes = told.details.causes if told.details is not None else []
    seconds = float(retry_after) if retry_after and retry_after.strip().isdigit() else None
    if seconds is None and told.details is not None:
        seconds = told.details.retry_after
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = BadResponse if status < 400 else Rejected if status < 500 else ServerError
    if status == 503 and seconds is not None:
        kind = Throttled
    elif kind is Conflict and told.reason == "AlreadyExists":
        kind = AlreadyExists
    elif kind is Rejected and any(cause.field == "metadata.uid" for cause in causes):
        kind = Conflict  # the server's way of saying that another object has the name now
    elif kind is Forbidden and any(cause.reason == "NamespaceTerminating" for cause in causes):
        kind = NamespaceTerminating
    elif kind is ServerError and _UNTYPED in told.message:
        kind = Rejected  # server-side apply says so of an object that does not fit its schema
    message = told.message or f"the server answered {status}"
    return kind(message, status=status, reason=told.reason, retry_after=seconds, request=request)
