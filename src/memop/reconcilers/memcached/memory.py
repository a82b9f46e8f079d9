"""The memory of the memcached container, derived where the user names none.

A cache fills, so request and limit are one number: what memcached takes at its fullest, and a tenth on top. The parts
were measured as VmHWM and as the charge of a cgroup, of 1.6.18 and 1.6.38:

- items: `maxMemoryMB`, which memcached counts in whole slab pages, malloc's overhead 1 %.
- the hash table: 8 bytes a bucket, doubled when items exceed 1.5 times the buckets. The smallest item is a chunk of 96
  bytes, so just after a doubling the table is 1/9 of the items' memory, and 1/6 while the old one is still there.
- size classes: each of the 39 gets one page of 1 MiB even when `maxMemoryMB` is used up; 37 MiB more were seen when
  items of all sizes came after small ones. Larger items (`maxItemSize`) are chains of chunks of these classes.
- the program with its libraries: 6 MiB, 10 MiB with OpenSSL.
- threads: 140 KiB each under load, an allocator's arena among it.
- connections: 0.6 KiB idle, 8 KiB with an answer half read, and 2 KiB of the kernel, which count to the container's
  limit. With TLS 24 KiB idle, 41 KiB with an answer half read.

Not in it, so that such pools have to name their memory: what `extraArgs` may add (external storage, smaller items by
-n, more size classes by -f), and clients that ask for hundreds of keys at once on most connections and do not read
(1.2 KiB a key).
"""

import math

from memop.api.memcached import MemcachedConfig, MemcachedSpec
from memop.api.quantity import MIB, quantity
from memop.reconcilers.objects import Json

ITEMS = 1 + 0.01 + 1 / 6  # of `maxMemoryMB`; the others in MiB
SIZE_CLASSES = 40
PROGRAM = 12
THREAD = 0.25
CONNECTION = 12 / 1024
TLS_CONNECTION = 48 / 1024
MARGIN = 1.1


def memory(config: MemcachedConfig, *, tls: bool) -> int:
    """What a full memcached may take, in MiB."""
    connection = TLS_CONNECTION if tls else CONNECTION
    fixed = SIZE_CLASSES + PROGRAM + config.threads * THREAD + config.max_connections * connection
    return math.ceil(MARGIN * (config.max_memory_mb * ITEMS + fixed))


def resources(spec: MemcachedSpec) -> Json:
    """The resources as given, with derived memory.

    A limit alone is left as it is: Kubernetes takes it for the request, too. A request alone gets the derived limit, or
    itself where it is larger.
    """
    given = spec.resources or {}
    requests, limits = given.get("requests") or {}, given.get("limits") or {}
    if limits.get("memory") is not None:
        return given
    needed = memory(spec.memcached, tls=spec.enabled_tls is not None)
    derived = f"{needed}Mi"
    request = derived if requests.get("memory") is None else requests["memory"]
    limit = request if (quantity(request) or 0) > needed * MIB else derived
    return {**given, "requests": {**requests, "memory": request}, "limits": {**limits, "memory": limit}}
