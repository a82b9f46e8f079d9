"""What goes into the image's name in the cache, and what its archive and its bill of materials tell."""

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.errors import ClusterError
from hack.image.__main__ import summary
from hack.image.archive import Image, open_image
from hack.image.build import Commit, digest, forget, inputs, pip_settings
from hack.image.sbom import bill

SITE = "usr/local/lib/python3.11/dist-packages"
CONTROL = "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: Somebody <somebody@example.org>\nDescription: x\n"
PART = {"type": "library", "name": "openssl", "version": "4.0.3", "purl": "pkg:generic/openssl@4.0.3"}
CRATE = {"type": "library", "name": "own", "version": "1", "purl": "pkg:cargo/own@1?download_url=file:///builder/x"}
BASE = {
    "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
    "usr/bin/python3.11": "python",
    "usr/bin/old": "old",
    "etc/gone/a": "a",
    "etc/opaque/a": "a",
    "var/lib/dpkg/status.d/libc6": CONTROL.format("libc6", "2.36-9+deb12u1"),
    "var/lib/dpkg/status.d/libc6.md5sums": "d41d8cd98f00b204e9800998ecf8427e  lib/libc.so.6\n",
    "var/lib/dpkg/status.d/zlib1g": CONTROL.format("zlib1g", "1:1.2.13.dfsg-1"),
}
OWN = {
    "usr/bin/old": "newer",
    "etc/.wh.gone": "",
    "etc/opaque/.wh..wh..opq": "",
    "etc/opaque/b": "b",
    f"{SITE}/memop-0.1.0.dist-info/METADATA": "Metadata-Version: 2.4\nName: memop\nVersion: 0.1.0\n"
    "License-Expression: Apache-2.0\n",
    f"{SITE}/cryptography-50.0.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: cryptography\nVersion: 50.0.2\n"
    "Classifier: License :: OSI Approved :: BSD License\n",
    f"{SITE}/cryptography-50.0.2.dist-info/sboms/a.json": json.dumps({"components": [PART, PART]}),
    f"{SITE}/cryptography-50.0.2.dist-info/sboms/b.json": json.dumps({"components": [CRATE]}),
    f"{SITE}/PyYAML-6.0.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: PyYAML\nVersion: 6.0.3\nLicense: MIT\n",
}


def tar_of(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive(path: Path, layers: Sequence[Mapping[str, str]]) -> Path:
    """As `buildah push` writes it."""
    config = {"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z"}
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "abc.json", "RepoTags": ["docker.io/memop/memop:0.1.0"], "Layers": names}]
    files: dict[str, str | bytes] = {name: tar_of(layer) for name, layer in zip(names, layers, strict=True)}
    path.write_bytes(tar_of(files | {"abc.json": json.dumps(config), "manifest.json": json.dumps(manifest)}))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with open_image(archive(tmp_path / "image.tar", [BASE, OWN])) as image:
        yield image


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "Dockerfile": "FROM x\n",
        ".dockerignore": "*\n!src/memop\n!LICENSE\n**/__pycache__\n",
        "LICENSE": "…",
        "src/memop/a.py": "A = 1\n",
        "src/memop/__pycache__/a.pyc": "",
        "README.md": "…",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_later_layers_hide_what_they_replace_and_remove(image: Image) -> None:
    assert image.read("usr/bin/old") == b"newer"
    assert {path for path in image.files if path.startswith("etc/")} == {"etc/opaque/b"}


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of({"a": "b"}))
    with pytest.raises(ClusterError, match=r"x\.tar is no docker-archive of one image"), open_image(path):
        pass


def test_the_summary_tells_sizes_and_parts(image: Image) -> None:
    told = "\n".join(summary(image))

    assert re.search(r"docker\.io/memop/memop:0\.1\.0 linux/amd64: \d+\.\d MiB, \d+\.\d MiB compressed", told)
    assert "3 Python distributions: memop, cryptography, PyYAML" in told
    assert "2 Debian packages" in told


