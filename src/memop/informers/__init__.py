"""Caches of what the API server holds, kept by list and watch; nothing here knows a kind."""

from memop.informers.handlers import Owned, OwnerRef, controller_owner, enqueue, own_key
from memop.informers.informer import Informer
from memop.informers.store import Cached, Cause, Handler, StoreReader
from memop.informers.watcher import Client, Page

__all__ = [
    "Cached",
    "Cause",
    "Client",
    "Handler",
    "Informer",
    "Owned",
    "OwnerRef",
    "Page",
    "StoreReader",
    "controller_owner",
    "enqueue",
    "own_key",
]
