"""Whether what this process leans on is there: asked by people and by supervisors, answered within seconds."""

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
    """One thing leaned on: whether it is there, how long the question took, and where not, why not."""

    status: Literal["ok", "down", "unused"]
    seconds: float
    detail: str | None = None


class Health(Record):
    """`ok`; `degraded`: recordings are taken but not read, or no attachments are, or a child that nothing confines
    opens files (`allow_unconfined_decoding`); `down`: nothing can be taken.

    `confinement`: which limits of that child hold; `confinement_layers`: by what means.
    """

    status: Literal["ok", "degraded", "down"]
    database: Check
    storage: Check
    models: Check
    scanner: Check
    confinement: dict[str, bool]
    confinement_layers: tuple[str, ...]


async def examine(ctx: AppContext, confinement: Confinement) -> Health:
    """Asks everything at once; how far a child that opens files is confined, the process found out at its start."""
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
        return Check(status="down", seconds=time.perf_counter() - began, detail="It does not answer in time.")
    return Check(status="ok", seconds=time.perf_counter() - began)


async def _database(ctx: AppContext) -> None:
    async with ctx.database.without_tenant() as conn:
        await conn.execute("select 1")


async def _scanner(ctx: AppContext) -> Check:
    if not isinstance(ctx.scanner, ClamAV):
        return Check(status="unused", seconds=0.0, detail="No malware scanner is named (WRITECARE_CLAMD_URL).")
    return await _check(ctx.scanner.ping)


async def _models(ctx: AppContext) -> Check:
    url = ctx.settings.serve_url
    if url is None:
        return Check(status="unused", seconds=0.0, detail="No model endpoints are named (WRITECARE_SERVE_URL).")

    async def ask() -> None:
        try:
            async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False) as client:
                answer = await client.get(f"{url.rstrip('/')}/-/healthz")
        except httpx.HTTPError as error:
            raise unavailable("models-unreachable", f"No answer ({type(error).__name__}).") from None
        if answer.status_code != 200:
            raise unavailable("models-unreachable", f"It answers {answer.status_code}.")

    return await _check(ask)
