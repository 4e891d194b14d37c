"""Decoding of untrusted files: valid sound is decoded, wrong or damaged files are refused with a clear reason."""

import io
import struct
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from models.audio import decoder
from models.contract.errors import Kind, WriteCareError

SAMPLE = Path(__file__).parents[3] / "samples" / "tr-a-0053.flac"


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(seconds: float = 2.0, rate: int = 16000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat((tone(seconds, rate) * 32767).astype("<i2"), channels).tobytes())
    return out.getvalue()


def encoded(container: str, codec: str, seconds: float = 5.0, rate: int = 48000, *, video: bool = False) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        pictures = file.add_stream("mpeg4", rate=10) if video else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
            for number in range(int(seconds * 10)):
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 10)
                file.mux(pictures.encode(picture))
        samples = tone(seconds, rate)
        converter = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = rate
        fifo = av.AudioFifo()
        for piece in converter.resample(frame):
            fifo.write(piece)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size)) is not None:
            file.mux(stream.encode(part))
        if (part := fifo.read()) is not None:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
        if pictures is not None:
            file.mux(pictures.encode(None))
    return out.getvalue()


def refusal(content: bytes, max_seconds: float = 60.0) -> WriteCareError:
    with pytest.raises(WriteCareError) as caught:
        decoder.inspect(io.BytesIO(content), max_seconds=max_seconds)
    return caught.value


def test_a_real_call_is_decoded_whole() -> None:
    decoded = decoder.decode(SAMPLE, max_seconds=60)
    assert decoded.samples.dtype == np.float32
    assert abs(len(decoded.samples) / decoder.SAMPLE_RATE - 46.108) < 0.01
    assert 0.1 < float(np.abs(decoded.samples).max()) <= 1.0
    assert (decoded.info.codec, decoded.info.channels, decoded.info.source_sample_rate) == ("flac", 1, 16000)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_any_rate_becomes_16_khz_with_its_pitch(rate: int) -> None:
    samples = decoder.decode(io.BytesIO(wav(2.0, rate)), max_seconds=60).samples
    assert abs(len(samples) - 32000) < 100
    spectrum = np.abs(np.fft.rfft(samples[:16000]))
    assert int(spectrum.argmax()) == 440


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_number_of_channels_becomes_one(channels: int) -> None:
    decoded = decoder.decode(io.BytesIO(wav(1.0, 48000, channels)), max_seconds=60)
    assert decoded.info.channels == channels
    assert abs(len(decoded.samples) - 16000) < 100
    assert float(np.abs(decoded.samples).max()) > 0.2


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp3", "libmp3lame"),
        ("ipod", "aac"),
        ("mp4", "aac"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("flac", "flac"),
        ("adts", "aac"),
        ("matroska", "flac"),
    ],
)
def test_common_formats_are_read_to_their_end(container: str, codec: str) -> None:
    info = decoder.inspect(io.BytesIO(encoded(container, codec)), max_seconds=60)
    assert abs(info.duration_seconds - 5.0) < 0.2


def test_the_sound_of_a_video_is_taken() -> None:
    info = decoder.inspect(io.BytesIO(encoded("mp4", "aac", video=True)), max_seconds=60)
    assert abs(info.duration_seconds - 5.0) < 0.2


def test_a_path_and_an_open_file_give_the_same_and_the_file_stays_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav())
    with path.open("rb") as file:
        file.seek(7)
        assert decoder.inspect(file, max_seconds=60) == decoder.inspect(path, max_seconds=60)
        assert file.tell() == 7


def test_an_empty_file_is_refused() -> None:
    error = refusal(b"")
    assert (error.slug, error.kind) == ("audio-empty", Kind.INVALID)


def test_a_recording_without_a_single_sample_is_refused() -> None:
    assert refusal(wav(0.0)).slug == "audio-empty"


