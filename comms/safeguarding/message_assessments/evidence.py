"""Evidence that waits for its spans: which words moved the model is found after the alert has gone up.

As what waits to be read: taken for a while, and whatever becomes of a worker, what was not kept comes due again. Until
then the message whole is the evidence. Spans change no alert's version: what is cited stays the same, and nobody who
is deciding on it is put off by a mark under its words.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Connection
from comms.safeguarding.alerts.records import MessageSpan
from comms.safeguarding.message_assessments.records import UnexplainedEvidence

# A phrase taken away is a turn read, a dozen for each: what is judged meanwhile waits no longer than for these.
_BATCH: Final = 4
_WHILE_MESSAGES_WAIT: Final = 1
_LEASE_SECONDS: Final = 30.0
_LONGEST_LEASE_SECONDS: Final = 86_400.0  # of what its sender does not permit to be read any more


async def lease_unexplained_evidence(conn: Connection) -> list[UnexplainedEvidence]:
    """The newest evidence that waits for its spans; nobody else is given it before its lease ends.

    Just one while messages of the tenant wait to be read.
    """
    taken = await conn.execute(
        "with chosen as (select tenant_id, id from alert_evidence where spans_due_at <= now() order by id desc "
        "    limit case when exists (select from message_readings_due where due_at <= now()) then %s else %s end) "
        "update alert_evidence e set spans_tries = e.spans_tries + 1, "
        "    spans_due_at = now() + make_interval(secs => least(%s, %s * power(2, least(e.spans_tries, 16)))) "
        "from chosen, messages m where e.tenant_id = chosen.tenant_id and e.id = chosen.id "
        "    and e.spans_due_at <= now() and m.tenant_id = e.tenant_id and m.id = e.message_id "
        "returning e.id, e.message_id, e.message_version as version, m.sender_id, e.spans_tries as tries, "
        "    e.category, e.severity, e.probability, e.threshold, e.model_version",
        (_WHILE_MESSAGES_WAIT, _BATCH, _LONGEST_LEASE_SECONDS, _LEASE_SECONDS),
    )
    return [UnexplainedEvidence(**row) async for row in taken]


async def has_waiting_messages(conn: Connection) -> bool:
    """Whether a message of the tenant waits to be read, and nobody reads it."""
    found = await conn.execute("select exists (select from message_readings_due where due_at <= now()) as waits")
    return bool((await found.fetchall())[0]["waits"])


async def save_spans(conn: Connection, spans: Mapping[UUID, Sequence[MessageSpan]]) -> int:
    """Lays the spans beside the evidence of that id; what another worker explained first stays. Returns how many."""
    kept = await conn.execute(
        "update alert_evidence e set spans = given.spans, spans_due_at = null "
        "from unnest(%s::uuid[], %s::jsonb[]) as given (id, spans) "
        "where e.id = given.id and e.spans_due_at is not null returning e.id",
        (list(spans), [Jsonb([span.model_dump(mode="json") for span in of_it]) for of_it in spans.values()]),
    )
    return len(await kept.fetchall())


async def tenants_with_unexplained(conn: Connection) -> list[UUID]:
    """The tenants in which evidence waits for its spans and nobody looks for them."""
    found = await conn.execute("select app.tenants_with_unexplained_evidence() as id")
    return [row["id"] async for row in found]
