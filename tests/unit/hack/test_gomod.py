"""The go.mod from which Kubernetes builds as a dependency."""

from hack.cluster.gomod import render_kubernetes_gomod

UPSTREAM = """\
// This is a generated file.

module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require (
\tgithub.com/google/uuid v1.6.0
\tk8s.io/api v0.0.0
\tk8s.io/kube-openapi v0.0.0-20250710124328-f3f2b991d03b
)

require (
\tgolang.org/x/text v0.23.0 // indirect
)

replace (
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/sample-controller => ./staging/src/k8s.io/sample-controller
)
"""


def test_staging_modules_are_taken_from_their_published_releases() -> None:
    gomod = render_kubernetes_gomod(UPSTREAM, "v1.34.4")

    assert "\tk8s.io/api v0.34.4\n" in gomod
    assert "\tk8s.io/api => k8s.io/api v0.34.4\n" in gomod
    assert "./staging" not in gomod
    assert "require k8s.io/kubernetes v1.34.4\n" in gomod
    assert "module k8s.io/kubernetes\n" not in gomod


def test_everything_else_keeps_its_version() -> None:
    gomod = render_kubernetes_gomod(UPSTREAM, "v1.34.4")

    assert "\tk8s.io/kube-openapi v0.0.0-20250710124328-f3f2b991d03b\n" in gomod
    assert "\tgithub.com/google/uuid v1.6.0\n" in gomod
    assert "godebug default=go1.24\n" in gomod