@pytest.mark.parametrize(
    "content", [b"This is a letter, not a call. " * 200, bytes(range(256)) * 64, b"RIFF" + b"\0" * 60]
)
def test_what_is_not_audio_is_refused_without_quoting_it(content: bytes) -> None:
    error = refusal(content)
    assert (error.slug, error.kind) == ("audio-unreadable", Kind.INVALID)
    assert "letter" not in error.detail


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["wav", "flac", "mp4", "webm", "ogg"])
def test_a_file_that_was_cut_off_is_refused(name: str, keep: float) -> None:
    whole = {
        "wav": lambda: wav(20.0),
        "flac": lambda: encoded("flac", "flac", 20.0),
        "mp4": lambda: encoded("mp4", "aac", 20.0),
        "webm": lambda: encoded("webm", "libopus", 20.0),
        "ogg": lambda: encoded("ogg", "libopus", 20.0),
    }[name]()
    error = refusal(whole[: int(len(whole) * keep)])
    assert (error.kind, error.slug) == (Kind.INVALID, "audio-truncated")


def test_a_header_that_claims_more_than_there_is_is_refused() -> None:
    content = bytearray(wav(5.0))
    struct.pack_into("<I", content, 40, 16000 * 2 * 30)
    assert refusal(bytes(content)).slug == "audio-truncated"


def test_a_stream_writer_that_left_its_length_open_is_believed() -> None:
    content = bytearray(wav(5.0))
    struct.pack_into("<I", content, 4, 0xFFFFFFFF)
    struct.pack_into("<I", content, 40, 0xFFFFFFFF)
    assert abs(decoder.inspect(io.BytesIO(bytes(content)), max_seconds=60).duration_seconds - 5.0) < 0.01


def test_a_bare_mp3_states_nothing_and_is_not_accused() -> None:
    whole = encoded("mp3", "libmp3lame", 20.0)
    headless = whole[whole.index(b"\xff\xfb", 500) :]  # after the tag and the frame with the frame count
    info = decoder.inspect(io.BytesIO(headless[: len(headless) // 2]), max_seconds=60)
    assert 8 < info.duration_seconds < 11


def test_an_mp3_that_counts_its_frames_is_held_to_them() -> None:
    whole = encoded("mp3", "libmp3lame", 20.0)
    assert refusal(whole[: len(whole) // 2]).slug == "audio-truncated"


def test_too_long_is_refused_before_decoding_and_names_the_limit() -> None:
    error = refusal(encoded("flac", "flac", 30.0, 16000), max_seconds=20.0)
    assert (error.slug, error.kind) == ("audio-too-long", Kind.TOO_LARGE)
    assert "30.0 s" in error.detail
    assert "20.0 s" in error.detail


def test_a_file_that_holds_more_than_it_says_is_read_whole_within_the_limit() -> None:
    content = bytearray(encoded("flac", "flac", 30.0, 16000))
    # The low 32 bits of STREAMINFO's 36-bit sample count are at byte 22 of the file.
    struct.pack_into(">I", content, 22, 16000 * 2)
    assert abs(decoder.inspect(io.BytesIO(bytes(content)), max_seconds=60).duration_seconds - 30.0) < 0.1
    assert refusal(bytes(content), max_seconds=20.0).slug == "audio-too-long"


def test_a_file_without_a_stated_length_is_stopped_at_the_limit() -> None:
    error = refusal(encoded("ogg", "libopus", 30.0), max_seconds=10.0)
    assert (error.slug, error.kind) == ("audio-too-long", Kind.TOO_LARGE)


def test_a_decoder_that_dies_is_an_unreadable_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert refusal(wav()).slug == "audio-unreadable"


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_MEMORY_BYTES", 64 << 20)
    assert refusal(wav()).slug == "audio-unreadable"


def test_decoding_needs_no_heavy_library() -> None:
    heavy = "print([m for m in ('torch', 'av', 'scipy', 'ray') if m in sys.modules])"
    script = f"import sys; import models.audio.decoder; {heavy}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
