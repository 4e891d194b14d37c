"""How the channels of a recording are read, and why one is left out."""

from typing import Literal

Channels = Literal["auto", "mix", "separate"]

Reason = Literal["silent", "copy", "mix of other streams"]
