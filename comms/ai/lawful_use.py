"""Checks the lawful basis of a model call before a model reads the input, and records the call.

The Serve ingress calls `check_lawful_basis` where it reads the body, with its own database connection that acts as the
caller. So a call forwarded by this API and one made at Serve's own port pass the same check.
"""

from typing import Final
from uuid import UUID

from comms.governance.consent.lawful_grounds import read_ground
from comms.governance.consent.permissions import refuse_unless_permitted
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from models.contract.endpoints import ENDPOINTS, EndpointName, LawfulBasisRef, Purpose
from models.contract.errors import missing, refused

_PURPOSES: Final[dict[EndpointName, Purpose]] = {endpoint.call: endpoint.purpose for endpoint in ENDPOINTS}


async def check_lawful_basis(conn: Connection, actor: Actor, basis_ref: LawfulBasisRef, call: EndpointName) -> None:
    """Checks that `basis_ref` exists for the tenant and permits the call's purpose, and records `ai.<call>`.

    Raises `missing` if it does not exist (or is another tenant's), `refused` if it does not permit the purpose.
    """
    purpose = _PURPOSES[call]
    if basis_ref.recording_id is not None:
        await _check_recording(conn, basis_ref.recording_id, purpose)
        basis_object = ("recording", basis_ref.recording_id)
    elif basis_ref.processing_id is not None:
        await _check_activity(conn, basis_ref.processing_id, purpose)
        basis_object = ("processing_activity", basis_ref.processing_id)
    else:
        assert basis_ref.conversation_id is not None, "a lawful basis reference names exactly one"
        await _check_conversation(conn, basis_ref.conversation_id, purpose)
        basis_object = ("conversation", basis_ref.conversation_id)
    await record_act(conn, actor, f"ai.{call}", basis_object, {"purpose": purpose})


async def _check_recording(conn: Connection, recording_id: UUID, purpose: Purpose) -> None:
    """Requires the permission of everyone who can be heard: of each track's speaker, or of all participants if tracks
    are mixed.

    The caller sends the words, so this check cannot know who said them: one person's refusal refuses the whole call.
    """
    found = await conn.execute(
        "select distinct p.user_id from recordings r "
        "join session_participants p on p.tenant_id = r.tenant_id and p.session_id = r.session_id "
        "left join recording_tracks own on own.tenant_id = p.tenant_id and own.recording_id = r.id "
        "    and own.participant_id = p.id "
        "where r.id = %s and r.status <> 'deleted' and (own.id is not null "
        "    or coalesce((select bool_or(t.participant_id is null) from recording_tracks t "
        "                 where t.tenant_id = r.tenant_id and t.recording_id = r.id), true))",
        (recording_id,),
    )
    people = [row["user_id"] async for row in found]
    if not people:
        raise missing("recording")
    await refuse_unless_permitted(conn, people, purpose)


async def _check_conversation(conn: Connection, conversation_id: UUID, purpose: Purpose) -> None:
    """Only for its members. Everyone who is or was a member must permit it, since the words may be theirs."""
    found = await conn.execute(
        "select distinct m.user_id from conversations c join conversation_members m "
        "on m.tenant_id = c.tenant_id and m.conversation_id = c.id where c.id = %s",
        (conversation_id,),
    )
    people = [row["user_id"] async for row in found]
    if not people:
        raise missing("conversation")
    await refuse_unless_permitted(conn, people, purpose)


async def _check_activity(conn: Connection, processing_id: UUID, purpose: Purpose) -> None:
    activity = await read_ground(conn, processing_id)
    if activity.activity_type != purpose:
        raise refused(
            "ground-other-purpose",
            f"This processing activity is for {activity.activity_type}: name one for {purpose}.",
        )
    if activity.ended_at is not None:
        raise refused("ground-ended", "This processing activity has ended: name the one that is in force.")
    if activity.legal_basis == "consent":
        raise refused(
            "ground-needs-people",
            "The basis of this processing activity is consent, which each person gives for themselves: name the "
            "recording_id or the conversation_id, so that the consent of those who took part can be checked.",
        )
