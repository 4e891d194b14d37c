"""What a recording's file holds, as people and programs see it: its tracks, and what was left out of them.

A file may hold several streams of sound, and a stream several channels; `models/audio/channel_layout.py` decides which
of them are tracks."""

from typing import Final

from pydantic import Field

from models.contract.channels import Channels, Reason
from models.contract.records import Record, Seconds

__all__ = ["CHANNELS_HELP", "Channels", "LeftOut", "Sound", "SoundPart"]

CHANNELS_HELP: Final = (
    "auto: a party a channel or a stream becomes a track each, what holds the same voices one track; "
    "mix: one track of everything; separate: every channel with sound is a track."
)


class SoundPart(Record):
    """A channel of a stream, each counted from 0."""

    stream: int = Field(ge=0)
    channel: int = Field(ge=0)


class LeftOut(SoundPart):
    """A channel that is in no track: it is silent, copies another stream, or mixes other streams."""

    reason: Reason


class Sound(Record):
    """How a file's channels were read: `tracks` are those that each track is made of."""

    tracks: tuple[tuple[SoundPart, ...], ...]
    left_out: tuple[LeftOut, ...] = ()
    silence_inserted_seconds: Seconds = Field(
        default=0.0, description="Pauses in the file's own times, kept as silence in the longest track."
    )
