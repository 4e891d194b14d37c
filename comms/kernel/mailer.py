"""Sends e-mail to people through the SMTP server that the settings name; without one, no e-mail is sent."""

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
        """Raises `unavailable` (`mail-unavailable`) if the server does not accept the message."""


class SmtpMailer:
    """Sends over SMTP: with TLS from the start, with STARTTLS, or unencrypted, as the settings say."""

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
            # the server's answer quotes the address: log only the type of the error
            _log.warning("e-mail was not accepted", error=type(error).__name__)
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
    """Returns the mailer for the server in the settings; None if they name no server."""
    return None if settings.smtp_host is None else SmtpMailer(settings)
