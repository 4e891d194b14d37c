"""The queue of alerts: lists alerts, reads one with its evidence, claims it, stores the decision.

Row-level security shows alerts only to the safeguarding team and the data-protection officer. The state of an alert
changes under its row lock, so that of two concurrent reviewers exactly one succeeds.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.outbox.queries import emit
from comms.safeguarding.alerts.message_evidence import list_message_context, list_message_evidence, open_messages
from comms.safeguarding.alerts.records import (
    OPEN_STATES,
    STATE_AFTER,
    Alert,
    AlertDetail,
    AlertEvidence,
    AlertState,
    ContextTurn,
    NewReview,
    Review,
    UnsureTurn,
)
from models.contract.errors import WriteCareError, conflict, invalid, missing
from models.contract.records import Category, Record, Severity

_HIGHEST_RANK: Final = 2**31 - 1  # the maximum of the column type
_CONTEXT_TURNS: Final = 3  # on each side: enough to recognise a denial or a joke, short enough to read quickly

# A decision may be taken further, but not taken back.
_ALLOWED_TRANSITIONS: Final[dict[AlertState, frozenset[AlertState]]] = {
    **dict.fromkeys(OPEN_STATES, frozenset({"confirmed", "dismissed", "escalated", "referred"})),
    "confirmed": frozenset({"escalated", "referred"}),
    "dismissed": frozenset(),
    "referred": frozenset(),
}


def alert_of(row: dict[str, Any]) -> Alert:
    """Returns the record of a row of `alerts`."""
    return Alert(**{name: row[name] for name in Alert.model_fields})


class QueuePage(Record):
    """A page of the queue; `next` is the cursor of the next page, None on the last one."""

    items: tuple[Alert, ...]
    next: str | None


# --- the queue -----------------------------------------------------------------------------------------------------


async def list_alerts(
    conn: Connection,
    *,
    states: Sequence[AlertState] = (),
    severities: Sequence[Severity] = (),
    category: Category | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> QueuePage:
    """Lists alerts: open ones first, each part by severity, then the longest waiting; raises `invalid` for a bad
    cursor.
    """
    closed, rank, last = _parse_cursor(cursor) if cursor is not None else (None, None, None)
    rows = await (
        await conn.execute(
            "select *, (state <> all(%(open)s))::int as closed from alerts "
            "where (%(states)s::text[] = '{}' or state = any(%(states)s)) "
            "and (%(severities)s::text[] = '{}' or severity = any(%(severities)s)) "
            "and (%(category)s::text is null or %(category)s = any(categories)) "
            "and (%(last)s::uuid is null "
            "     or ((state <> all(%(open)s))::int, rank, id) > (%(closed)s::int, %(rank)s::int, %(last)s::uuid)) "
            "order by closed, rank, id limit %(limit)s",
            {
                "open": list(OPEN_STATES), "states": list(states), "severities": list(severities),
                "category": category, "closed": closed, "rank": rank, "last": last, "limit": limit + 1,
            },
        )
    ).fetchall()  # fmt: skip
    page = rows[:limit]
    more = len(rows) > limit
    return QueuePage(
        items=tuple(alert_of(row) for row in page),
        next=f"{page[-1]['closed']}.{page[-1]['rank']}.{page[-1]['id']}" if more else None,
    )


def _parse_cursor(cursor: str) -> tuple[int, int, UUID]:
    try:
        closed, rank, last = cursor.split(".")
        place = int(closed), int(rank), UUID(last)
    except ValueError:
        raise _invalid_cursor() from None
    if not (0 <= place[0] <= 1 and 0 <= place[1] <= _HIGHEST_RANK):
        raise _invalid_cursor()
    return place


def _invalid_cursor() -> WriteCareError:
    return invalid("cursor-invalid", "This cursor is invalid: start again without one.")


# --- one alert -------------------------------------------------------------------------------------------------------


async def view_alert(conn: Connection, actor: Actor, alert_id: UUID) -> AlertDetail:
    """Returns the alert with its evidence, context and reviews, and records an audit entry.

    Raises `missing`.
    """
    detail = await load_alert(conn, alert_id)
    await record_act(conn, actor, "alert.viewed", ("alert", alert_id), {"version": detail.version})
    return detail


async def load_alert(conn: Connection, alert_id: UUID) -> AlertDetail:
    """As `view_alert`, but without an audit entry: only for background processes, never to show it to a person."""
    row = await (await conn.execute("select * from alerts where id = %s", (alert_id,))).fetchone()
    if row is None:
        raise missing("alert")
    reviews = await conn.execute(
        "select id, alert_id, decision, reason, reviewer_id, created_at from reviews where alert_id = %s order by id",
        (alert_id,),
    )
    alert = alert_of(row)
    fields: dict[str, Any] = alert.model_dump() | {"reviews": tuple([Review(**review) async for review in reviews])}
    if alert.conversation_id is None:
        return AlertDetail(
            **fields,
            evidence=await _evidence(conn, alert_id),
            context=await _context(conn, alert_id),
            unsure=await _unsure(conn, alert_id),
        )
    await open_messages(conn, alert_id)
    return AlertDetail(
        **fields,
        message_evidence=await list_message_evidence(conn, alert_id),
        message_context=await list_message_context(conn),
    )


async def _evidence(conn: Connection, alert_id: UUID) -> tuple[AlertEvidence, ...]:
    rows = await conn.execute(
        "select u.position as utterance, u.speaker, u.start_seconds, u.end_seconds, u.text, "
        "       e.category, e.severity, e.probability, e.threshold, e.model, e.model_version, e.spans "
        "from alert_evidence e join utterances u on u.tenant_id = e.tenant_id and u.id = e.utterance_id "
        "where e.alert_id = %s order by u.position, e.probability desc",
        (alert_id,),
    )
    return tuple([AlertEvidence(**row) async for row in rows])


async def _context(conn: Connection, alert_id: UUID) -> tuple[ContextTurn, ...]:
    # The bounds are computed first: row-level security does not treat `-` as leakproof. A comparison with it would run
    # for every utterance of the transcript instead of using the index.
    rows = await conn.execute(
        "with cited as materialized (select distinct c.tenant_id, c.transcription_id, "
        "    c.position - %(around)s as first, c.position + %(around)s as last from alert_evidence e "
        "    join utterances c on c.tenant_id = e.tenant_id and c.id = e.utterance_id where e.alert_id = %(alert)s) "
        "select distinct u.position as utterance, u.speaker, u.start_seconds, u.end_seconds, u.text from cited "
        "join utterances u on u.tenant_id = cited.tenant_id and u.transcription_id = cited.transcription_id "
        "    and u.position between cited.first and cited.last order by utterance",
        {"alert": alert_id, "around": _CONTEXT_TURNS},
    )
    return tuple([ContextTurn(**row) async for row in rows])


async def _unsure(conn: Connection, alert_id: UUID) -> tuple[UnsureTurn, ...]:
    """What the analysis under the alert marks unsure, in the order of the call."""
    rows = await conn.execute(
        "select u.position as utterance, u.speaker, u.start_seconds, u.end_seconds, u.text, "
        "       (read.turn -> 'unsure' ->> 'probability')::float8 as probability, "
        "       (read.turn -> 'unsure' ->> 'threshold')::float8 as threshold "
        "from alerts a join analyses n on n.tenant_id = a.tenant_id and n.id = a.analysis_id "
        "cross join lateral jsonb_array_elements(n.document -> 'turns') with ordinality as read (turn, place) "
        "join utterances u on u.tenant_id = n.tenant_id and u.transcription_id = n.transcription_id "
        "    and u.position = read.place - 1 "
        "where a.id = %s and read.turn ? 'unsure' order by utterance",
        (alert_id,),
    )
    return tuple([UnsureTurn(**row) async for row in rows])


# --- claiming and deciding -----------------------------------------------------------------------------------------


async def claim_alert(conn: Connection, actor: Actor, alert_id: UUID, seen_version: int) -> Alert:
    """Gives the alert to `actor`; the same person may ask twice.

    Raises `missing`, and a conflict if another reviewer has claimed it, if it is decided, or if the version is stale.
    """
    alert = await _lock_alert(conn, alert_id)
    if alert.claimed_by == actor.user_id and alert.state == "claimed":
        return alert
    refuse_stale(alert.version, seen_version)
    _refuse_claimed_by_other(alert, actor)
    if alert.state not in OPEN_STATES:
        raise _already_decided(alert)
    row = await conn.execute(
        "update alerts set state = 'claimed', claimed_by = %s, claimed_at = now(), version = version + 1 "
        "where id = %s returning *",
        (actor.user_id, alert_id),
    )
    await record_act(conn, actor, "alert.claimed", ("alert", alert_id), {"from": alert.state})
    return alert_of(one(await row.fetchone()))


async def review_alert(
    conn: Connection, actor: Actor, alert_id: UUID, said: NewReview, seen_version: int
) -> tuple[Review, Alert]:
    """Stores the decision and sets the state of the alert. Deciding an unclaimed alert also claims it.

    Raises `missing`, and a conflict if another reviewer has claimed it, if the decision is not possible in this state,
    or if the version is stale.
    """
    alert = await _lock_alert(conn, alert_id)
    refuse_stale(alert.version, seen_version)
    _refuse_claimed_by_other(alert, actor)
    state = STATE_AFTER[said.decision]
    if state not in _ALLOWED_TRANSITIONS[alert.state]:
        raise _already_decided(alert)
    # An escalation releases the claim, so that the safeguarding lead can claim the alert.
    holder = None if state == "escalated" else actor.user_id
    updated = await conn.execute(
        "update alerts set state = %s, claimed_by = %s, version = version + 1, "
        "claimed_at = case when %s::uuid is null then null else coalesce(claimed_at, now()) end "
        "where id = %s returning *",
        (state, holder, holder, alert_id),
    )
    after = alert_of(one(await updated.fetchone()))
    added = await conn.execute(
        "insert into reviews (tenant_id, alert_id, decision, reason, reviewer_id) values (%s, %s, %s, %s, %s) "
        "returning id, alert_id, decision, reason, reviewer_id, created_at",
        (actor.tenant_id, alert_id, said.decision, said.reason, actor.user_id),
    )
    review = Review(**one(await added.fetchone()))
    fields = {"review_id": str(review.id), "decision": review.decision}
    await record_act(conn, actor, "alert.reviewed", ("alert", alert_id), {**fields, "from": alert.state, "to": state})
    await emit(
        conn, actor, "alert.reviewed", aggregate=("alert", alert_id), version=after.version,
        data={"alert_id": str(alert_id), "severity": after.severity, "state": state, **fields},
    )  # fmt: skip
    return review, after


async def _lock_alert(conn: Connection, alert_id: UUID) -> Alert:
    found = await conn.execute("select * from alerts where id = %s for update", (alert_id,))
    row = await found.fetchone()
    if row is None:
        raise missing("alert")
    return alert_of(row)


def _refuse_claimed_by_other(alert: Alert, actor: Actor) -> None:
    if alert.claimed_by is not None and alert.claimed_by != actor.user_id:
        raise conflict("alert-claimed", "Another reviewer has claimed this alert: speak to them, or take the next one.")


def _already_decided(alert: Alert) -> Exception:
    return conflict("alert-decided", f"This alert is already {alert.state}: read it again before you decide.")
