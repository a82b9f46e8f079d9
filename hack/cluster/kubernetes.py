"""The few questions `up` and `status` ask the cluster."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hack.cluster.pki import KeyPair


@dataclass(frozen=True)
class Api:
    """GETs with the admin's certificate. Whatever goes wrong is "not yet"."""

    server: str
    authority: Path
    client: KeyPair

    def get(self, path: str) -> dict[str, Any] | None:
        answer = self._get(self.server, path)
        return json.loads(answer) if answer is not None else None

    def healthy(self, path: str = "/readyz", server: str | None = None) -> bool:
        return self._get(server or self.server, path) is not None

    def _get(self, server: str, path: str) -> bytes | None:
        address = urlsplit(server)
        try:
            context = ssl.create_default_context(cafile=str(self.authority))
            context.load_cert_chain(self.client.certificate, self.client.key)
            if server != self.server:  # controller manager and scheduler make their own certificates
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=context, timeout=5)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return None
        return body if answer.status == 200 else None


def http_ok(host: str, port: int, path: str) -> bool:
    """Whether a plain HTTP health endpoint says 200."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def node_ready(node: dict[str, Any] | None) -> bool:
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def resolves(server: str, name: str) -> bool:
    """Whether a DNS server answers with an address for `name`, asked as a pod would ask."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".")) + b"\0"
    query = b"\x6d\x6d\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + question + b"\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.sendto(query, (server, 53))
            answer = client.recv(512)
        except OSError:
            return False
    return answer[3] & 0x0F == 0 and int.from_bytes(answer[6:8], "big") > 0
