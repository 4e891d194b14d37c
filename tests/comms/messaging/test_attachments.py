"""Tests of attachments: upload, sending, access, encryption in storage, sweep, malware scan."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from comms.app.application import create_app
from comms.kernel.database import Actor
from comms.kernel.malware_scanner import ClamAV
from comms.kernel.settings import Settings
from comms.messaging.attachments.queries import MAX_UNSENT, folder_of
from comms.messaging.attachments.records import Attachment
from comms.messaging.attachments.sweep import sweep_attachments
from comms.messaging.message_records import NewFileMessage
from comms.safeguarding.message_text import attached_texts
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from tests import factories
from tests.comms import attachment_samples
from tests.comms.fake_clamd import EICAR, SIGNATURE, Clamd, clamd
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug

pytestmark = pytest.mark.anyio

NOTE = b"Ada fell at nine. Her left heel is red."


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


async def two_in_a_conversation(talk: MessagingClient, ctx: AppContext) -> tuple[Actor, Actor, str]:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    return mia, sam, await talk.begin(mia, sam)


async def upload(
    talk: MessagingClient,
    actor: Actor,
    path: str,
    content: bytes,
    name: str = "note.txt",
    claimed: str = "",
    **headers: str,
) -> httpx.Response:
    sent = (name, content, claimed) if claimed else (name, content)
    return await talk.ask(
        actor, "POST", "/api/messages/attachments", params={"conversation_id": path.rpartition("/")[2]},
        files={"file": sent}, headers=headers,
    )  # fmt: skip


async def send(talk: MessagingClient, actor: Actor, path: str, *attachments: str, **fields: Any) -> httpx.Response:
    body = {"conversation_id": path.rpartition("/")[2], "message_type": "file", "attachments": attachments} | fields
    return await talk.ask(actor, "POST", "/api/messages", json=body)


async def sent_note(talk: MessagingClient, actor: Actor, path: str, content: bytes = NOTE) -> tuple[str, str]:
    """Sends a message with a text file. Returns the paths of the message and of its attachment."""
    uploaded = await upload(talk, actor, path, content)
    assert uploaded.status_code == 201, uploaded.text
    sent = await send(talk, actor, path, uploaded.json()["id"])
    assert sent.status_code == 201, sent.text
    return sent.headers["location"], uploaded.headers["location"]


async def status(talk: MessagingClient, actor: Actor, path: str) -> int:
    return (await talk.ask(actor, "GET", path)).status_code


# --- sent and read ---------------------------------------------------------------------------------------------------


def written(sent: httpx.Response) -> dict[str, Any]:
    """The message of a POST answer without `reading`, which only that answer has."""
    message: dict[str, Any] = sent.json()
    assert "reading" in message
    return {name: value for name, value in message.items() if name != "reading"}


async def test_a_file_is_uploaded_sent_with_words_and_read_by_the_other(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    uploaded = await upload(talk, mia, path, NOTE, "../Ada's note – heel.txt", "text/plain")
    assert uploaded.status_code == 201, uploaded.text
    attachment = uploaded.json()
    assert (attachment["name"], attachment["media_type"], attachment["size_bytes"], attachment["duration_seconds"]) == (
        "Ada's note – heel.txt", "text/plain", len(NOTE), None,
    )  # fmt: skip
    sent = await send(talk, mia, path, attachment["id"], content="Please read.")
    assert sent.status_code == 201, sent.text
    assert sent.json()["attachments"] == [attachment]
    read = await talk.ask(sam, "GET", sent.headers["location"])
    assert read.json() == written(sent)
    file = await talk.ask(sam, "GET", uploaded.headers["location"])
    assert (file.status_code, file.content) == (200, NOTE)


async def test_files_without_words_keep_their_order(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    ids = [(await upload(talk, mia, path, b"%d" % n)).json()["id"] for n in range(4)][::-1]
    sent = await send(talk, mia, path, *ids)
    assert (sent.json()["content"], [file["id"] for file in sent.json()["attachments"]]) == ("", ids)
    page = await talk.ask(sam, "GET", f"/api/messages/conversations/{path.rpartition('/')[2]}")
    assert page.json()["items"] == [written(sent)]


async def test_a_voice_message_is_one_sound(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    voice = (await upload(talk, mia, path, factories.wav(1.5), "voice.wav")).json()
    assert voice["duration_seconds"] == pytest.approx(1.5)
    note = (await upload(talk, mia, path, NOTE)).json()
    for wrong in ((note["id"],), (voice["id"], note["id"])):
        refused = await send(talk, mia, path, *wrong, message_type="voice")
        assert status_and_slug(refused) == (422, "voice-not-sound")
    assert (await send(talk, mia, path, voice["id"], message_type="voice")).status_code == 201
    heard = await talk.ask(sam, "GET", f"/api/messages/attachments/{voice['id']}")
    assert heard.headers["content-type"] == "audio/wav"


async def test_only_ones_own_unsent_uploads_to_this_conversation_can_be_sent(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    elsewhere = await talk.begin(mia, sam)
    own = (await upload(talk, mia, path, NOTE)).json()["id"]
    others = (await upload(talk, sam, path, NOTE)).json()["id"]
    for refused in (
        await send(talk, mia, path, others),
        await send(talk, mia, path, own, own),
        await send(talk, mia, path, str(uuid.uuid4())),
        await send(talk, mia, elsewhere, own),
    ):
        assert status_and_slug(refused) == (404, "not-found")
    assert (await send(talk, mia, path, own)).status_code == 201
    assert status_and_slug(await send(talk, mia, path, own)) == (404, "not-found")
    assert await talk.read(sam, path) == [""]


async def test_a_message_has_words_or_files_and_not_too_many(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    many = [str(uuid.uuid4()) for _ in range(11)]
    for refused in (
        await send(talk, mia, path),
        await send(talk, mia, path, *many),
        await send(talk, mia, path, many[0], message_type="text", content="x"),
        await send(talk, mia, path, many[0], content=""),
    ):
        assert status_and_slug(refused) == (422, "request-invalid")


async def test_a_download_is_saved_never_shown_and_comes_in_ranges(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    page = b"<html><script>alert(document.cookie)</script></html>"
    location = (await upload(talk, mia, path, page, "what is this? ü.txt")).headers["location"]
    whole = await talk.ask(mia, "GET", location)
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.headers["content-disposition"] == (
        "attachment; filename=\"what is this_ _.txt\"; filename*=UTF-8''what%20is%20this_%20%C3%BC.txt"
    )
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    part = await talk.ask(mia, "GET", location, headers={"Range": "bytes=6-13"})
    assert (part.status_code, part.content) == (206, page[6:14])
    assert part.headers["content-range"] == f"bytes 6-13/{len(page)}"
    beyond = await talk.ask(mia, "GET", location, headers={"Range": "bytes=900-"})
    assert status_and_slug(beyond) == (416, "range-not-satisfiable")


async def test_a_large_file_is_read_in_ranges_across_its_segments(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    content = b"".join(b"%08d\n" % n for n in range(300_000))
    location = (await upload(talk, mia, path, content)).headers["location"]
    start = (1 << 20) - 5
    part = await talk.ask(mia, "GET", location, headers={"Range": f"bytes={start}-{start + 9}"})
    assert part.content == content[start : start + 10]
    assert (await talk.ask(mia, "GET", location)).content == content


async def test_an_upload_that_is_repeated_under_its_key_is_kept_once(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = await upload(talk, mia, path, NOTE, **key)
    again = await upload(talk, mia, path, NOTE, **key)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await upload(talk, mia, path, b"another", **key)
    assert status_and_slug(other) == (422, "idempotency-key-reused")
    assert len(await factories.rows(ctx, mia, "select 1 from message_attachments")) == 1


def test_neither_words_nor_names_are_shown_where_a_record_is_printed() -> None:
    new = NewFileMessage(
        conversation_id=uuid.uuid4(), attachments=(uuid.uuid4(),), content="grabbed", message_type="file"
    )
    attachment = Attachment(
        id=uuid.uuid4(), name="grabbed.txt", media_type="text/plain", size_bytes=1, duration_seconds=None,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    assert "grabbed" not in repr(new) + repr(attachment)


# # --- access
# ----------------------------------------------------------------------------------------------------------


async def test_before_it_is_sent_an_upload_is_its_uploaders_alone(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    location = (await upload(talk, mia, path, NOTE)).headers["location"]
    lead = await talk.person(mia, "safeguarding_lead")
    assert [await status(talk, person, location) for person in (mia, sam, lead)] == [200, 404, 404]


async def test_who_is_not_in_the_conversation_neither_uploads_nor_reads(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    _, location = await sent_note(talk, mia, path)
    strangers = [await talk.person(mia, role) for role in ("care_manager", "safeguarding_lead", "service")]
    strangers.append(await factories.make_actor(ctx, "care_manager"))
    for stranger in strangers:
        assert await status(talk, stranger, location) == 404
        assert status_and_slug(await upload(talk, stranger, path, NOTE)) == (404, "not-found")


async def test_who_has_left_keeps_the_files_of_their_time_and_sees_no_later_ones(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    _, earlier = await sent_note(talk, mia, path)
    waiting = (await upload(talk, sam, path, NOTE)).json()["id"]
    assert (await talk.ask(sam, "DELETE", f"{path}/members/{sam.user_id}")).status_code == 204
    _, later = await sent_note(talk, mia, path)
    assert [await status(talk, sam, address) for address in (earlier, later)] == [200, 404]
    assert status_and_slug(await upload(talk, sam, path, NOTE)) == (404, "not-found")
    assert status_and_slug(await send(talk, sam, path, waiting)) == (404, "not-found")


async def test_who_comes_later_sees_only_the_files_of_their_time(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    _, earlier = await sent_note(talk, mia, path)
    newcomer = await talk.person(mia)
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(newcomer.user_id)})
    _, later = await sent_note(talk, mia, path)
    assert [await status(talk, newcomer, address) for address in (earlier, later)] == [404, 200]


async def test_a_deleted_messages_files_are_the_officers_alone_who_are_logged(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    message, location = await sent_note(talk, mia, path)
    lead, officer, reviewer = [
        await talk.person(mia, role) for role in ("safeguarding_lead", "data_protection_officer", "reviewer")
    ]
    assert (await talk.ask(mia, "DELETE", message)).status_code == 204
    deleted = (await talk.ask(sam, "GET", message)).json()
    assert (deleted["content"], deleted["attachments"]) == (None, [])
    assert [await status(talk, person, location) for person in (mia, sam, reviewer)] == [404, 404, 404]
    [version] = (await talk.ask(lead, "GET", f"{message}/versions")).json()["items"]
    assert [file["name"] for file in version["attachments"]] == ["note.txt"]
    for person in (lead, officer):
        assert (await talk.ask(person, "GET", location)).content == NOTE
    acts = await factories.rows(
        ctx,
        officer,
        "select actor_id from audit_log where action = 'message.deleted-read' and details ? 'attachment_id'",
    )
    assert {act["actor_id"] for act in acts} == {lead.user_id, officer.user_id}


async def test_nobody_sends_anothers_upload_or_moves_one_that_was_sent(talk: MessagingClient, ctx: AppContext) -> None:
    """Row-level security prevents it, whatever the application checks."""
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    _, location = await sent_note(talk, mia, path)
    other = await talk.say(mia, path, "another")
    moved = "update message_attachments set message_id = %s, position = 0 where id = %s returning id"
    assert await factories.rows(ctx, mia, moved, other["id"], location.rpartition("/")[2]) == []
    unsent = (await upload(talk, mia, path, NOTE)).json()["id"]
    own = await talk.say(sam, path, "mine")
    assert await factories.rows(ctx, sam, moved, own["id"], unsent) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(ctx, mia, moved, own["id"], unsent)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(ctx, mia, "update message_attachments set name = 'x.txt' returning id")


# # --- content
# ---------------------------------------------------------------------------------------------------------


async def test_a_file_that_lies_about_its_kind_is_refused(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    for content, name, claimed, slug in (
        (attachment_samples.picture(), "photo.pdf", "", "attachment-type-differs"),
        (attachment_samples.picture(), "photo.jpg", "application/pdf", "attachment-type-differs"),
        (NOTE, "page.html", "text/html", "attachment-type-differs"),
        (b"MZ\x90\0" + bytes(60), "photo.jpg", "image/jpeg", "attachment-type-not-taken"),
        (attachment_samples.packed({"a.txt": b"x"}), "all.zip", "application/zip", "attachment-type-not-taken"),
    ):
        assert status_and_slug(await upload(talk, mia, path, content, name, claimed)) == (415, slug), name
    assert await kept_files(ctx, mia) == []


async def test_a_picture_comes_back_without_the_place_where_it_was_taken(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    sent = attachment_samples.picture()
    location = (await upload(talk, mia, path, sent, "IMG_0001.JPG", "image/jpeg")).headers["location"]
    kept = await talk.ask(mia, "GET", location)
    assert kept.headers["content-type"] == "image/jpeg"
    assert attachment_samples.CAMERA.encode() not in kept.content
    assert b"GPS" not in kept.content


async def test_empty_too_large_and_formless_uploads_are_refused(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    params = {"conversation_id": path.rpartition("/")[2]}
    most = ctx.settings.max_attachment_bytes
    assert status_and_slug(await upload(talk, mia, path, b"")) == (422, "attachment-empty")
    assert status_and_slug(await upload(talk, mia, path, b"x" * (most + 1))) == (413, "attachment-too-large")
    assert status_and_slug(await upload(talk, mia, path, b"x" * (most + (1 << 20)))) == (413, "body-too-large")
    address = "/api/messages/attachments"
    formless = await talk.ask(mia, "POST", address, params=params, json={"file": "x"})
    assert status_and_slug(formless) == (415, "upload-not-multipart")
    twice = await talk.ask(mia, "POST", address, params=params, files=[("file", b"1"), ("file", b"2")])
    assert status_and_slug(twice) == (422, "upload-too-many-files")
    assert await kept_files(ctx, mia) == []


async def test_nobody_heaps_up_uploads_that_they_do_not_send(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    location = (await upload(talk, mia, path, NOTE)).headers["location"]
    await factories.rows(
        ctx, mia,
        "insert into message_attachments (tenant_id, conversation_id, uploaded_by, name, media_type, size_bytes, "
        "sha256, object_key, wrapped_key, key_id) select tenant_id, conversation_id, uploaded_by, name, media_type, "
        "size_bytes, sha256, object_key || n, wrapped_key, key_id from message_attachments, generate_series(2, %s) n "
        "where id = %s returning id",
        MAX_UNSENT, location.rpartition("/")[2],
    )  # fmt: skip
    assert status_and_slug(await upload(talk, mia, path, NOTE)) == (409, "attachments-unsent")
    assert (await upload(talk, sam, path, NOTE)).status_code == 201


async def test_the_words_inside_are_there_for_search_and_for_reading(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    uploaded = await upload(talk, mia, path, attachment_samples.docx("Her wrist was bruised."), "Plan.docx")
    message = (await send(talk, mia, path, uploaded.json()["id"])).json()
    found = await factories.rows(
        ctx, sam,
        "select id from message_attachments where words @@ websearch_to_tsquery('english', 'bruising wrists')",
    )  # fmt: skip
    assert [str(row["id"]) for row in found] == [uploaded.json()["id"]]
    worker = Actor(mia.tenant_id, uuid.UUID(int=0), "service")
    async with worker_ctx.database.acting_as(worker) as conn:
        [text] = await attached_texts(conn, [uuid.UUID(message["id"])])
    assert (str(text.attachment_id), text.text, text.text_cut) == (
        uploaded.json()["id"], "Her wrist was bruised.", False,
    )  # fmt: skip
    assert "bruised" not in repr(text)
    stranger = Actor((await factories.make_actor(ctx)).tenant_id, worker.user_id, "service")
    async with worker_ctx.database.acting_as(stranger) as conn:
        assert await attached_texts(conn, [uuid.UUID(message["id"])]) == []


async def test_the_worker_has_no_key_to_the_bytes(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    await sent_note(talk, mia, path)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(worker_ctx, mia, "select wrapped_key from message_attachments")


# # --- storage
# ---------------------------------------------------------------------------------------------------------


async def kept_files(ctx: AppContext, actor: Actor) -> list[str]:
    """The stored objects of the attachments of the actor's tenant."""
    return [stored.key async for stored in ctx.objects.list_under(folder_of(actor.tenant_id))]


