"""What list and watch carry whatever the kind, decoded no further than needed."""

import msgspec

from memop.errors import BadResponse
from memop.refs import Key


class Metadata(msgspec.Struct, rename="camel", gc=False):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"


class Partial(msgspec.Struct, gc=False):
    """An object's identity; a bookmark has a resourceVersion only."""

    metadata: Metadata

    @property
    def key(self) -> Key:
        return Key(self.metadata.namespace, self.metadata.name)

    @property
    def resource_version(self) -> int:
        return int(self.metadata.resource_version)


class Event(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


_event = msgspec.json.Decoder(Event)
_partial = msgspec.json.Decoder(Partial)


def decode_event(line: bytes) -> Event:
    """One line of a watch; `BadResponse` when it is none, as when the connection was cut within it."""
    try:
        return _event.decode(line)
    except msgspec.DecodeError as error:
        raise BadResponse(f"not a watch event: {error}: {line[:100]!r}") from error


def decode_partial(raw: bytes | msgspec.Raw) -> Partial:
    """Who an object is; `BadResponse` when not even that can be told."""
    try:
        partial = _partial.decode(raw)
        int(partial.metadata.resource_version)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadResponse(f"not an object: {error}: {bytes(raw)[:100]!r}") from error
    return partial
