"""The exception with which the confined child refuses a file. It contains only a problem slug, no content of the
file.
"""


class AttachmentRefused(Exception):
    """Raised only in the child. `slug` must be known to `comms/messaging/attachments/sanitising/inspection.py`."""

    def __init__(self, slug: str) -> None:
        super().__init__(slug)
        self.slug = slug
