"""The ways to use the channels of a recording, and the reasons to leave one out."""

from typing import Literal

Channels = Literal["auto", "mix", "separate"]

Reason = Literal["silent", "copy", "mix of other streams"]
