"""Decides which channels of a recording become separate tracks, which are mixed, and which are left out.

A telephone recorder writes each party to its own channel, a meeting program each party to its own stream. A microphone
in a room records the same voices on both channels; a badly wired one inverts the second channel. Levels and
correlations show which case it is. No sound is lost: a channel that is neither track nor copy is mixed into a track.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.channels import Channels, Reason

LevelArray = NDArray[np.float64]

_FRAME: Final = 320  # samples: 20 ms at 16 kHz
_BLOCK: Final = 5  # frames in a block: 100 ms, longer than the delays between microphones or codecs
_SILENT: Final = 1e-8  # mean square: -80 dB
_WEAK_RATIO: Final = 1e-3  # relative to the loudest channel; a steady sound below this is hiss or hum
_STEADY_RATIO: Final = 4.0  # relative to the median; hiss and hum stay below it, a voice does not
_PAUSE_RATIO: Final = 10**-3.5  # relative to a channel's loudest frame; a frame below it is a pause
_COPY: Final = 0.95  # absolute correlation from which two channels hold the same sound
_SAME_SCENE: Final = 0.4  # correlation of levels; near 0 for two parties, above 0.6 for two microphones in a room
_PARTY_FRAMES: Final = 50  # a party has at least one second of sound; a channel with less is mixed in
_CANCELLED: Final = 0.06  # a mix this much weaker than its loudest channel (-12 dB) has cancelled it
_MOST_CANCELLED: Final = 0.01  # share of the blocks with sound
_UNEXPLAINED: Final = 8.0  # relative to the level that other streams explain
_MOST_UNEXPLAINED: Final = 10  # frames in a row: 0.2 s, the length of a word


@dataclass(frozen=True)
class ChannelWeight:
    """A channel of a stream and its weight in a track. The weight is negative if the channel is inverted."""

    stream: int
    channel: int
    weight: float


@dataclass(frozen=True)
class OmittedChannel:
    """A channel that is in no track, because it holds no sound that is not in a track."""

    stream: int
    channel: int
    reason: Reason


@dataclass(frozen=True)
class Layout:
    """The tracks, each with its channels and weights, and the channels that are in no track."""

    tracks: tuple[tuple[ChannelWeight, ...], ...]
    left_out: tuple[OmittedChannel, ...] = ()


class StreamLevels:
    """Measures one stream while it is decoded: the levels of its channels, and the products of each pair."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._levels: list[NDArray[np.float32]] = []
        self._products: list[NDArray[np.float32]] = []
        self._rest = np.zeros((channels, 0), np.float32)

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add float32[channels, n] at 16 kHz."""
        samples = np.concatenate([self._rest, samples], axis=1)
        whole = samples.shape[1] // (_FRAME * _BLOCK) * _FRAME * _BLOCK
        self._rest = samples[:, whole:]
        if whole:
            self._measure(samples[:, :whole])

    def _measure(self, samples: NDArray[np.float32]) -> None:
        frames = samples.reshape(self.channels, -1, _FRAME)
        blocks = samples.reshape(self.channels, -1, _FRAME * _BLOCK)
        with np.errstate(all="ignore"):  # damaged samples may be NaN or huge
            levels = np.einsum("cfn,cfn->cf", frames, frames) / np.float32(_FRAME)
            products = np.einsum("cbn,dbn->bcd", blocks, blocks) / np.float32(_FRAME * _BLOCK)
        self._levels.append(np.nan_to_num(levels, nan=0.0, posinf=1.0).clip(0.0, 1.0))
        self._products.append(np.nan_to_num(products, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0))

    def finish(self) -> None:
        """Measure the last samples, padded with silence. Call it after the last `add`."""
        padding = -self._rest.shape[1] % (_FRAME * _BLOCK)
        if self._rest.shape[1] or not self._levels:
            self._measure(np.pad(self._rest, ((0, 0), (0, padding or _FRAME * _BLOCK))))

    def levels(self) -> LevelArray:
        """[channels, frames of 20 ms]: mean squares, smoothed over 100 ms."""
        whole = np.concatenate(self._levels, axis=1).astype(np.float64)
        sums = np.cumsum(np.pad(whole, ((0, 0), (_BLOCK // 2 + 1, _BLOCK // 2))), axis=1)
        return np.asarray(np.maximum(sums[:, _BLOCK:] - sums[:, :-_BLOCK], 0.0) / _BLOCK)

    def products(self) -> NDArray[np.float32]:
        """[blocks of 100 ms, channels, channels]: mean products."""
        return np.concatenate(self._products)


@dataclass(frozen=True)
class _Track:
    parts: tuple[ChannelWeight, ...]
    levels: LevelArray = field(repr=False)


def layout_of(streams: Sequence[StreamLevels], channels: Channels) -> Layout:
    """The layout of a recording, from its measured levels and the caller's choice of `channels`."""
    levels = [stream.levels() for stream in streams]
    loudest = max(float(one.max()) for one in levels)
    tracks: list[_Track] = []
    left_out: list[OmittedChannel] = []
    for number, stream in enumerate(streams):
        audible = [channel for channel in range(stream.channels) if _is_audible(levels[number][channel], loudest)]
        left_out += [
            OmittedChannel(stream=number, channel=channel, reason="silent")
            for channel in range(stream.channels)
            if channel not in audible
        ]
        made = _stream_tracks(stream.products(), levels[number], audible, channels)
        left_out += [  # a channel that would cancel others in the mix; its sound is in them
            OmittedChannel(number, channel, "copy")
            for channel in audible
            if not any(channel in track for track in made)
        ]
        tracks += [
            _Track(tuple(ChannelWeight(number, channel, weight) for channel, weight in track.items()),
                   np.asarray(sum(levels[number][channel] for channel in track) / len(track)))
            for track in made
        ]  # fmt: skip
    if not tracks:  # a silent recording becomes one silent track
        return Layout(
            ((ChannelWeight(0, 0, 1.0),),), tuple(one for one in left_out if (one.stream, one.channel) != (0, 0))
        )
    tracks, repeated = _drop_repeated_streams(tracks)
    left_out += repeated
    if channels == "mix" and len(tracks) > 1:
        share = 1 / len(tracks)
        every = (
            ChannelWeight(part.stream, part.channel, part.weight * share) for track in tracks for part in track.parts
        )
        return Layout((tuple(every),), tuple(left_out))
    return Layout(tuple(track.parts for track in tracks), tuple(left_out))


