"""Makes the go.mod from which `k8s.io/kubernetes` builds as an ordinary dependency.

Kubernetes' own go.mod points at its staging directories, which the module proxy does not carry. The same code is
published as `k8s.io/<staging> v0.x.y`, so pinning and replacing those gives the tree that was released.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.versions import HACK, KUBERNETES, LOCAL_PROJECTS, catalogue, crds, is_kubernetes, load_versions

_STAGING = re.compile(r"^\t(k8s\.io/\S+) => \./staging/", re.MULTILINE)
_DROPPED_BLOCK = re.compile(r"^replace \(\n.*?^\)\n", re.MULTILINE | re.DOTALL)


def render_kubernetes_gomod(upstream: str, version: str) -> str:
    """The go.mod for building Kubernetes `version` ("v1.34.4"), from the text of its own go.mod."""
    staging = _STAGING.findall(upstream)
    staging_version = re.sub(r"^v1\.", "v0.", version)
    body = _DROPPED_BLOCK.sub("", upstream[upstream.index("\ngo ") :])
    for module in staging:
        body = body.replace(f"\t{module} v0.0.0\n", f"\t{module} {staging_version}\n")
    replaces = "".join(f"\t{module} => {module} {staging_version}\n" for module in staging)
    return (
        "// Made by `python -m hack.cluster pin` from the go.mod of k8s.io/kubernetes; not edited by hand.\n"
        "module memop.invalid/hack/kubernetes\n"
        f"{body.rstrip()}\n\nrequire k8s.io/kubernetes {version}\n\nreplace (\n{replaces})\n"
    )


def pin(projects: Sequence[str] = ()) -> None:
    """Rewrites go.mod and go.sum under hack/go for the versions in versions.toml: of `projects`, or of all."""
    versions = load_versions()
    crd_modules = {crd.project: crd.module for crd in crds(versions).values()}
    for project in projects or versions:
        if project not in versions:
            raise ClusterError(f"versions.toml has no {project}", hint=f"one of {', '.join(versions)}")
        version = versions[project]
        directory = HACK / "go" / project
        binaries = catalogue(versions, project if is_kubernetes(project) else KUBERNETES)
        packages = sorted(b.package for b in binaries.values() if b.project == project)
        if is_kubernetes(project):
            directory.mkdir(exist_ok=True)
            module = json.loads(_go(directory.parent, "mod", "download", "-json", f"k8s.io/kubernetes@{version}"))
            upstream = Path(module["GoMod"]).read_text()
            (directory / "go.mod").write_text(render_kubernetes_gomod(upstream, version))
            (directory / "go.sum").unlink(missing_ok=True)
            # Resolving the packages writes the sums of just the modules that their build reads.
            _go(directory, "list", "-mod=mod", "-deps", *packages)
        elif project in crd_modules:
            module_name = crd_modules[project]
            _start_module(directory, f"\nrequire {module_name} {version}\n")
            _go(directory, "mod", "download", module_name)
        elif project not in LOCAL_PROJECTS:
            _start_module(directory)
            _go(directory, "get", "-tool", *(f"{package}@{version}" for package in packages))


def _start_module(directory: Path, requirements: str = "") -> None:
    directory.mkdir(exist_ok=True)
    (directory / "go.mod").write_text(f"module memop.invalid/hack/{directory.name}\n\ngo 1.24.0\n{requirements}")
    (directory / "go.sum").unlink(missing_ok=True)


def _go(directory: Path, *words: str) -> str:
    done = subprocess.run(["go", *words], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"go {' '.join(words[:2])} failed in {directory}: {done.stderr.strip()}")
    return done.stdout
