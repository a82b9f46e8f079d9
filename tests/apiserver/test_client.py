"""What the client takes for granted about an API server is true of a real one."""

import asyncio

import msgspec
import pytest

from memop.client import Client
from memop.errors import AlreadyExists, Conflict, NotFound, Rejected
from memop.refs import SERVICES, TOKEN_REVIEWS, Key, Resource
from tests.support.kubectl import Json, Kubectl

MANAGER = "tests"
NOBODY = "00000000-0000-0000-0000-000000000000"


def service(key: Key, port: int = 80, **metadata: str) -> Json:
    identity = {"namespace": key.namespace, "name": key.name, "labels": {"test": "client"}, **metadata}
    ports = [{"name": f"p{port}", "port": port}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": identity, "spec": {"ports": ports}}


def decoded(raw: bytes) -> Json:
    body: Json = msgspec.json.decode(raw)
    return body


async def test_lists_come_in_pages_of_one_version(client: Client, kubectl: Kubectl) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        await client.create(SERVICES, kubectl.namespace, service(Key(kubectl.namespace, name)))
    seen, token, versions = [], "", set()
    for _ in range(3):
        page = await client.list(
            SERVICES, kubectl.namespace, label_selector="test=client", limit=2, continue_token=token
        )
        seen += [decoded(bytes(item))["metadata"]["name"] for item in page.items]
        versions.add(page.resource_version)
        token = page.continue_token
    assert (seen, token, len(versions)) == (names, "", 1)


async def test_a_watch_tells_what_happens_after_a_list(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "watched")
    page = await client.list(SERVICES, kubectl.namespace)
    told = []
    async with asyncio.timeout(20):
        async with client.watch(
            SERVICES, kubectl.namespace, resource_version=page.resource_version, timeout=30
        ) as lines:
            created = decoded(await client.create(SERVICES, kubectl.namespace, service(key)))
            await client.delete(SERVICES, key, uid=created["metadata"]["uid"])
            async for line in lines:
                event = decoded(line)
                told.append((event["type"], event["object"]["metadata"].get("name")))
                if event["type"] == "DELETED":
                    break
    assert told == [("ADDED", "watched"), ("DELETED", "watched")]


async def test_metadata_alone_can_be_had(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "meta")
    await client.create(SERVICES, key.namespace, service(key))
    body = decoded(await client.get(SERVICES, key, metadata_only=True))
    assert (body["kind"], "spec" in body) == ("PartialObjectMetadata", False)
    assert body["metadata"]["uid"]


async def test_an_apply_under_another_uid_is_refused_and_changes_nothing(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "guarded")
    before = decoded(await client.create(SERVICES, key.namespace, service(key)))
    with pytest.raises(Conflict):
        await client.apply(SERVICES, key, service(key, port=81, uid=NOBODY), manager=MANAGER)
    assert decoded(await client.get(SERVICES, key)) == before


async def test_an_apply_with_a_uid_makes_no_object(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "absent")
    with pytest.raises(Conflict):
        await client.apply(SERVICES, key, service(key, uid=NOBODY), manager=MANAGER)
    with pytest.raises(NotFound):
        await client.get(SERVICES, key)


async def test_an_apply_without_force_gives_way_to_what_somebody_else_set(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "theirs")
    theirs = service(key)
    theirs["spec"]["selector"] = {"app": "theirs"}
    before = decoded(await client.create(SERVICES, key.namespace, theirs))
    ours = service(key)
    ours["spec"]["selector"] = {"app": "ours"}
    with pytest.raises(Conflict, match=r"spec\.selector"):
        await client.apply(SERVICES, key, ours, manager=MANAGER, force=False)
    assert decoded(await client.get(SERVICES, key)) == before


async def test_the_same_apply_again_is_no_new_version(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "same")
    first = decoded(await client.apply(SERVICES, key, service(key), manager=MANAGER))
    again = decoded(await client.apply(SERVICES, key, service(key), manager=MANAGER))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_preconditions_keep_another_object_from_being_deleted(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "kept")
    metadata = decoded(await client.create(SERVICES, key.namespace, service(key)))["metadata"]
    with pytest.raises(Conflict):
        await client.delete(SERVICES, key, uid=NOBODY)
    with pytest.raises(Conflict):
        await client.delete(SERVICES, key, uid=metadata["uid"], resource_version="1")
    await client.delete(SERVICES, key, uid=metadata["uid"], resource_version=metadata["resourceVersion"])
    with pytest.raises(NotFound):
        await client.delete(SERVICES, key, uid=metadata["uid"])


async def test_errors_say_what_the_server_said_and_of_what(client: Client, kubectl: Kubectl) -> None:
    key = Key(kubectl.namespace, "taken")
    await client.create(SERVICES, key.namespace, service(key))
    with pytest.raises(AlreadyExists, match="taken"):
        await client.create(SERVICES, key.namespace, service(key))
    with pytest.raises(Rejected, match=r"spec\.ports\[1\]\.port") as refused:
        await client.apply(SERVICES, key, service(key, port=99999), manager=MANAGER)
    assert str(refused.value).startswith(f"apply services {key}: ")
    with pytest.raises(NotFound):
        await client.list(Resource("example.com", "v1", "Nothing", "nothings"))


async def test_reviews_are_answered(client: Client) -> None:
    body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": {"token": "nonsense"}}
    assert "authenticated" not in decoded(await client.review(TOKEN_REVIEWS, body))["status"]


async def test_the_server_tells_its_version(client: Client) -> None:
    assert (await client.server_version()).startswith("v1.")
