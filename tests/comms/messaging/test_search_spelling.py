"""Tests of search by words as people type them: accents, addresses, references, full-width characters; and of the
hint.
"""

import unicodedata
from typing import Any

import httpx
import psycopg
import pytest

from comms.messaging.messages.folded_offsets import FoldedOffsets, folded_length
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging.test_attachments import send, upload
from tests.comms.messaging_fixtures import MessagingClient

pytestmark = pytest.mark.anyio

URL = "https://www.example.org/care/plan?id=7&x=a-b#falls"


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


async def answer(talk: MessagingClient, actor: Any, words: str, **params: str) -> dict[str, Any]:
    got = await talk.ask(actor, "GET", "/api/messages/search", params={"q": words} | params)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


def marked(found: dict[str, Any]) -> list[str]:
    return [found["content"][mark["start"] : mark["end"]] for mark in found["highlights"]]


FINDS: dict[str, list[tuple[str, list[str]]]] = {
    "Siân is at Tŷ Gwyn": [
        ("Sian", ["Siân"]), ("siân", ["Siân"]), ("Sia\u0302n", ["Siân"]), ("ty gwyn", ["Tŷ", "Gwyn"]),
        ("TŶ GWYN", ["Tŷ", "Gwyn"]), ('"ty gwyn"', ["Tŷ", "Gwyn"]), ("“Tŷ Gwyn”", ["Tŷ", "Gwyn"]),
    ],
    "Seen by Sia\u0302n and Łukasz": [("Siân", ["Sia\u0302n"]), ("Sian", ["Sia\u0302n"]), ("lukasz", ["Łukasz"])],
    f"The paper ({URL}), read it.": [
        (URL, ["https", "www", "example", "org", "care", "plan", "id", "7", "x", "b", "falls"]),
        ("example.org", ["example", "org"]), ("plan", ["plan"]),
    ],
    "Write to <jane.o'doe@nhs.net>.": [
        ("jane.o'doe@nhs.net", ["jane", "o", "doe", "nhs", "net"]), ("nhs.net", ["nhs", "net"]), ("doe", ["doe"]),
    ],
    "Reference AB-1234/56 filed": [
        ("1234", ["1234"]), ("AB-1234/56", ["AB", "1234", "56"]), ("ab-1234", ["AB", "1234"]), ("56", ["56"]),
        ("AB 1234", ["AB", "1234"]),
    ],
    "Ｆｕｌｌ width, and the ﬁrst of her pills": [("full", ["Ｆｕｌｌ"]), ("first", ["ﬁrst"]), ("pill", ["pills"])],
    "She was be\u200bat\u00aden": [("beaten", ["be\u200bat\u00aden"])],
    "👍🏽 cr\u00e8me br\u00fbl\u00e9e 🎂 today": [("creme brulee", ["crème", "brûlée"]), ("today", ["today"])],
}  # fmt: skip


async def test_what_was_written_is_found_as_people_type_it_and_marked_where_it_stands(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia))
    for content in FINDS:
        await talk.say(mia, path, content)
    for content, questions in FINDS.items():
        for question, marks in questions:
            items = {item["content"]: item for item in (await answer(talk, mia, question))["items"]}
            kept = unicodedata.normalize("NFC", content)  # as the API stores text
            assert kept in items, question
            assert marked(items[kept]) == [unicodedata.normalize("NFC", mark) for mark in marks], question


async def test_words_inside_a_file_are_found_and_marked_likewise(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia))
    before = "É" * 30 + " " + "Tea at four. " * 200
    words = f"{before}Siân (ref. AB-1234/56) fell at Tŷ Gwyn. " + "Soup at one. " * 200
    uploaded = await upload(talk, mia, path, words.encode())
    assert (await send(talk, mia, path, uploaded.json()["id"])).status_code == 201
    for question, marks in (
        ("1234", ["1234"]), ("sian gwyn", ["Siân", "Gwyn"]), ("AB-1234/56", ["AB", "1234", "56"]),
    ):  # fmt: skip
        (found,) = (await answer(talk, mia, question, kind="attachment"))["items"]
        assert marked(found) == marks
        assert found["content"] in words
        assert len(found["content"]) < 400


@pytest.mark.parametrize(
    ("words", "code"),
    [("the and of", "only-common-words"), ("👍", "no-letters"), ("?!", "no-letters"), ("--- …", "no-letters")],
)
async def test_words_that_nothing_can_be_found_by_are_said_to_be_so(
    talk: MessagingClient, ctx: AppContext, words: str, code: str
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "the and of 👍 ?!")
    for mode in ("words", "both", "meaning"):
        found = await answer(talk, mia, words, mode=mode)
        assert (found["items"], found["hint"]["code"]) == ([], code)
        assert len(found["hint"]["detail"]) > 20


async def test_there_is_no_hint_where_words_could_be_found(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    await talk.say(mia, await talk.begin(mia, await talk.person(mia)), "a sore heel")
    assert (await answer(talk, mia, "elbow"))["hint"] is None
    assert (await answer(talk, mia, "heel"))["hint"] is None


async def test_what_is_excluded_and_chosen_is_still_understood(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia))
    for content in ("a sore left heel", "the left side", "sore throat"):
        await talk.say(mia, path, content)
    for question, expected in (
        ("left -heel", ["the left side"]), ('sore -"left heel"', ["sore throat"]), ("throat OR side", 2),
        ("Ada - throat or throat", ["sore throat"]), ("left-heel", ["a sore left heel"]), ("heel left", 1),
        ('"heel left"', []),
    ):  # fmt: skip
        found = [item["content"] for item in (await answer(talk, mia, question))["items"]]
        assert (len(found) if isinstance(expected, int) else found) == expected, question


def test_places_are_counted_as_the_database_folds(databases: Databases) -> None:
    """For every character that Python's Unicode version, which is the older one, has assigned."""
    with psycopg.connect(databases.administrator) as admin:
        folded = admin.execute(
            "select n, length(app.folded(chr(n))), length(app.search_letters(chr(n))) "
            "from generate_series(1, 131071) n where n not between 55296 and 57343"
        ).fetchall()
    assert len(folded) == 131071 - 2048
    differing = [
        number
        for number, length, letters in folded
        if (length, letters) != (folded_length(chr(number)),) * 2 and unicodedata.category(chr(number)) != "Cn"
    ]
    assert differing == []


def test_a_range_of_folded_text_is_a_range_of_what_was_written() -> None:
    written = "e\u0301te\u0301 ﬁn"
    places = FoldedOffsets(written)
    assert places.folded_length == len("ete fin")
    assert written[places.start(0) : places.end(3)] == "e\u0301te\u0301"
    assert written[places.start(4) : places.end(7)] == "ﬁn"
    assert written[places.start(4) : places.end(5)] == "ﬁ"
    plain = FoldedOffsets("plain")
    assert (plain.start(2), plain.end(4), plain.folded_length) == (2, 4, 5)
