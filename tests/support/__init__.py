"""What tests against a real cluster share: kubectl, the operator as a process, the API server's own counters."""
