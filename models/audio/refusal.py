"""The exception with which the confined decoder refuses a recording."""


class AudioRefused(Exception):
    """A recording is refused. `slug` is the problem type; `stated` and `found` are seconds, `channels` a count."""

    def __init__(
        self, slug: str, stated: float | None = None, found: float | None = None, channels: int | None = None
    ) -> None:
        super().__init__(slug)
        self.body = {"slug": slug, "stated": stated, "found": found, "channels": channels}
