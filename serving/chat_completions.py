"""Client of a language model on the home's own machines, over the common chat-completions protocol.

It contacts only the address in the settings: it uses no proxy from the environment and follows no redirect. Neither the
question nor the answer is logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from models.contract.errors import unavailable

_MOST_TOKENS: Final = 400  # three sentences and their JSON


@dataclass(frozen=True)
class ChatCompletions:
    """A `Writer` of `models`. `url`: up to and including `/v1`. `seconds`: the time limit of an answer."""

    url: str
    model: str
    key: str | None = None
    seconds: float = 30.0

    def __repr__(self) -> str:
        return f"ChatCompletions(url={self.url!r}, model={self.model!r})"

    @property
    def version(self) -> str:
        """The server does not say which weights it uses, so the model's name on the server is the version."""
        return f"{self.model}@chat-completions"

    def complete(self, instructions: str, material: str, schema: Mapping[str, Any] | None = None) -> str:
        """The text of the answer, at temperature 0. Raises `unavailable` (`writer-unreachable`, `writer-failed`).

        `schema`: a JSON schema that the server is asked to follow. Not every server does.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": material}],
            "temperature": 0.0,
            "max_tokens": _MOST_TOKENS,
        }
        if schema is not None:
            named = {"name": "answer", "strict": True, "schema": dict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            with httpx.Client(timeout=self.seconds, trust_env=False, follow_redirects=False) as client:
                response = client.post(f"{self.url.rstrip('/')}/chat/completions", json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise unavailable("writer-unreachable", "The language model cannot be reached.") from None
        try:
            content = response.raise_for_status().json()["choices"][0]["message"]["content"]
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError):
            raise unavailable("writer-failed", "The language model gave no answer.") from None
        if not isinstance(content, str):
            raise unavailable("writer-failed", "The language model gave no answer.")
        return content
