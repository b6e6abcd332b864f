"""Which functions exist, in memory, kept true by the api service.

`Catalog` holds the newest version of each function and asks the api service for one that it does not
know. `updates` changes it as events come in.
"""

from __future__ import annotations

import asyncio

from grpclib import GRPCError, Status
from sanfran_common.rpc.client import RpcClient
from sanfran_common.secret_values import lacks_values
from sanfran_proto.sanfran import v1 as pb

from sanfran_controller import metrics
from sanfran_controller.errors import FunctionNotFound, Unavailable
from sanfran_controller.pods import same_version

GET_TIMEOUT = 2.0
"""Seconds; the api service answers from memory-mapped pages."""


class Catalog:
    """The newest version of every function.

    Two calls of `get` give the very same object for as long as the version is the newest, so
    identity tells whether something changed across an await.

    Args:
        client: of the api service; whoever made it closes it.
    """

    def __init__(self, client: RpcClient) -> None:
        self.synced = asyncio.Event()
        self.kept: set[str] = set()  # functions with min_scale
        self._api = pb.ApiStub(client.channel)
        self._functions: dict[str, pb.FunctionVersion] = {}
        self._asking: set[str] = set()  # names whose answer is still worth something

    def __len__(self) -> int:
        return len(self._functions)

    def get(self, name: str) -> pb.FunctionVersion | None:
        """The newest version that is known."""
        return self._functions.get(name)

    def names(self) -> list[str]:
        """Every function that is known."""
        return list(self._functions)

    def put(self, function: pb.FunctionVersion) -> bool:
        """A version was announced. False when it was known, or is older than the known one."""
        known = self._functions.get(function.name)
        if known is not None:
            if same_version(known, function):
                if lacks_values(
                    known
                ):  # it was learned of a pod; in place, for its identity counts
                    known.settings = function.settings
                return False
            if known.version > function.version and known.created_at_ms >= function.created_at_ms:
                return False
        self._functions[function.name] = function
        if function.settings is not None and function.settings.min_scale:
            self.kept.add(function.name)
        else:
            self.kept.discard(function.name)
        metrics.FUNCTIONS.set(len(self._functions))
        return True

    def learn(self, function: pb.FunctionVersion) -> pb.FunctionVersion:
        """Takes a version from elsewhere than the watch, if the function is unknown, and returns what
        is known then."""
        if function.name not in self._functions:
            self.put(function)
        return self._functions[function.name]

    def remove(self, name: str) -> None:
        """The function was deleted."""
        self._asking.discard(name)
        self.kept.discard(name)
        self._functions.pop(name, None)
        metrics.FUNCTIONS.set(len(self._functions))

    async def wait_synced(self, patience: float) -> None:
        """Returns when everything is known, or after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self.synced.wait()
        except TimeoutError:
            pass

    async def require(self, name: str) -> pb.FunctionVersion:
        """The newest version, complete; asks the api service when the function is unknown, or its
        secrets are. One caller per name at a time.

        Raises:
            FunctionNotFound: there is none.
            Unavailable: the api service does not answer.
        """
        while (known := self._functions.get(name)) is None:
            self._asking.add(name)
            try:
                answer = await self._ask(name)
            finally:
                # A deletion that was announced meanwhile makes the answer worthless: ask again.
                still_true = name in self._asking
                self._asking.discard(name)
            if still_true:
                self.learn(answer)
        if lacks_values(known):
            # Pods tell what they run, but not its secrets.
            answer = await self._ask(name)
            if not same_version(known, answer):
                raise Unavailable(f"{name} has a newer version, which was not announced yet")
            self.put(answer)
        return known

    async def _ask(self, name: str) -> pb.FunctionVersion:
        request = pb.GetFunctionRequest(name=name)
        try:
            return await self._api.resolve_function(request, timeout=GET_TIMEOUT)
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                raise FunctionNotFound(f"no function is named {name}") from error
            why = f"the api service does not answer: {error.status.name} {error.message}"
            raise Unavailable(why) from error
