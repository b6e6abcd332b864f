"""Users with passwords: files, hashes, the threads that check."""

import asyncio
import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanfran_api.access import passwords as module
from sanfran_api.access.credentials import Password
from sanfran_api.access.errors import TooManyFailures, Unauthenticated
from sanfran_api.access.failures import PAIR
from sanfran_api.access.files import BadFile, WatchedFile
from sanfran_api.access.gate import Admitted, Gate
from sanfran_api.access.passwords import (
    BadUsers,
    Passwords,
    Users,
    hash_password,
    parse_admin_password,
    parse_users,
)
from sanfran_api.access.rules import BUILT_IN
from sanfran_api.errors import Busy

HASH = hash_password("hunter22")


def users(path: Path, content: str) -> WatchedFile[Users]:
    path.write_text(content)
    path.chmod(0o600)
    return WatchedFile("--users-file", path, parse_users, secret=True)


@pytest.fixture
def file(tmp_path: Path) -> WatchedFile[Users]:
    return users(tmp_path / "users", f"# people\n\nvik:{HASH}:admin,shop\nada:{HASH}\n")


async def test_a_right_password_gives_the_user_and_a_wrong_one_nothing(
    file: WatchedFile[Users],
) -> None:
    async with Passwords([file]) as passwords:
        found = await passwords.check(Password("vik", "hunter22"))
        assert found is not None
        assert found.groups == ("admin", "shop")
        assert await passwords.check(Password("vik", "hunter23")) is None
        assert await passwords.check(Password("nobody", "hunter22")) is None
        assert await passwords.check(Password("", "hunter22")) is None


async def test_the_first_file_that_has_a_user_counts(tmp_path: Path) -> None:
    other = tmp_path / "password"
    other.write_text("correct horse\n")
    other.chmod(0o440)
    admin = WatchedFile("--admin-password-file", other, parse_admin_password, secret=True)
    file = users(tmp_path / "users", f"vik:{HASH}:shop\n")
    async with Passwords([file, admin]) as passwords:
        assert await passwords.check(Password("admin", "correct horse"))
        assert await passwords.check(Password("vik", "hunter22"))


