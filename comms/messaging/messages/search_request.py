"""Reads a search from a request. The models compute its vector before a database connection is taken."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query, Request

from comms.ai.model_client import model_client_of
from comms.kernel.access.roles import refuse_unless
from comms.kernel.time_types import Time
from comms.messaging.messages.search_records import RESULT_KINDS, Mode, ResultKind, Search
from comms.web.dependencies import AuthenticatedActor
from models.contract.endpoints import SearchQuestion, SearchVector

_WORDS: Final = (
    'Words; "quoted", or, -not are understood. Accents may be left out. A number, an address or a reference is found '
    "whole or by its parts."
)
_MODES: Final = (
    "`meaning` and `both` also find texts that say it in other words. Texts that are not similar enough are not found."
)


async def _search_query(
    q: Annotated[str, Query(min_length=1, max_length=500, description=_WORDS)],
    *,
    mode: Annotated[Mode, Query(description=_MODES)] = "words",
    kind: Annotated[frozenset[ResultKind] | None, Query(description="One or more kinds; all if none is given.")] = None,
    conversation_id: UUID | None = None,
    sender_id: Annotated[UUID | None, Query(description="Sender of the message, or known speaker.")] = None,
    from_time: Annotated[Time | None, Query(alias="from")] = None,
    to_time: Annotated[Time | None, Query(alias="to")] = None,
    has_attachment: Annotated[bool | None, Query(description="With files (true) or without (false).")] = None,
) -> Search:
    return Search(
        words=q, mode=mode, kinds=tuple(one for one in RESULT_KINDS if kind is None or one in kind),
        conversation_id=conversation_id, sender_id=sender_id, from_time=from_time, to_time=to_time,
        has_attachment=has_attachment,
    )  # fmt: skip


SearchDep = Annotated[Search, Depends(_search_query)]


async def _query_vector(wanted: SearchDep, request: Request, actor: AuthenticatedActor) -> SearchVector | None:
    refuse_unless(actor, "messages.read")  # before the request to the models
    if wanted.mode == "words":
        return None
    question = SearchQuestion(text=wanted.words)
    return await model_client_of(request).embed_question(question, request.headers["authorization"])


# None: no search by meaning, or the models did not answer in time.
QueryVectorDep = Annotated[SearchVector | None, Depends(_query_vector)]
