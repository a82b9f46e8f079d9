"""Brings up a real Kubernetes on one machine: `python -m hack.cluster up`. See hack/cluster/README.md.

    __main__ → cluster (or kind) → components → processes, network
                                 → binaries, images, pki, prerequisites

Nothing below `__main__` parses arguments, and nothing but `cluster` decides in which order things start.
"""
