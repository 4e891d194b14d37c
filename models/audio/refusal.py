"""Why a recording is refused, as the confined decoder says it."""


class AudioRefused(Exception):
    """`slug` as in the problem's type; `stated` and `found` are seconds, `channels` a count, where they explain it."""

    def __init__(
        self, slug: str, stated: float | None = None, found: float | None = None, channels: int | None = None
    ) -> None:
        super().__init__(slug)
        self.body = {"slug": slug, "stated": stated, "found": found, "channels": channels}
