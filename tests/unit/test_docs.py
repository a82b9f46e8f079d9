"""The documentation against the code: what it names exists, and what exists it names."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hack import reference
from memop import rights
from memop.api.schema import foreign_kinds, kinds
from tests.support.pages import DOCS, FRAGMENT, ROOT, blocks, manifests, pages, yaml_blocks

TROUBLESHOOTING = DOCS / "troubleshooting.md"
READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "hack").rglob("README.md"))]
COMMANDS = ("run", "crds", "convert", "status")
# Flags that stand alone in a sentence and are not memop's own: helm's, and every command's.
# Of helm, buildah and hack.image.
OTHERS_FLAGS = {
    *("--builder-image", "--load", "--platform", "--runtime-image", "--secret"),
    *("--take-ownership", "--version"),
}

_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")
_COMMAND = re.compile(r"memop [a-z]|--[a-z]")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")

# Words in CamelCase where conditions are stated, and no reasons: statuses, types of events, others' conditions.
NO_REASONS = {"True", "False", "Unknown", "Warning", "Normal", "Apply", "ReplicaFailure", "Error"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built as CI does: a broken link, a broken anchor or a page outside of the navigation ends it."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, "\n".join(line for line in built.stderr.splitlines() if "INFO" not in line)
    return directory


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(site: Path) -> None:
    html = list(site.rglob("*.html"))
    assert len(html) > len(list(DOCS.rglob("*.md")))
    loaded = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)|<link\b[^>]*\bhref=\"([^\"]+)")
    for page in html:
        for found in loaded.finditer(page.read_text(encoding="utf-8")):
            assert "//" not in (found[1] or found[2]), f"{page.relative_to(site)}: {found[0]}"


def test_the_reference_is_current() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
    assert written == reference.pages(), "run `python -m hack.reference docs/reference`"


def test_every_field_of_the_reference_has_a_type_a_default_and_a_text() -> None:
    for name, page in reference.pages().items():
        spec, status = (page.partition(f"## {block}\n")[2].partition("\n## ")[0] for block in ("spec", "status"))
        rows = [
            re.split(r"(?<!\\)\|", line)[1:-1]
            for line in (*spec.splitlines(), *status.splitlines())
            if line.startswith("| `")
        ]
        assert rows or name == "index.md"
        for field, type_, default, _bounds, text in rows:
            assert type_.strip(), f"{name}: {field}"
            assert default.strip(), f"{name}: {field}"
            assert text.strip(), f"{name}: {field}"


def told() -> set[str]:
    """Every reason of a condition or an event."""
    stated = {one.reason for kind in (*kinds(), *foreign_kinds()) for one in reference.conditions(kind)}
    return stated | {reason for _, reason in reference.events()}


def test_every_reason_is_explained_and_no_other() -> None:
    text = TROUBLESHOOTING.read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    well = set(re.findall(r"`(\w+)`", text.partition("## All is well")[2].partition("\n## ")[0]))
    assert told() - headings - well == set()
    assert headings - told() == set()
    for section in text.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        assert body.strip().startswith("**Meaning**: "), title


def test_no_reason_hides_from_the_reference() -> None:
    """Whatever looks like a reason, where conditions are stated, is one that the reference knows."""
    places = [
        path for name in ("status", "reconciler", "report", "apply") for path in _reconcilers().rglob(f"{name}.py")
    ]
    types = {one.type for kind in (*kinds(), *foreign_kinds()) for one in reference.conditions(kind)}
    assert len(places) > 8
    for path in (*places, _reconcilers() / "monitoring.py"):
        assert set(_camel_case(path)) <= told() | types | NO_REASONS, path


def _reconcilers() -> Path:
    return reference.SOURCE / "reconcilers"


def _camel_case(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(str(word)) if reference.CAMEL_CASE.fullmatch(word):
                yield word


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags of each command of memop, from its help."""
    found = {}
    for command in COMMANDS:
        helped = subprocess.run(
            [sys.executable, "-m", "memop.cli", command, "--help"], capture_output=True, text=True, check=True
        )
        found[command] = set(_FLAG.findall(helped.stdout))
    return found


