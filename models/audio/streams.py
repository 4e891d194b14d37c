"""Decodes the audio streams of an opened container, and places each sound at its time in the file.

The position of a frame follows from the number of samples before it. If its timestamp is later, the gap is filled with
silence (a muted microphone, a lost connection). Gaps under a tenth of a second are ignored, because recorders write
uneven timestamps. Sound with a timestamp in the past is appended: no sound is removed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.audio.channel_layout import ChannelWeight, Layout, StreamLevels, layout_of
from models.audio.containers import CODECS, MOST_CHANNELS
from models.audio.refusal import AudioRefused
from models.contract.channels import Channels

WriteSamples = Callable[[int, int, bytes], None]  # stream, channel, float32 samples

_WITH_TIMESTAMPS: Final = frozenset(
    {"mov", "matroska", "ogg", "asf", "mpegts"}
)  # timestamps of other formats only count samples
_GAP_SECONDS: Final = 0.1
_RESTART_SECONDS: Final = 5.0  # if a timestamp jumps back further than this, the timestamps have restarted
_CHUNK_SAMPLES: Final = 1 << 14  # samples written at a time


class StreamDecoder:
    """Decodes one stream of a container and passes the samples of each channel to `write`."""

    def __init__(
        self, av: Any, stream: Any, number: int, rate: int, write: WriteSamples, *, has_other_streams: bool
    ) -> None:
        self._av, self._number, self._rate, self._write = av, number, rate, write
        self._codec = stream.codec_context
        self._tick = float(stream.time_base)
        self._resampler: Any = None
        self._layout: Any = None
        self._buffers: list[bytearray] = []
        self._has_other_streams = (
            has_other_streams  # with other streams, even one channel must be measured for the layout
        )
        self.levels: StreamLevels | None = None
        self.written = 0  # samples of each channel
        self.silence = 0  # of these, samples of silence in gaps
        self.packets = self.damaged = 0
        self._clock = 0.0  # seconds: position of the next frame by number of samples
        self._shift = 0.0  # seconds added to the timestamps since their last restart

    @property
    def channels(self) -> int:
        return len(self._buffers)

    @property
    def seconds(self) -> float:
        return self.written / self._rate

    def decode_packet(self, packet: Any, origin: float | None, most_seconds: float) -> None:
        """Decodes a packet. `origin`: timestamp of the start of the recording, None if timestamps are not used.

        A damaged packet is skipped, as a player does: one damaged second must not make an hour of evidence unusable. A
        file with mostly damaged packets is refused.
        """
        self.packets += 1
        try:
            frames = packet.decode()
        except self._av.error.FFmpegError:
            self.damaged += 1
            if self.damaged > 20 and self.damaged > self.packets / 2:
                raise AudioRefused("audio-unreadable") from None
            return
        for frame in frames:
            if frame.samples and frame.sample_rate:
                self._append_frame(frame, origin, most_seconds)

    def _append_frame(self, frame: Any, origin: float | None, most_seconds: float) -> None:
        if self._layout is None:
            self._begin(frame)
        if origin is not None and frame.pts is not None:
            gap_seconds = frame.pts * self._tick - origin + self._shift - self._clock
            if (
                gap_seconds < -_RESTART_SECONDS or self._clock + gap_seconds > most_seconds
            ):  # in the second case the timestamp is invalid
                self._shift -= gap_seconds
            elif gap_seconds > _GAP_SECONDS:
                self._insert_silence(self._clock + gap_seconds)
        self._clock += frame.samples / frame.sample_rate
        self._buffer_samples(self._resampled(frame))

    def _begin(self, frame: Any) -> None:
        self._layout = frame.layout
        if len(self._layout.channels) > MOST_CHANNELS:
            raise AudioRefused("audio-too-many-channels", channels=len(self._layout.channels))
        self._buffers = [bytearray() for _ in self._layout.channels]
        if self._has_other_streams or len(self._buffers) > 1:
            self.levels = StreamLevels(len(self._buffers))
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> Any:
        return self._av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)

    def _resampled(self, frame: Any) -> list[Any]:
        try:
            return list(self._resampler.resample(frame))
        except ValueError:  # rate or channels changed inside the stream
            pieces = list(self._resampler.resample(None))
            self._resampler = self._new_resampler()
            return pieces + list(self._resampler.resample(frame))

    def _insert_silence(self, until: float) -> None:
        """Writes silence up to second `until`, after the samples that are still in the resampler."""
        self._buffer_samples(self._resampler.resample(None))
        self._resampler = self._new_resampler()
        self._flush()
        missing = round(until * self._rate) - self.written
        self.silence += max(0, missing)
        while missing > 0:
            piece = bytes(4 * min(missing, 1 << 18))
            self._write_planes([piece] * self.channels)
            missing -= len(piece) // 4
        self._clock = until

    def _buffer_samples(self, pieces: list[Any]) -> None:
        for piece in pieces:
            for buffer, plane in zip(self._buffers, piece.planes, strict=True):
                buffer.extend(memoryview(plane)[: 4 * piece.samples])
        if self._buffers and len(self._buffers[0]) >= 4 * _CHUNK_SAMPLES:
            self._flush()

    def _flush(self) -> None:
        if self._buffers and self._buffers[0]:
            self._write_planes([bytes(buffer) for buffer in self._buffers])
            for buffer in self._buffers:
                buffer.clear()

    def _write_planes(self, planes: list[bytes]) -> None:
        self.written += len(planes[0]) // 4
        if self.levels is not None:
            self.levels.add(np.stack([np.frombuffer(plane, "<f4") for plane in planes]))
        for channel, plane in enumerate(planes):
            self._write(self._number, channel, plane)

    def finish(self) -> None:
        """Flushes buffers and measurements after the last packet."""
        if self._resampler is not None:
            self._buffer_samples(self._resampler.resample(None))
            self._flush()
        elif self._has_other_streams:  # a stream of which nothing could be decoded
            self.levels = StreamLevels(1)
        if self.levels is not None:
            self.levels.finish()


@dataclass
class DecodedSection:
    """The result of a section: its streams, and the latest end time of any packet."""

    streams: tuple[StreamDecoder, ...]
    last_packet_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return max(stream.seconds for stream in self.streams)

    @property
    def samples(self) -> int:
        return sum(stream.written * stream.channels for stream in self.streams)

    def layout(self, channels: Channels) -> Layout:
        """The tracks that the channels become."""
        measured = [stream.levels for stream in self.streams if stream.levels is not None]
        if measured:
            return layout_of(measured, channels)
        return Layout(((ChannelWeight(0, 0, 1.0),),))


def audio_streams(container: Any) -> list[Any]:
    """The audio streams that can be decoded. Raises `AudioRefused` if there are none or too many."""
    if len(container.streams.audio) > MOST_CHANNELS:
        raise AudioRefused("audio-too-many-channels", channels=len(container.streams.audio))
    streams = [stream for stream in container.streams.audio if stream.codec_context.name in CODECS]
    if not streams:
        raise AudioRefused("audio-unreadable")
    return streams


def decode_streams(
    av: Any, container: Any, name: str, write: WriteSamples, *, rate: int, most_seconds: float, most_samples: int
) -> DecodedSection:
    """Decodes all audio streams to `rate`. Raises `AudioRefused` beyond the limits or if nothing can be decoded."""
    streams = audio_streams(container)
    has_other_streams = len(streams) > 1
    decoded = DecodedSection(
        tuple(
            StreamDecoder(av, one, place, rate, write, has_other_streams=has_other_streams)
            for place, one in enumerate(streams)
        )
    )
    by_index = {stream.index: sound for stream, sound in zip(streams, decoded.streams, strict=True)}
    origin = (container.start_time or 0) / av.time_base if name in _WITH_TIMESTAMPS else None
    ticks = {stream.index: float(stream.time_base) for stream in container.streams if stream.time_base}
    for packet in _packets(av, container):
        index = packet.stream_index
        if origin is not None and packet.pts is not None and index in ticks:
            decoded.last_packet_seconds = max(
                decoded.last_packet_seconds, (packet.pts + (packet.duration or 0)) * ticks[index] - origin
            )
        if (sound := by_index.get(index)) is not None:
            sound.decode_packet(packet, origin, most_seconds)
            if sound.seconds > most_seconds:
                raise AudioRefused("audio-too-long", found=sound.seconds)
            if has_other_streams or sound.channels > 1:
                _refuse_too_much(decoded, most_samples)
    for sound in decoded.streams:
        sound.finish()
    if decoded.seconds > most_seconds:
        raise AudioRefused("audio-too-long", found=decoded.seconds)
    if not decoded.seconds and any(sound.damaged for sound in decoded.streams):
        raise AudioRefused("audio-unreadable")
    return decoded


def _packets(av: Any, container: Any) -> Iterator[Any]:
    demuxed = container.demux()
    while True:
        try:
            yield next(demuxed)
        except (StopIteration, av.error.FFmpegError):
            return  # the rest cannot be read; the comparison with the stated length decides whether that matters


def _refuse_too_much(decoded: DecodedSection, most_samples: int) -> None:
    channels = sum(stream.channels for stream in decoded.streams)
    if channels > MOST_CHANNELS or decoded.samples > most_samples:
        raise AudioRefused("audio-too-many-channels", channels=channels)
