"""Time, as an argument: tests hand in a loop whose time is virtual, and nothing sleeps for real."""

import asyncio
from datetime import UTC, datetime


class Clock:
    """The running loop's monotonic time, and the wall clock."""

    def monotonic(self) -> float:
        """Seconds, for durations and deadlines."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """Wall-clock time in UTC, for what is shown to people."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(moment: datetime) -> str:
    """`metav1.Time`'s form: seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """`metav1.MicroTime`'s form, as Leases and Events carry it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
