"""Unit tests never sleep for real, and a hang is an error."""

import asyncio
import socket
import threading
import time

import pytest

from tests.unit.virtual_time import EPOCH, Deadlock, VirtualClock, VirtualTimeLoop


async def test_hours_pass_at_once(clock: VirtualClock) -> None:
    started, before = time.monotonic(), clock.monotonic()
    await asyncio.sleep(7200)
    assert clock.monotonic() - before == pytest.approx(7200)
    assert time.monotonic() - started < 1


async def test_the_wall_clock_follows_the_loop(clock: VirtualClock) -> None:
    assert clock.now() == EPOCH
    await clock.sleep(60)
    assert (clock.now() - EPOCH).total_seconds() == pytest.approx(60)


async def test_timers_fire_in_their_order() -> None:
    seen: list[int] = []

    async def note(seconds: int) -> None:
        await asyncio.sleep(seconds)
        seen.append(seconds)

    await asyncio.gather(note(30), note(10), note(20))
    assert seen == [10, 20, 30]


async def test_threads_are_waited_for() -> None:
    assert await asyncio.to_thread(lambda: 42) == 42


async def test_sockets_are_waited_for() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        threading.Timer(0.05, far.send, [b"x"]).start()
        async with asyncio.timeout(3600):
            assert await asyncio.get_running_loop().sock_recv(near, 1) == b"x"


def test_a_hang_is_an_error() -> None:
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(Deadlock):
        runner.run(hang())


@pytest.mark.real_loop
async def test_the_marker_selects_a_real_loop() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
