"""Who owns what, where there are several controllers. Decides only: what the provider tells in, answers out.

- A pod whose owner does not live is an orphan. Everybody who lives knows who is to adopt it; the provider lets
  one do it, and its term keeps out the former owner, whatever that one believes.
- A function's home is the controller that routers ask for it: the same hash over the addresses of those
  that live. Its home scales it. Another one that came to serve it, since a router could not reach its
  home for a moment, hands it back.
- Limits are for all controllers together, and each that lives has its share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sanfran_common.rpc.balancer import choose_by_key

from sanfran_controller.pool import PoolLimits
from sanfran_controller.providers import (
    ControllerSeen,
    ControllersListed,
    PodNews,
    PodSeen,
    PodsListed,
    PodVanished,
)


class Ownership:
    """What is recorded, as this controller knows it.

    Args:
        name: of this controller.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.controllers: tuple[ControllerSeen, ...] = ()
        self._pods: dict[str, PodSeen] = {}
        self._owned: Counter[str] = Counter()  # how many each controller owns

    def take(self, news: PodNews) -> None:
        """Something changed."""
        match news:
            case PodSeen():
                self._forget(news.name)
                self._pods[news.name] = news
                self._owned[news.owner] += 1
            case PodVanished(name):
                self._forget(name)
            case PodsListed(pods):
                self._pods = {seen.name: seen for seen in pods}
                self._owned = Counter(seen.owner for seen in pods)
            case ControllersListed(controllers):
                self.controllers = controllers

    def _forget(self, name: str) -> None:
        former = self._pods.pop(name, None)
        if former is not None:
            self._owned[former.owner] -= 1
            if not self._owned[former.owner]:
                del self._owned[former.owner]

    def orphans(self) -> list[PodSeen]:
        """The pods that this controller is to adopt."""
        live = {one.name for one in self.controllers}
        if self.name not in live or self._owned.keys() <= live:
            return []
        return [
            pod
            for pod in self._pods.values()
            if pod.owner not in live and choose_by_key(pod.name, live) == self.name
        ]

    def live(self) -> tuple[str, ...]:
        """The names of all that live, this one among them."""
        return tuple(sorted({one.name for one in self.controllers} | {self.name}))

    def missed(self) -> bool:
        """Whether there are pods that nobody looks after now."""
        return not self._owned.keys() <= set(self.live())

    def home(self, function: str) -> ControllerSeen | None:
        """The other controller that a function belongs to; None when that is this one.

        One that is away keeps its functions until its lease runs out: it may be back in a moment.
        """
        callable_ = {one.address: one for one in self.controllers if one.address}
        if not callable_:
            return None
        home = callable_[choose_by_key(function, callable_)]
        return None if home.name == self.name else home

    def share(self, limits: PoolLimits) -> PoolLimits:
        """This controller's part of what is allowed to all together.

        The parts add up to the whole; only of a pool that is smaller than there are controllers each has one
        pod all the same. Pods that others hold above their own part, until those are idle, come off
        this one's; when those leave it no room at all, they are to give up what lies idle in their pools.
        """
        names = self.live()
        count, rank = len(names), names.index(self.name)

        def part(whole: int) -> int:
            return whole // count + (rank < whole % count)

        own, total = self._owned[self.name], self._owned.total()
        return replace(
            limits,
            size=max(part(limits.size), min(limits.size, 1)),
            most=max(part(limits.most), min(limits.most, 1)),
            pods=max(min(part(limits.pods), limits.pods - (total - own)), 0),
            excess=max(own - part(limits.pods), 0) if total >= limits.pods else 0,
        )
