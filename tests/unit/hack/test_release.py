"""What may be released, and that the workflows call what exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.errors import ClusterError
from hack.release import ROOT, WORKFLOW, notes, problems, stale

CHANGELOG = """\
# Changelog

## [Unreleased]

## [0.2.0] - 2026-11-22

### Added

- Something.

## [0.1.0] - 2026-01-01

- The first.
"""
WORKFLOWS = sorted(WORKFLOW.parent.glob("*.yml"))


class Checkout:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet")
        self.commit("CHANGELOG.md", CHANGELOG)

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        self.git("add", name)
        self.git("commit", "--quiet", "--message", name)

    def problems(self, version: str = "0.2.0", tag: str | None = None) -> list[str]:
        return list(problems(self.root, version, tag))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_clean_checkout_with_release_notes_can_be_released(checkout: Checkout) -> None:
    assert checkout.problems() == []


def test_the_tag_of_this_commit_can_be_released(checkout: Checkout) -> None:
    checkout.git("tag", "v0.2.0")

    assert checkout.problems(tag="v0.2.0") == []


def test_a_version_is_not_released_twice(checkout: Checkout) -> None:
    checkout.git("tag", "v0.2.0")

    assert checkout.problems() == ["the tag v0.2.0 exists: raise __version__ in src/memop/__init__.py"]


def test_a_tag_of_another_version_is_refused(checkout: Checkout) -> None:
    checkout.git("tag", "v0.3.0")

    assert checkout.problems(tag="v0.3.0") == ["the tag is v0.3.0, and src/memop/__init__.py says 0.2.0"]


def test_a_tag_of_another_commit_is_refused(checkout: Checkout) -> None:
    checkout.git("tag", "v0.2.0")
    checkout.commit("later", "")

    assert checkout.problems(tag="v0.2.0") == ["HEAD is not v0.2.0"]


def test_uncommitted_changes_are_named(checkout: Checkout) -> None:
    (checkout.root / "forgotten").touch()

    assert checkout.problems() == ["uncommitted changes:\n?? forgotten"]


@pytest.mark.parametrize("section", ["", "## [0.2.0] - 2026-11-22\n", "## [0.2.0]\n\n- No date.\n"])
def test_a_version_without_release_notes_is_refused(checkout: Checkout, section: str) -> None:
    checkout.commit("CHANGELOG.md", f"# Changelog\n\n{section}\n## [0.1.0] - 2026-01-01\n\n- The first.\n")

    assert checkout.problems() == ["CHANGELOG.md has no section, or an empty one: ## [0.2.0] - YYYY-MM-DD"]


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0.dev1", "0.2.0-rc1", "00.2.0"])
def test_a_version_that_helm_or_python_reads_otherwise_is_refused(checkout: Checkout, version: str) -> None:
    assert f"src/memop/__init__.py: {version} is neither X.Y.Z nor X.Y.Z-rc.N" in checkout.problems(version)


def test_release_notes_end_where_the_previous_release_begins(checkout: Checkout) -> None:
    assert notes(checkout.root, "0.2.0") == "### Added\n\n- Something."


def test_generated_files_that_are_not_current_are_named(checkout: Checkout) -> None:
    checkout.commit("generated", "old\n")
    checkout.commit("Makefile", "generate:\n\t@echo new >generated\n")

    assert stale(checkout.root) == "M generated"


def test_generated_files_that_are_current_are_not(checkout: Checkout) -> None:
    checkout.commit("generated", "new\n")
    checkout.commit("Makefile", "generate:\n\t@echo new >generated\n")

    assert stale(checkout.root) == ""


def test_a_generator_that_fails_shows_why(checkout: Checkout) -> None:
    checkout.commit("Makefile", "generate:\n\t@echo no such model; exit 1\n")

    with pytest.raises(ClusterError, match="no such model"):
        stale(checkout.root)


# -- .github/workflows -------------------------------------------------------------------------------------------------


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def test_workflows_are_found() -> None:
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "release.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_only_targets_that_the_makefile_has(path: Path) -> None:
    rows = [row for job in jobs(path).values() for row in job.get("strategy", {}).get("matrix", {}).get("include", ())]
    commands = [step["run"] for step in steps(path) if "run" in step] + [f"make {row['targets']}" for row in rows]
    words = [word for call in re.findall(r"\bmake ([^;&|#\n]*)", "\n".join(commands)) for word in call.split()]
    called = {word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
    rules = re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert called
    assert called <= {target for rule in rules for target in rule.split()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_their_major_version(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert used
    assert [action for action in used if re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", action) is None] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_only_its_jobs_may_do_more(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_wait_for_jobs_that_exist(path: Path) -> None:
    awaited = {name for job in jobs(path).values() for name in job.get("needs", [])}

    assert awaited <= jobs(path).keys()


def test_the_released_image_is_the_one_that_the_manifests_run() -> None:
    image = yaml.safe_load(WORKFLOW.read_text())["env"]["IMAGE"]

    assert f"image: {image}:" in (ROOT / "manifests" / "install.yaml").read_text()