async def test_an_unknown_user_costs_a_check_of_the_same_cost(
    file: WatchedFile[Users], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(module, "_fits", lambda hashed, _: checked.append(hashed) or False)
    async with Passwords([file]) as passwords:
        await passwords.check(Password("vik", "wrong password"))
        await passwords.check(Password("nobody", "wrong password"))
    known, unknown = (one.rsplit("$", 2)[0] for one in checked)
    assert known == unknown


async def test_a_right_password_is_remembered_for_a_while_and_a_wrong_one_is_not(
    file: WatchedFile[Users],
) -> None:
    now = 0.0
    async with Passwords([file], lambda: now) as passwords:
        right, wrong = Password("vik", "hunter22"), Password("vik", "hunter23")
        assert passwords.remembered(right) is None
        await passwords.check(right)
        await passwords.check(wrong)
        assert passwords.remembered(right)
        assert passwords.remembered(wrong) is None
        assert passwords.remembered(Password("ada", "hunter22")) is None
        now = module.REMEMBERED_SECONDS + 1
        assert passwords.remembered(right) is None


async def test_a_changed_file_takes_back_what_was_remembered(tmp_path: Path) -> None:
    path = tmp_path / "users"
    file = users(path, f"vik:{HASH}:admin\n")
    async with Passwords([file]) as passwords:
        right = Password("vik", "hunter22")
        await passwords.check(right)
        assert passwords.remembered(right)
        path.write_text(f"vik:{hash_password('another one')}:admin\n")
        file.look()
        assert passwords.remembered(right) is None
        assert await passwords.check(right) is None
        path.write_text("# nobody any more\n")
        file.look()
        assert await passwords.check(Password("vik", "another one")) is None


async def test_a_password_that_is_taken_back_while_it_is_checked_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    file = users(path, f"vik:{HASH}:admin\n")

    def fits(hashed: str, password: str) -> bool:
        path.write_text("ada:" + HASH + "\n")
        file.look()
        return True

    monkeypatch.setattr(module, "_fits", fits)
    async with Passwords([file]) as passwords:
        assert await passwords.check(Password("vik", "hunter22")) is None


async def test_many_callers_with_the_same_password_are_one_check_and_one_may_leave(
    file: WatchedFile[Users], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0

    def fits(hashed: str, password: str) -> bool:
        nonlocal checks
        checks += 1
        return True

    monkeypatch.setattr(module, "_fits", fits)
    async with Passwords([file]) as passwords:
        asked = [asyncio.create_task(passwords.check(Password("vik", "x"))) for _ in range(20)]
        await asyncio.sleep(0)
        asked[0].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(one is not None and not isinstance(one, BaseException) for one in found) == 19
    assert checks == 1


async def test_more_checks_than_may_wait_are_refused(
    file: WatchedFile[Users], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CHECKS", 3)
    async with Passwords([file]) as passwords:
        waiting = [asyncio.create_task(passwords.check(Password("vik", str(i)))) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await passwords.check(Password("vik", "one more"))
        await asyncio.gather(*waiting)
        assert await passwords.check(Password("vik", "hunter22"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("vik", "line 1: is not NAME:HASH:GROUPS"),
        ("vik:hunter22:admin", "line 1: what 'vik' has is no argon2id hash"),
        ("vik:$2y$10$abcdefghijklmnopqrstuv:admin", "no argon2id hash"),
        (f"vik:{HASH}:admin\nvik:{HASH}", "line 2: 'vik' is there already"),
        (f"v k:{HASH}", "'v k' is no user's name"),
        (f"vik:{HASH}:a b", "'a b' is no group's name"),
        ("vik:" + HASH.replace("m=19456", "m=99999999"), "no argon2id hash"),
    ],
)
def test_a_wrong_users_file_is_refused_by_line(content: str, message: str) -> None:
    with pytest.raises(BadUsers) as refused:
        parse_users(content.encode())
    assert message in str(refused.value)


@settings(deadline=None, max_examples=100)
@given(
    st.text(max_size=100)
    | st.builds("vik:{}:a".format, st.text(alphabet="$argon2idv=19mtp,0:xyz", max_size=60))
    | st.integers(0, len(HASH)).flatmap(
        lambda at: st.builds(
            lambda new: f"vik:{HASH[:at]}{new}{HASH[at + 1 :]}", st.text(max_size=3)
        )
    )
)
def test_any_users_file_is_read_or_refused_and_nothing_else(content: str) -> None:
    try:
        parse_users(content.encode(errors="surrogatepass"))
    except BadUsers:
        pass


@pytest.mark.parametrize(
    ("good", "bad"),
    [("t=[0-9]+", "t=0"), ("p=[0-9]+", "p=0"), ("m=[0-9]+", "m=7"), ("[^$]+$", "YQ")],
)
def test_a_hash_whose_parameters_the_algorithm_does_not_take_is_refused(
    good: str, bad: str
) -> None:
    with pytest.raises(BadUsers, match="line 1: what 'vik' has is no argon2id hash that works"):
        parse_users(f"vik:{re.sub(good, bad, HASH)}:a".encode())


def test_a_short_password_is_refused() -> None:
    with pytest.raises(ValueError, match="8 or more"):
        hash_password("hunter2")
    with pytest.raises(ValueError, match="8 or more"):
        parse_admin_password(b"\n")


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "users"
    path.write_text(f"vik:{HASH}\n")
    path.chmod(mode)
    with pytest.raises(BadFile, match="chmod 600"):
        WatchedFile("--users-file", path, parse_users, secret=True)


def test_a_file_that_becomes_wrong_or_goes_keeps_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "users"
    file = users(path, f"vik:{HASH}\n")
    former = file.value
    path.write_text("nonsense\n")
    file.look()
    assert file.value is former
    path.unlink()
    file.look()
    assert file.value is former
    path.write_text(f"ada:{HASH}\n")
    path.chmod(0o644)
    file.look()
    assert file.value is former
    path.chmod(0o400)
    file.look()
    assert list(file.value.by_name) == ["ada"]


def test_a_mounted_secret_is_read_again_when_kubernetes_switches_its_link(tmp_path: Path) -> None:
    for version, user in (("1", "vik"), ("2", "ada")):
        (tmp_path / version).mkdir()
        users(tmp_path / version / "users", f"{user}:{HASH}\n")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "users").symlink_to("..data/users")
    file = WatchedFile("--users-file", tmp_path / "users", parse_users, secret=True)
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "..data")
    file.look()
    assert list(file.value.by_name) == ["ada"]


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_what_cannot_be_read_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path if what == "folder" else tmp_path / "missing"
    with pytest.raises(BadFile, match=f"--users-file: {path}"):
        WatchedFile("--users-file", path, parse_users)


def hash_command(*arguments: str, given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sanfran_api.main import main; main()", "hash-password"]
    return subprocess.run(
        [*command, *arguments], input=given, capture_output=True, text=True, check=False
    )


async def test_the_command_prints_a_line_that_the_users_file_takes(tmp_path: Path) -> None:
    made = hash_command("vik", "admin", "shop", given="hunter22\n")
    assert made.returncode == 0
    async with Passwords([users(tmp_path / "users", made.stdout)]) as passwords:
        found = await passwords.check(Password("vik", "hunter22"))
        assert found is not None
        assert found.groups == ("admin", "shop")


def test_the_command_refuses_what_the_users_file_would() -> None:
    for arguments, typed, message in (
        (["vik"], "short\n", "8 or more work"),
        (["v:k"], "hunter22\n", "is not NAME:HASH:GROUPS"),
        (["vik", "a b"], "hunter22\n", "'a b' is no group's name"),
    ):
        refused = hash_command(*arguments, given=typed)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert refused.stdout == ""


async def test_an_attempt_that_was_not_looked_at_does_not_count(
    file: WatchedFile[Users], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CHECKS", 0)
    async with Passwords([file]) as passwords:
        gate = Gate(passwords, None, lambda: BUILT_IN)
        right = "Basic " + base64.b64encode(b"vik:hunter22").decode()
        for _ in range(30):
            with pytest.raises(Busy):
                await gate.admit(right, "10.0.0.1")
        monkeypatch.setattr(module, "MAX_CHECKS", 1)
        assert (await gate.admit(right, "10.0.0.1")).caller.name == "vik"


async def test_a_burst_with_the_right_password_is_one_attempt_and_one_with_a_wrong_one_too(
    file: WatchedFile[Users],
) -> None:
    async with Passwords([file]) as passwords:
        gate = Gate(passwords, None, lambda: BUILT_IN)

        async def burst(password: str) -> list[object]:
            given = "Basic " + base64.b64encode(f"vik:{password}".encode()).decode()
            asked = [gate.admit(given, "10.0.0.1") for _ in range(40)]
            return list(await asyncio.gather(*asked, return_exceptions=True))

        assert {type(one) for one in await burst("hunter22")} == {Admitted}
        for number in range(PAIR.burst):
            assert {type(one) for one in await burst(f"wrong {number}")} == {Unauthenticated}
        assert {type(one) for one in await burst("wrong again")} == {TooManyFailures}
