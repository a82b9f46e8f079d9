"""docs/quick-start.md, command for command: from an empty cluster to a value read back by TLS."""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.kubectl import Kubectl, eventually
from tests.support.pages import DOCS, ROOT, Block, blocks

PAGE = DOCS / "quick-start.md"
MANAGED = "app.kubernetes.io/managed-by=memcached-operator,app.kubernetes.io/instance=cache"
GOING = ("Deployment", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
SECONDS = 120  # for all of it, the image being there


@pytest.fixture
def installed(kubectl: Kubectl) -> Iterator[None]:
    """What runs and what judges goes again, as other tests run a memop of their own.

    Definitions, namespace and rights stay: all tests share them. `make test-e2e` has put the image into the node.
    """
    yield
    made = yaml.safe_load_all(kubectl("kustomize", str(ROOT / "manifests/default")).stdout)
    going = yaml.safe_dump_all(one for one in made if one["kind"] in GOING)
    Kubectl("memop-system")("delete", "--ignore-not-found", "--cascade=foreground", "-f", "-", input=going)


@pytest.fixture
def shell(kubectl: Kubectl, tmp_path: Path) -> dict[str, str]:
    """An environment whose kubeconfig has the test's namespace for its own; the directory is a checkout's."""
    config = tmp_path / "kubeconfig"
    shutil.copyfile(os.environ["KUBECONFIG"], config)
    environment = {**os.environ, "KUBECONFIG": str(config)}
    context = ["kubectl", "config", "set-context", "--current", f"--namespace={kubectl.namespace}"]
    subprocess.run(context, env=environment, check=True)
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    return environment


def test_a_newcomer_gets_a_cache_that_speaks_tls(
    kubectl: Kubectl, installed: None, shell: dict[str, str], tmp_path: Path
) -> None:
    said, took = [], {}
    for block in steps():
        begun = time.monotonic()
        if block.language == "yaml":
            (tmp_path / block.title).write_text(block.text)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path,
            env=shell,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
        took[block.place] = round(time.monotonic() - begun, 1)
    logging.getLogger(__name__).info("seconds: %s", took)  # --log-cli-level=info shows it
    assert said[3].replace("\r", "").splitlines()[-4:] == ["STORED", "VALUE greeting 0 5", "hello", "END"]
    assert sum(took.values()) < SECONDS, took

    def assert_gone() -> None:
        kinds = "deployments,services,pods,memcacheds"
        assert kubectl("get", kinds, "-l", MANAGED, "-o", "name").stdout == ""

    eventually(assert_gone)


def steps() -> list[Block]:
    """What the page has a reader do, who has a cluster; a block of commands with a title is for who has none."""
    return [block for block in blocks(PAGE) if block.language == "yaml" or not block.title]
