"""Why the confined child refuses a file: a problem's slug, never anything of what the file holds."""


class AttachmentRefused(Exception):
    """Raised in the child alone; `slug` is one that `comms/messaging/attachments/sanitising/inspection.py` knows."""

    def __init__(self, slug: str) -> None:
        super().__init__(slug)
        self.slug = slug
