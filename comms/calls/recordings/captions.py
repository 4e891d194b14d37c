"""Renders a transcript as SubRip, WebVTT or plain text, without side effects."""

from collections.abc import Callable
from html import escape
from typing import Final, Literal

from models.contract.records import Transcript

CaptionFormat = Literal["srt", "vtt", "text"]
MEDIA_TYPES: Final[dict[CaptionFormat, str]] = {
    "srt": "application/x-subrip", "vtt": "text/vtt", "text": "text/plain"
}  # fmt: skip
_UNKNOWN: Final = "Unknown speaker"


def render(transcript: Transcript, format: CaptionFormat) -> str:
    """Returns the utterances in time order, each with its speaker and times."""
    return _RENDERERS[format](transcript)


def _lines(transcript: Transcript) -> list[tuple[float, float, str, str]]:
    """Returns start, end, speaker and text, sorted by time; in brackets, the reason why speech was not understood."""
    said = [(one.start_seconds, one.end_seconds, one.speaker or _UNKNOWN, one.text) for one in transcript.utterances]
    said += [
        (one.start_seconds, one.end_seconds, _UNKNOWN, f"[not understood: {one.reason.replace('_', ' ')}]")
        for one in transcript.not_understood
    ]
    return sorted(said, key=lambda line: line[:2])


def _srt(transcript: Transcript) -> str:
    blocks = (
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{speaker}: {_one_line(text)}\n"
        for number, (start, end, speaker, text) in enumerate(_lines(transcript), start=1)
    )
    return "\n".join(blocks)


def _vtt(transcript: Transcript) -> str:
    blocks = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n"
        f"<v {escape(speaker, quote=False)}>{escape(_one_line(text), quote=False)}\n"
        for start, end, speaker, text in _lines(transcript)
    )
    return "\n".join(("WEBVTT\n", *blocks))


def _text(transcript: Transcript) -> str:
    lines = (
        f"[{_clock(start, '.')[:8]}] {speaker}: {_one_line(text)}\n" for start, _, speaker, text in _lines(transcript)
    )
    return "".join(lines)


_RENDERERS: Final[dict[CaptionFormat, Callable[[Transcript], str]]] = {"srt": _srt, "vtt": _vtt, "text": _text}


def _clock(seconds: float, point: str) -> str:
    """Formats as hh:mm:ss and milliseconds, with `point` between them."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _one_line(text: str) -> str:
    # an empty line would end a caption
    return " ".join(text.split())
