"""`MemcachedCluster`: pools of memcached pods behind a proxy with one Service."""
