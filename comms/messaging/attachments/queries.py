"""Reads and writes the rows of attachments. The bytes are in object storage (`comms/kernel/storage`).

Before an attachment is sent, only its uploader can see it. Then all who see its message can.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.storage.key_service import WrappedKey
from comms.kernel.storage.segment_encryption import ByteRange, sealed_range, unseal
from comms.messaging.attachments.records import Attachment
from comms.web.context import AppContext
from models.contract.errors import WriteCareError, conflict, missing

MAX_UNSENT: Final = 50  # of one user: with so many unsent uploads, they must send some or wait for the sweep
_COLUMNS: Final = "a.id, a.name, a.media_type, a.size_bytes, a.duration_seconds, a.created_at"
# The attachments of a message `m`.
ATTACHED: Final = (
    "coalesce((select jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'media_type', a.media_type, "
    "'size_bytes', a.size_bytes, 'duration_seconds', a.duration_seconds, 'created_at', a.created_at) "
    "order by a.position) from message_attachments a where a.tenant_id = m.tenant_id and a.message_id = m.id), '[]')"
)
_KEEP: Final = (
    "insert into message_attachments as a (tenant_id, id, conversation_id, uploaded_by, name, media_type, size_bytes, "  # noqa: S608 (constants)
    "duration_seconds, sha256, object_key, wrapped_key, key_id, text, text_cut, scanned_by) "
    f"values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) returning {_COLUMNS}"
)
_ATTACH: Final = (
    "update message_attachments a set message_id = %(message)s, "  # noqa: S608 (constants)
    "position = array_position(%(ids)s::uuid[], a.id) - 1 "
    "where a.id = any(%(ids)s) and a.conversation_id = %(conversation)s and a.uploaded_by = %(actor)s "
    f"and a.message_id is null returning a.position, {_COLUMNS}"
)
_OPEN: Final = (
    f"select {_COLUMNS}, a.conversation_id, a.wrapped_key, a.key_id, m.id as of_deleted "  # noqa: S608 (constants)
    "from message_attachments a left join messages m "
    "on m.tenant_id = a.tenant_id and m.id = a.message_id and m.deleted_at is not null where a.id = %s"
)


@dataclass(frozen=True)
class AttachmentObjectRef:
    """The ids that identify a stored attachment. They give its storage key and bind its encryption to it."""

    tenant_id: UUID
    conversation_id: UUID
    attachment_id: UUID

    def context(self) -> str:
        return f"attachment|{self.tenant_id}|{self.conversation_id}|{self.attachment_id}"

    def object_key(self) -> str:
        """The key in object storage: only ids, in another folder than the recordings."""
        return f"{folder_of(self.tenant_id)}/{self.conversation_id}/{self.attachment_id}.sealed"

    def damaged(self) -> WriteCareError:
        return conflict(
            "attachment-damaged",
            f"The stored attachment {self.attachment_id} is damaged: restore it from a backup.",
        )


@dataclass(frozen=True)
class SealedAttachment:
    """An attachment that was encrypted and written to storage, with the values of its row."""

    object_ref: AttachmentObjectRef
    name: str = field(repr=False)
    media_type: str
    size_bytes: int
    duration_seconds: float | None
    sha256: bytes = field(repr=False)
    key: WrappedKey = field(repr=False)
    text: str | None = field(repr=False)
    text_cut: bool
    scanned_by: str | None


@dataclass(frozen=True)
class OpenedAttachment:
    """An attachment and its decryption key. `read` does not use the database."""

    attachment: Attachment
    object_ref: AttachmentObjectRef
    _key: bytes = field(repr=False)

    def read(self, ctx: AppContext, byte_range: ByteRange) -> AsyncIterator[bytes]:
        """The decrypted bytes of the range, in pieces. Raises a conflict (as `damaged`), `missing`, `unavailable`."""
        size = self.attachment.size_bytes
        stored = ctx.objects.get(self.object_ref.object_key(), sealed_range(size, byte_range))
        return unseal(stored, self._key, self.object_ref, size, byte_range)


def folder_of(tenant_id: UUID) -> str:
    """The folder of a tenant's attachments in storage."""
    return f"attachments/{tenant_id}"