def holding(data_dir: Path, words: bytes) -> list[str]:
    return [
        str(file.relative_to(data_dir))
        for file in data_dir.rglob("*")
        if file.is_file() and "postgres" not in file.relative_to(data_dir).parts and words in file.read_bytes()
    ]


async def test_what_lies_in_storage_is_ciphertext_and_a_change_of_it_is_noticed(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    secret = f"secret {uuid.uuid4()}".encode()
    location = (await upload(talk, mia, path, secret)).headers["location"]
    assert holding(ctx.settings.data_dir, secret) == []
    [key] = await kept_files(ctx, mia)
    file = ctx.settings.data_dir / "recordings" / key
    stored = bytearray(file.read_bytes())
    assert len(stored) == len(secret) + 16
    stored[3] ^= 1
    file.write_bytes(stored)
    assert status_and_slug(await talk.ask(mia, "GET", location)) == (409, "attachment-damaged")


async def test_one_attachment_cannot_stand_in_for_another(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    first = (await upload(talk, mia, path, b"one")).headers["location"]
    one = ctx.settings.data_dir / "recordings" / (await kept_files(ctx, mia))[0]
    await upload(talk, mia, path, b"two")
    [other] = {ctx.settings.data_dir / "recordings" / key for key in await kept_files(ctx, mia)} - {one}
    one.write_bytes(other.read_bytes())
    assert status_and_slug(await talk.ask(mia, "GET", first)) == (409, "attachment-damaged")


# # --- sweep
# -----------------------------------------------------------------------------------------------------------


async def grow_old(databases: Databases, *attachments: str) -> None:
    with psycopg.connect(databases.administrator) as administrator:
        administrator.execute(
            "update message_attachments set created_at = now() - interval '25 hours' where id = any(%s::uuid[])",
            (list(attachments),),
        )


async def test_what_nobody_sent_within_a_day_goes_row_and_object(
    talk: MessagingClient, ctx: AppContext, databases: Databases
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    forgotten = (await upload(talk, mia, path, b"forgotten")).json()["id"]
    fresh = (await upload(talk, mia, path, b"fresh")).json()["id"]
    _, sent = await sent_note(talk, mia, path)
    await grow_old(databases, forgotten, sent.rpartition("/")[2])
    await sweep_attachments(ctx, timedelta(hours=1))
    assert {key.rpartition("/")[2] for key in await kept_files(ctx, mia)} == {
        f"{fresh}.sealed", f"{sent.rpartition('/')[2]}.sealed",
    }  # fmt: skip
    addresses = [f"/api/messages/attachments/{id}" for id in (forgotten, fresh)]
    assert [await status(talk, mia, address) for address in (*addresses, sent)] == [404, 200, 200]


async def test_an_object_whose_row_went_or_never_came_is_swept_and_others_stay(
    talk: MessagingClient, ctx: AppContext, databases: Databases
) -> None:
    """As after a crash before or after the row was written."""
    mia, _, path = await two_in_a_conversation(talk, ctx)
    forgotten = (await upload(talk, mia, path, b"forgotten")).json()["id"]
    _, sent = await sent_note(talk, mia, path)
    await grow_old(databases, forgotten)
    async with ctx.database.acting_as(mia) as conn:
        await conn.execute("select app.drop_unsent_attachments()")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ciphertext of an upload that was cut off"

    await ctx.objects.put(f"{folder_of(mia.tenant_id)}/{uuid.uuid4()}/{uuid.uuid4()}.sealed", pieces())
    assert len(await kept_files(ctx, mia)) == 3
    await sweep_attachments(ctx, timedelta(hours=1))  # too new: their rows may still be inserted
    assert len(await kept_files(ctx, mia)) == 3
    await sweep_attachments(ctx, timedelta(0))
    assert [key.rpartition("/")[2] for key in await kept_files(ctx, mia)] == [f"{sent.rpartition('/')[2]}.sealed"]
    assert await status(talk, mia, sent) == 200


async def test_an_upload_that_is_cut_off_leaves_nothing(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    conversation_id = uuid.UUID(path.rpartition("/")[2])
    for steps in (1, 20, 60):
        task = asyncio.create_task(factories.attach(ctx, mia, conversation_id, NOTE))
        for _ in range(steps):
            await asyncio.sleep(0.005)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        rows = await factories.rows(ctx, mia, "select object_key from message_attachments")
        assert sorted(await kept_files(ctx, mia)) == sorted(row["object_key"] for row in rows), outcome


# # --- malware scan
# ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def scanned(ctx: AppContext, settings: Settings) -> AsyncIterator[tuple[MessagingClient, Clamd, AppContext]]:
    """An API with a malware scanner (fake clamd)."""
    async with clamd() as server:
        application = create_app(settings.model_copy(update={"clamd_url": server.url}))
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client:
                yield MessagingClient(client, ctx), server, application.state.ctx


async def test_an_infected_file_is_refused_logged_and_kept_nowhere(ctx: AppContext, settings: Settings) -> None:
    async with scanned(ctx, settings) as (talk, server, _):
        mia, _, path = await two_in_a_conversation(talk, ctx)
        refused = await upload(talk, mia, path, b"before " + EICAR)
        assert status_and_slug(refused) == (422, "attachment-infected")
        clean = await upload(talk, mia, path, NOTE)
        assert clean.status_code == 201
        assert server.seen == [b"before " + EICAR, NOTE]
    lead = await talk.person(mia, "safeguarding_lead")
    [act] = await factories.rows(
        ctx, lead, "select actor_id, object_id, details from audit_log where action = 'attachment.infected'"
    )
    assert (act["actor_id"], str(act["object_id"]), act["details"]) == (
        mia.user_id, path.rpartition("/")[2], {"signature": SIGNATURE},
    )  # fmt: skip
    assert len(await kept_files(ctx, mia)) == 1
    kept = await factories.rows(ctx, mia, "select scanned_by from message_attachments")
    assert [row["scanned_by"] for row in kept] == ["ClamAV_1.4.3/27800/Mon_Nov_23_2026"]


async def test_while_the_scanner_is_down_nothing_is_taken_and_health_says_so(
    ctx: AppContext, settings: Settings
) -> None:
    async with scanned(ctx, settings) as (talk, server, scanning):
        mia, _, path = await two_in_a_conversation(talk, ctx)
        health = (await talk.ask(mia, "GET", "/health/detailed", headers=factories.operator(ctx))).json()
        assert health["scanner"]["status"] == "ok"
        server.mood = "silent"
        unanswered = dataclasses.replace(scanning, scanner=ClamAV(server.url, patience_seconds=0.2))
        with pytest.raises(WriteCareError) as refused:
            await factories.attach(unanswered, mia, uuid.UUID(path.rpartition("/")[2]), NOTE)
        assert refused.value.slug == "scanner-unavailable"
        server.mood = "gone"
        assert status_and_slug(await upload(talk, mia, path, NOTE)) == (503, "scanner-unavailable")
        server.most = 10
        server.mood = "well"
        assert status_and_slug(await upload(talk, mia, path, NOTE)) == (413, "attachment-too-large-to-scan")
    assert await kept_files(ctx, mia) == []
    assert await factories.rows(ctx, mia, "select 1 from message_attachments") == []


async def test_without_a_scanner_files_are_taken_and_nobody_is_said_to_have_looked(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    assert (await upload(talk, mia, path, NOTE)).status_code == 201
    [kept] = await factories.rows(ctx, mia, "select scanned_by from message_attachments")
    assert kept["scanned_by"] is None
    health = await talk.ask(mia, "GET", "/health/detailed", headers=factories.operator(ctx))
    assert health.json()["scanner"]["status"] == "unused"
