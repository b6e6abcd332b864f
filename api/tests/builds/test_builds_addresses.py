"""Builds reach no internal address that the operator has not named, whatever an upload leads them to."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sanfran_api.builds.npm import ADDRESSES, endpoints, find_node
from sanfran_api.config import ApiConfig, hosts

from tests.npm_registry import NpmRegistry

from .conftest import INDEX, locked, refusal, send, tar


@pytest.fixture
def inside() -> Iterator[NpmRegistry]:
    """Something at an internal address that nobody has named."""
    with NpmRegistry() as running:
        running.add("left", {"index.js": "module.exports = 'of the inside'"})
        yield running


def wanting(spec: str, **files: str) -> bytes:
    package = json.dumps({"dependencies": {"left": spec}})
    return tar({"package.json": package, "index.js": INDEX, **files})


def by_name(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


def in_the_lock(registry: NpmRegistry, inside: NpmRegistry) -> bytes:
    return locked(inside, "left")


def as_a_dependency(registry: NpmRegistry, inside: NpmRegistry) -> bytes:
    return wanting(f"{by_name(inside.url)}/left/-/left-1.0.0.tgz")


def in_its_npmrc(registry: NpmRegistry, inside: NpmRegistry) -> bytes:
    return wanting("1.0.0", **{".npmrc": f"registry={by_name(inside.url)}\n"})


def by_a_redirect(registry: NpmRegistry, inside: NpmRegistry) -> bytes:
    registry.moved["/left"] = f"{by_name(inside.url)}/left"
    return wanting("1.0.0")


def by_a_registry_that_is_named(registry: NpmRegistry, inside: NpmRegistry) -> bytes:
    registry.moved["/left/-/left-1.0.0.tgz"] = f"{inside.url}/left/-/left-1.0.0.tgz"
    return locked(registry, "left")


WAYS = (in_the_lock, as_a_dependency, in_its_npmrc, by_a_redirect, by_a_registry_that_is_named)
Way = Callable[[NpmRegistry, NpmRegistry], bytes]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_an_internal_address_that_nobody_has_named_is_not_asked(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry, inside: NpmRegistry, way: Way
) -> None:
    async with run_api(**settings, build_hosts="npm.example.com") as api:
        said = refusal(await send(api, "a", way(registry, inside)), 422)
        assert "127.0.0.1" in said
        assert "is an internal address, which builds may not reach" in said
        assert "--build-hosts" in said
        assert not inside.asked
        registry.moved.clear()
        assert (await send(api, "b", locked(registry, "left"))).status_code == 201


@pytest.mark.parametrize("named", ["*", "localhost,127.0.0.1", "localhost:{port},127.0.0.1:{port}"])
async def test_what_the_operator_names_is(
    run_api: Any, settings: dict[str, Any], registry: NpmRegistry, inside: NpmRegistry, named: str
) -> None:
    given = hosts(named.replace("{port}", inside.url.rpartition(":")[2]))
    async with run_api(**settings, build_hosts=given) as api:
        for number, way in enumerate((as_a_dependency, by_a_redirect)):
            made = await send(api, f"a{number}", way(registry, inside))
            assert made.status_code == 201, made.text


def test_where_people_are_asked_who_they_are_nothing_internal_is_named() -> None:
    assert ApiConfig().builds_reach is None, "who uploads is on this machine"
    asking = {"auth": "basic", "users_file": "users", "rpc_secret": "x" * 32}
    assert ApiConfig(**asking).builds_reach == frozenset()  # type: ignore[arg-type]  # all are text
    assert ApiConfig(**asking, build_hosts="*").builds_reach is None  # type: ignore[arg-type]
    named = ApiConfig(**asking, build_hosts=hosts("A.example, [fd00::1]:4873")).builds_reach  # type: ignore[arg-type]
    assert named == {"a.example", "fd00::1 4873"}


@pytest.mark.parametrize("wrong", ["http://a", "a/b", "a:port", "a b@c", "a,,b", "[::1"])
def test_what_is_no_host_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ValueError, match="which is no host; try"):
        hosts(wrong)


def test_the_operator_s_registries_and_proxies_are_named_by_their_settings() -> None:
    text = "registry=https://a.example/npm/\n@x:registry=http://b.example:81\nproxy=http://[bad"
    assert set(endpoints(text)) == {"a.example 443", "b.example 81"}


ADDRESSES_OF = {
    True: (
        *("127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "::1", "::", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "::ffff:7f00:1"),
    ),
    False: ("93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:2800::1", "::ffff:93.184.216.34"),
}
SCRIPT = """
const net = require('node:net');
const tls = require('node:tls');
const found = [];
for (const address of JSON.parse(process.argv[1])) {
  const lookup = (_name, _options, done) => process.nextTick(done, null, [{ address }]);
  for (const [how, open] of Object.entries({
    literal: () => net.connect({ host: address, port: 9 }),
    'port and host': () => net.connect(9, address),
    'as a socket': () => new net.Socket().connect(9, address),
    tls: () => tls.connect({ host: address, port: 9 }),
    'by name': () => net.connect({ host: 'some.name', port: 9, lookup }),
  })) {
    const socket = open();
    socket.on('error', (error) => found.push([address, how, error.code]));
    socket.on('reached', () => found.push([address, how, 'reached']));
  }
}
process.on('exit', () => console.log(JSON.stringify(found)));
"""
STUB = """
// In the place of what would connect: says with which addresses it would.
require('node:net').Socket.prototype.connect = function (...args) {
  const { host, lookup } = Array.isArray(args[0]) ? args[0][0] : args[0];
  const done = (error) => process.nextTick(() => this.emit(error ? 'error' : 'reached', error));
  if (require('node:net').isIP(host)) done(null);
  else lookup(host, { all: true }, done);
  return this;
};
"""


@pytest.mark.parametrize("internal", [True, False])
def test_internal_is_what_is_no_place_on_the_internet(tmp_path: Path, internal: bool) -> None:
    (tmp_path / "stub.cjs").write_text(STUB)
    addresses = ADDRESSES_OF[internal]
    done = subprocess.run(
        [
            str(find_node()),
            *("--require", str(tmp_path / "stub.cjs"), "--require", str(ADDRESSES)),
            *("-e", SCRIPT, json.dumps(addresses)),
        ],
        capture_output=True,
        check=True,
        env={"SANFRAN_BUILD_HOSTS": "[]"},
        timeout=30,
    )
    found = json.loads(done.stdout)
    assert len(found) == 5 * len(addresses)
    assert {outcome for _, _, outcome in found} == {"EINTERNAL" if internal else "reached"}, found
