"""The bill of materials of an image, CycloneDX 1.6: what is in it, read from it.

Python distributions by their metadata, with what their wheels say is compiled into them (PEP 770: OpenSSL, crates), and
Debian packages by dpkg's status, whole or, as distroless has it, one file a package.
"""

from __future__ import annotations

import email
import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hack.image.archive import Image

_OWN = "memop"
_STATUS = re.compile(r"var/lib/dpkg/(status|status\.d/[^/]+(?<!\.md5sums))")
_METADATA = re.compile(r"(.*/)[^/]+\.dist-info/(METADATA|sboms/[^/]+\.json)")
_TAKEN = ("type", "name", "version", "author", "licenses", "hashes")  # of a wheel's own bill


def bill(image: Image) -> dict[str, Any]:
    """A CycloneDX document. The same image gives the same one."""
    component = {
        "type": "container",
        "bom-ref": f"image:{image.id}",
        "name": image.tags[0].rpartition(":")[0],
        "version": image.tags[0].rpartition(":")[2],
        "hashes": [{"alg": "SHA-256", "content": image.id}],  # of the configuration: the image's ID
    }
    components = [*_python(image), *_debian(image)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, image.id)}",
        "version": 1,
        "metadata": {
            "timestamp": image.config["created"],
            "tools": {"components": [{"type": "application", "name": "memop hack.image"}]},
            "component": component,
        },
        "components": components,
        "dependencies": [
            {"ref": component["bom-ref"], "dependsOn": [part["bom-ref"] for part in components]},
            *({"ref": part["bom-ref"]} for part in components),
        ],
    }


def _python(image: Image) -> list[dict[str, Any]]:
    found = [match for match in map(_METADATA.fullmatch, image.files) if match]
    with tempfile.TemporaryDirectory() as directory:
        image.unpack((match[0] for match in found), Path(directory))
        sites = sorted({str(Path(directory, match[1])) for match in found})
        return sorted(map(_distribution, distributions(path=sites)), key=lambda part: str(part["bom-ref"]))


def _distribution(distribution: Distribution) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", distribution.name).lower()
    # PyPI may one day have a memop that is not this one.
    purl = f"pkg:{'generic' if name == _OWN else 'pypi'}/{name}@{quote(distribution.version)}"
    component: dict[str, Any] = {
        "type": "application" if name == _OWN else "library",
        "bom-ref": purl,
        "name": distribution.name,
        "version": distribution.version,
        "purl": purl,
    }
    if licenses := list(_licenses(distribution)):
        component["licenses"] = licenses
    if compiled := list(_compiled_in(distribution, purl)):
        component["components"] = compiled
    return component


def _licenses(distribution: Distribution) -> Iterator[dict[str, Any]]:
    metadata = distribution.metadata
    if expression := metadata["License-Expression"]:
        yield {"expression": expression}
        return
    classifiers = [text for text in metadata.get_all("Classifier", ()) if text.startswith("License ::")]
    text = metadata["License"] or ""
    names = [name.rpartition(" :: ")[2] for name in classifiers] or ([text] if "\n" not in text else [])
    yield from ({"license": {"name": name}} for name in filter(None, names))


def _compiled_in(distribution: Distribution, owner: str) -> Iterator[dict[str, Any]]:
    refs = set()
    metadata = Path(str(distribution.locate_file("")), f"{distribution.name}-{distribution.version}.dist-info")
    for file in sorted(metadata.glob("sboms/*.json")):
        for part in json.loads(file.read_text())["components"]:
            ref = f"{owner}#{part['name']}@{part.get('version', '')}"
            if ref not in refs:
                refs.add(ref)
                purl = re.sub(r"\?download_url=file:.*", "", part.get("purl", ""))  # a path of the wheel's builder
                taken = {key: part[key] for key in _TAKEN if key in part}
                yield {**taken, "bom-ref": ref, **({"purl": purl} if purl else {})}


def _debian(image: Image) -> list[dict[str, Any]]:
    paragraphs = [
        email.message_from_string(text)
        for path in sorted(filter(_STATUS.fullmatch, image.files))
        for text in image.read(path).decode().strip().split("\n\n")
    ]
    release = dict(line.split("=", 1) for line in image.read("usr/lib/os-release").decode().splitlines() if "=" in line)
    distribution = "-".join(release[key].strip('"') for key in ("ID", "VERSION_ID"))
    return [_package(paragraph, distribution) for paragraph in paragraphs if paragraph["Package"]]


def _package(control: Message, distribution: str) -> dict[str, Any]:
    name, version, architecture = control["Package"], control["Version"], control["Architecture"]
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe=':')}?arch={architecture}&distro={distribution}"
    return {
        "type": "library",
        "bom-ref": purl,
        "supplier": {"name": control["Maintainer"].partition(" <")[0]},
        "name": name,
        "version": version,
        "purl": purl,
    }
