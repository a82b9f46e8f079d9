"""Other operators' kinds, each served by a child `MemcachedCluster`."""
