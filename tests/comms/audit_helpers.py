"""Runs audit sealers in tests, in this process or as a separate process, and reads results as the administrator."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from comms.governance.audit.anchors import AnchorKey, AnchorStore
from comms.governance.audit.sealer import seal_forever
from comms.governance.audit.verification import Verification, verify_chain
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests.comms import outbox_helpers

ROOT = Path(__file__).parent.parent.parent


def anchor_store_of(ctx: AppContext) -> AnchorStore:
    """The anchor store in the instance's data folder."""
    return AnchorStore(ctx.objects, AnchorKey.open(ctx.settings.data_dir / "keys"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection with the role in the URL."""
    async with await Connection.connect(url, autocommit=True, row_factory=dict_row) as conn:
        yield conn


@asynccontextmanager
async def sealing(ctx: AppContext, databases: Databases, anchor_seconds: float = 0.05) -> AsyncIterator[None]:
    """A sealer that runs until the block ends and then seals what is left."""
    stopping = asyncio.Event()
    running = asyncio.create_task(seal_forever(databases.sealer, anchor_store_of(ctx), anchor_seconds, stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


async def seal(ctx: AppContext, databases: Databases) -> None:
    """Seals and anchors all waiting audit entries, as at a clean stop."""
    async with sealing(ctx, databases):
        await asyncio.sleep(0)
        await outbox_helpers.until(lambda: nothing_waits(databases))


async def nothing_waits(databases: Databases) -> bool:
    """Whether every existing audit entry is sealed."""
    waiting = "select 1 from audit_unsealed q join audit_log l on l.tenant_id = q.tenant_id and l.id = q.audit_id"
    return await outbox_helpers.query_as_admin(databases, waiting) == []


def start_sealer(ctx: AppContext, databases: Databases) -> subprocess.Popen[bytes]:
    """Starts a sealer process as the launcher does."""
    wiring = {
        "WRITECARE_ROLE_DATABASE_URL": databases.sealer, "WRITECARE_DATA_DIR": str(ctx.settings.data_dir),
        "PATH": os.environ["PATH"],
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "comms.governance.audit.sealer"], cwd=ROOT, env=wiring)


async def act(ctx: AppContext, actor: Actor, times: int = 1, action: str = "test.acted") -> None:
    """Writes this many audit entries of the actor, each in its own transaction."""
    for _ in range(times):
        async with ctx.database.acting_as(actor) as conn:
            await record_act(conn, actor, action, ("user", actor.user_id), {"n": 1})


async def verified(ctx: AppContext, databases: Databases, tenant_id: UUID) -> Verification:
    """What the verification finds; it is called as in the command."""
    async with connected(databases.sealer) as conn:
        return await verify_chain(conn, anchor_store_of(ctx), tenant_id)


async def tamper(databases: Databases, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Runs a statement as an attacker with full control of the database: without triggers, foreign keys and
    policies.
    """
    async with connected(databases.administrator) as administrator, administrator.transaction():
        await administrator.execute("set local session_replication_role = replica")
        for statement, values in statements:
            await administrator.execute(statement.encode(), values)