def _is_audible(levels: LevelArray, loudest_of_all: float) -> bool:
    """Whether a channel holds more than silence, weak hiss or hum."""
    loudest = float(levels.max())
    return loudest > _SILENT and (loudest > _WEAK_RATIO * loudest_of_all or not _is_steady_noise(levels))


def _is_steady_noise(levels: LevelArray) -> bool:
    return float(levels.max()) <= _STEADY_RATIO * float(np.median(levels))


def _active(levels: LevelArray) -> NDArray[np.bool_]:
    """A mask of the frames that are not a pause."""
    return np.asarray(levels > max(_SILENT, _PAUSE_RATIO * float(levels.max())))


# --- the channels of one stream -----------------------------------------------------------------------------------

_Weights = dict[int, float]


def _stream_tracks(
    products: NDArray[np.float32], levels: LevelArray, audible: Sequence[int], channels: Channels
) -> list[_Weights]:
    """The tracks of the audible channels of one stream: for each track, the weights of its channels."""
    copies = _group_copies(products, audible)
    if channels == "separate" or len(copies) < 2:
        return copies
    scenes = [copies] if channels == "mix" else _group_by_scene(copies, levels)
    made: list[_Weights] = []
    for scene in scenes:
        mix, cancelled = _best_mix(scene, products)
        made += [mix] if channels == "mix" or cancelled <= _MOST_CANCELLED else scene
    return made


def _group_copies(products: NDArray[np.float32], audible: Sequence[int]) -> list[_Weights]:
    """Group channels with the same sound, also if one is inverted (dual mono, antiphase)."""
    total = products.sum(axis=0, dtype=np.float64)
    groups: list[dict[int, float]] = []
    for channel in audible:
        for group in groups:
            first = next(iter(group))
            correlation = total[first, channel] / max(np.sqrt(total[first, first] * total[channel, channel]), 1e-20)
            if abs(correlation) >= _COPY:
                group[channel] = float(np.sign(correlation))
                break
        else:
            groups.append({channel: 1.0})
    return [{channel: sign / len(group) for channel, sign in group.items()} for group in groups]


def _group_by_scene(copies: list[_Weights], levels: LevelArray) -> list[list[_Weights]]:
    """Group channels with the same voices; channels of different parties are in different groups."""
    own = [levels[next(iter(group))] for group in copies]
    scenes: list[list[int]] = []
    for number, mine in enumerate(own):
        joined = [scene for scene in scenes if any(_in_same_scene(own[other], mine) for other in scene)]
        scenes = [scene for scene in scenes if scene not in joined]
        scenes.append([*(other for scene in joined for other in scene), number])
    parties = [scene for scene in scenes if any(_is_party(own[number]) for number in scene)]
    if len(parties) < 2:
        return [copies]
    # A channel that is not a party (a few clicks, a hum) is added to the loudest party, so that no sound is lost.
    rest = [number for scene in scenes if scene not in parties for number in scene]
    max(parties, key=lambda scene: max(float(own[number].sum()) for number in scene)).extend(rest)
    return [[copies[number] for number in sorted(scene)] for scene in sorted(parties, key=min)]


def _is_party(levels: LevelArray) -> bool:
    return not _is_steady_noise(levels) and int(_active(levels).sum()) >= _PARTY_FRAMES


def _in_same_scene(one: LevelArray, other: LevelArray) -> bool:
    return _level_correlation(one, other) >= _SAME_SCENE


