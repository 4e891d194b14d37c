"""ClamAV: asked in its own protocol, believed where it answers, and nothing taken where it does not."""

import io
import tempfile
from pathlib import Path

import pytest

from comms.attachments.scanner import ClamAV, Infected, NoScanner, open_scanner
from comms.settings import Settings
from models.errors import Kind, WriteCareError
from tests.comms.clamds import EICAR, SIGNATURE, clamd

pytestmark = pytest.mark.anyio


async def problem_with(scanner: ClamAV, content: bytes = b"hello") -> tuple[Kind, str]:
    with pytest.raises(WriteCareError) as raised:
        await scanner.scan(io.BytesIO(content))
    return raised.value.kind, raised.value.slug


async def test_a_clean_file_is_passed_with_the_version_of_what_looked_at_it() -> None:
    content = bytes(range(256)) * 3000  # several pieces
    async with clamd() as server:
        file = io.BytesIO(content)
        assert await ClamAV(server.url).scan(file) == "ClamAV_1.4.3/27800/Mon_Nov_23_2026"
        assert server.seen == [content]
        assert file.tell() == 0


async def test_an_infected_file_is_named() -> None:
    async with clamd() as server:
        with pytest.raises(Infected) as found:
            await ClamAV(server.url).scan(io.BytesIO(b"before" + EICAR))
    assert found.value.signature == SIGNATURE


async def test_it_is_asked_over_a_socket_of_this_machine_too() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with clamd(path=Path(folder) / "clamd.ctl") as server:
            scanner = ClamAV(server.url)
            await scanner.ping()
            assert await scanner.scan(io.BytesIO(b"hello")) is not None


@pytest.mark.parametrize("size", [2_000, 40 << 20])
async def test_what_is_larger_than_it_looks_at_is_refused(size: int) -> None:
    async with clamd(most=1_000) as server:
        assert await problem_with(ClamAV(server.url), bytes(size)) == (Kind.TOO_LARGE, "attachment-too-large-to-scan")


async def test_one_that_is_not_there_keeps_files_out() -> None:
    async with clamd() as server:
        url = server.url
    assert await problem_with(ClamAV(url)) == (Kind.UNAVAILABLE, "scanner-unavailable")
    assert await problem_with(ClamAV("unix:/nowhere/clamd.ctl")) == (Kind.UNAVAILABLE, "scanner-unavailable")


@pytest.mark.parametrize("mood", ["silent", "gone"])
async def test_one_that_does_not_answer_keeps_files_out(mood: str) -> None:
    async with clamd() as server:
        server.mood = mood
        scanner = ClamAV(server.url, patience_seconds=0.3)
        assert await problem_with(scanner, bytes(900_000)) == (Kind.UNAVAILABLE, "scanner-unavailable")
        with pytest.raises(WriteCareError, match="does not answer"):
            await ClamAV("tcp://127.0.0.1:9", patience_seconds=0.3).ping()


async def test_the_settings_name_it_or_nobody_looks() -> None:
    assert isinstance(open_scanner(Settings(clamd_url="tcp://127.0.0.1:3310")), ClamAV)
    nobody = open_scanner(Settings())
    assert isinstance(nobody, NoScanner)
    assert await nobody.scan(io.BytesIO(EICAR)) is None
    for wrong in ("127.0.0.1:3310", "http://clamd:3310", "unix:", "tcp://"):
        with pytest.raises(WriteCareError, match="WRITECARE_CLAMD_URL"):
            open_scanner(Settings(clamd_url=wrong))
