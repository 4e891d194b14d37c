"""Recordings of real programs and devices: all sound is decoded at its time; only truncated files are refused."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.audio import decoder
from models.audio.containers import FileView, boxes
from models.audio.decoder import DecodedAudio
from models.contract.audio_tracks import Channels
from models.contract.errors import WriteCareError
from tests.models.audio.sounds import RATE, Sound, Stream, after, loud_seconds, mono, recorded, talk

CASES = Path(__file__).parents[1] / "recordings"
TALK, OTHER = talk(8.0), talk(8.0, 3)
REFUSALS = {"audio-empty", "audio-unreadable", "audio-truncated", "audio-too-long", "audio-too-many-channels"}


def decoded(content: bytes | Path, channels: Channels = "auto") -> DecodedAudio:
    source = content if isinstance(content, Path) else io.BytesIO(content)
    return decoder.decode(source, max_seconds=120.0, channels=channels)


def refused(content: bytes) -> str:
    with pytest.raises(WriteCareError) as caught:
        decoder.inspect(io.BytesIO(content), max_seconds=120.0)
    return caught.value.slug


def parts(found: DecodedAudio) -> list[list[tuple[int, int]]]:
    return [[(part.stream, part.channel) for part in track] for track in found.info.sound.tracks]


def speech_bounds(samples: Sound) -> tuple[float, float]:
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    return float(loud[0]) / RATE, float(loud[-1]) / RATE


# --- files that were decoded wrongly before --------------------------------------------------------------------------


def test_a_pause_of_half_a_minute_in_a_webm_keeps_its_length() -> None:
    found = decoded(CASES / "webm-30s-pts-gap.webm")
    assert abs(found.duration_seconds - 42.6) < 0.1
    assert abs(found.info.sound.silence_inserted_seconds - 30.0) < 0.1
    assert not loud_seconds(found.samples) & set(range(8, 37))
    assert 37 in loud_seconds(found.samples)


def test_the_second_stream_is_read_where_the_first_is_silent() -> None:
    found = decoded(CASES / "mkv-default-track-is-second.mkv")
    assert parts(found) == [[(1, 0)]]
    assert [(one.stream, one.reason) for one in found.info.sound.left_out] == [(0, "silent")]
    assert 5.0 < speech_bounds(found.samples)[1] < 5.6


def test_a_telephone_recorders_channels_are_two_tracks() -> None:
    found = decoded(CASES / "stereo-a-party-a-channel.wav")
    assert parts(found) == [[(0, 0)], [(0, 1)]]
    assert [abs(len(track) / RATE - 6.0) < 0.1 for track in found.tracks] == [True, True]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("wav-adpcm-by-ffmpeg.wav", 7.14),
        ("mp3-vbr-no-xing-title-info.mp3", 32.7),
        ("ogg-chained-mono-then-stereo.ogg", 12.6),
        ("mp4-audio-two-seconds-late.mp4", 7.5),
    ],
)
def test_recordings_that_were_refused_or_cut_short_are_read_whole(name: str, seconds: float) -> None:
    found = decoded(CASES / name)
    assert abs(found.duration_seconds - seconds) < 0.1
    assert len(found.tracks) == 1
    assert speech_bounds(found.samples)[1] > seconds - 1.0


def test_sound_that_begins_after_the_picture_is_as_late_in_the_track() -> None:
    assert 1.9 < speech_bounds(decoded(CASES / "mp4-audio-two-seconds-late.mp4").samples)[0] < 2.6


# --- timestamps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("webm", "libopus"), ("matroska", "pcm_s16le"), ("matroska", "aac"), ("mp4", "aac"), ("ipod", "alac"),
        ("3gp", "aac"), ("ogg", "libopus"), ("ogg", "flac"), ("mpegts", "aac"),
    ],
)  # fmt: skip
def test_a_gap_in_the_times_is_silence(container: str, codec: str) -> None:
    found = decoded(recorded(container, mono(codec, TALK), moved=after(4.0, 10.0)))
    assert abs(found.duration_seconds - 18.0) < 0.15
    assert loud_seconds(found.samples) <= {0, 1, 2, 3, 14, 15, 16, 17, 18}  # some codecs add a little at the end
    assert {14, 17} <= loud_seconds(found.samples)


def test_uneven_times_of_a_browser_move_no_sound_and_add_none() -> None:
    exact = decoded(recorded("matroska", mono("pcm_s16le", TALK)))
    uneven = decoded(recorded("matroska", mono("pcm_s16le", TALK), moved=lambda at: 0.04 * (round(at * 15) % 2)))
    assert uneven.info.sound.silence_inserted_seconds == 0.0
    assert np.array_equal(exact.samples, uneven.samples)


def test_many_short_gaps_add_up_to_silence_and_not_to_early_words() -> None:
    """One packet of 64 ms is lost in each second."""
    found = decoded(recorded("matroska", mono("pcm_s16le", TALK), moved=lambda at: 0.064 * int(at)))
    assert abs(found.duration_seconds - (8.0 + 7 * 0.064)) < 0.1


@pytest.mark.parametrize("back", [0.5, 6.0])
def test_sound_whose_time_lies_in_the_past_follows_and_nothing_is_lost(back: float) -> None:
    content = bytearray(recorded("matroska", mono("pcm_s16le", TALK), options={"cluster_time_limit": "500"}))
    place = [at for at in range(len(content) - 4) if content[at : at + 4] == b"\x1fC\xb6u"][-1]
    stamp = content.index(b"\xe7", place)
    size = content[stamp + 1] & 0x7F
    field = slice(stamp + 2, stamp + 2 + size)
    at = int.from_bytes(content[field])
    content[field] = (at - int(back * 1000)).to_bytes(size)
    found = decoded(bytes(content))
    assert abs(found.duration_seconds - 8.0) < 0.1
    assert np.abs(found.samples - decoded(recorded("matroska", mono("pcm_s16le", TALK))).samples).max() < 0.01


def test_a_time_that_no_call_has_is_ignored() -> None:
    found = decoded(recorded("matroska", mono("pcm_s16le", TALK), moved=after(4.0, 1_000_000.0)))
    assert abs(found.duration_seconds - 8.0) < 0.1


# --- streams and channels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "libopus"), ("mov", "pcm_s16le")])
def test_a_party_a_stream_is_a_track_each(container: str, codec: str) -> None:
    found = decoded(recorded(container, mono(codec, TALK), mono(codec, OTHER)))
    assert parts(found) == [[(0, 0)], [(1, 0)]]
    assert [len(track) for track in found.tracks] == [len(found.tracks[0])] * 2


def test_streams_stay_aligned_where_one_joins_late() -> None:
    late = np.concatenate([np.zeros(3 * RATE, np.float32), OTHER[: 5 * RATE]])
    whole = recorded("matroska", mono("pcm_s16le", TALK), mono("pcm_s16le", late))
    found = decoded(whole)
    assert abs(speech_bounds(found.tracks[1])[0] - speech_bounds(late)[0]) < 0.02


@pytest.mark.parametrize("channels", ["auto", "separate"])
def test_stereo_with_a_party_a_channel_in_a_lossy_codec(channels: Channels) -> None:
    found = decoded(recorded("mp4", Stream("aac", np.stack([TALK, OTHER]))), channels)
    assert parts(found) == [[(0, 0)], [(0, 1)]]


def test_a_mix_of_parties_is_made_where_it_is_asked_for() -> None:
    found = decoded(recorded("wav", Stream("pcm_s16le", np.stack([TALK, OTHER]))), "mix")
    assert np.abs(found.samples - (TALK + OTHER) / 2).max() < 0.001


def test_antiphase_has_its_words() -> None:
    found = decoded(recorded("wav", Stream("pcm_s16le", np.stack([TALK, -TALK]))))
    assert np.abs(np.abs(found.samples) - np.abs(TALK)).max() < 0.001


def test_too_many_streams_are_refused() -> None:
    short = talk(0.5)
    assert refused(recorded("matroska", *[mono("pcm_s16le", short)] * 17)) == "audio-too-many-channels"


def test_channels_together_are_bounded() -> None:
    content = recorded("wav", Stream("pcm_s16le", np.stack([TALK] * 6)))
    with pytest.raises(WriteCareError) as caught:
        decoder.inspect(io.BytesIO(content), max_seconds=10.0)
    assert caught.value.slug == "audio-too-many-channels"


def test_the_tracks_of_a_calls_files_are_bounded_together() -> None:
    info = decoded(recorded("wav", Stream("pcm_s16le", np.stack([TALK, OTHER])))).info
    decoder.refuse_too_long([info, info], 8.0)
    with pytest.raises(WriteCareError) as caught:
        decoder.refuse_too_long([info, info, info], 8.0)
    assert caught.value.slug == "audio-too-long"


def test_links_of_a_chained_ogg_each_have_their_own_tracks() -> None:
    first = recorded("ogg", mono("libopus", TALK))
    second = recorded("ogg", Stream("flac", np.stack([TALK, OTHER])))
    found = decoded(first + second)
    assert abs(found.duration_seconds - 16.0) < 0.1
    assert [min(loud_seconds(track)) for track in found.tracks] == [0, 8]


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("wav", "pcm_s16le")])
def test_files_put_one_after_another_are_read_to_the_last(container: str, codec: str) -> None:
    one = recorded(container, mono(codec, TALK), piped=container == "webm")
    assert abs(decoded(one + one).duration_seconds - 16.0) < 0.1


# --- truncated files, and complete files with a wrong stated length --------------------------------------------------

_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}


@pytest.mark.parametrize("kept", [0.31, 0.5, 0.87])
@pytest.mark.parametrize("name", ["webm", "fragments", "faststart", "aiff", "caf", "w64", "rf64", "au", "avi", "asf"])
def test_what_was_cut_in_the_middle_is_refused(name: str, kept: float, tmp_path: Path) -> None:
    whole = {
        "webm": lambda: recorded("webm", mono("libopus", talk(20.0)), piped=True),
        "fragments": lambda: recorded("mp4", mono("aac", talk(20.0)), options=_FRAGMENTS, piped=True),
        "faststart": lambda: recorded(
            "mp4", mono("aac", talk(20.0)), options={"movflags": "faststart"}, path=tmp_path / "a.mp4"
        ),
        "aiff": lambda: recorded("aiff", mono("pcm_s16be", talk(20.0))),
        "caf": lambda: recorded("caf", mono("pcm_s16le", talk(20.0))),
        "w64": lambda: recorded("w64", mono("pcm_s16le", talk(20.0))),
        "rf64": lambda: recorded("wav", mono("pcm_f32le", talk(20.0)), options={"rf64": "always"}),
        "au": lambda: recorded("au", mono("pcm_mulaw", talk(20.0))),
        "avi": lambda: recorded("avi", mono("libmp3lame", talk(20.0))),
        "asf": lambda: recorded("asf", mono("aac", talk(20.0))),
    }[name]()
    assert abs(decoded(whole).duration_seconds - 20.0) < 0.2
    assert refused(whole[: int(len(whole) * kept)]) == "audio-truncated"


@pytest.mark.parametrize(
    "length", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 2_000_000_000, 0xFFFFFFFF, 0xFFFFFFFF - 44, 0xFFFFFFFF - 36, 2667]
)
def test_a_placeholder_and_a_length_shorter_than_the_file_are_read_to_the_end(length: int) -> None:
    content = bytearray(recorded("wav", mono("pcm_s16le", TALK)))
    struct.pack_into("<I", content, content.index(b"data") + 4, length)
    assert abs(decoded(bytes(content)).duration_seconds - 8.0) < 0.01


def test_chunks_and_tags_after_the_sound_are_no_sound() -> None:
    content = recorded("wav", mono("pcm_s16le", TALK))
    note = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
    for tail in (note, b"ID3\4\0\0\0\0\0\x0a" + b"x" * 10):
        assert len(decoded(content + tail).samples) == len(TALK)


@pytest.mark.parametrize(("codec", "rate"), [("adpcm_ima_wav", 16000), ("adpcm_ms", 16000), ("g722", 16000)])
def test_a_wrong_byte_rate_is_ignored(codec: str, rate: int) -> None:
    content = bytearray(recorded("wav", mono(codec, TALK), rate=rate))
    struct.pack_into("<I", content, 28, 123)
    assert abs(decoded(bytes(content)).duration_seconds - 8.0) < 0.1


@pytest.mark.parametrize("box", [b"mvhd", b"mdhd"])
def test_an_mp4_that_states_a_longer_time_than_it_holds_is_taken_where_nothing_is_missing(box: bytes) -> None:
    content = bytearray(recorded("mp4", mono("aac", TALK)))
    place = content.index(box) + 20
    struct.pack_into(">I", content, place, 10 * struct.unpack_from(">I", content, place)[0])
    assert abs(decoded(bytes(content)).duration_seconds - 8.0) < 0.1


@pytest.mark.parametrize("container", ["wav", "flac", "w64", "caf", "au", "matroska", "avi"])
def test_what_a_pipe_wrote_without_knowing_its_length_is_taken(container: str) -> None:
    codec = {"flac": "flac", "avi": "libmp3lame", "matroska": "libopus"}.get(container, "pcm_s16le")
    content = recorded(container, mono("pcm_s16be" if container == "au" else codec, TALK), piped=True)
    assert abs(decoded(content).duration_seconds - 8.0) < 0.1


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "pcm_mulaw", 8000), ("wav", "pcm_alaw", 8000), ("wav", "pcm_f32le", 44100), ("caf", "alac", 44100),
        ("adts", "aac", 44100), ("mpegts", "aac", 48000), ("asf", "aac", 44100), ("aiff", "pcm_s24be", 96000),
    ],
)  # fmt: skip
def test_formats_of_telephones_and_studios(container: str, codec: str, rate: int) -> None:
    found = decoded(recorded(container, mono(codec, talk(4.0, rate=rate)), rate=rate))
    assert abs(found.duration_seconds - 4.0) < 0.1
    assert 0.3 < float(np.abs(found.samples).max()) < 0.7


# --- files that refer to other files ---------------------------------------------------------------------------------


def lists(secret: Path) -> Iterator[bytes]:
    """Files that make libav open another file, unless it is restricted."""
    name = str(secret)
    yield f"ffconcat version 1.0\nfile {name}\n".encode()
    yield f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{name}\n#EXT-X-ENDLIST\n".encode()
    yield b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    yield f'<?xml version="1.0"?><MPD><Period><BaseURL>file://{name}</BaseURL></Period></MPD>'.encode()
    yield f"[playlist]\nFile1={name}\n".encode()
    yield b"ID3\4\0\0\0\0\0\x0a" + b"x" * 10 + f"#EXTM3U\n#EXTINF:9,\n{name}\n".encode()
    yield b"RTSPtextrtsp://127.0.0.1/x\n"


def with_reference(movie: bytes, kind: bytes, payload: bytes) -> bytes:
    """The movie, changed so that the data of its track is in another file."""

    def rebuilt(content: bytes, path: tuple[bytes, ...]) -> bytes:
        made = b""
        for box, start, end in boxes(FileView(io.BytesIO(content), 0, len(content)), 0, len(content)):
            body = content[start:end]
            if box == path[0] and len(path) > 1:
                body = rebuilt(body, path[1:])
            elif box == path[0]:
                body = struct.pack(">II", 0, 1) + struct.pack(">I4sI", 12 + len(payload), kind, 0) + payload
            made += struct.pack(">I4s", 8 + len(body), box) + body
        return made

    return rebuilt(movie, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"))


def test_playlists_and_session_descriptions_are_no_recordings(tmp_path: Path) -> None:
    secret = tmp_path / "another.wav"
    secret.write_bytes(recorded("wav", mono("pcm_s16le", TALK)))
    for content in lists(secret):
        assert refused(content) == "audio-unreadable"


def test_a_movie_whose_sound_lies_in_another_file_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "another.wav"
    secret.write_bytes(recorded("wav", mono("pcm_s16le", TALK)))
    movie = recorded("mov", mono("pcm_s16le", TALK))
    name = str(secret).encode()
    alias = bytes(150) + struct.pack(">hh", 18, len(name)) + name + b"\0"
    assert refused(with_reference(movie, b"url ", b"file://" + name + b"\0")) == "audio-unreadable"
    assert refused(with_reference(movie, b"alis", alias)) == "audio-unreadable"
    assert abs(decoded(with_reference(movie, b"url ", b"")).duration_seconds - 8.0) < 0.1  # only a flag is missing


def test_a_codec_that_is_not_listed_is_not_run() -> None:
    with pytest.raises(WriteCareError) as caught:
        decoded(recorded("matroska", mono("tta", TALK)))
    assert caught.value.slug == "audio-unreadable"


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mp4", "aac"), ("webm", "libopus"), ("ogg", "flac"), ("caf", "alac"), ("w64", "pcm_s16le")],
)
def test_damaged_bytes_end_in_an_answer(container: str, codec: str) -> None:
    random = np.random.default_rng(4)
    content = bytearray(recorded(container, mono(codec, talk(3.0))))
    for place in random.integers(0, len(content), 40):
        content[place] = random.integers(0, 256)
    try:
        seconds = decoder.inspect(io.BytesIO(bytes(content)), max_seconds=20.0).duration_seconds
        verdict_rule = "read" if 0 < seconds <= 20 else "wrong"
    except WriteCareError as refusal:
        verdict_rule = refusal.slug
    assert verdict_rule in {"read", *REFUSALS}