def _best_mix(scene: list[_Weights], products: NDArray[np.float32]) -> tuple[_Weights, float]:
    """The mix that cancels the least sound, and the share of blocks in which it cancels a channel."""
    audible = [channel for group in scene for channel in group]
    loudest = np.max([products[:, channel, channel] for channel in audible], axis=0)
    active = _active(loudest)
    best: tuple[float, _Weights] | None = None
    for signs in _ways_to_mix(len(scene)):
        weights = {channel: sign * share for sign, group in zip(signs, scene, strict=True) if sign
                   for channel, share in group.items()}  # fmt: skip
        vector = np.zeros(products.shape[1])
        vector[list(weights)] = list(weights.values())
        power = np.einsum("bij,i,j->b", products, vector, vector)
        cancelled = float(np.mean(power[active] < _CANCELLED * loudest[active])) if active.any() else 0.0
        if best is None or cancelled < best[0]:
            used = sum(sign != 0 for sign in signs)
            best = cancelled, {channel: weight / used for channel, weight in weights.items()}
    assert best is not None
    return best[1], best[0]


def _ways_to_mix(count: int) -> list[tuple[int, ...]]:
    """Signs of the channels: all added; each one inverted; each one alone."""
    turned = [tuple(-1 if place == one else 1 for place in range(count)) for one in range(1, count)]
    alone = [tuple(int(place == one) for place in range(count)) for one in range(count)]
    return [(1,) * count, *turned, *alone]


# --- streams that repeat others -----------------------------------------------------------------------------------


def _drop_repeated_streams(tracks: list[_Track]) -> tuple[list[_Track], list[OmittedChannel]]:
    """Drop streams that only repeat others: a mix of other streams, or the same sound in another quality."""
    length = max(track.levels.size for track in tracks)
    padded = [np.pad(track.levels, (0, length - track.levels.size)) for track in tracks]
    kept = list(range(len(tracks)))
    left_out: list[OmittedChannel] = []
    for number in range(len(tracks)):
        others = [other for other in kept if _stream_of(tracks[other]) != _stream_of(tracks[number])]
        if len(others) > 1 and _is_mix_of(padded[number], [padded[other] for other in others]):
            kept.remove(number)
            left_out += _omit_track(tracks[number], "mix of other streams")
    for number in reversed(list(kept)):
        before = [o for o in kept if o < number and _stream_of(tracks[o]) != _stream_of(tracks[number])]
        if any(_is_mix_of(padded[number], [padded[other]]) for other in before):
            kept.remove(number)
            left_out += _omit_track(tracks[number], "copy")
    return [tracks[number] for number in kept], left_out


def _stream_of(track: _Track) -> int:
    return track.parts[0].stream


def _omit_track(track: _Track, reason: Reason) -> list[OmittedChannel]:
    return [OmittedChannel(stream=part.stream, channel=part.channel, reason=reason) for part in track.parts]


def _is_mix_of(levels: LevelArray, others: list[LevelArray]) -> bool:
    """Whether the levels are those of a mix of the others: they explain its level in nearly every frame."""
    basis = np.stack([_aligned(other, levels) for other in others], axis=1)
    gains = np.maximum(np.linalg.lstsq(basis, levels, rcond=None)[0], 0.0)
    # If only one of several streams contributes, this is a copy of that stream, not a mix.
    if len(others) > 1 and int((gains > 0.01 * gains.max()).sum()) < 2:
        return False
    expected = basis @ gains
    if _level_correlation(levels, expected) < _COPY:
        return False
    unexplained = _active(levels) & (levels > _UNEXPLAINED * expected)
    ends = np.flatnonzero(np.diff(np.pad(unexplained.astype(np.int8), 1)))
    return int(np.max(ends[1::2] - ends[::2], initial=0)) < _MOST_UNEXPLAINED


def _aligned(levels: LevelArray, to: LevelArray) -> LevelArray:
    """The levels shifted by the delay (at most 100 ms) at which they fit `to` best. Codecs delay sound."""
    shifted = [np.roll(levels, delay) for delay in range(-_BLOCK, _BLOCK + 1)]
    return max(shifted, key=lambda one: _level_correlation(one, to))


def _level_correlation(one: LevelArray, other: LevelArray) -> float:
    """Correlation of the levels (in dB) of two channels, over the frames in which either has sound."""
    size = min(one.size, other.size)
    one, other = one[:size], other[:size]
    either = _active(one) | _active(other)
    if int(either.sum()) < 2:
        return 0.0
    floors = [max(_SILENT, _PAUSE_RATIO * float(levels.max(initial=0.0))) for levels in (one, other)]
    first, second = (
        np.log10(np.maximum(levels[either], floor)) for levels, floor in zip((one, other), floors, strict=True)
    )
    spread = float(np.std(first) * np.std(second))
    return float(np.mean((first - first.mean()) * (second - second.mean()))) / spread if spread > 1e-12 else 0.0
