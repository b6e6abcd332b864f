"""The one place where somebody proves who they are, for REST, gRPC and the router alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sanfran_api.access.credentials import BadCredentials, Password, Token, parse_authorization
from sanfran_api.access.errors import TooManyFailures, Unauthenticated
from sanfran_api.access.failures import Failures
from sanfran_api.access.operations import Needs, Operation
from sanfran_api.access.passwords import Passwords
from sanfran_api.access.rules import NOBODY_ASKED, Caller, Rules
from sanfran_api.access.tokens import BadToken, Tokens
from sanfran_api.errors import Busy

REALM = 'realm="sanfran"'
BASIC = f'Basic {REALM}, charset="UTF-8"'
BEARER = f"Bearer {REALM}"
_TOKEN = "bearer token"
"""Stands for the user of a token that is wrong, in the limits: who it claims to be counts for nothing."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who has proved who they are.

    Args:
        expires_at: of a token, in seconds since 1970; None: does not expire by itself.
    """

    caller: Caller
    expires_at: float | None = None


NOBODY = Admitted(NOBODY_ASKED)


class Gate:
    """Lets in who proves who they are.

    Args:
        passwords: None: no passwords here.
        tokens: None: no tokens here. Without both, nobody is asked.
        rules: those that hold now.
        monotonic: seconds, for limits.
    """

    def __init__(
        self,
        passwords: Passwords | None,
        tokens: Tokens | None,
        rules: Callable[[], Rules],
        *,
        failures: Failures | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passwords = passwords
        self._tokens = tokens
        self._rules = rules
        self._failures = failures or Failures()
        self._monotonic = monotonic
        ways = [(passwords, BASIC), (tokens, BEARER)]
        self._challenges = tuple(challenge for way, challenge in ways if way is not None)

    @property
    def open(self) -> bool:
        """Nobody is asked who they are."""
        return not self._challenges

    async def admit(self, authorization: str, address: str) -> Admitted:
        """Who it is.

        Args:
            authorization: the header's value; empty: none.
            address: where they ask from.

        Raises:
            Unauthenticated: they did not prove it.
            TooManyFailures: wrong too often; nothing was looked at.
            Busy, KeysMissing: it cannot be told right now.
        """
        if self.open:
            return NOBODY
        try:
            given = parse_authorization(authorization)
        except BadCredentials as error:
            raise self._refusal(f"Authorization: {error}; {self._works}") from None
        if given is None:
            raise self._refusal(f"no credentials; {self._works}")
        if isinstance(given, Password):
            if self._passwords is None:
                raise self._refusal(f"passwords do not count here; {self._works}")
            return await self._by_password(self._passwords, given, address)
        if self._tokens is None:
            raise self._refusal(f"tokens do not count here; {self._works}")
        return await self._by_token(self._tokens, given, address)

    async def _by_password(self, passwords: Passwords, given: Password, address: str) -> Admitted:
        user = passwords.remembered(given)
        if user is None and passwords.is_checking(given):
            # One attempt, however many requests make it at once: who begins with a burst is not kept out.
            user = await passwords.check(given)
        elif user is None:
            wait = self._failures.attempt(given.user, address, self._monotonic())
            if wait:
                raise TooManyFailures(wait)
            try:
                user = await passwords.check(given)
            except Busy:
                self._failures.taken_back(given.user, address, self._monotonic())
                raise
            if user is not None:
                self._failures.succeeded(given.user, address, self._monotonic())
        if user is None:
            raise self._refusal("wrong user or password")
        return Admitted(self._rules().caller(user.name, user.groups))

    async def _by_token(self, tokens: Tokens, given: Token, address: str) -> Admitted:
        try:
            bearer = await tokens.check(given)
        except BadToken as error:
            # A right token costs nothing worth a limit, so only wrong ones have one.
            wait = self._failures.attempt(_TOKEN, address, self._monotonic())
            if wait:
                raise TooManyFailures(wait) from None
            raise self._refusal(f"the token does not count: {error}", "invalid_token") from error
        caller = self._rules().caller(bearer.user, bearer.groups)
        return Admitted(caller, bearer.expires_at)

    @property
    def _works(self) -> str:
        ways = []
        if self._passwords is not None:
            ways.append("a user and password (Basic)")
        if self._tokens is not None:
            ways.append("a token (Bearer)")
        return " or ".join(ways) + " works"

    def _refusal(self, message: str, bearer_error: str = "") -> Unauthenticated:
        challenges = self._challenges
        if bearer_error:
            challenges = tuple(
                f'{one}, error="{bearer_error}"' if one.startswith("Bearer") else one
                for one in challenges
            )
        return Unauthenticated(message, challenges)


def check(operation: Operation, caller: Caller, function: str | None) -> None:
    """Whether the caller may begin the operation.

    Args:
        function: that the request names; None: it names none yet.

    Raises:
        Forbidden: they may not.
    """
    match operation.needs:
        case Needs.NOBODY | Needs.LOGIN:
            return
        case Needs.EVERYTHING | Needs.SERVICE:
            caller.check_everything()
        case Needs.PRIVILEGE | Needs.SOMEWHERE:
            first, *others = operation.privileges
            if function is None:
                if not any(caller.may_somewhere(one) for one in others):
                    caller.check_somewhere(first)
            elif not any(caller.may(one, function) for one in others):
                caller.check(first, function)
