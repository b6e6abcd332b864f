"""What the chart tells services are settings that they have, with values that they take."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import VALUES, pods, template
from tests.chart.test_values import generator

FILES = ["", *sorted(file.stem for file in VALUES.glob("*.yaml"))]


@pytest.mark.parametrize("values", FILES)
def test_every_variable_that_the_chart_sets_is_a_setting_of_the_service(values: str) -> None:
    made = generator()
    for pod in pods(template(values=values)).values():
        for container in pod["spec"]["containers"]:
            service = container["name"]
            if service not in made.SERVICES:
                continue
            fields = made.dataclasses.fields(made.SERVICES[service])
            known = {f"SANFRAN_{service.upper()}_{field.name.upper()}" for field in fields}
            named = [item["name"] for item in container["env"]]
            assert len(named) == len(set(named))
            assert {name for name in named if name.startswith("SANFRAN_")} <= known


@pytest.mark.parametrize("values", FILES)
def test_services_accept_what_the_chart_sets(values: str, tmp_path: Path) -> None:
    made = generator()
    for secret in template():
        if secret["metadata"]["name"] == "demo-sanfran-router-tls":
            for name, content in secret["data"].items():
                (tmp_path / name).write_bytes(base64.b64decode(content))
    for pod in pods(template(values=values)).values():
        for container in pod["spec"]["containers"]:
            service = container["name"]
            if service not in made.SERVICES:
                continue
            places = {"POD_NAME": "demo-sanfran-controller-7c9f6b5d4-abcde", "POD_IP": "10.1.2.3"}
            environment = {}
            for item in container["env"]:
                value = item.get("value", places.get(item["name"], ""))
                for name, stands_for in places.items():
                    value = value.replace(f"$({name})", stands_for)
                if value.startswith("/etc/sanfran/tls"):
                    value = str(tmp_path)  # a folder that has to be there
                environment[item["name"]] = value
            parse(made.SERVICES[service], service, environment)


def parse(config: type[Any], service: str, environment: dict[str, str]) -> None:
    from sanfran_common.config import parse_config

    parse_config(
        config, prefix=f"SANFRAN_{service.upper()}", prog=f"sanfran-{service}", description="",
        argv=[], environ=environment,
    )  # fmt: skip


def believes(**values: Any) -> str | None:
    """What the api service is told of X-Forwarded-For; None: nothing."""
    for container in pods(template(**values))["demo-sanfran-api"]["spec"]["containers"]:
        for item in container["env"]:
            if item["name"] == "SANFRAN_API_TRUST_FORWARDED":
                return str(item["value"])
    return None


def test_the_api_service_believes_a_proxy_of_the_chart_s_making_unless_told_otherwise() -> None:
    gateway = {"gateway__enabled": True, "gateway__parentRefs[0]__name": "public"}
    ingress = {"ingress__enabled": True, "ingress__api": True}
    assert believes() is None
    assert believes(ingress__enabled=True) is None
    assert believes(ingress__api=True) is None
    assert believes(**ingress) == "true"
    assert believes(**gateway) is None
    assert believes(**gateway, gateway__api=True) == "true"
    assert believes(**ingress, **{"api__settings__trust-forwarded": False}) == "false"
    assert believes(**{"api__settings__trust-forwarded": True}) == "true"
