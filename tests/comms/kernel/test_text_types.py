"""Names and words that people send: visible text is kept as it is, and invisible text is refused."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError

from comms.kernel.text_types import Name, Words, shown_name
from comms.web.context import AppContext
from tests import factories
from tests.comms.openapi_requests import Operation, operations
from tests.comms.web.test_middleware import assert_problem

NAME: TypeAdapter[str] = TypeAdapter(Name)
WORDS: TypeAdapter[str] = TypeAdapter(Words)

BLANK = [
    " ", "\t \n", "\u00a0", "\u3000", "\u200b", "\u200b \u200c", "\u2060", "\ufeff", "\u00ad", "\u200d", "\u202e",
    "\u2066\u2069", "\u115f", "\u3164", "\u2800", "\u0301", "\ufe0f", "\U000e0067", "\u034f", "\u180e", "\U000e0001",
]  # fmt: skip
NAMES = [
    "Siân Ŵyn Llŷr", "Tŷ Gwyn", "Zoë", "O’Brien-Ngũgĩ", "李小龍", "محمد", "יוסף", "प्रिया", "👩🏽‍⚕️", "👨‍👩‍👧‍👦",
    "❤️", "1️⃣", "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f", "🇬🇧",
    "می‌خواهم", "क्‍ष", "🫨", "Room 4, 2nd floor",
]  # fmt: skip
DISGUISED = [
    "Sam\u200b", "S\u200bam", "\u202eMas", "Sam\u202c", "\u2066Sam\u2069", "Sam\u200eLee", "Sam\u00ad", "Sam\ufeff",
    "Sam\u200d", "\u200dSam", "Sam \u200d Lee", "Sam\nLee", "Sam\x00", "Sam\x1b[2J", "Sam\u2028Lee", "Sam\u3164",
    "Sam\U000e0053\U000e007f", "Sam\u0085Lee", "Sam\u2060", "Sam\u061c",
]  # fmt: skip


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_what_nobody_can_see_is_neither_a_name_nor_words(text: str) -> None:
    for kind in (NAME, WORDS):
        with pytest.raises(ValidationError) as refused:
            kind.validate_python(text)
        assert refused.value.errors()[0]["type"] == "text_invalid"


@pytest.mark.parametrize("text", NAMES)
def test_names_of_every_script_and_emoji_are_kept_as_they_are(text: str) -> None:
    assert NAME.validate_python(text) == text
    assert WORDS.validate_python(text) == text
    assert shown_name(text).replace("\U000e0067", "") != ""


@pytest.mark.parametrize("text", DISGUISED, ids=ascii)
def test_a_name_that_looks_like_another_is_refused(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        NAME.validate_python(text)
    [error] = refused.value.errors()
    assert error["type"] == "text_invalid"
    assert "Sam" not in error["msg"]


def test_composed_and_decomposed_are_one_name_without_space_at_its_ends() -> None:
    assert NAME.validate_python("  Sia\u0302n \u00a0") == "Siân"
    assert WORDS.validate_python("\n Ty\u0302 Gwyn\n") == "Tŷ Gwyn"


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines\r\nand\ta tab", "\u202a+44 1248 000000\u202c", "\u2068محمد\u2069 said so",
        "שלום\u200f!", "a\u200bb",
        "\u2067\u202aboth\u202c\u2069", "code:\n    indented",
    ],
    ids=ascii,
)  # fmt: skip
def test_words_may_have_lines_and_directions_that_end_where_they_began(text: str) -> None:
    assert WORDS.validate_python(text) == text


@pytest.mark.parametrize(
    "text",
    ["pay \u202e0001\u202c", "\u202dx\u202c", "\u2066open", "close\u2069", "\u202aopen\nclose\u202c",
     "\u2066\u202a\u2069\u202c",
     "bell\x07", "\x1b[31mred", "nul\x00", "c1\x9b"],
    ids=ascii,
)  # fmt: skip
def test_words_neither_turn_the_direction_round_nor_hold_controls(text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WORDS.validate_python(text)
    assert refused.value.errors()[0]["type"] == "text_invalid"


@pytest.mark.parametrize("text", [*DISGUISED, *BLANK], ids=ascii)
def test_a_provider_s_name_is_shown_without_what_cannot_be_seen(text: str) -> None:
    shown = shown_name(text)
    assert shown == "" or NAME.validate_python(shown) == shown


# --- over HTTP --------------------------------------------------------------------------------------------------------

# Fields that are neither names nor words: compared with stored values, or secrets in which every character counts.
OF_NO_PERSON = {
    "password", "new_password", "current_password", "code", "token", "refresh_token", "invitation", "url",
    "tenant", "user",
}  # fmt: skip


def free_texts(operation: Operation, schema: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places in the JSON body of an operation that accept any text."""
    if "$ref" in schema:
        schema = operation.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(choice, ()):
            yield from free_texts(operation, part, place)
    for name, part in schema.get("properties", {}).items():
        yield from free_texts(operation, part, (*place, name))
    if schema.get("type") == "string" and not {"enum", "const", "format", "pattern"} & set(schema) and place:
        yield place


