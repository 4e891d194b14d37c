"""Takes in an attachment: checks the membership, scans, sanitises in a confined child, encrypts, stores, inserts the
row.

All checks come before anything is stored. The object is written before the row, so a row always has an object. If a
later step fails, the object is deleted. If the process dies between the two, the object remains without a row and so
without its key; `comms/messaging/attachments/sweep.py` deletes it.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final
from uuid import UUID

import structlog
import uuid_utils.compat as uuid_utils
from fastapi import Request, Response

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.kernel.malware_scanner import Infected
from comms.kernel.settings import Settings
from comms.kernel.storage.key_service import KEY_BYTES
from comms.kernel.storage.scratch_files import open_scratch
from comms.kernel.storage.segment_encryption import SEGMENT_BYTES, seal
from comms.messaging.attachments import queries
from comms.messaging.attachments.file_names import kept_name, refuse_false_claim
from comms.messaging.attachments.queries import AttachmentObjectRef, SealedAttachment
from comms.messaging.attachments.records import Attachment
from comms.messaging.attachments.sanitising.inspection import Contents, read_contents
from comms.web.context import AppContext
from comms.web.idempotency.attempts import keyed_request_of
from comms.web.idempotency.uploads import UNKEYED_UPLOAD, KeyedUpload
from comms.web.multipart_forms import FormLimits, UploadedFormFile, parse_form
from models.audio import decoder
from models.contract.errors import WriteCareError, invalid, too_large

_SHAPE: Final = FormLimits(files=frozenset({"file"}), fields=frozenset(), most=1, too_many="upload-too-many-files")
# A re-encoded picture may be larger than the original; a file that grows far more is an attack.
_MOST_GROWTH: Final = 4
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Inspected:
    """A file that may be stored: its name, its contents, its duration, and the scanner that found no malware."""

    name: str = field(repr=False)
    contents: Contents
    duration_seconds: float | None
    scanned_by: str | None


async def store_upload(
    ctx: AppContext, actor: Actor, conversation_id: UUID, request: Request, answer: Callable[[Attachment], Response]
) -> Attachment:
    """Stores the file of the request's form, as `store_file`. `answer` makes the response that a repeated request gets.

    Also raises what `parse_form` raises.
    """
    async with ctx.database.acting_as(actor) as conn:
        await queries.refuse_uploader(conn, actor, conversation_id)  # before any byte is read
    async with parse_form(request, ctx.settings.data_dir, _SHAPE) as form:
        if not form.files:
            raise invalid("attachment-empty", "The form has no part `file`: send the attachment in it.")
        [sent] = form.files
        _, digest = await asyncio.to_thread(_measured, sent.file)
        keyed_upload = KeyedUpload(keyed_request_of(request), digest, answer)
        async with ctx.database.acting_as(actor) as conn:
            await keyed_upload.claim(conn, actor)
        return await store_file(ctx, actor, conversation_id, sent, keyed_upload)


async def store_file(
    ctx: AppContext,
    actor: Actor,
    conversation_id: UUID,
    sent: UploadedFormFile,
    keyed_upload: KeyedUpload[Attachment] = UNKEYED_UPLOAD,
) -> Attachment:
    """Stores the file for a message that will be sent later.

    Raises `missing` (conversation), what `read_contents`, `kept_name` and the scanner raise, `invalid`
    (`attachment-empty`, `attachment-infected`), `too_large` (`attachment-too-large`), a conflict
    (`attachments-unsent`), `unavailable`. After an error, database and storage are unchanged.
    """
    _refuse_size(ctx, sent.file)
    scanned_by = await _scanned(ctx, actor, conversation_id, sent.file)
    with open_scratch(ctx.settings.data_dir) as kept:
        inspect = partial(_inspected, ctx.settings, sent, kept, scanned_by)
        inspected = await ctx.attachment_decoders.run(actor.tenant_id, inspect)
        object_ref = AttachmentObjectRef(actor.tenant_id, conversation_id, uuid_utils.uuid7())
        return await _keep(ctx, actor, object_ref, inspected, keyed_upload)


def _measured(file: BinaryIO) -> tuple[int, bytes]:
    """The file's size in bytes and its SHA-256. Leaves the file at its beginning."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    size = file.tell()
    file.seek(0)
    return size, digest.digest()


