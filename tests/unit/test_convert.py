"""`memop convert`: what it prints, and how it ends."""

import io
import os
import sys
from pathlib import Path

import pytest
import yaml

from memop.cli import main
from memop.convert import convert
from memop.translate import TRANSLATORS

HERE = Path(__file__).parent
GOLDEN = HERE / "translate/golden"
# One more kind is converted than served.
SAMPLES = [
    *(HERE.parents[1] / "manifests/samples/compat").glob("*.yaml"),
    *(HERE / "translate/samples").glob("*.yaml"),
]
REWRITE = "MEMOP_REWRITE_GOLDEN"


@pytest.mark.parametrize("sample", sorted(SAMPLES), ids=lambda path: path.stem)
def test_the_samples_become_what_the_golden_files_say(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "-f", str(sample)]) == 0
    printed = capsys.readouterr().out
    golden = GOLDEN / sample.name
    if os.environ.get(REWRITE):
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8"), f"run: {REWRITE}=1 pytest {__file__}"


def converted(text: str) -> str:
    done = convert([("-", text)])
    assert not done.errors
    return done.text


SHARDED = """\
apiVersion: example.memshack.com/v1
kind: Memshack
metadata: {name: test}
"""

OTHER = """\
# A comment of the user's.
apiVersion: v1
kind: ConfigMap
metadata: {name: beside, creationTimestamp: null}
data:
  number: 0x1F   # odd, but theirs
  text: |
    ---
    kind: Memshack
---odd: key
"""


def test_there_is_a_sample_of_every_kind_that_is_converted() -> None:
    samples = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in SAMPLES]
    assert {(sample["apiVersion"], sample["kind"]) for sample in samples} == set(TRANSLATORS)


def test_documents_of_other_kinds_pass_unchanged_in_their_place() -> None:
    text = f"{OTHER}---\n{SHARDED}--- # next\n{OTHER}...\n---\n# nothing here\n---\n\n"
    first, second, third = converted(text).split("\n---\n")
    assert f"{first}\n" == OTHER
    assert yaml.safe_load(second)["metadata"] == {"name": "test-memshack"}
    assert third == f" # next\n{OTHER}"


def test_what_is_printed_reads_back_as_it_was_whatever_the_strings() -> None:
    odd = [
        "1e3",
        "0x10",
        "y",
        "no",
        "null",
        "~",
        "",
        "a: b",
        "- a",
        "#",
        "two\nlines",
        " x ",
        "größer",
        "2019-01-01",
        "<<",
    ]
    annotations = {f"key-{number}": text for number, text in enumerate(odd)} | {"1e3": "as a key"}
    obj = {
        "apiVersion": "mcrouter.example.com/v1alpha3",
        "kind": "Mcrouter",
        "metadata": {"name": "odd", "annotations": annotations},
    }
    text = converted(yaml.safe_dump(obj, allow_unicode=True))
    assert yaml.safe_load(text)["metadata"]["annotations"] == annotations
    # What PyYAML takes for strings, other readers may not.
    assert '"1e3": "as a key"' in text
    assert 'key-2: "y"' in text


def test_dates_are_strings_as_for_kubectl() -> None:
    text = f"{SHARDED[:-2]}, annotations: {{since: 2019-01-01}}}}\n"
    assert yaml.safe_load(converted(text))["metadata"]["annotations"] == {"since": "2019-01-01"}


def test_a_list_is_taken_apart_where_something_in_it_is_foreign() -> None:
    items = [yaml.safe_load(SHARDED), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    assert [obj["kind"] for obj in yaml.safe_load_all(converted(listed))] == ["MemcachedCluster", "Secret"]
    others = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items[1:]})
    assert converted(others) == others


EXPORTED = """\
apiVersion: mcrouter.example.com/v1alpha3
kind: Mcrouter
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"kind": "Mcrouter"}
    team: blue
  creationTimestamp: "2020-01-01T00:00:00Z"
  finalizers: [example.com/wait]
  generation: 2
  labels:
    app: web
  name: old
  namespace: shop
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: x, uid: u}]
  resourceVersion: "7"
  uid: u
spec:
  memcached_port: 11311
status:
  conditions: []
"""


def test_of_an_exported_object_labels_annotations_and_namespace_stay_and_the_loss_is_said() -> None:
    done = convert([("-", EXPORTED)])
    assert done.lost == 3
    assert done.text.splitlines()[:4] == [
        "# Was: Mcrouter shop/old (mcrouter.example.com/v1alpha3)",
        "# No equivalent: spec.memcached_port: memcached listens on 11211 instead, where mcrouter alone asks it",
        "# No equivalent: metadata.finalizers: left out",
        "# No equivalent: metadata.ownerReferences: left out",
    ]
    native = yaml.safe_load(done.text)
    assert native["metadata"] == {
        "name": "old",
        "namespace": "shop",
        "labels": {"app": "web"},
        "annotations": {"team": "blue"},
    }
    assert set(native) == {"apiVersion", "kind", "metadata", "spec"}


