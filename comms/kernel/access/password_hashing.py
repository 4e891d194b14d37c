"""Hashes and checks passwords: argon2id with the parameters of RFC 9106's second recommendation (64 MiB).

Hashing takes a processor for some hundredths of a second, so it has its own two threads. Sign-ins and new passwords
have one queue each. New passwords never take more than one thread, so that sign-ins continue. A full queue refuses at
once, which costs nothing.
"""

import asyncio
import secrets
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from comms.kernel.access.password_strength import refuse_guessable
from models.contract.errors import Kind, WriteCareError

_THREADS: Final = 2
_NEW_THREADS: Final = 1
_SIGN_INS_WAITING: Final = 64  # about four seconds of work
_NEW_WAITING: Final = 16
_TRY_AGAIN_SECONDS: Final = 5

Result = TypeVar("Result")


class _Queue:
    """Admits `at_once` callers, lets `waiting` more wait, and refuses the rest."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._admitted = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a slot and holds it in the block; raises `unavailable` (`sign-ins-busy`) if the queue is full."""
        if self._admitted >= self._most:
            raise WriteCareError(
                Kind.UNAVAILABLE, "sign-ins-busy", "Too many people are signing in at the moment: try again shortly.",
                _TRY_AGAIN_SECONDS,
            )  # fmt: skip
        self._admitted += 1
        try:
            async with self._slots:
                yield
        finally:
            self._admitted -= 1


class PasswordHasher:
    """One per process; it stores no password."""

    def __init__(self, sign_ins_waiting: int = _SIGN_INS_WAITING, new_waiting: int = _NEW_WAITING) -> None:
        self._argon2 = argon2.PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._sign_ins = _Queue(_THREADS, sign_ins_waiting)
        self._new = _Queue(_NEW_THREADS, new_waiting)
        self._dummy_hash = self._argon2.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters and salt; raises `unavailable` (`sign-ins-busy`)."""
        async with self._new.slot():
            return await self._in_thread(lambda: self._argon2.hash(_normalised(password)))

    async def hash_new(self, password: str, context: tuple[str, ...]) -> str:
        """The hash of a new password; `context` as for `refuse_guessable`.

        Raises `invalid` (`password-guessable`), and as `hash`.
        """

        def checked() -> str:
            refuse_guessable(password, context)
            return self._argon2.hash(_normalised(password))

        async with self._new.slot():
            return await self._in_thread(checked)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether `stored` is a hash of this password. If `stored` is None, it takes as long and is False.

        Raises `unavailable` (`sign-ins-busy`).
        """
        async with self._sign_ins.slot():
            same = await self._in_thread(lambda: self._matches(_normalised(password), stored or self._dummy_hash))
        return same and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash has old parameters; the next sign-in then replaces it."""
        return self._argon2.check_needs_rehash(stored)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _matches(self, password: str, stored: str) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _normalised(password: str) -> str:
    """One keyboard sends é, another e and ´: both give the same password (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