def test_the_bill_lists_each_distribution_and_package_once(image: Image) -> None:
    assert [part["purl"] for part in bill(image)["components"]] == [
        "pkg:generic/memop@0.1.0",
        "pkg:pypi/cryptography@50.0.2",
        "pkg:pypi/pyyaml@6.0.3",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12",
    ]


def test_the_bill_tells_licences_in_whichever_way_the_metadata_does(image: Image) -> None:
    licenses = {part["name"]: part.get("licenses") for part in bill(image)["components"]}

    assert licenses["memop"] == [{"expression": "Apache-2.0"}]
    assert licenses["cryptography"] == [{"license": {"name": "BSD License"}}]
    assert licenses["PyYAML"] == [{"license": {"name": "MIT"}}]


def test_the_bill_has_what_is_compiled_into_a_wheel_and_nothing_of_where_that_was_built(image: Image) -> None:
    [cryptography] = [part for part in bill(image)["components"] if part["name"] == "cryptography"]

    assert [(part["name"], part["purl"]) for part in cryptography["components"]] == [
        ("openssl", "pkg:generic/openssl@4.0.3"),
        ("own", "pkg:cargo/own@1"),
    ]


def test_the_bill_is_the_same_each_time_and_every_reference_in_it_leads_to_one_component(image: Image) -> None:
    document = bill(image)
    refs = [*references(document["components"]), document["metadata"]["component"]["bom-ref"]]

    assert document == bill(image)
    assert len(refs) == len(set(refs))
    named = {ref for entry in document["dependencies"] for ref in (entry["ref"], *entry.get("dependsOn", ()))}
    assert named <= set(refs)


def references(components: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for component in components:
        yield component["bom-ref"]
        yield from references(component.get("components", ()))


def test_the_inputs_are_the_dockerfile_and_what_dockerignore_lets_in(checkout: Path) -> None:
    names = [str(path.relative_to(checkout)) for path in inputs(checkout)]
    assert names == [".dockerignore", "Dockerfile", "LICENSE", "src/memop/a.py"]


def test_everything_that_the_dockerfile_copies_is_let_in() -> None:
    text = Path("Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()]
    let_in = {str(path) for path in inputs(Path())}
    assert copied
    assert not [name for name in copied if not any(path == name or path.startswith(f"{name}/") for path in let_in)]


@pytest.mark.parametrize("name", ["Dockerfile", "src/memop/a.py", ".dockerignore", "src/memop/b.py"])
def test_a_changed_or_new_input_makes_another_image(checkout: Path, name: str) -> None:
    before = digest(checkout, ["base"])
    with (checkout / name).open("a") as file:
        file.write("# more\n")
    assert digest(checkout, ["base"]) != before


def test_what_is_no_input_makes_no_other_image(checkout: Path) -> None:
    before = digest(checkout, ["base"])
    (checkout / "README.md").write_text("changed")
    (checkout / "src/memop/__pycache__/a.pyc").write_text("changed")
    assert digest(checkout, ["base"]) == before


def test_another_base_makes_another_image(checkout: Path) -> None:
    assert digest(checkout, ["base"]) != digest(checkout, ["other"])


def test_outside_a_repository_an_image_names_no_commit(checkout: Path) -> None:
    assert Commit.of(checkout) == Commit("", 0)
    assert Commit.of(checkout).created == "1970-01-01T00:00:00Z"


def test_the_build_has_pips_way_to_its_index_and_none_of_its_other_settings() -> None:
    listed = "global.index-url='https://a.example/simple'\nglobal.find-links='/wheels'\n:env:.index-url='https://b.example'\n"
    assert pip_settings(listed) == {"index-url": "https://b.example"}


def test_archives_of_long_ago_go_and_those_of_other_images_stay(tmp_path: Path) -> None:
    names = [*(f"memop-amd64-{number}.tar" for number in range(6)), "memop-arm64-0.tar", "runtime-amd64-0.tar"]
    for age, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))

    forget(tmp_path / "memop-amd64-5.tar")

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])
