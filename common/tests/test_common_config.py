"""Settings come from flags, then environment, then defaults; errors say what would work."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from sanfran_common.config import (
    ServiceConfig,
    host_port,
    parse_config,
    positive_int,
    seconds,
    setting,
    split_host_port,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig(ServiceConfig):
    listen: str = setting("127.0.0.1:80", help="address", parse=host_port)
    max_head_bytes: int = setting(65536, help="bytes of a head, 100% of them", parse=positive_int)
    grace: float = setting(4.0, help="seconds", parse=seconds)
    access_log: bool = setting(False, help="a line per request")

    def __post_init__(self) -> None:
        if self.max_head_bytes < self.grace:
            raise ValueError("--max-head-bytes is below --grace")


def parse(*argv: str, **environ: str) -> DemoConfig:
    return parse_config(
        DemoConfig, prefix="SANFRAN_DEMO", prog="demo", description="d", argv=argv, environ=environ
    )


def test_without_flags_and_environment_the_defaults_hold() -> None:
    assert parse() == DemoConfig()


def test_a_flag_wins_over_its_variable() -> None:
    assert parse(SANFRAN_DEMO_MAX_HEAD_BYTES="10").max_head_bytes == 10
    assert parse("--max-head-bytes", "20", SANFRAN_DEMO_MAX_HEAD_BYTES="10").max_head_bytes == 20


def test_a_switch_is_a_flag_with_an_opposite_and_a_variable() -> None:
    assert parse("--access-log").access_log
    assert parse(SANFRAN_DEMO_ACCESS_LOG="true").access_log
    assert not parse("--no-access-log", SANFRAN_DEMO_ACCESS_LOG="true").access_log


def test_shared_variables_hold_for_services_without_their_own() -> None:
    assert parse(SANFRAN_LOG_LEVEL="debug").log_level == "debug"
    own = parse(SANFRAN_LOG_LEVEL="debug", SANFRAN_DEMO_LOG_LEVEL="error")
    assert own.log_level == "error"
    assert parse(SANFRAN_GRACE="9").grace == 4.0


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        (["--max-head-bytes", "0"], {}, "--max-head-bytes: '0' is not a whole number from 1; try"),
        (["--max-head-bytes", "x"], {}, "--max-head-bytes: 'x'"),
        ([], {"SANFRAN_DEMO_GRACE": "-1"}, "SANFRAN_DEMO_GRACE: '-1' is not a number of seconds"),
        (["--grace", "nan"], {}, "--grace: 'nan'"),
        (["--listen", "8080"], {}, "--listen: '8080' is not HOST:PORT; try 127.0.0.1:8080"),
        (["--log-level", "loud"], {}, "is none of debug, info, warning, error"),
        ([], {"SANFRAN_DEMO_ACCESS_LOG": "perhaps"}, "is neither true nor false; try true"),
        (["--max-head-bytes", "1"], {}, "--max-head-bytes is below --grace"),
        (["--max-head", "10"], {}, "unrecognized arguments"),
        ([], {"SANFRAN_RPC_SECRET": "pässword"}, "SANFRAN_RPC_SECRET: its value has characters"),
        ([], {"SANFRAN_RPC_SECRET": "two\nlines"}, "visible ASCII; try"),
    ],
)
def test_a_bad_setting_ends_with_code_2_and_says_what_would_work(
    argv: list[str], environ: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(*argv, **environ)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--listen", "--max-head-bytes", "--grace", "--access-log", "--admin"):
        assert flag in shown
    assert "65536" in shown
    assert "SANFRAN_DEMO_ADMIN" in shown


def test_ipv6_addresses_need_brackets() -> None:
    assert split_host_port("[::1]:80") == ("::1", 80)
    for bad in ("::1:80", ":80", "host", "host:99999", "[::1]"):
        with pytest.raises(ValueError, match="try"):
            split_host_port(bad)


def test_a_folder_of_certificates_has_all_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(value: str) -> str:
        with pytest.raises(SystemExit):
            parse_config(
                ServiceConfig, prefix="X", prog="x", description="", argv=["--tls-dir", value]
            )
        return capsys.readouterr().err

    assert "--tls-dir: '/not/there' is not a folder; try one with ca.crt," in said("/not/there")
    (tmp_path / "ca.crt").touch()
    assert "has no tls.crt; all of ca.crt, tls.crt and tls.key have to be" in said(str(tmp_path))