async def refuse_uploader(conn: Connection, actor: Actor, conversation_id: UUID) -> None:
    """Raises `missing` if the actor is not a member, a conflict (`attachments-unsent`) if they have too many unsent
    uploads.
    """
    found = await conn.execute(
        "select exists (select from conversation_members where conversation_id = %(conversation)s "
        "and user_id = %(actor)s and until_id is null) as inside, "
        "(select count(*) from message_attachments where uploaded_by = %(actor)s and message_id is null) as unsent",
        {"conversation": conversation_id, "actor": actor.user_id},
    )
    row = one(await found.fetchone())
    if not row["inside"]:
        raise missing("conversation")
    if row["unsent"] >= MAX_UNSENT:
        raise conflict("attachments-unsent", f"You have {MAX_UNSENT} unsent uploads: send them first.")


async def keep(conn: Connection, actor: Actor, sealed: SealedAttachment) -> Attachment:
    """Inserts the row of a stored attachment. It belongs to no message yet."""
    object_ref = sealed.object_ref
    kept = await conn.execute(
        _KEEP,
        (
            actor.tenant_id, object_ref.attachment_id, object_ref.conversation_id, actor.user_id, sealed.name,
            sealed.media_type, sealed.size_bytes, sealed.duration_seconds, sealed.sha256, object_ref.object_key(),
            sealed.key.wrapped, sealed.key.key_id, sealed.text, sealed.text_cut, sealed.scanned_by,
        ),
    )  # fmt: skip
    attachment = Attachment.model_validate(one(await kept.fetchone()))
    uploaded = {"conversation_id": str(object_ref.conversation_id), "media_type": sealed.media_type}
    await record_act(conn, actor, "attachment.uploaded", ("attachment", attachment.id), uploaded)
    return attachment


async def attach(
    conn: Connection, actor: Actor, conversation_id: UUID, message_id: UUID, attachments: Sequence[UUID]
) -> tuple[Attachment, ...]:
    """Attaches the actor's uploads in this conversation to the message, in this order.

    Raises `missing` if one does not exist, belongs to another user or conversation, or is already sent.
    """
    sent = await conn.execute(
        _ATTACH,
        {
            "message": message_id, "ids": list(attachments), "conversation": conversation_id, "actor": actor.user_id,
        },
    )  # fmt: skip
    rows = sorted(await sent.fetchall(), key=lambda row: int(row.pop("position")))
    if len(rows) != len(attachments):
        raise missing("attachment")
    return tuple(Attachment.model_validate(row) for row in rows)


async def open_attachment(ctx: AppContext, conn: Connection, actor: Actor, attachment_id: UUID) -> OpenedAttachment:
    """Returns the attachment and its key. If its message is deleted, only officers can, with an audit entry. Raises
    `missing`.
    """
    row = await (await conn.execute(_OPEN, (attachment_id,))).fetchone()
    if row is None:
        raise missing("attachment")
    if (message_id := row.pop("of_deleted")) is not None:
        details = {"attachment_id": str(attachment_id)}
        await record_act(conn, actor, "message.deleted-read", ("message", message_id), details)
    object_ref = AttachmentObjectRef(actor.tenant_id, row.pop("conversation_id"), attachment_id)
    wrapped = WrappedKey(row.pop("key_id"), bytes(row.pop("wrapped_key")))
    key = await ctx.keys.unwrap(wrapped, object_ref.context())
    return OpenedAttachment(Attachment.model_validate(row), object_ref, key)


async def kept_objects(conn: Connection, object_keys: Sequence[str]) -> frozenset[str]:
    """Returns the object keys that a row of the tenant refers to; it also counts rows that the actor may not see."""
    found = await conn.execute("select app.kept_attachment_objects(%s) as key", (list(object_keys),))
    return frozenset(row["key"] for row in await found.fetchall())


async def drop_unsent(conn: Connection) -> list[str]:
    """Deletes the tenant's uploads, with their keys, that were not sent within a day. Returns the object keys."""
    found = await conn.execute("select app.drop_unsent_attachments() as key")
    return [row["key"] for row in await found.fetchall()]
