"""Checks the services that this process needs: database, storage, models, malware scanner. Each check ends within
seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import httpx

from comms.kernel.malware_scanner import ClamAV
from comms.web.context import AppContext
from models.confinement.process import Confinement
from models.contract.errors import WriteCareError, unavailable
from models.contract.records import Record

_PATIENCE_SECONDS: Final = 3.0


class Check(Record):
    """The result of one check: the status, its duration in seconds, and the reason if the service is down."""

    status: Literal["ok", "down", "unused"]
    seconds: float
    detail: str | None = None


class Health(Record):
    """The result of all checks.

    `ok`: everything works. `degraded`: recordings are accepted but not analysed, or attachments are refused, or files
    are opened in a child process that is not fully confined (`allow_unconfined_decoding`). `down`: nothing is accepted.

    `confinement`: for each limit of that child process, whether it is enforced. `confinement_layers`: the mechanisms
    that enforce them.
    """

    status: Literal["ok", "degraded", "down"]
    database: Check
    storage: Check
    models: Check
    scanner: Check
    confinement: dict[str, bool]
    confinement_layers: tuple[str, ...]


async def examine(ctx: AppContext, confinement: Confinement) -> Health:
    """Runs all checks at the same time. `confinement` is what this process measured at its start."""
    database, storage, models, scanner = await asyncio.gather(
        _check(lambda: _database(ctx)), _check(ctx.objects.probe), _models(ctx), _scanner(ctx)
    )
    status: Literal["ok", "degraded", "down"] = "ok"
    if "down" in (models.status, scanner.status) or confinement.missing:
        status = "degraded"
    if "down" in (database.status, storage.status):
        status = "down"
    if confinement.missing and not ctx.settings.allow_unconfined_decoding:
        status = "down"  # every recording and every attachment is refused
    return Health(
        status=status, database=database, storage=storage, models=models, scanner=scanner,
        confinement=confinement.limits, confinement_layers=confinement.layers,
    )  # fmt: skip


async def _check(ask: Callable[[], Awaitable[None]]) -> Check:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await ask()
    except WriteCareError as error:
        return Check(status="down", seconds=time.perf_counter() - began, detail=error.detail)
    except TimeoutError:
        return Check(status="down", seconds=time.perf_counter() - began, detail="The service did not answer in time.")
    return Check(status="ok", seconds=time.perf_counter() - began)


async def _database(ctx: AppContext) -> None:
    async with ctx.database.without_tenant() as conn:
        await conn.execute("select 1")


async def _scanner(ctx: AppContext) -> Check:
    if not isinstance(ctx.scanner, ClamAV):
        return Check(status="unused", seconds=0.0, detail="No malware scanner is configured (WRITECARE_CLAMD_URL).")
    return await _check(ctx.scanner.ping)


async def _models(ctx: AppContext) -> Check:
    url = ctx.settings.serve_url
    if url is None:
        return Check(status="unused", seconds=0.0, detail="No model endpoints are configured (WRITECARE_SERVE_URL).")

    async def ask() -> None:
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False) as client:
                answer = await client.get(f"{url.rstrip('/')}/-/healthz")
        except httpx.HTTPError as error:
            raise unavailable("models-unreachable", f"The models did not answer ({type(error).__name__}).") from None
        if answer.status_code != 200:
            raise unavailable("models-unreachable", f"The models answered {answer.status_code}.")

    return await _check(ask)
