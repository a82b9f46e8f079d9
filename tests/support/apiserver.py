"""The API server's own count of requests, so that "0 writes" is not memop's word."""

import re
from collections import Counter

from tests.support.kubectl import Kubectl

WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_SAMPLE = re.compile(r"apiserver_request_total\{([^}]*)\} ([0-9.e+]+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
# Written by the control plane itself, whatever an operator does.
_BACKGROUND = frozenset({"leases", "endpointslices", "endpoints", "flowschemas", "prioritylevelconfigurations"})


def writes(kubectl: Kubectl) -> Counter[str]:
    """Requests that change something, by `verb resource/subresource`, since the API server started."""
    counts: Counter[str] = Counter()
    for labels, value in _SAMPLE.findall(kubectl("get", "--raw", "/metrics").stdout):
        label = dict(_LABEL.findall(labels))
        if label["verb"] in WRITES and label["resource"] not in _BACKGROUND:
            subresource = f"/{label['subresource']}" if label["subresource"] else ""
            counts[f"{label['verb']} {label['resource']}{subresource}"] += int(float(value))
    return counts
