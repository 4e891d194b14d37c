"""Measures what the platform adds to its database: POST /api/messages over the same psycopg statements and commit.

    ./writecare bench message_post

As `session_post`: one API process and one PostgreSQL; rounds of requests alternate with rounds of the same rows written
by psycopg; prints the median of the rounds' ratios of p50. The raw side writes the same rows (message, the
conversation's next clock value, event, audit entry) with the same login under the same row-level security: one
statement after the other, as psycopg is commonly used, and in a pipeline, as the platform sends them. Each side writes
in its own conversation.
"""

import http.client
import json
import sys
import uuid
from collections.abc import Callable

import psycopg
import uuid_utils.compat as uuid_utils
from psycopg.types.json import Jsonb

from benchmarks.session_post import compare, running_api
from comms.kernel.database import Actor

WORDS = "Ada had her tablets at eight and slept well; please look at her left heel again tonight."


def make_conversation(url: str, actor: Actor) -> uuid.UUID:
    """Creates a conversation of the actor."""
    conversation_id = uuid_utils.uuid7()
    with psycopg.connect(url) as admin:
        admin.execute(
            "select set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true)",
            (str(actor.tenant_id), str(actor.user_id)),
        )
        admin.execute(
            "insert into conversations (tenant_id, id, conversation_type, created_by, moment) "
            "values (%s, %s, 'group', %s, %s)",
            (actor.tenant_id, conversation_id, actor.user_id, conversation_id),
        )
    return conversation_id


def poster(port: int, token: str, conversation_id: uuid.UUID) -> Callable[[], None]:
    """Returns a function that sends a message through the API."""
    line = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps({"conversation_id": str(conversation_id), "content": WORDS})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post() -> None:
        line.request("POST", "/api/messages", body, headers)
        answer = line.getresponse()
        answer.read()
        assert answer.status == 201, answer.status

    return post


def write(conn: psycopg.Connection, actor: Actor, conversation_id: uuid.UUID) -> None:
    """Executes the statements of a message's POST, without begin and commit."""
    conn.execute(
        "select set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true), "
        "set_config('app.role', %s, true)",
        (str(actor.tenant_id), str(actor.user_id), actor.role),
    )
    conn.execute(
        "select active from users where tenant_id = %s and id = %s", (actor.tenant_id, actor.user_id)
    ).fetchone()
    found = conn.execute(
        "select moment, event_version from conversations where id = %s for no key update", (conversation_id,)
    ).fetchone()
    assert found is not None
    moment, version = max(uuid_utils.uuid7(), uuid.UUID(int=found[0].int + 1)), found[1] + 1
    conn.execute(
        "update conversations set moment = %s, event_version = %s where id = %s", (moment, version, conversation_id)
    )
    conn.execute(
        "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, message_type, content, "
        "reply_to, changed_id) values (%s, %s, %s, %s, 'user', 'text', %s, null, %s)",
        (actor.tenant_id, moment, conversation_id, actor.user_id, WORDS, moment),
    )
    ids = {"conversation_id": str(conversation_id), "message_id": str(moment)}
    conn.execute(
        "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "values (%s, 'message.sent', 'conversation', %s, %s, %s)",
        (actor.tenant_id, conversation_id, version, Jsonb(ids)),
    )
    conn.execute(
        "insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, details) "
        "values (%s, %s, %s, 'message.sent', 'message', %s, %s)",
        (actor.tenant_id, actor.user_id, actor.role, moment, Jsonb({"conversation_id": str(conversation_id)})),
    )


def raw(conn: psycopg.Connection, actor: Actor, conversation_id: uuid.UUID) -> Callable[[], None]:
    """Returns a function that sends a message with psycopg, one statement after the other."""

    def send() -> None:
        with conn.transaction():
            write(conn, actor, conversation_id)

    return send


def piped(conn: psycopg.Connection, actor: Actor, conversation_id: uuid.UUID) -> Callable[[], None]:
    """As `raw`, in a pipeline."""

    def send() -> None:
        with conn.pipeline(), conn.transaction():
            write(conn, actor, conversation_id)

    return send


def main() -> int:
    with running_api() as (databases, port, actor, token), psycopg.connect(databases.app, autocommit=True) as conn:
        mine = (make_conversation(databases.administrator, actor) for _ in range(3))
        compare(
            {
                "posted": poster(port, token, next(mine)),
                "raw": raw(conn, actor, next(mine)),
                "piped": piped(conn, actor, next(mine)),
            }
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
