"""The compare against the server that it has to agree with: after one apply, whatever the spec, nothing differs."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memop.client import Client
from memop.reconcilers.compare import Difference, FieldSet, difference
from memop.reconcilers.memcached.children import KINDS, OPTIONAL_KINDS, children
from memop.reconcilers.objects import CONTROLLER, controlled, decoder
from memop.refs import MEMCACHEDS, Key, Resource
from tests.support import specs
from tests.support.kubectl import Kubectl
from tests.support.specs import Wish
from tests.unit.reconcilers.memcached.instances import instance

NOBODY = "00000000-0000-0000-0000-000000000000"
MANAGER = "memop-memcached"
RESOURCES: dict[str, Resource] = {kind.kind: kind for kind in (*KINDS, *OPTIONAL_KINDS)}


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    return specs.wish(draw(st.randoms(use_true_random=False)), draw(st.sampled_from(["Ephemeral", "Stable"])))


@pytest.mark.usefixtures("optional_kinds")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wish=wishes())
async def test_after_one_apply_of_any_spec_nothing_differs(client: Client, kubectl: Kubectl, wish: Wish) -> None:
    """All examples change the same objects, so that each apply also has to drop what the spec before it had."""
    key = Key(kubectl.namespace, wish.identity.lower())  # two pools: a pool keeps its identity
    for body in children(instance(wish.spec, key=key, **wish.around)):
        resource = RESOURCES[body["kind"]]
        raw = await client.apply(resource, key, controlled(body, key, NOBODY, MEMCACHEDS), manager=MANAGER)
        compared = controlled(body, key, CONTROLLER, MEMCACHEDS)
        assert _difference(compared, raw) is None
        assert _difference(compared, await client.get(resource, key)) is None


def _difference(body: dict[str, Any], raw: bytes) -> Difference | None:
    live = decoder(MANAGER)(raw)
    return difference(body, live.fields(), FieldSet(msgspec.json.decode(live.owned)))