@pytest.mark.anyio
async def test_no_text_of_any_body_is_taken_where_nothing_of_it_can_be_seen(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext
) -> None:
    """The test reads all schemas, so it finds new text fields automatically."""
    tenant_id = await factories.make_tenant(ctx)
    found = set()
    for operation in operations(app.openapi()):
        schema = operation.body("application/json")
        if schema is None or operation.path.startswith("/api/ai/"):
            continue
        path = operation.path.replace("{", "").replace("}", "")
        for name in operation.path_names:
            path = path.replace(name, "0193e5a0-0000-7000-8000-000000000000")
        for place in free_texts(operation, schema):
            if place[-1] in OF_NO_PERSON:
                continue
            body: Any = "\u200b\u202e"
            for name in reversed(place):
                body = {name: body}
            slugs = {await refusal(client, ctx, operation.method, path, body, role, tenant_id) for role in ROLES}
            assert slugs == {"refused"} or "seen" in slugs, (str(operation), place, slugs)
            found.add((operation.path, place[-1]))
    assert {("/api/users", "display_name"), ("/api/messages", "content"), ("/api/homes", "name")} <= found
    assert len(found) > 12


ROLES = ("care_manager", "safeguarding_lead", "data_protection_officer", "platform_admin")


async def refusal(
    client: httpx.AsyncClient, ctx: AppContext, method: str, path: str, body: Any, role: str, tenant_id: Any
) -> str:
    """`seen` if the answer names the field and the reason, `refused` if the role may not send the request."""
    headers = factories.bearer(ctx, await factories.make_user(ctx, tenant_id, role)) | {"If-Match": '"1"'}
    answer = await client.request(method, path, json=body, headers=headers)
    if answer.status_code in (403, 404):
        return "refused"
    assert answer.status_code == 422, (method, path, answer.status_code)
    told = [field["detail"] for field in answer.json().get("fields", ())]
    return "seen" if any("can be seen" in detail for detail in told) else "not seen"


@pytest.mark.anyio
async def test_a_name_that_is_refused_says_which_field_and_why(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    sent = {"display_name": "\u202eadA", "role": "resident"}
    answer = await client.post("/api/users", json=sent, headers=headers)
    assert_problem(answer, 422, "text-invalid")
    assert [field["location"] for field in answer.json()["fields"]] == ["body/display_name"]
    kept = await client.post("/api/users", json=sent | {"display_name": " Sia\u0302n 👩🏽‍⚕️ "}, headers=headers)
    assert (kept.status_code, kept.json()["display_name"]) == (201, "Siân 👩🏽‍⚕️")
    other = await client.post("/api/users", json={"display_name": " ", "role": "nobody"}, headers=headers)
    assert_problem(other, 422, "request-invalid")
