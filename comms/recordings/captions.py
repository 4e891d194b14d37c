"""A transcript as text for people and players: SubRip, WebVTT, plain. Pure: a transcript in, text out."""

from collections.abc import Callable
from html import escape
from typing import Final, Literal

from models.records import Transcript

CaptionFormat = Literal["srt", "vtt", "text"]
MEDIA_TYPES: Final[dict[CaptionFormat, str]] = {
    "srt": "application/x-subrip", "vtt": "text/vtt", "text": "text/plain"
}  # fmt: skip
_UNKNOWN: Final = "Unknown speaker"


def render(transcript: Transcript, format: CaptionFormat) -> str:
    """The utterances in their order, each with its speaker and times."""
    return _RENDERERS[format](transcript)


def _srt(transcript: Transcript) -> str:
    blocks = (
        f"{number}\n{_clock(said.start_seconds, ',')} --> {_clock(said.end_seconds, ',')}\n"
        f"{said.speaker or _UNKNOWN}: {_one_line(said.text)}\n"
        for number, said in enumerate(transcript.utterances, start=1)
    )
    return "\n".join(blocks)


def _vtt(transcript: Transcript) -> str:
    blocks = (
        f"{_clock(said.start_seconds, '.')} --> {_clock(said.end_seconds, '.')}\n"
        f"<v {escape(said.speaker or _UNKNOWN, quote=False)}>{escape(_one_line(said.text), quote=False)}\n"
        for said in transcript.utterances
    )
    return "\n".join(("WEBVTT\n", *blocks))


def _text(transcript: Transcript) -> str:
    lines = (
        f"[{_clock(said.start_seconds, '.')[:8]}] {said.speaker or _UNKNOWN}: {_one_line(said.text)}\n"
        for said in transcript.utterances
    )
    return "".join(lines)


_RENDERERS: Final[dict[CaptionFormat, Callable[[Transcript], str]]] = {"srt": _srt, "vtt": _vtt, "text": _text}


def _clock(seconds: float, point: str) -> str:
    """hh:mm:ss and milliseconds after the point."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _one_line(text: str) -> str:
    # an empty line would end a caption
    return " ".join(text.split())
