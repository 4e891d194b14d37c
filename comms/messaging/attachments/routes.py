"""Routes for attachments: upload to a conversation, then send with a message (`POST /api/messages`), then download."""

from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request, Response

from comms.kernel.database import Actor
from comms.messaging.attachments import ingestion, queries
from comms.messaging.attachments.media_types import FILE_KINDS
from comms.messaging.attachments.records import Attachment
from comms.web.byte_ranges import RangeDep, StoredBytes, answer_range
from comms.web.dependencies import AuthorisedRequest, ContextDep, actor_with, authorised_for
from comms.web.problems import problem_responses
from comms.web.route_class import UNCHANGED, PlatformRoute

router = APIRouter(prefix="/api/messages/attachments", tags=["messages"], route_class=PlatformRoute)

# The body is parsed as a stream (comms/web/multipart_forms.py), so FastAPI cannot derive its schema.
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "format": "binary", "description": "The file, with its name."}},
}
_TAKES_FORM: Final = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
# If a browser opens the file directly, the file can load nothing and run nothing.
_SHUT: Final = "sandbox; default-src 'none'; frame-ancestors 'none'"
_CONTENT: Final[dict[str, Any]] = {media_type: {} for media_type in FILE_KINDS}


@router.post(
    "", status_code=201, response_model=Attachment, openapi_extra=_TAKES_FORM, responses=problem_responses(413, 415)
)
async def upload_attachment(
    conversation_id: UUID, request: Request, ctx: ContextDep, actor: Annotated[Actor, actor_with("messages.write")]
) -> Response:
    """Stores one file for a message in this conversation. It is deleted if it is not sent within a day."""
    return _created(await ingestion.store_upload(ctx, actor, conversation_id, request, _created))


@router.get(
    "/{attachment_id}",
    response_class=Response,
    responses={
        200: {"content": _CONTENT, "description": "The whole file"},
        206: {"content": _CONTENT, "description": "The range"},
        **UNCHANGED,
        **problem_responses(416),
    },
)
async def download_attachment(
    attachment_id: UUID,
    authorised: Annotated[AuthorisedRequest, authorised_for("messages.read")],
    asked: RangeDep,
) -> Response:
    """The file, whole or as a range, for all who see its message. If the message is deleted: only for officers, with an
    audit entry.
    """
    opened = await queries.open_attachment(authorised.ctx, authorised.conn, authorised.actor, attachment_id)
    attachment = opened.attachment
    headers = {"Content-Disposition": _disposition(attachment.name), "Content-Security-Policy": _SHUT}
    return await answer_range(
        asked,
        StoredBytes(
            attachment.size_bytes, attachment.media_type, f'"{attachment_id}"',
            lambda span: opened.read(authorised.ctx, span),
        ),
        headers,
    )  # fmt: skip


def _created(attachment: Attachment) -> Response:
    headers = {"Location": f"/api/messages/attachments/{attachment.id}"}
    return Response(attachment.model_dump_json(), 201, headers=headers, media_type="application/json")


def _disposition(name: str) -> str:
    """Makes the browser save the file under its name instead of showing it (RFC 6266; RFC 8187 for non-ASCII names)."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("\\", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