def test_every_flag_of_memop_that_a_page_names_exists(flags: dict[str, set[str]]) -> None:
    named = [(place, command, flag) for place, command in _memop_commands() for flag in _FLAG.findall(command)]
    assert len(named) > 20
    every = set().union(*flags.values(), OTHERS_FLAGS)
    for place, command, flag in named:
        words = command.split()
        known = flags.get(words[1], every) if words[0] == "memop" and len(words) > 1 else every
        assert flag in known, f"{place}: {command}"


def _memop_commands() -> Iterator[tuple[str, str]]:
    """Code that begins with a flag (`--leader-elect`), and `memop …` up to a pipe, in line and in blocks."""
    for page in pages():
        shown = [block.text.replace("\\\n", " ") for block in blocks(page) if block.language in ("", "sh")]
        for line in (*_code(page), *(line for text in shown for line in text.splitlines())):
            for piece in line.partition("#")[0].split("|"):
                if _COMMAND.match(command := piece.strip()):
                    yield page.name, command


def test_the_tables_of_rights_are_those_that_the_code_declares() -> None:
    page = (DOCS / "operator.md").read_text(encoding="utf-8").partition("\n## Rights\n")[2].partition("\n## ")[0]
    everywhere, own = page.split("\n### ")
    for table, rules in (
        (everywhere, rights.served()),
        (
            own,
            [*rights.lease(), *rights.webhook_secret(), *rights.webhook_configurations(), *rights.metrics()],
        ),
    ):
        granted: dict[str, set[str]] = {}
        for rule in rules:
            for resource in rule["resources"]:
                name = f"/{resource.partition('/')[2]}" if "/" in resource else resource
                group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] and "/" not in resource else ""
                granted.setdefault(f"{name}{group}", set()).update(rule["verbs"])
        rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
        shown = {name: set(row[2].strip().split(", ")) for row in rows for name in re.findall(r"`([^`]+)`", row[1])}
        assert shown == granted


def test_every_test_that_a_page_names_exists() -> None:
    exist = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = [(page.name, code) for page in pages() for code in _code(page) if re.fullmatch(r"test_\w+", code)]
    assert len(named) > 40
    assert [(page, test) for page, test in named if test not in exist] == []


def test_every_guide_and_every_threat_names_tests() -> None:
    guides = [page for room in ("guides", "migrate") for page in (DOCS / room).glob("*.md") if page.stem != "index"]
    assert len(guides) > 8
    silent = [page.name for page in guides if not re.search(r"`test_\w+`", page.read_text(encoding="utf-8"))]
    assert silent == []
    threats = (DOCS / "security.md").read_text(encoding="utf-8").partition("\n## Threats\n")[2].partition("\n## ")[0]
    rows = [line for line in threats.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not re.fullmatch(r"\|.*\| .+ \| (`test_\w+`(, )?)+ \|", row)] == []


def test_every_file_and_make_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for page in pages():
        for code in _code(page):
            if re.fullmatch(r"(?:tests|hack|manifests|src|docs)/[\w./*-]+", code):
                assert list(ROOT.glob(code.rstrip("/"))), f"{page.name}: {code}"
            if found := re.match(r"make ([a-z][a-z0-9-]+)", code):
                assert found[1] in targets, f"{page.name}: {code}"


def _code(page: Path) -> list[str]:
    return [found[1] for found in _CODE.finditer(page.read_text(encoding="utf-8"))]


def test_links_of_pages_that_stand_outside_of_the_site_lead_somewhere() -> None:
    for page in READMES:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.relative_to(ROOT)}: {target}"
            if anchor:
                assert anchor in _anchors(file), f"{page.relative_to(ROOT)}: {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_nearly_every_yaml_block_is_a_manifest() -> None:
    fragments = [block.place for block in yaml_blocks() if block.title == FRAGMENT]
    assert len(fragments) <= 3, fragments
    shown = manifests()
    assert len(shown) > 30
    for place, text in shown:
        for document in yaml.safe_load_all(text):
            assert {"apiVersion", "kind", "metadata"} <= document.keys(), place
