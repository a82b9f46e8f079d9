"""Replica sync: `spec.replicas` of a `Memcached` follows the size of another workload."""
