"""Formats figures and tables in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def figure(figure: Mapping[str, float | None], *, sign: bool = False) -> str:
    """`0.885 (0.850 to 0.920)`; a dash if there is no value."""
    format_number: Callable[[float], str] = (lambda x: f"{x:+.3f}") if sign else (lambda x: f"{x:.3f}")
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "–"
    return (
        format_number(value)
        if low is None or high is None
        else f"{format_number(value)} ({format_number(low)} to {format_number(high)})"
    )


def share(value: float) -> str:
    """`2.5 %`."""
    return f"{100 * value:g} %"


def plain(name: str) -> str:
    """A category or tag as words."""
    return name.replace("_", " ")
