"""memop, a Kubernetes operator for memcached.

The pipe:

    API server ─watch→ informers (watcher → store, handlers) ─keys→ workqueue → controller
        → reconciler: observe → desired children and status → apply ─→ API server

Level-triggered: a key is the whole message, and nothing is kept here that the API server could not tell again.
docs/architecture.md says where every line lives.
"""

__version__ = "0.1.0"
