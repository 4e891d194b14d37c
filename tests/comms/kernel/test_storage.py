"""Stored objects cannot be read without their key, and every change to them is detected."""

import asyncio
import json
import os
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cli import rotate_keys
from comms.kernel.settings import Settings
from comms.kernel.storage.key_service import KEY_BYTES, LocalKeyFile
from comms.kernel.storage.object_store import Objects
from comms.kernel.storage.scratch_files import open_scratch
from comms.kernel.storage.segment_encryption import (
    SEGMENT_BYTES,
    TAG_BYTES,
    ByteRange,
    TrackObjectRef,
    seal,
    sealed_range,
    sealed_size,
    unseal,
)
from models.contract.errors import Kind, WriteCareError

pytestmark = pytest.mark.anyio

SEALED_SEGMENT = SEGMENT_BYTES + TAG_BYTES


async def pieces_of(data: bytes, length: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), length):
        yield data[start : start + length]


async def sealed(plain: bytes, key: bytes, object_ref: TrackObjectRef) -> bytes:
    return b"".join([piece async for piece in seal(pieces_of(plain), key, object_ref)])


async def read(
    stored: bytes, key: bytes, object_ref: TrackObjectRef, size: int, span: ByteRange | None = None
) -> bytes:
    wanted = span or ByteRange(0, size)
    needed = sealed_range(size, wanted)
    part = pieces_of(stored[needed.start : needed.end])
    return b"".join([piece async for piece in unseal(part, key, object_ref, size, wanted)])


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def new_object_ref() -> TrackObjectRef:
    return TrackObjectRef(uuid.uuid4(), uuid.uuid4(), uuid.uuid4())


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
async def test_what_was_sealed_comes_back(size: int) -> None:
    key, object_ref, plain = secrets.token_bytes(KEY_BYTES), new_object_ref(), secrets.token_bytes(size)
    stored = await sealed(plain, key, object_ref)
    assert len(stored) == sealed_size(size)
    assert await read(stored, key, object_ref, size) == plain


async def test_any_range_can_be_read_on_its_own() -> None:
    key, object_ref = secrets.token_bytes(KEY_BYTES), new_object_ref()
    plain = secrets.token_bytes(2 * SEGMENT_BYTES + 777)
    stored = await sealed(plain, key, object_ref)
    edges = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, len(plain)]
    for start in edges:
        for end in edges:
            if start < end:
                assert await read(stored, key, object_ref, len(plain), ByteRange(start, end)) == plain[start:end]


