"""Values: each is documented and checked, and what services get of them are settings that they have."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from tests.chart.helm import (
    CHART,
    ROOT,
    Failed,
    Kind,
    Object,
    by_kind,
    default_values,
    pods,
    run,
    schema,
    template,
)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_chart", ROOT / "docs/generate_chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(values: Object, path: str = "") -> list[str]:
    """Paths of all values; an empty map is one."""
    found = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found += leaves(value, f"{path}{key}.")
        else:
            found.append(f"{path}{key}")
    return found


def test_the_table_of_values_and_the_settings_in_the_schema_are_up_to_date() -> None:
    made = generator()
    assert made.README.read_text() == made.page(), "run `make docs`"
    assert made.SCHEMA.read_text() == made.schema(), "run `make docs`"


def test_every_value_is_documented() -> None:
    described = {value.path for value in generator().documented()}
    assert not [
        leaf
        for leaf in leaves(default_values())
        if not any(leaf == one or leaf.startswith(f"{one}.") for one in described)
    ]


def test_the_schema_knows_every_value_and_no_other() -> None:
    whole = schema()

    def compare(values: Object, part: Object, path: str) -> None:
        part = whole["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if "properties" not in part:
            return
        assert part["additionalProperties"] is False, path
        known = set(part["properties"])
        assert set(values) <= known, path
        if not path.endswith((".settings", ".resources", ".issuerRef", ".podTemplate", ".access")):
            assert known - {"global"} == set(values), path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, part["properties"][key], f"{path}.{key}")

    compare(default_values(), whole, "")


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("router__replicas", "two", "router.replicas: Invalid type. Expected: integer, given: string"),
        ("router__replicas", 0, "router.replicas: Must be greater than or equal to 1"),
        ("replicas", 2, "Additional property replicas is not allowed"),
        ("router__replica", 2, "router: Additional property replica is not allowed"),
        ("log__level", "loud", 'must be one of the following: "debug", "info", "warning", "error"'),
        ("image__pullPolicy", "never", 'the following: "IfNotPresent", "Always", "Never"'),
        (
            "router__settings__max-body-byte",
            1,
            "router.settings: Additional property max-body-byte is not allowed",
        ),
        (
            "controller__settings__idle-timeout",
            "long",
            "controller.settings.idle-timeout: Invalid type. Expected: number, given: string",
        ),
        # Those are values of their own, or the chart's.
        ("controller__settings__pool-size", 3, "Additional property pool-size is not allowed"),
        ("api__settings__rpc-listen", "x", "Additional property rpc-listen is not allowed"),
        ("functions__namespace", "My_Functions", "functions.namespace: Does not match pattern"),
        ("tls__source", "none", 'the following: "chart", "cert-manager", "existing"'),
        ("router__resources__limits__memory", "much", "memory: Does not match pattern"),
        ("api__auth__basic__adminPassword", "secret", "has 6 characters; at least 8 are needed"),
        ("api__auth__basic__enabled", "false", "nobody could sign in"),
        ("api__auth__jwt__enabled", "true", "issuer and audience must be named"),
        ("gateway__enabled", "true", "gateway.parentRefs: is empty; name the Gateway"),
        ("functions__podTemplate__spec__hostNetwork", "true", "spec.hostNetwork: is the chart's own"),
        ("ingress__host", "https://fn.example.com", "ingress.host: Does not match pattern"),
        ("functions__podTemplate__spec__volumes", "{}", "podTemplate.spec.volumes: is the chart's own"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_name(setting: str, value: Any, says: str) -> None:
    with pytest.raises(Failed) as refused:
        template(**{setting: value})
    assert says in str(refused.value)


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with pytest.raises(Failed, match=r"is Kubernetes v1\.27\.0; SanFran needs 1\.28 or newer"):
        template(kubernetes="1.27.0", knows=("v1/Pod",))
    # Whatever version this Helm supposes where there is no cluster.
    assert run("template", "demo", CHART)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"metrics__serviceMonitor__enabled": "true"}, "monitoring.coreos.com/v1/ServiceMonitor"),
        ({"tls__source": "cert-manager"}, "cert-manager.io/v1/Certificate"),
        (
            {"gateway__enabled": "true", "gateway__parentRefs[0]__name": "public"},
            "gateway.networking.k8s.io/v1/HTTPRoute",
        ),
    ],
)
def test_what_the_cluster_lacks_is_said_before_anything_is_made(
    settings: dict[str, Any], kind: str
) -> None:
    with pytest.raises(Failed, match=rf"asks for {kind}, which this cluster does not know"):
        template(knows=("v1/Pod",), **settings)
    assert template(knows=("v1/Pod", kind), **settings)
    # `helm template` cannot know what the cluster has.
    assert template(**settings)


def test_a_pod_has_time_for_the_graces_that_its_service_is_given() -> None:
    made = pods(template())
    settings = default_values()
    for service in ("router", "controller", "api"):
        own = settings[service]["settings"]
        needed = own.get("stop-delay", 0) + own["stop-grace"]
        spec = made[f"demo-sanfran-{service}"]["spec"]
        assert spec["terminationGracePeriodSeconds"] >= needed + 5, CHART


def test_an_autoscaler_with_more_pods_at_least_than_at_most_is_refused() -> None:
    settings: dict[str, Any] = {
        "router__autoscaling__enabled": "true",
        "router__autoscaling__minReplicas": 20,
    }
    with pytest.raises(Failed, match="minReplicas: is 20, and maxReplicas 10"):
        template(**settings)


def test_names_that_yaml_reads_as_something_else_stay_names() -> None:
    made = by_kind(template(name="1e5", ingress__enabled="true", ingress__host=r"*.example.com"))
    route = made[Kind("Ingress", "1e5-sanfran")]
    assert route["metadata"]["labels"]["app.kubernetes.io/instance"] == "1e5"
    assert route["spec"]["rules"][0]["host"] == "*.example.com"
    (api,) = made[Kind("StatefulSet", "1e5-sanfran-api")]["spec"]["template"]["spec"]["containers"]
    set_to = {one["name"]: one.get("value") for one in api["env"]}
    # Nobody can call a name with an asterisk.
    assert set_to["SANFRAN_API_PUBLIC_URL"] == "http://1e5-sanfran-router.default"
