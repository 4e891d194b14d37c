"""A new password that is easy to guess is refused."""

import httpx
import pytest

from comms.kernel.access.password_strength import refuse_guessable, split_words
from comms.web.context import AppContext
from models.contract.errors import WriteCareError
from tests import factories

pytestmark = pytest.mark.anyio

CONTEXT = split_words(["Ann Smith", "ann.smith@oak-house.example", "Elm Lodge", "oak"])


@pytest.mark.parametrize(
    "password",
    [
        "123456789012", "passwordpassword", "qwertyuiop12", "aaaaaaaaaaaa", "letmeinletmein", "Password2024!",
        "writecareconnect", "WriteCare2025!!", "annsmithoakhouse", "Elm Lodge 2025", "ann.smith@oak-house.example",
        "ＰＡＳＳＷＯＲＤpassword",
    ],
)  # fmt: skip
def test_common_ones_and_those_made_of_names_are_refused(password: str) -> None:
    with pytest.raises(WriteCareError) as refusal:
        refuse_guessable(password, CONTEXT)
    assert refusal.value.slug == "password-guessable"
    assert password not in refusal.value.detail


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery", "only words and spaces", "a café in Cardiff", "ann keeps seven lanterns dry",
        "Tŷ Gwyn yw fy nghartref", "x" + "seven lanterns under water " * 30,
    ],
)  # fmt: skip
def test_a_few_unrelated_words_are_good(password: str) -> None:
    refuse_guessable(password, CONTEXT)


async def test_setting_a_password_says_what_to_do_instead(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await factories.make_actor(ctx)
    headers = factories.bearer(ctx, person)
    answer = await client.put("/api/me/password", json={"new_password": "123456789012"}, headers=headers)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "password-guessable")
    assert "words" in answer.json()["detail"]
    assert "123456789012" not in answer.text
    assert await factories.rows(ctx, person, "select 1 from passwords") == []
