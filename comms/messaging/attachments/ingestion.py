"""An attachment is taken in: by a member, scanned, opened in a confined child, cleaned, sealed, and then its row.

Order matters. Whatever refuses comes before anything is stored. The object is written before the row, so that a row
never points at nothing; whatever fails deletes it again, and a process that dies in between leaves ciphertext whose key
was never kept, which `comms/messaging/attachments/sweep.py` removes.
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
# A picture made anew may take more room than it did; what takes many times more was made to.
_MOST_GROWTH: Final = 4
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Inspected:
    """A file that may be kept: under which name, what of it, for how long it sounds, and who found no malware."""

    name: str = field(repr=False)
    contents: Contents
    duration_seconds: float | None
    scanned_by: str | None


async def store_upload(
    ctx: AppContext, actor: Actor, conversation_id: UUID, request: Request, answer: Callable[[Attachment], Response]
) -> Attachment:
    """Keeps the file of the request's form, as `store_file`; `answer` is the route's, for a request that is repeated.

    Raises what `parse_form` does, too.
    """
    async with ctx.database.acting_as(actor) as conn:
        await queries.refuse_uploader(conn, actor, conversation_id)  # before a byte of it is read
    async with parse_form(request, ctx.settings.data_dir, _SHAPE) as form:
        if not form.files:
            raise invalid("attachment-empty", "The form has no `file`: send the attachment as that.")
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
    """Keeps the file for a message that is yet to be sent.

    Raises `missing` (conversation), what `read_contents`, `kept_name` and the scanner do, `invalid`
    (`attachment-empty`, `attachment-infected`), `too_large` (`attachment-too-large`), a conflict
    (`attachments-unsent`), `unavailable`; then database and storage are as they were.
    """
    _refuse_size(ctx, sent.file)
    scanned_by = await _scanned(ctx, actor, conversation_id, sent.file)
    with open_scratch(ctx.settings.data_dir) as kept:
        inspect = partial(_inspected, ctx.settings, sent, kept, scanned_by)
        inspected = await ctx.attachment_decoders.run(actor.tenant_id, inspect)
        object_ref = AttachmentObjectRef(actor.tenant_id, conversation_id, uuid_utils.uuid7())
        return await _keep(ctx, actor, object_ref, inspected, keyed_upload)


def _measured(file: BinaryIO) -> tuple[int, bytes]:
    """Its size in bytes and its SHA-256; it is at its beginning then."""
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
        raise invalid("attachment-empty", "The file is empty.")
    if size > most:
        raise too_large("attachment-too-large", f"The file has {size} bytes; at most {most} are taken.")


async def _scanned(ctx: AppContext, actor: Actor, conversation_id: UUID, file: BinaryIO) -> str | None:
    """Who found nothing in it; what is found is logged, and nothing of the file kept."""
    try:
        return await ctx.scanner.scan(file)
    except Infected as infected:
        async with ctx.database.acting_as(actor) as conn:
            found = {"signature": infected.signature}
            await record_act(conn, actor, "attachment.infected", ("conversation", conversation_id), found)
        raise invalid("attachment-infected", "The scanner found malware in the file: nothing of it was kept.") from None


def _inspected(settings: Settings, sent: UploadedFormFile, kept: BinaryIO, scanned_by: str | None) -> _Inspected:
    """Opens the file in a confined child, twice where it is sound. Takes its time: for a thread."""
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
            await queries.refuse_uploader(conn, actor, object_ref.conversation_id)  # again: it took a while
            attachment = await queries.keep(conn, actor, sealed)
            await keyed_upload.keep(attachment)
    except BaseException:
        # even where the request was cancelled: ciphertext without a row is of no use to anybody
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
    """A commit whose answer was lost may have kept the row: it is asked. What fails here, the sweep does later."""
    object_key = object_ref.object_key()
    try:
        async with ctx.database.acting_as(actor) as conn:
            kept = await queries.kept_objects(conn, [object_key])
        if not kept:
            await ctx.objects.delete(object_key)
    except WriteCareError as error:
        _log.warning("an object without a row is left to the sweep", problem=error.slug)
