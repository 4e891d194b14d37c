"""The queue of evidence without spans: the worker finds the words that moved the model after the alert is raised.

It works as the queue of messages: evidence is leased, and becomes due again if the worker stores no result. Until then
the whole message is the evidence. Spans do not change the version of an alert, because the cited messages stay the
same: a reviewer who is deciding must not get a conflict because of a marked word.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Connection
from comms.safeguarding.alerts.records import MessageSpan
from comms.safeguarding.message_assessments.records import UnexplainedEvidence

# To explain one piece, the models read about a dozen turns (each without one phrase). Small batches limit how long due
# messages wait for that.
_BATCH: Final = 4
_WHILE_MESSAGES_WAIT: Final = 1
_LEASE_SECONDS: Final = 30.0
_LONGEST_LEASE_SECONDS: Final = 86_400.0  # reached if the sender no longer permits the analysis


async def lease_unexplained_evidence(conn: Connection) -> list[UnexplainedEvidence]:
    """Leases the newest evidence without spans; no other worker gets it before the lease ends.

    Only one piece while messages of the tenant are due.
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
    """Whether a message of the tenant is due and not leased."""
    found = await conn.execute("select exists (select from message_readings_due where due_at <= now()) as waits")
    return bool((await found.fetchall())[0]["waits"])


async def save_spans(conn: Connection, spans: Mapping[UUID, Sequence[MessageSpan]]) -> int:
    """Stores the spans of each piece of evidence by id; returns how many it stored.

    Spans that another worker stored first are not replaced.
    """
    kept = await conn.execute(
        "update alert_evidence e set spans = given.spans, spans_due_at = null "
        "from unnest(%s::uuid[], %s::jsonb[]) as given (id, spans) "
        "where e.id = given.id and e.spans_due_at is not null returning e.id",
        (list(spans), [Jsonb([span.model_dump(mode="json") for span in of_it]) for of_it in spans.values()]),
    )
    return len(await kept.fetchall())


async def tenants_with_unexplained(conn: Connection) -> list[UUID]:
    """Returns the tenants that have evidence without spans that is not leased."""
    found = await conn.execute("select app.tenants_with_unexplained_evidence() as id")
    return [row["id"] async for row in found]
