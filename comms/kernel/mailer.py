"""E-mail to people, through the server that the settings name; without one, none is sent."""

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from typing import Final, Protocol

import structlog

from comms.kernel.settings import Settings
from models.contract.errors import unavailable

_PATIENCE_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


class Mailer(Protocol):
    """Sends one message to one person."""

    async def send(self, to: str, subject: str, text: str) -> None:
        """Raises `unavailable` (`mail-unavailable`) where the server does not take it."""


class SmtpMailer:
    """Over SMTP, with TLS from the first byte or from STARTTLS on, or without where the settings say so."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._settings.mail_from, to, subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        try:
            await asyncio.to_thread(self._send, message)
        except (OSError, smtplib.SMTPException) as error:
            # the server's answer quotes the address: its kind alone is logged
            _log.warning("e-mail was not taken", error=type(error).__name__)
            raise unavailable("mail-unavailable", "The e-mail could not be sent: try again shortly.") from None

    def _send(self, message: EmailMessage) -> None:
        settings = self._settings
        host, port = str(settings.smtp_host), settings.smtp_port
        tls = ssl.create_default_context()
        open_smtp: Callable[[], smtplib.SMTP] = (
            (lambda: smtplib.SMTP_SSL(host, port, timeout=_PATIENCE_SECONDS, context=tls))
            if settings.smtp_security == "tls"
            else (lambda: smtplib.SMTP(host, port, timeout=_PATIENCE_SECONDS))
        )
        with open_smtp() as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=tls)
            if settings.smtp_user is not None and settings.smtp_password is not None:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message)


def open_mailer(settings: Settings) -> Mailer | None:
    """The way to send e-mail that the settings name; None where they name none."""
    return None if settings.smtp_host is None else SmtpMailer(settings)
