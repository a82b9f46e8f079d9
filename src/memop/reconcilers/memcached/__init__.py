"""`Memcached`: a pool of memcached pods behind a headless Service."""
