"""Refuses new passwords that are easy to guess: common ones, patterns, and words that are known about the person.

zxcvbn estimates how many guesses a password withstands (its lists hold some ninety thousand common passwords and
names). It runs in this process and calls no other service.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from zxcvbn import zxcvbn

from comms.kernel.database import Connection
from models.contract.errors import WriteCareError, invalid

_LEAST_SCORE: Final = 3  # of 4: more than 10^8 guesses: enough at sign-in, and enough for a stolen hash
_MOST_READ: Final = 40  # zxcvbn's time grows with the square of the length
_LEAST_LETTERS: Final = 3
_LEFT_OVER: Final = 6
_PRODUCT: Final = ("writecare", "writecareconnect", "writecarenotes", "connect", "notes", "care", "home", "password")
_WORD: Final = re.compile(r"[^\W\d_]+|\d{4,}")


async def read_context_words(conn: Connection, user_id: UUID) -> tuple[str, ...]:
    """The words that an attacker tries first: from the person's names, e-mail address, home, tenant and the product."""
    found = await conn.execute(
        "select u.display_name, u.email, u.slug, h.name as home, t.name as tenant, t.slug as tenant_slug from users u "
        "join tenants t on t.id = u.tenant_id left join homes h on h.tenant_id = u.tenant_id and h.id = u.home_id "
        "where u.id = %s",
        (user_id,),
    )
    row = await found.fetchone()
    return split_words(() if row is None else [value for value in row.values() if value is not None])


def split_words(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of these texts and of the product's name, in lower case."""
    found = {word for text in texts for word in _WORD.findall(_plain(text)) if len(word) >= _LEAST_LETTERS}
    return tuple(sorted(found | set(_PRODUCT), key=len, reverse=True))


def refuse_guessable(password: str, context: tuple[str, ...]) -> None:
    """Raises `invalid` (`password-guessable`) with advice for a better password; `context` comes from `split_words`."""
    plain = _plain(password)
    rest = plain
    for word in context:
        rest = rest.replace(word, " ")
    if rest != plain and len(re.sub(r"[\W\d_]+", "", rest)) < _LEFT_OVER:
        raise _guessable("It consists of your name, your organisation's name or this program's name.")
    found = zxcvbn(plain[:_MOST_READ], user_inputs=list(context))
    if found["score"] < _LEAST_SCORE:
        raise _guessable(str(found["feedback"]["warning"]))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _guessable(why: str) -> WriteCareError:
    reason = f" {why}" if why else ""
    return invalid(
        "password-guessable",
        f"This password is too easy to guess.{reason} Use three or four words that are not related to each other "
        "or to you.",
    )