def test_a_kind_of_a_foreign_group_that_memop_does_not_serve_is_left_and_said() -> None:
    text = "apiVersion: ianlewis.org/v1alpha1\nkind: MemcachedProxy\nmetadata:\n  name: proxy\n"
    done = convert([("-", text)])
    assert done.lost == 1
    assert (
        done.text
        == f"# Was: MemcachedProxy proxy (ianlewis.org/v1alpha1)\n# No equivalent: it is left as it is\n{text}"
    )


LISTED = """\
apiVersion: v1
kind: List
items:
- kind: Memshack
  apiVersion: example.memshack.com/v1
  metadata:
    name: t
    labels:
      a: 1
"""

UNUSABLE = [
    ("a: b\n", ["document 1, line 1: not a Kubernetes object: give it apiVersion and kind"]),
    ("kind: Memshack\n", ["document 1, line 1: not a Kubernetes object: give it apiVersion and kind"]),
    ("apiVersion: v1\n", ["document 1, line 1: not a Kubernetes object: give it apiVersion and kind"]),
    ("- a\n", ["document 1, line 1: not a Kubernetes object: give it apiVersion and kind"]),
    ("", ["no Kubernetes object in it"]),
    ("# a comment\n---\n", ["no Kubernetes object in it"]),
    (f"{SHARDED}---\n\na: [\n", ["document 2, line 7: not YAML: expected the node content, but found '<stream end>'"]),
    (f"{SHARDED}kind: Memshack\n", ["document 1, line 4: not YAML: kind is there twice"]),
    (
        f"---\n{SHARDED}---\nkind: !!python/name:os.system\n",
        ["document 2, line 6: not YAML: could not determine a constr"],
    ),
    ("kind: \x00\n", ["document 1, line 1: not YAML: special characters are not allowed"]),
    ("a: 1\nb: \x1b\n", ["document 1, line 2: not YAML: special characters are not allowed"]),
    (f"a: {'9' * 5000}\n", ["document 1, line 1: not usable: Exceeds the limit"]),
    (f"a: {'[' * 5000}\n", ["document 1, line 1: not usable: maximum recursion depth exceeded"]),
    (
        f"{OTHER}---\n{SHARDED}spec:\n  num_replicas: 9\n  num_shards: 0\n",
        [
            "document 2, line 17: Memshack test: spec.num_shards: 0 is less than 1: raise it",
            "document 2, line 16: Memshack test: spec.num_replicas: 9 is more than 8: lower it",
        ],
    ),
    (
        f"{SHARDED}spec:\n- 1\n---\n{SHARDED.replace('name: test', 'no: name')}",
        [
            "document 1, line 4: Memshack test: spec: [1] is not a map of fields: give one",
            "document 2, line 9: Memshack (no name): metadata.name: Services and pods are named after it",
        ],
    ),
    (
        LISTED,
        ["document 1, line 9: Memshack t: metadata.labels.a: give a string, in quotes"],
    ),
]


@pytest.mark.parametrize(("text", "errors"), UNUSABLE)
def test_what_is_unusable_is_told_with_its_place(text: str, errors: list[str]) -> None:
    told = convert([("f.yaml", text)]).errors
    assert len(told) == len(errors)
    for one, expected in zip(told, errors, strict=True):
        assert one.startswith(f"f.yaml: {expected}")
        assert one.isprintable()


def test_exit_codes_and_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, lossy, bad = (tmp_path / name for name in ("good", "lossy", "bad"))
    good.write_text(f"\ufeff{SHARDED}", encoding="utf-8")
    lossy.write_text(EXPORTED)
    bad.write_text("a: [\n---\na: b\n")

    def run(*names: object) -> tuple[int, int, str]:
        code = main(["convert", *(f"--filename={name}" for name in names)])
        out, err = capsys.readouterr()
        return code, out.count("kind: MemcachedCluster"), err

    assert run(good) == (0, 1, "")
    assert run(good, lossy) == (3, 2, "memop: 3 without equivalent: see the comments\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good.read_bytes())))
    assert run(lossy, "-") == (3, 2, "memop: 3 without equivalent: see the comments\n")
    code, printed, err = run(good, bad)
    assert (code, printed) == (2, 0)
    assert [line.partition(": document")[0] for line in err.splitlines()] == [f"memop: {bad}"] * 2
    for missing in (tmp_path, tmp_path / "none"):
        code, printed, err = run(missing)
        assert (code, printed) == (2, 0)
        assert err.startswith(f"memop: {missing}: ")
    bad.write_text(f"\ufeff{OTHER}", encoding="utf-8")
    assert main(["convert", "-f", str(good), "-f", str(bad)]) == 0
    assert "\ufeff" not in capsys.readouterr().out
    bad.write_bytes(b"\xff\xfe")
    assert run(bad)[:2] == (2, 0)


def test_both_families_of_crds_are_printed_apart(capsys: pytest.CaptureFixture[str]) -> None:
    def groups(*flags: str) -> set[str]:
        assert main(["crds", *flags]) == 0
        return {crd["spec"]["group"] for crd in yaml.safe_load_all(capsys.readouterr().out)}

    assert groups() == {"memcached.c5c3.io"}
    assert groups("--compat") == {"ianlewis.org", "mcrouter.example.com", "example.memshack.com"}
