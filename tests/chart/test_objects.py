"""What the chart makes is what Kubernetes takes, for every version and with every choice."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.chart.helm import CHART, NEWEST, VALUES, by_kind, function_pod, pods, run, template

OLDEST = 28
FILES = ["", *sorted(file.stem for file in VALUES.glob("*.yaml"))]
KUBERNETES = sorted({one for one in utils.all_versions() if int(one.split(".")[1]) >= OLDEST})
CUSTOM = {"ServiceMonitor", "PodMonitor", "HTTPRoute", "Issuer", "Certificate"}
"""Kinds that are not Kubernetes' own: it has no schema for them."""


@pytest.fixture(autouse=True, scope="module")
def read_schemas_once() -> Iterator[None]:
    """The validator reads megabytes of definitions anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def check(made: dict[str, Any], kubernetes: str) -> None:
    if made["kind"] not in CUSTOM:
        kubernetes_validate.validate(made, kubernetes, strict=True)


@pytest.mark.parametrize("values", FILES)
def test_every_object_is_valid(values: str) -> None:
    objects = template(values=values)
    for made in objects:
        check(made, NEWEST)
    check({"metadata": {"name": "x"}, **function_pod(objects)}, NEWEST)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_object_is_valid_for_every_kubernetes(kubernetes: str) -> None:
    objects = template(values="everything", kubernetes=kubernetes)
    for made in objects:
        check(made, kubernetes)
    check(function_pod(objects), kubernetes)


@pytest.mark.parametrize("values", FILES)
def test_helm_lint_finds_nothing(values: str) -> None:
    files: list[str | Path] = ["--values", VALUES / f"{values}.yaml"] if values else []
    said = run("lint", "--strict", CHART, *files)
    assert "0 chart(s) failed" in said
    assert not re.search(r"WARNING|ERROR", said)


def test_the_chart_has_the_version_of_the_engine() -> None:
    version = re.search(
        r'^version = "(.*)"$', (CHART.parents[1] / "pyproject.toml").read_text(), re.M
    )
    assert version is not None
    chart = (CHART / "Chart.yaml").read_text()
    assert f"\nversion: {version[1]}\n" in chart
    assert f'\nappVersion: "{version[1]}"\n' in chart


@pytest.mark.parametrize("values", FILES)
def test_every_object_names_its_namespace_and_says_whose_it_is(values: str) -> None:
    for made in template(values=values, namespace="here"):
        metadata = made["metadata"]
        if made["kind"] not in ("PriorityClass", "Namespace"):
            assert metadata["namespace"] in ("here", "strangers")
        assert metadata["labels"]["app.kubernetes.io/instance"] == "demo"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert metadata["labels"]["sanfran.dev/release"]


def test_what_function_pods_need_is_in_their_namespace_and_the_authority_is_not() -> None:
    objects = template(namespace="here", functions__namespace="there")
    there = {
        (made["kind"], made["metadata"]["name"])
        for made in objects
        if made["metadata"].get("namespace") == "there"
    }
    assert there == {
        ("Secret", "here.demo-sanfran-sidecar-tls"),
        ("Role", "here.demo-sanfran-controller"),
        ("RoleBinding", "here.demo-sanfran-controller"),
        ("Lease", "here.demo-sanfran-functions"),
        ("NetworkPolicy", "here.demo-sanfran-functions"),
    }


@pytest.mark.parametrize("values", FILES)
def test_whatever_a_pod_mounts_is_made_by_the_chart_or_by_cert_manager(values: str) -> None:
    objects = template(values=values)
    kinds = by_kind(objects)
    issued = {m["spec"]["secretName"] for m in objects if m["kind"] == "Certificate"}
    for pod in pods(objects).values():
        for volume in pod["spec"].get("volumes", []):
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                assert ("Secret", name) in kinds or name in issued
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in kinds


def test_services_find_the_ports_of_their_pods() -> None:
    objects = template(values="everything")
    made = pods(objects)
    for service in (one for one in objects if one["kind"] == "Service"):
        chosen = [
            pod
            for pod in made.values()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        assert chosen, service["metadata"]["name"]
        for pod in chosen:
            named = {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_pods_get_their_images_from_the_values() -> None:
    images = {
        container["image"]
        for pod in pods(template(values="everything")).values()
        for container in pod["spec"]["containers"]
    }
    assert images == {
        f"registry.example.com/team/sanfran-{name}:1.2.3"
        for name in ("router", "controller", "api", "sidecar", "runtime")
    }


def test_big_numbers_reach_a_service_as_they_stand() -> None:
    router = pods(template(values="everything"))["demo-sanfran-router"]
    env = {item["name"]: item["value"] for item in router["spec"]["containers"][0]["env"]}
    assert env["SANFRAN_ROUTER_MAX_BODY_BYTES"] == "8589934592"
    assert env["SANFRAN_ROUTER_TRUST_FORWARDED"] == "true"
    assert env["SANFRAN_ROUTER_QUEUE_TIMEOUT"] == "2.5"


def test_everything_at_rest_fits_a_node_of_two_cores() -> None:
    objects = template()
    made = pods(objects)
    counts = {
        one["metadata"]["name"]: one["spec"]["replicas"]
        for one in objects
        if one["kind"] in ("Deployment", "StatefulSet")
    }
    counts["functions"] = 4  # the default pool
    total = 0
    for name, pod in made.items():
        for container in pod["spec"]["containers"]:
            cpu = container["resources"]["requests"]["cpu"]
            assert cpu.endswith("m")
            total += int(cpu[:-1]) * counts.get(name, 0)
    assert total <= 1200
