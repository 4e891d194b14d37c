"""Loads due messages with their context for the worker, and stores their assessments."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.governance.consent.permissions import lock_permissions
from comms.kernel.database import Actor, Connection
from comms.safeguarding.alerts.conversation_alerts import add_concerns
from comms.safeguarding.message_assessments.queue import dequeue
from comms.safeguarding.message_assessments.records import DueMessage, MessageAssessment, MessageTurn
from comms.safeguarding.message_assessments.vectors import save_vectors
from comms.safeguarding.message_text import attachment_texts, with_attachment_text

# The number of turns of context around a message; each costs as much as a due one. A new message has no turn after it
# yet, so the last two before it are assessed again (docs/decisions/0025 has the figures).
_TURNS_BEFORE: Final = 4
_TURNS_AFTER: Final = 2
_REASSESSED: Final = 2
_SAVE_LOCK: Final = "message_readings"


async def load_turns(conn: Connection, due: Sequence[DueMessage]) -> list[MessageTurn]:
    """Returns the due messages (in their version, with attachments) and a few turns around each, in the order of
    writing.

    The last two before each are marked `again`. A message that no longer exists (retention erased it) is left out.
    """
    ids, versions = [one.message_id for one in due], [one.version for one in due]
    found = await conn.execute(
        "select m.conversation_id, m.id as message_id, d.version, m.sender_id, u.role, true as due, "
        "    m.version = d.version as current, "
        "    case when m.version = d.version then m.content else v.content end as text "
        "from unnest(%s::uuid[], %s::int[]) as d (message_id, version) join messages m on m.id = d.message_id "
        "join users u on u.tenant_id = m.tenant_id and u.id = m.sender_id "
        "left join message_versions v on v.tenant_id = m.tenant_id and v.message_id = m.id "
        "    and v.version = d.version and v.standing = 'former' and m.version <> d.version",
        (ids, versions),
    )
    wanted = [MessageTurn(**row) async for row in found if row["text"] is not None]
    present = {(one.message_id, one.version) for one in wanted}
    around = [one for one in await _load_context(conn, wanted) if (one.message_id, one.version) not in present]
    inside = await attachment_texts(conn, {one.message_id for one in (*wanted, *around) if one.due or one.again})
    turns = [
        one.model_copy(update={"text": with_attachment_text(one.text, inside[one.message_id])})
        if one.message_id in inside
        else one
        for one in (*wanted, *around)
    ]
    return sorted(turns, key=lambda turn: (turn.message_id, turn.version))


async def _load_context(conn: Connection, wanted: Sequence[MessageTurn]) -> list[MessageTurn]:
    found = await conn.execute(
        "select c.conversation_id, c.id as message_id, c.version, c.sender_id, u.role, false as due, "
        "    bool_or(c.again and c.sender_id is not null) as again, true as current, c.content as text "
        "from unnest(%(ids)s::uuid[], %(conversations)s::uuid[]) as d (message_id, conversation_id) "
        "cross join lateral ("
        "    select b.*, row_number() over (order by b.id desc) <= %(again)s as again from ("
        "        select * from messages where conversation_id = d.conversation_id and id < d.message_id "
        "        and content is not null order by id desc limit %(before)s) b "
        "    union all select a.*, false from ("
        "        select * from messages where conversation_id = d.conversation_id and id > d.message_id "
        "        and content is not null order by id limit %(after)s) a) c "
        "left join users u on u.tenant_id = c.tenant_id and u.id = c.sender_id "
        "group by c.conversation_id, c.id, c.version, c.sender_id, u.role, c.content",
        {
            "ids": [one.message_id for one in wanted], "conversations": [one.conversation_id for one in wanted],
            "before": _TURNS_BEFORE, "after": _TURNS_AFTER, "again": _REASSESSED,
        },
    )  # fmt: skip
    return [MessageTurn(**row) async for row in found]


async def save_assessments(
    conn: Connection,
    actor: Actor,
    due: Sequence[DueMessage],
    assessments: Sequence[MessageAssessment],
    shown: Sequence[MessageTurn],
) -> int:
    """Stores the assessments of due messages, raises their alerts, and returns how many it stored.

    `shown` is what the models read. If the sender of any of these turns no longer permits the analysis, nothing of that
    conversation is stored: its messages become due again and are assessed without these turns. An assessment that
    another worker stored first is not replaced.

    An assessment marked `again` is stored in addition to the first one of its message, if there is one and if a due
    message of its conversation is stored now. It may add concerns and removes none.
    """
    # one transaction after the other in a tenant, so that two concerns of a conversation join the same alert
    await conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{_SAVE_LOCK}:{actor.tenant_id}",))
    changed = await _conversations_barred(conn, shown)
    conversation_of = {(turn.message_id, turn.version): turn.conversation_id for turn in shown if turn.due}
    done = [
        (one.message_id, one.version)
        for one in due
        if conversation_of.get((one.message_id, one.version)) not in changed
    ]
    ours = await dequeue(conn, done)
    first = [assessment for assessment in assessments if (assessment.message_id, assessment.version) in ours]
    followed = {assessment.conversation_id for assessment in first}
    again = [assessment for assessment in assessments if assessment.again and assessment.conversation_id in followed]
    kept = await _insert(conn, actor, [*first, *again])
    await _raise_alerts(conn, actor, kept)
    await _save_vectors(conn, actor, first)
    return len(first)


async def _raise_alerts(conn: Connection, actor: Actor, kept: Sequence[MessageAssessment]) -> None:
    """Raises alerts for the concerns that no alert cites yet, whether that alert is decided or not."""
    concerning = sorted({piece.message_id for assessment in kept for piece in assessment.concerns})
    if not concerning:
        return
    found = await conn.execute(
        "select message_id, message_version, category from alert_evidence where message_id = any(%s)", (concerning,)
    )
    cited = {(row["message_id"], row["message_version"], row["category"]) async for row in found}
    for conversation_id in dict.fromkeys(assessment.conversation_id for assessment in kept):
        of_it = [assessment for assessment in kept if assessment.conversation_id == conversation_id]
        pieces = [piece for assessment in of_it for piece in assessment.concerns]
        evidence = [piece for piece in pieces if (piece.message_id, piece.version, piece.category) not in cited]
        if evidence:
            await add_concerns(conn, actor, conversation_id, evidence, of_it[0].models)


async def _conversations_barred(conn: Connection, shown: Sequence[MessageTurn]) -> set[UUID]:
    people = sorted({turn.sender_id for turn in shown if turn.sender_id is not None and turn.text})
    answers = await lock_permissions(conn, people, "analyse") if people else ()
    barred = {answer.user_id for answer in answers if not answer.permitted}
    return {turn.conversation_id for turn in shown if turn.text and turn.sender_id in barred}


async def _insert(conn: Connection, actor: Actor, assessments: Sequence[MessageAssessment]) -> list[MessageAssessment]:
    """Inserts the assessments; one marked `again` only if its message has a first one. Returns those inserted."""
    if not assessments:
        return []
    written = await conn.execute(
        "insert into message_readings (tenant_id, conversation_id, message_id, version, turns_before, turns_after, "
        "    again, probability, concerns, sentiment, models, unread_language) "
        "select %s, given.* from unnest(%s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::int[], %s::bool[], "
        "    %s::float8[], %s::jsonb[], %s::text[], %s::jsonb[], %s::text[]) as given (conversation_id, message_id, "
        "    version, turns_before, turns_after, again, probability, concerns, sentiment, models, unread_language) "
        "where not given.again or exists (select from message_readings r "
        "    where r.message_id = given.message_id and r.version = given.version) "
        "returning message_id, version",
        (
            actor.tenant_id,
            *map(list, zip(*(
                (
                    assessment.conversation_id, assessment.message_id, assessment.version, assessment.turns_before,
                    assessment.turns_after, assessment.again, assessment.probability,
                    Jsonb(_stored_concerns(assessment)), assessment.sentiment,
                    Jsonb(assessment.models), assessment.unread_language,
                )
                for assessment in assessments
            ), strict=True)),
        ),
    )  # fmt: skip
    there = {(row["message_id"], row["version"]) async for row in written}
    return [assessment for assessment in assessments if (assessment.message_id, assessment.version) in there]


async def _save_vectors(conn: Connection, actor: Actor, assessments: Sequence[MessageAssessment]) -> None:
    """Stores the vectors of messages that were not changed since they were assessed.

    The rows are locked: a later edit deletes the vector.
    """
    made = {assessment.message_id: assessment for assessment in assessments if assessment.vector is not None}
    if not made:
        return
    still_current = await conn.execute(
        "select m.id from messages m join unnest(%s::uuid[], %s::int[]) as given (id, version) "
        "on m.id = given.id and m.version = given.version order by m.id for share of m",
        (list(made), [assessment.version for assessment in made.values()]),
    )
    vectors = [(row["id"], list(made[row["id"]].vector or ())) async for row in still_current]
    if vectors:
        await save_vectors(conn, actor, vectors, assessments[0].models["embedding"])


def _stored_concerns(assessment: MessageAssessment) -> list[dict[str, Any]]:
    included = {"category", "severity", "probability", "threshold"}
    return [piece.model_dump(mode="json", include=included) for piece in assessment.concerns]
