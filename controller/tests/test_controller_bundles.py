"""Small bundles travel inside an activation, once the controller has them."""

from __future__ import annotations

from typing import Any

from sanfran_controller.bundles import SMALL


async def test_a_function_that_is_new_right_now_comes_with_its_bundle(world: Any) -> None:
    async with world.controller() as router:
        world.api.put("hello", bundle=b"small bundle")
        await world.api.changes.until(lambda: world.api.fetches)
        await router.activate("hello")
    assert world.host.bundles == [b"small bundle"]
    assert world.api.fetches == 1


async def test_a_function_from_before_is_fetched_after_its_first_activation(world: Any) -> None:
    world.api.put("hello", bundle=b"small bundle")
    async with world.controller() as router:
        await router.activate("hello")
        await world.api.changes.until(lambda: world.api.fetches)
        await router.activate("hello", saturated=True)
    assert world.host.bundles == [b"", b"small bundle"]


async def test_a_bundle_that_is_not_small_is_left_to_the_sidecar(world: Any) -> None:
    async with world.controller() as router:
        world.api.put("large", bundle=bytes(SMALL + 1))
        await router.activate("large")
    assert (world.host.bundles, world.api.fetches) == ([b""], 0)


async def test_the_least_recently_used_bundle_makes_room(world: Any) -> None:
    async with world.controller(bundle_cache_bytes=10) as router:
        for number, name in enumerate(("one", "two"), start=1):
            world.api.put(name, bundle=f"bundle{number}".encode())
            await world.api.changes.until(lambda: world.api.fetches == number)  # noqa: B023
        await router.activate("two")
        await router.activate("one")
    assert world.host.bundles == [b"bundle2", b""]


async def test_an_api_service_that_has_lost_the_bundle_costs_nothing_else(world: Any) -> None:
    async with world.controller() as router:
        world.api.put("hello", bundle=b"small bundle")
        world.api.bundles.clear()
        await router.activate("hello")
        assert world.host.serving("hello")
