"""Channel layout: different parties become separate tracks, the same sound one track; no sound is lost or doubled."""

import numpy as np
import pytest

from models.audio.channel_layout import Layout, StreamLevels, layout_of
from models.contract.channels import Channels
from tests.models.audio.sounds import RATE, Sound, talk

A, B, C = talk(10, 0), talk(10, 3), talk(10, 5)
NOTHING = np.zeros_like(A)
FIRST = (np.arange(A.size) // RATE) % 2 == 0  # seconds in which the first party talks
IN_TURN = A * FIRST, B * ~FIRST


def noise(decibels: float, seed: int = 0) -> Sound:
    return (np.random.default_rng(seed).normal(size=A.size) * 10 ** (decibels / 20)).astype(np.float32)


def in_room(sound: Sound, seed: int, delay: int) -> Sound:
    """The sound as a microphone in a room records it: delayed, with echoes."""
    random = np.random.default_rng(seed)
    response = np.zeros(2000)
    response[delay] = 1
    response[delay + 60 :] = random.normal(size=1940 - delay) * np.exp(-np.arange(1940 - delay) / 300) * 0.1
    return np.convolve(sound, response)[: sound.size].astype(np.float32)


def layout(*streams: tuple[Sound, ...], channels: Channels = "auto") -> Layout:
    measured = []
    for stream in streams:
        levels = StreamLevels(len(stream))
        samples = np.stack(stream)
        for at in range(0, samples.shape[1], 9999):  # in uneven pieces, like the output of a decoder
            levels.add(samples[:, at : at + 9999])
        levels.finish()
        measured.append(levels)
    return layout_of(measured, channels)


def tracks(*streams: tuple[Sound, ...], channels: Channels = "auto") -> list[list[tuple[int, int]]]:
    return [[(part.stream, part.channel) for part in track] for track in layout(*streams, channels=channels).tracks]


def heard(found: Layout, *streams: tuple[Sound, ...]) -> list[Sound]:
    return [
        sum((part.weight * streams[part.stream][part.channel] for part in track), NOTHING) for track in found.tracks
    ]


@pytest.mark.parametrize("second", [A, 0.3 * A, A + noise(-50)])
def test_dual_mono_is_one_track(second: Sound) -> None:
    assert tracks((A, second)) == [[(0, 0), (0, 1)]]


def test_antiphase_is_one_track_and_never_silence() -> None:
    found = layout((A, -A))
    [one] = heard(found, (A, -A))
    assert np.allclose(np.abs(one), np.abs(A), atol=1e-6)


@pytest.mark.parametrize("wanted", ["auto", "mix"])
@pytest.mark.parametrize("together", [False, True])
def test_one_voice_in_phase_and_one_in_antiphase_are_both_heard(wanted: Channels, together: bool) -> None:
    first, second = (A, B) if together else IN_TURN
    channels = first + second, first - second
    whole = sum(heard(layout(channels, channels=wanted), channels), NOTHING)
    for voice, silent in ((first, second), (second, first)):
        alone = (np.abs(voice) > 0.1) & (np.abs(silent) < 0.01)
        assert np.abs(whole[alone]).mean() > 0.4 * np.abs(voice[alone]).mean()


@pytest.mark.parametrize(
    "parties",
    [
        (A, B),
        IN_TURN,
        (IN_TURN[0] + 0.1 * IN_TURN[1], IN_TURN[1] + 0.1 * IN_TURN[0]),
        (IN_TURN[0] + noise(-35), IN_TURN[1] + noise(-55, 1)),
        (A, B * (np.arange(A.size) > 6 * RATE)),
    ],
    ids=["at once", "in turn", "with crosstalk", "noisy", "one says little"],
)
def test_a_party_a_channel_is_two_tracks(parties: tuple[Sound, Sound]) -> None:
    assert tracks(parties) == [[(0, 0)], [(0, 1)]]


@pytest.mark.parametrize(
    "microphones",
    [
        (in_room(sum(IN_TURN), 1, 0), in_room(sum(IN_TURN), 2, 12)),
        (in_room(A, 1, 0) + in_room(B, 3, 20), in_room(A, 2, 25) + in_room(B, 4, 0)),
        (0.7 * IN_TURN[0] + 0.3 * IN_TURN[1], 0.3 * IN_TURN[0] + 0.7 * IN_TURN[1]),
    ],
    ids=["a room", "two voices at once", "panned"],
)
def test_ordinary_stereo_is_one_mix(microphones: tuple[Sound, Sound]) -> None:
    assert tracks(microphones) == [[(0, 0), (0, 1)]]


@pytest.mark.parametrize("other", [NOTHING, noise(-60)], ids=["silent", "hiss"])
def test_a_channel_without_a_voice_is_left_out_and_said(other: Sound) -> None:
    found = layout((other, A))
    assert [[part.channel for part in track] for track in found.tracks] == [[1]]
    assert [(one.channel, one.reason) for one in found.left_out] == [(0, "silent")]
    assert np.allclose(heard(found, (other, A))[0], A)  # the level of the other channel does not change


def test_loud_noise_on_a_channel_does_not_make_a_party_of_it() -> None:
    assert tracks((A, noise(-35))) == [[(0, 0), (0, 1)]]


def test_one_word_on_a_channel_is_not_lost() -> None:
    word = talk(0.3, 7)
    second = NOTHING.copy()
    second[5 * RATE : 5 * RATE + word.size] = word
    assert [part for track in tracks((A, second)) for part in track] == [(0, 0), (0, 1)]


def test_more_channels_are_told_apart_in_the_same_way() -> None:
    assert tracks((A, A, B, B)) == [[(0, 0), (0, 1)], [(0, 2), (0, 3)]]
    assert tracks((A, B, C)) == [[(0, 0)], [(0, 1)], [(0, 2)]]
    assert tracks((NOTHING, NOTHING, A, NOTHING, NOTHING, NOTHING)) == [[(0, 2)]]


def test_the_caller_is_obeyed_and_nothing_is_said_twice() -> None:
    room = in_room(A, 1, 0), in_room(A, 2, 30)
    assert tracks((A, B), channels="mix") == [[(0, 0), (0, 1)]]
    assert tracks(room, channels="separate") == [[(0, 0)], [(0, 1)]]
    assert tracks((A, A), channels="separate") == [[(0, 0), (0, 1)]]
    assert tracks((A,), (B,), channels="mix") == [[(0, 0), (1, 0)]]


def test_silence_is_one_track_of_it() -> None:
    assert tracks((NOTHING, NOTHING)) == [[(0, 0)]]
    assert tracks((NOTHING,), (NOTHING,)) == [[(0, 0)]]


def test_each_stream_with_sound_is_a_track() -> None:
    assert tracks((A,), (B,), (C,)) == [[(0, 0)], [(1, 0)], [(2, 0)]]
    assert tracks((NOTHING,), (B,)) == [[(1, 0)]]
    assert tracks(IN_TURN, (C,)) == [[(0, 0)], [(0, 1)], [(1, 0)]]


def test_the_same_sound_in_two_qualities_is_read_once() -> None:
    late = 0.8 * np.roll(A, 400) + noise(-60)  # as another codec would return it
    found = layout((A,), (late,))
    assert [[part.stream for part in track] for track in found.tracks] == [[0]]
    assert [(one.stream, one.reason) for one in found.left_out] == [(1, "copy")]


@pytest.mark.parametrize("parties", [(A, B), IN_TURN], ids=["at once", "in turn"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_mix_beside_its_parts_is_left_out(parties: tuple[Sound, Sound], place: int) -> None:
    streams = [(parties[0],), (parties[1],)]
    streams.insert(place, (0.7 * parties[0] + 0.7 * parties[1],))
    found = layout(*streams)
    assert [(one.stream, one.reason) for one in found.left_out] == [(place, "mix of other streams")]
    assert len(found.tracks) == 2


def test_a_mix_with_a_third_voice_is_kept_even_where_that_says_one_word() -> None:
    word = NOTHING.copy()
    word[8 * RATE : 9 * RATE] = talk(1.0, 7)
    assert len(tracks((0.5 * IN_TURN[0] + 0.5 * IN_TURN[1] + word,), (IN_TURN[0],), (IN_TURN[1],))) == 3


def test_numbers_that_are_none_do_no_harm() -> None:
    broken = A.copy()
    broken[:100], broken[100:200] = np.nan, np.inf
    assert tracks((broken, B)) == [[(0, 0)], [(0, 1)]]
