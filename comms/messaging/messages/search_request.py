"""What a search asks for, read from its request; its meaning is asked of the models before a connection is taken."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Request

from comms.ai.model_client import model_door_of
from comms.kernel.access.roles import refuse_unless
from comms.kernel.time_types import Time
from comms.messaging.messages.search_records import KINDS, Kind, Mode, Search
from comms.web.dependencies import SignedIn
from models.contract.endpoints import Question, QuestionVector

_WORDS: Final = (
    'Words; "quoted", or, -not are understood. Accents may be left out. A number, an address or a reference is found '
    "whole or by its parts."
)
_MODES: Final = (
    "`meaning` and `both` also find what says it in other words, as far as it is near enough; what is far from all of "
    "it is not found."
)


async def _wanted(
    q: Annotated[str, Query(min_length=1, max_length=500, description=_WORDS)],
    *,
    mode: Annotated[Mode, Query(description=_MODES)] = "words",
    kind: Annotated[frozenset[Kind] | None, Query(description="Once a kind; all where none is named.")] = None,
    conversation_id: UUID | None = None,
    sender_id: Annotated[UUID | None, Query(description="Who sent it, or is known to have said it.")] = None,
    from_time: Annotated[Time | None, Query(alias="from")] = None,
    to_time: Annotated[Time | None, Query(alias="to")] = None,
    has_attachment: Annotated[bool | None, Query(description="Messages that came with a file, or without.")] = None,
) -> Search:
    return Search(
        words=q, mode=mode, kinds=tuple(one for one in KINDS if kind is None or one in kind),
        conversation_id=conversation_id, sender_id=sender_id, from_time=from_time, to_time=to_time,
        has_attachment=has_attachment,
    )  # fmt: skip


Wanted = Annotated[Search, Depends(_wanted)]


async def _meaning(wanted: Wanted, request: Request, actor: SignedIn) -> QuestionVector | None:
    refuse_unless(actor, "messages.read")  # before the models are asked
    if wanted.mode == "words":
        return None
    question = Question(text=wanted.words)
    return await model_door_of(request).lay_question(question, request.headers["authorization"])


# None: not asked for, or the models do not answer at once.
Meaning = Annotated[QuestionVector | None, Depends(_meaning)]
