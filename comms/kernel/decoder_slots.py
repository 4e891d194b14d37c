"""How many files from outside are opened at a time by this process, and whose turn it is.

Each open file takes a processor and a child process (`models/confinement/process.py`). A tenant can never hold all
places, and who holds fewest is next; who waits too long is asked to come back. Work runs in threads of its own: those
that the process shares for everything else stay free.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from models.contract.errors import Kind, WriteCareError

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class _WaitingWork:
    tenant_id: UUID
    admitted: "asyncio.Future[None]"


class DecoderPool:
    """Places in which files are opened: at least two, so that one tenant leaves another a place."""

    def __init__(self, slots: int, wait_seconds: float) -> None:
        if slots < 2:
            raise ValueError("at least two places, so that one tenant leaves another a place")
        self._free = slots
        self._max_per_tenant = slots - 1
        self._wait_seconds = wait_seconds
        self._used_by_tenant: Counter[UUID] = Counter()
        self._waiting: list[_WaitingWork] = []  # who came first is first
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="decoder")

    async def run(self, tenant_id: UUID, work: Callable[[], Result]) -> Result:
        """What the work returns, once it is the tenant's turn; raises `unavailable` (`decoders-busy`) after the wait.

        A caller who goes away does not end the work: its place is free when the work has ended.
        """
        await self._wait(tenant_id)
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            self._release_slot(tenant_id)
            raise
        running.add_done_callback(lambda _: self._release_slot(tenant_id))
        return await asyncio.shield(running)

    def close(self) -> None:
        """No more work is taken; what runs goes on until it ends, which its own limits bound."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _wait(self, tenant_id: UUID) -> None:
        waiting = _WaitingWork(tenant_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._start_waiting()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await waiting.admitted
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # admitted in the same moment
                self._release_slot(tenant_id)
            if isinstance(error, TimeoutError):
                raise self._busy() from None
            raise

    def _start_waiting(self) -> None:
        """Gives free places away: to the tenant that holds fewest, and of those to who came first."""
        while self._free:
            eligible = [
                one
                for one in self._waiting
                if not one.admitted.done() and self._used_by_tenant[one.tenant_id] < self._max_per_tenant
            ]  # done: it has gone away, and has not left the list yet
            if not eligible:
                return
            chosen = min(eligible, key=lambda one: self._used_by_tenant[one.tenant_id])
            self._waiting.remove(chosen)
            self._free -= 1
            self._used_by_tenant[chosen.tenant_id] += 1
            chosen.admitted.set_result(None)

    def _release_slot(self, tenant_id: UUID) -> None:
        self._free += 1
        self._used_by_tenant[tenant_id] -= 1
        if not self._used_by_tenant[tenant_id]:
            del self._used_by_tenant[tenant_id]
        self._start_waiting()

    def _busy(self) -> WriteCareError:
        return WriteCareError(
            Kind.UNAVAILABLE,
            "decoders-busy",
            "Many files are being opened just now: send this one again in a while.",
            retry_after_seconds=max(1, round(self._wait_seconds)),
        )
