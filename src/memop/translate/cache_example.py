"""`Memcached` of cache.example.com: the sample of the Operator SDK, whose `size` becomes `replicas`. Converted only."""

from pydantic import Field

from memop.api.foreign import ForeignBlock
from memop.api.memcached import MAX_NAME_LENGTH, MAX_REPLICAS, MEMCACHED
from memop.translate.foreign import Json, Remark, Translation, native, read_metadata, read_spec

PORT = 11211


class MemcachedSpec(ForeignBlock):
    """What the user wants; the sample's tutorials differ in all but `size`."""

    size: int | None = Field(
        default=None, description="Number of pods, 0 to 64. Default: none, which is 1.", ge=0, le=MAX_REPLICAS
    )
    image: str | None = Field(default=None, description="Image of memcached. Default: the operator's.")
    container_port: int = Field(default=PORT, description="Port of memcached. Default: 11211.", ge=1, le=65535)


def translate(foreign: Json) -> Translation:
    """Raises: Untranslatable."""
    metadata = read_metadata(foreign, longest=MAX_NAME_LENGTH)
    given, notes = read_spec(foreign, MemcachedSpec)
    if given.container_port != PORT:
        notes.append(Remark(("spec", "containerPort"), f"memcached listens on {PORT} instead: tell its clients"))
    spec: Json = {}
    if given.size is not None:
        spec["replicas"] = given.size
    if given.image:
        spec["image"] = given.image
    return Translation(native(MEMCACHED, metadata, spec), notes)
