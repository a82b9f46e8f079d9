"""The store's rule: per object it only moves forward, and every transition is announced once."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memop.informers.store import Cause, Store
from memop.refs import Key


@dataclass(frozen=True)
class Obj:
    name: str
    uid: str
    resource_version: int
    labels: tuple[str, ...] = ()
    namespace: str = "ns"

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


KEY = Key("ns", "a")


def a(version: int, uid: str = "u1", labels: tuple[str, ...] = ()) -> Obj:
    return Obj("a", uid, version, labels)


@dataclass
class Announcements:
    """Keeps what handlers are told, and checks that each transition starts where the one before ended."""

    state: dict[Key, Obj] = field(default_factory=dict)
    transitions: list[tuple[Obj | None, Obj | None]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what a handler raises is only logged

    def __call__(self, old: Obj | None, new: Obj | None, cause: Cause) -> None:
        obj = new or old
        if obj is None or old == new or self.state.get(obj.key) != old:
            self.broken.append(f"{old} -> {new}")
        self.transitions.append((old, new))
        if new is not None:
            self.state[new.key] = new
        elif old is not None:
            self.state.pop(old.key, None)


@pytest.fixture
def store() -> Store[Obj]:
    return Store()


@pytest.fixture
def announced(store: Store[Obj]) -> Announcements:
    announcements = Announcements()
    store.subscribe(announcements)
    return announcements


def test_an_older_delivery_is_ignored(store: Store[Obj], announced: Announcements) -> None:
    store.changed(a(5))
    store.changed(a(4))
    assert announced.transitions == [(None, a(5))]


def test_an_own_write_is_seen_at_once_and_its_watch_event_is_no_news(
    store: Store[Obj], announced: Announcements
) -> None:
    store.changed(a(5))
    store.wrote(a(9))
    assert store.reader.get(KEY) == a(9)
    store.changed(a(7))
    store.changed(a(9))
    assert announced.transitions == [(None, a(5)), (a(5), a(9))]


def test_versions_are_compared_as_numbers(store: Store[Obj]) -> None:
    store.changed(a(9))
    store.changed(a(10))
    assert store.reader.get(KEY) == a(10)


def test_an_own_write_answered_after_the_watch_told_of_the_deletion_raises_no_ghost(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.gone(KEY, "u1", 12)
    store.wrote(a(10))
    assert store.reader.get(KEY) is None


def test_a_bookmark_is_as_good_as_an_event_against_ghosts(store: Store[Obj]) -> None:
    store.bookmark("ns", 12)
    store.wrote(a(10))
    assert len(store.reader) == 0
    store.wrote(a(13))
    assert store.reader.get(KEY) == a(13)


def test_a_deletion_older_than_what_is_held_is_of_an_earlier_incarnation(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.wrote(a(9, "u2"))
    store.gone(KEY, "u1", 8)
    assert store.reader.get(KEY) == a(9, "u2")


def test_an_object_whose_labels_came_back_outlives_the_event_of_their_loss(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.wrote(a(9))  # our apply restored the labels; that they were lost at 8 is told only now
    store.gone(KEY, "u1", 8)
    assert store.reader.get(KEY) == a(9)


def test_a_later_incarnation_replaces_the_earlier_in_one_transition(
    store: Store[Obj], announced: Announcements
) -> None:
    store.changed(a(5))
    store.changed(a(9, "u2"))
    assert announced.transitions[-1] == (a(5), a(9, "u2"))


def test_a_deletion_ends_what_is_held_of_an_earlier_incarnation(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.gone(KEY, "u2", 8)
    assert store.reader.get(KEY) is None


def test_a_list_ends_what_it_does_not_name_up_to_its_version(store: Store[Obj], announced: Announcements) -> None:
    store.changed(a(5))
    store.wrote(Obj("b", "u9", 12))
    store.listed("", {}, 10)
    assert list(store.reader.keys()) == [Key("ns", "b")]
    assert announced.transitions[-1] == (a(5), None)


def test_a_stale_list_neither_revives_nor_rewinds(store: Store[Obj], announced: Announcements) -> None:
    store.listed("", {KEY: a(5), Key("ns", "b"): Obj("b", "u9", 6)}, 6)
    store.gone(KEY, "u1", 8)
    store.changed(Obj("b", "u9", 9))
    before = list(announced.transitions)
    store.listed("", {KEY: a(5), Key("ns", "b"): Obj("b", "u9", 6)}, 7)
    store.changed(a(8))  # told again by the watch that follows the stale list
    assert announced.transitions == before


def test_a_confirmed_deletion_is_seen_at_once_and_outlives_older_news(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.deleted(KEY, "u1")
    assert store.reader.get(KEY) is None
    store.changed(a(7))
    store.listed("", {KEY: a(7)}, 7)
    store.wrote(a(6))
    assert store.reader.get(KEY) is None


def test_a_new_incarnation_lives_although_its_predecessor_was_confirmed_dead(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.deleted(KEY, "u1")
    store.changed(a(9, "u2"))
    store.gone(KEY, "u1", 8)
    assert store.reader.get(KEY) == a(9, "u2")


def test_the_confirmed_deletion_of_another_incarnation_is_none_of_ours(store: Store[Obj]) -> None:
    store.changed(a(9, "u2"))
    store.deleted(KEY, "u1")
    assert store.reader.get(KEY) == a(9, "u2")


@pytest.mark.parametrize("by", ["event", "list"])
def test_the_dead_are_forgotten_when_the_server_tells_of_it(store: Store[Obj], by: str) -> None:
    store.changed(a(5))
    store.deleted(KEY, "u1")
    store.listed("", {KEY: a(5)}, 6)
    assert store._dead
    if by == "event":
        store.gone(KEY, "u1", 7)
    else:
        store.listed("", {}, 8)
    assert not store._dead


def test_an_object_that_a_list_names_but_cannot_be_decoded_stays(store: Store[Obj]) -> None:
    store.changed(a(5))
    store.listed("", {KEY: None}, 10)
    assert store.reader.get(KEY) == a(5)


def test_namespaces_are_told_of_independently() -> None:
    store: Store[Obj] = Store(namespaces=["ns", "other"])
    store.changed(a(50))
    store.listed("other", {}, 60)
    assert KEY in store.reader
    store.wrote(Obj("b", "u2", 55))  # above what "ns" was told, whatever "other" was
    assert Key("ns", "b") in store.reader
    store.wrote(Obj("c", "u3", 70, namespace="elsewhere"))
    assert len(store.reader) == 2
    assert (store.reader.resource_version("ns"), store.reader.resource_version("other")) == (50, 60)


def test_indexes_follow_every_transition() -> None:
    store: Store[Obj] = Store(indexes={"label": lambda obj: obj.labels})
    store.changed(a(1, labels=("x", "y")))
    store.changed(Obj("b", "u2", 2, labels=("x",)))
    store.changed(Obj("c", "u3", 3, labels=("x",)))
    assert [obj.name for obj in store.reader.by_index("label", "x")] == ["a", "b", "c"]
    store.changed(a(4, labels=("y",)))
    store.gone(Key("ns", "c"), "u3", 5)
    assert [obj.name for obj in store.reader.by_index("label", "x")] == ["b"]
    assert [obj.name for obj in store.reader.by_index("label", "y")] == ["a"]
    store.listed("", {}, 6)
    assert store.reader.by_index("label", "x") == []
    assert store._buckets == {"label": {}}


def test_a_raising_handler_keeps_no_other_from_being_told(store: Store[Obj]) -> None:
    def broken(old: Obj | None, new: Obj | None, cause: Cause) -> None:
        raise RuntimeError

    store.subscribe(broken)
    announcements = Announcements()
    store.subscribe(announcements)
    with capture_logs() as logs:
        store.changed(a(1))
    assert announcements.state == {KEY: a(1)}
    assert [entry["event"] for entry in logs] == ["informer handler failed"]


@dataclass
class History:
    """What truly happened: at each version one name was written, or freed (None)."""

    changes: list[tuple[int, Key, str, Obj | None]]

    def at(self, version: int) -> dict[Key, Obj]:
        state: dict[Key, Obj] = {}
        for when, key, _, obj in self.changes:
            if when > version:
                break
            if obj is None:
                del state[key]
            else:
                state[key] = obj
        return state


@st.composite
def histories(draw: st.DrawFn) -> History:
    changes: list[tuple[int, Key, str, Obj | None]] = []
    alive: dict[str, str] = {}
    version = 0
    for number in range(draw(st.integers(1, 14))):
        version += draw(st.integers(1, 3))
        name = draw(st.sampled_from("ab"))
        key = Key("ns", name)
        if name in alive and draw(st.booleans()):
            changes.append((version, key, alive.pop(name), None))
            continue
        uid = alive.setdefault(name, f"u{number}")
        changes.append((version, key, uid, Obj(name, uid, version, labels=(draw(st.sampled_from("xy")),))))
    return History(changes)


class World:
    """A history under way, a server that tells of it, and the store that is told."""

    def __init__(self, history: History, rng: random.Random) -> None:
        self.history = history
        self.rng = rng
        self.end = history.changes[-1][0]
        self.now = 0  # how far the history went
        self.watched: int | None = None  # how far the watch told; None while there is none
        self.told = 0  # how far the watch or a list told, at most
        self.answers = list(history.changes)  # writes that might be ours, each answered once, whenever
        self.store: Store[Obj] = Store(indexes={"label": lambda obj: obj.labels})
        self.announced = Announcements()
        self.store.subscribe(self.announced)
        self.newest: dict[Key, int] = {}  # the highest version held so far
        self.buried: set[str] = set()  # held until their deletion was confirmed

    def watch(self) -> None:
        """The next event, or a bookmark."""
        assert self.watched is not None
        upcoming = (change for change in self.history.changes if self.watched < change[0] <= self.now)
        if (change := next(upcoming, None)) is None:
            self.watched = max(self.watched, self.now)
            self.store.bookmark("ns", self.watched)
        else:
            self.watched, key, uid, obj = change
            if obj is None:
                self.store.gone(key, uid, self.watched)
            else:
                self.store.changed(obj)
        self.told = max(self.told, self.watched)

    def list(self, version: int) -> None:
        self.store.listed("", self.history.at(version), version)
        self.watched = version
        self.told = max(self.told, version)

    def answer(self) -> None:
        """One of our writes that happened is answered, in any order."""
        happened = [change for change in self.answers if change[0] <= self.now]
        if not happened:
            return
        change = self.rng.choice(happened)
        self.answers.remove(change)
        _, key, uid, obj = change
        if obj is not None:
            self.store.wrote(obj)
            return
        if (held := self.store.objects.get(key)) and held.uid == uid:
            self.buried.add(uid)
        self.store.deleted(key, uid)

    def check(self) -> None:
        for key in (Key("ns", "a"), Key("ns", "b")):
            if (held := self.store.objects.get(key)) is not None:
                self._check_forward(held)
        assert self.buried.isdisjoint(obj.uid for obj in self.store.objects.values())
        assert not self.announced.broken
        assert self.announced.state == self.store.objects
        for value in "xy":
            labelled = {key for key, obj in self.store.objects.items() if value in obj.labels}
            assert {obj.key for obj in self.store.reader.by_index("label", value)} == labelled

    def _check_forward(self, held: Obj) -> None:
        """No older than anything held before, nor than what was told of its name: a ghost is older than its end."""
        version = held.resource_version
        assert version >= self.newest.get(held.key, 0)
        self.newest[held.key] = version
        truth = [(when, obj) for when, key, _, obj in self.history.changes if key == held.key and when <= self.told]
        if truth:
            assert version >= truth[-1][0]


@settings(max_examples=1000, deadline=None)
@given(histories(), st.randoms(use_true_random=True), st.booleans())
def test_whatever_brings_it_the_true_history_is_told_forward_and_to_its_end(
    history: History, rng: random.Random, stale_lists: bool
) -> None:
    """Watch events in order with any delay; own writes, confirmed deletions and lists, fresh or stale, in between."""
    world = World(history, rng)
    for _ in range(40):
        match rng.choice(["happen", "happen", "watch", "watch", "watch", "answer", "answer", "list"]):
            case "happen":
                world.now = min(world.end, world.now + 1)
            case "watch" if world.watched is not None:
                world.watch()
            case "answer":
                world.answer()
            case "list" if rng.random() < 0.3:
                world.list(rng.randint(0, world.now) if stale_lists else world.now)
        world.check()

    world.now = world.end
    while world.answers:
        world.answer()
        world.check()
    if world.watched is None:
        world.list(world.now)
    while world.watched is None or world.watched < world.end:
        world.watch()
        world.check()
    assert world.store.objects == history.at(world.end)
    assert world.announced.state == history.at(world.end)
    assert not world.store._dead