def _refuse_size(ctx: AppContext, file: BinaryIO) -> None:
    size, most = file.seek(0, os.SEEK_END), ctx.settings.max_attachment_bytes
    file.seek(0)
    if size == 0:
        raise invalid("attachment-empty", "The file is empty: choose another one.")
    if size > most:
        raise too_large("attachment-too-large", f"The file has {size} bytes; at most {most} are accepted.")


async def _scanned(ctx: AppContext, actor: Actor, conversation_id: UUID, file: BinaryIO) -> str | None:
    """Returns the scanner's name. If it finds malware: writes an audit entry, stores nothing of the file, raises
    `invalid`.
    """
    try:
        return await ctx.scanner.scan(file)
    except Infected as infected:
        async with ctx.database.acting_as(actor) as conn:
            found = {"signature": infected.signature}
            await record_act(conn, actor, "attachment.infected", ("conversation", conversation_id), found)
        raise invalid("attachment-infected", "The scanner found malware: the file was not stored.") from None


def _inspected(settings: Settings, sent: UploadedFormFile, kept: BinaryIO, scanned_by: str | None) -> _Inspected:
    """Opens the file in a confined child (audio twice). It blocks: call it in a thread."""
    allow_unconfined = settings.allow_unconfined_decoding
    most = settings.max_attachment_bytes * _MOST_GROWTH
    contents = read_contents(sent.file, kept, most, allow_unconfined=allow_unconfined)
    refuse_false_claim(sent.media_type, contents.media_type)
    name = kept_name(sent.filename, contents.media_type)
    seconds = None
    if contents.is_sound:
        limit = settings.max_recording_seconds
        found = decoder.inspect(sent.file, max_seconds=limit, allow_unconfined=allow_unconfined)
        seconds = found.duration_seconds
    return _Inspected(name, contents, seconds, scanned_by)


async def _keep(
    ctx: AppContext,
    actor: Actor,
    object_ref: AttachmentObjectRef,
    inspected: _Inspected,
    keyed_upload: KeyedUpload[Attachment],
) -> Attachment:
    try:
        sealed = await _store(ctx, object_ref, inspected)
        async with ctx.database.acting_as(actor) as conn:
            await keyed_upload.claim(conn, actor)
            # again: the membership may have ended meanwhile
            await queries.refuse_uploader(conn, actor, object_ref.conversation_id)
            attachment = await queries.keep(conn, actor, sealed)
            await keyed_upload.keep(attachment)
    except BaseException:
        # Also if the request was cancelled: nobody can use ciphertext without a row.
        await asyncio.shield(_remove_unless_kept(ctx, actor, object_ref))
        raise
    return attachment


async def _store(ctx: AppContext, object_ref: AttachmentObjectRef, inspected: _Inspected) -> SealedAttachment:
    contents = inspected.contents
    size, digest = await asyncio.to_thread(_measured, contents.file)
    key = secrets.token_bytes(KEY_BYTES)
    wrapped = await ctx.keys.wrap(key, object_ref.context())
    await ctx.objects.put(object_ref.object_key(), seal(_pieces(contents.file), key, object_ref))
    return SealedAttachment(
        object_ref=object_ref, name=inspected.name, media_type=contents.media_type, size_bytes=size,
        duration_seconds=inspected.duration_seconds, sha256=digest, key=wrapped, text=contents.text,
        text_cut=contents.text_cut, scanned_by=inspected.scanned_by,
    )  # fmt: skip


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, SEGMENT_BYTES):
        yield piece


async def _remove_unless_kept(ctx: AppContext, actor: Actor, object_ref: AttachmentObjectRef) -> None:
    """Deletes the object if it has no row. It asks the database, because a commit may have succeeded without an answer.

    If this fails, the sweep deletes the object later.
    """
    object_key = object_ref.object_key()
    try:
        async with ctx.database.acting_as(actor) as conn:
            kept = await queries.kept_objects(conn, [object_key])
        if not kept:
            await ctx.objects.delete(object_key)
    except WriteCareError as error:
        _log.warning("cannot delete an object without a row; the sweep will", problem=error.slug)