async def test_every_change_is_noticed() -> None:
    key, object_ref = secrets.token_bytes(KEY_BYTES), new_object_ref()
    plain = secrets.token_bytes(3 * SEGMENT_BYTES)
    stored = await sealed(plain, key, object_ref)
    first, second, third = (stored[n * SEALED_SEGMENT : (n + 1) * SEALED_SEGMENT] for n in range(3))
    flipped = bytearray(stored)
    flipped[SEGMENT_BYTES // 2] ^= 1
    changed = {
        "a bit flipped": bytes(flipped),
        "cut in the middle of a segment": stored[:-1],
        "cut between segments": first + second,
        "segments swapped": second + first + third,
        "a segment repeated": first + first + third,
        "a segment left out": first + third,
        "something appended": stored + third,
        "nothing": b"",
    }
    for what, bad in changed.items():
        with pytest.raises(WriteCareError) as noticed:
            await unseal_all(bad, key, object_ref, len(plain))
        assert (noticed.value.kind, noticed.value.slug) == (Kind.CONFLICT, "recording-damaged"), what


async def unseal_all(stored: bytes, key: bytes, object_ref: TrackObjectRef, size: int) -> bytes:
    return b"".join([piece async for piece in unseal(pieces_of(stored), key, object_ref, size, ByteRange(0, size))])


async def test_a_shorter_size_in_the_row_does_not_pass_a_cut_object() -> None:
    key, object_ref = secrets.token_bytes(KEY_BYTES), new_object_ref()
    stored = await sealed(secrets.token_bytes(2 * SEGMENT_BYTES), key, object_ref)
    with pytest.raises(WriteCareError):
        await unseal_all(stored[:SEALED_SEGMENT], key, object_ref, SEGMENT_BYTES)


async def test_a_track_cannot_stand_in_for_another() -> None:
    key, object_ref = secrets.token_bytes(KEY_BYTES), new_object_ref()
    stored = await sealed(b"hello", key, object_ref)
    others = (
        TrackObjectRef(uuid.uuid4(), object_ref.recording_id, object_ref.track_id),
        TrackObjectRef(object_ref.tenant_id, uuid.uuid4(), object_ref.track_id),
        TrackObjectRef(object_ref.tenant_id, object_ref.recording_id, uuid.uuid4()),
    )
    for other in others:
        with pytest.raises(WriteCareError):
            await read(stored, key, other, 5)
    with pytest.raises(WriteCareError):
        await read(stored, secrets.token_bytes(KEY_BYTES), object_ref, 5)


@given(size=st.integers(0, 3 * SEGMENT_BYTES), start=st.integers(0), length=st.integers(1))
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_bytes_fetched_for_a_range_are_whole_segments_that_hold_it(size: int, start: int, length: int) -> None:
    if size == 0:
        return
    wanted = ByteRange(start % size, min(size, start % size + length))
    needed = sealed_range(size, wanted)
    assert needed.start % SEALED_SEGMENT == 0
    assert needed.start // SEALED_SEGMENT * SEGMENT_BYTES <= wanted.start
    assert needed.end == sealed_size(size) or needed.end % SEALED_SEGMENT == 0
    assert needed.end - needed.start <= sealed_size(wanted.end - wanted.start) + 2 * SEALED_SEGMENT


async def test_a_wrapped_key_opens_for_its_own_track_alone(tmp_path: Path) -> None:
    keys = LocalKeyFile.open(tmp_path)
    key = secrets.token_bytes(KEY_BYTES)
    wrapped = await keys.wrap(key, "a track")
    assert key not in wrapped.wrapped
    assert key.hex() not in repr(wrapped)
    assert await LocalKeyFile.open(tmp_path).unwrap(wrapped, "a track") == key
    with pytest.raises(WriteCareError) as other:
        await keys.unwrap(wrapped, "another track")
    assert other.value.slug == "key-damaged"


async def test_after_a_rotation_old_keys_still_open_and_new_ones_take_the_new_master(tmp_path: Path) -> None:
    keys = LocalKeyFile.open(tmp_path)
    old = await keys.wrap(b"k" * KEY_BYTES, "a track")
    newest = keys.rotate()
    new = await keys.wrap(b"k" * KEY_BYTES, "a track")
    assert new.key_id == newest != old.key_id
    reopened = LocalKeyFile.open(tmp_path)
    assert await reopened.unwrap(old, "a track") == await reopened.unwrap(new, "a track")
    assert (tmp_path / "master.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(WriteCareError) as elsewhere:
        await LocalKeyFile.open(tmp_path / "other").unwrap(old, "a track")
    assert elsewhere.value.slug == "key-unknown"


async def test_a_key_that_another_process_adds_is_known_at_once(tmp_path: Path) -> None:
    running = LocalKeyFile.open(tmp_path)
    before = await running.wrap(b"k" * KEY_BYTES, "a track")
    added = LocalKeyFile.open(tmp_path).rotate()
    assert (await running.wrap(b"k" * KEY_BYTES, "a track")).key_id == added
    newest = await LocalKeyFile.open(tmp_path).wrap(b"k" * KEY_BYTES, "another")
    assert await running.unwrap(newest, "another") == await running.unwrap(before, "a track") == b"k" * KEY_BYTES


async def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    first = LocalKeyFile.open(tmp_path)
    added = await asyncio.gather(*(asyncio.to_thread(LocalKeyFile.open(tmp_path).rotate) for _ in range(8)))
    stored = json.loads((tmp_path / "master.json").read_text())["keys"]
    assert len(stored) == 9
    assert set(added) <= set(stored)
    assert (await first.wrap(b"k" * KEY_BYTES, "a track")).key_id in added


async def test_the_command_adds_a_key_and_prints_its_id_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = await LocalKeyFile.open(tmp_path / "keys").wrap(b"k" * KEY_BYTES, "a track")
    assert rotate_keys.main(["--data", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    keys = LocalKeyFile.open(tmp_path / "keys")
    assert printed.out == (await keys.wrap(b"k" * KEY_BYTES, "a track")).key_id + "\n"
    assert "back it up" in printed.err
    assert await keys.unwrap(old, "a track") == b"k" * KEY_BYTES


async def test_an_object_is_put_whole_or_not_at_all(tmp_path: Path) -> None:
    objects = Objects.open(Settings(data_dir=tmp_path))

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * SEGMENT_BYTES
        raise RuntimeError("the other side is gone")

    with pytest.raises(RuntimeError):
        await objects.put("a/b/c.sealed", broken())
    assert [stored async for stored in objects.list_under("a")] == []
    assert files_under(tmp_path) == []
    await objects.put("a/b/c.sealed", pieces_of(b"0123456789", 3))
    assert b"".join([piece async for piece in objects.get("a/b/c.sealed", ByteRange(2, 5))]) == b"234"
    await objects.delete("a/b/c.sealed")
    await objects.delete("a/b/c.sealed")
    with pytest.raises(WriteCareError) as gone:
        await anext(objects.get("a/b/c.sealed", ByteRange(0, 1)))
    assert gone.value.kind == Kind.MISSING


async def test_a_storage_url_names_another_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", storage_url=(tmp_path / "elsewhere").as_uri())
    objects = Objects.open(settings)
    await objects.probe()
    assert sorted(os.listdir(tmp_path)) == ["elsewhere"]


async def test_a_folder_with_spaces_and_letters_beyond_ascii_is_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my däta"
    named = (tmp_path / "e#f 100%").as_uri()
    for settings in (Settings(data_dir=folder), Settings(data_dir=folder, storage_url=named)):
        await Objects.open(settings).put("a/b/c.sealed", pieces_of(b"sealed"))
    assert (folder / "recordings" / "a" / "b" / "c.sealed").read_bytes() == b"sealed"
    assert sorted(os.listdir(tmp_path)) == ["e#f 100%", "my däta"]


def test_scratch_files_have_no_name(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as file:
        file.write(b"plain")
        file.seek(0)
        assert file.read() == b"plain"
        assert files_under(tmp_path) == []
