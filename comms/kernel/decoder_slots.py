"""Limits how many uploaded files this process opens at a time, with a fair share for each tenant.

Each open file takes a processor and a child process (`models/confinement/process.py`). A tenant can never hold all
slots. The tenant that holds fewest slots gets the next one. A caller that waits too long gets an error with the time
of the next try. The work has its own threads, so that the threads that the rest of the process shares stay free.
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
    """Slots for opening files: at least two, so that one tenant always leaves a slot to the others."""

    def __init__(self, slots: int, wait_seconds: float) -> None:
        if slots < 2:
            raise ValueError("use at least two slots, so that one tenant always leaves a slot to the others")
        self._free = slots
        self._max_per_tenant = slots - 1
        self._wait_seconds = wait_seconds
        self._used_by_tenant: Counter[UUID] = Counter()
        self._waiting: list[_WaitingWork] = []  # in the order of arrival
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="decoder")

    async def run(self, tenant_id: UUID, work: Callable[[], Result]) -> Result:
        """Runs `work` when the tenant gets a slot, and returns its result.

        Raises `unavailable` (`decoders-busy`) if the tenant gets no slot in time. If the caller is cancelled, the work
        continues, and its slot becomes free when the work ends.
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
        """Accepts no more work. Running work continues until it ends; its own limits bound how long."""
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
            else:  # it got its slot at the same time
                self._release_slot(tenant_id)
            if isinstance(error, TimeoutError):
                raise self._busy() from None
            raise

    def _start_waiting(self) -> None:
        """Assigns free slots: to the tenant that holds fewest, and among equals to the caller that came first."""
        while self._free:
            eligible = [
                one
                for one in self._waiting
                if not one.admitted.done() and self._used_by_tenant[one.tenant_id] < self._max_per_tenant
            ]  # done: its caller was cancelled, and it is not removed from the list yet
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
            "Too many files are being opened at the moment: send this file again after the time in Retry-After.",
            retry_after_seconds=max(1, round(self._wait_seconds)),
        )
