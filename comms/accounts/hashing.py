"""Passwords, hashed and checked: argon2id with the parameters of RFC 9106's second recommendation (64 MiB).

Hashing takes a processor for some hundredths of a second, so it is done off the event loop and two at a time.
"""

import asyncio
import secrets
import unicodedata
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

_AT_ONCE: Final = 2


class PasswordHasher:
    """One a process; holds no password."""

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = self._argon2.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to be stored, with its parameters and salt."""
        async with self._turn:
            return await asyncio.to_thread(self._argon2.hash, _normal(password))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether it is the password behind `stored`; for nobody (None) it takes as long and is False."""
        async with self._turn:
            same = await asyncio.to_thread(self._matches, _normal(password), stored or self._nobodys)
        return same and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than today's, and is to be hashed anew at the next sign-in."""
        return self._argon2.check_needs_rehash(stored)

    def _matches(self, password: str, stored: str) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _normal(password: str) -> str:
    """One keyboard composes é where another types e and ´: the same password (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
