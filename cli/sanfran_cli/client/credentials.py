"""What a server is asked with: its URL, and who asks."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, which stays out of `repr`."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of `Authorization`."""
        text = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(text).decode()}"


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, which stays out of `repr`."""

    text: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of `Authorization`."""
        return f"Bearer {self.text}"


Credentials = Login | Token


@dataclass(frozen=True, slots=True)
class Server:
    """An api service, and how to log in there.

    Args:
        url: such as http://127.0.0.1:8081.
        credentials: None: none are sent.
    """

    url: str
    credentials: Credentials | None = None

    def __str__(self) -> str:
        return self.url
