"""The channels of a recording: requested, detected and shown. A file that is no recording is refused at once."""

import httpx
import numpy as np
import pytest

from comms.web.context import AppContext
from tests import factories
from tests.models.audio.sounds import Stream, recorded, talk

pytestmark = pytest.mark.anyio

PARTIES = np.stack([talk(3.0), talk(3.0, 3)])


async def sent(client: httpx.AsyncClient, ctx: AppContext, content: bytes, **fields: str) -> httpx.Response:
    manager, _, session_id = await factories.make_call(ctx)
    parts = [("file", ("call.wav", content, "audio/wav")), *((name, (None, text)) for name, text in fields.items())]
    return await client.post(
        "/api/recordings", params={"session_id": str(session_id)}, headers=factories.bearer(ctx, manager),
        files=parts,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "tracks"),
    [("auto", [[0], [1]]), ("separate", [[0], [1]]), ("mix", [[0, 1]]), (None, [[0], [1]])],
)
async def test_the_tracks_found_in_a_file_are_shown(
    client: httpx.AsyncClient, ctx: AppContext, wanted: str | None, tracks: list[list[int]]
) -> None:
    content = recorded("wav", Stream("pcm_s16le", PARTIES))
    answer = await sent(client, ctx, content, **({"channels": wanted} if wanted else {}))
    assert answer.status_code == 201
    [track] = answer.json()["tracks"]
    assert track["channels"] == (wanted or "auto")
    assert [[part["channel"] for part in parts] for parts in track["sound"]["tracks"]] == tracks


async def test_a_named_participants_file_is_one_track(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    content = recorded("wav", Stream("pcm_s16le", PARTIES))
    person = ("participant", (None, str(manager.user_id)))
    for fields, status in (([person], 201), ([person, ("channels", (None, "separate"))], 422)):
        answer = await client.post(
            "/api/recordings", params={"session_id": str(session_id)}, headers=factories.bearer(ctx, manager),
            files=[("file", ("call.wav", content, "audio/wav")), *fields],
        )  # fmt: skip
        assert answer.status_code == status
        if status == 201:
            assert len(answer.json()["tracks"][0]["sound"]["tracks"]) == 1


async def test_another_word_for_the_channels_is_refused(client: httpx.AsyncClient, ctx: AppContext) -> None:
    answer = await sent(client, ctx, factories.wav(), channels="left")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "channels-invalid")


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile etc/hostname\n",
        b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
    ids=["ffconcat", "m3u8", "sdp"],
)
async def test_a_list_of_other_files_is_no_recording(
    client: httpx.AsyncClient, ctx: AppContext, content: bytes
) -> None:
    answer = await sent(client, ctx, content)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "audio-unreadable")
