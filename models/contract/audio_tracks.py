"""Records that describe the sound of a recording's file: its tracks, and the channels that are in no track.

A file may hold several audio streams, and a stream several channels. `models/audio/channel_layout.py` decides which
of them become tracks.
"""

from typing import Final

from pydantic import Field

from models.contract.channels import Channels, Reason
from models.contract.records import Record, Seconds

__all__ = ["CHANNELS_HELP", "Channels", "LeftOut", "Sound", "SoundPart"]

CHANNELS_HELP: Final = (
    "auto: channels or streams with different speakers become separate tracks, those with the same voices one track; "
    "mix: all channels become one track; separate: every channel with sound becomes a track."
)


class SoundPart(Record):
    """A channel of a stream; both are counted from 0."""

    stream: int = Field(ge=0)
    channel: int = Field(ge=0)


class LeftOut(SoundPart):
    """A channel that is in no track, because it is silent, copies another stream, or mixes other streams."""

    reason: Reason


class Sound(Record):
    """How the channels of a file were used. `tracks` lists the channels of each track."""

    tracks: tuple[tuple[SoundPart, ...], ...]
    left_out: tuple[LeftOut, ...] = ()
    silence_inserted_seconds: Seconds = Field(
        default=0.0, description="Seconds of gaps in the file's timestamps, filled with silence in the longest track."
    )
