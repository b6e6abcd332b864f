"""Pod Security "restricted", least privilege, and who can reach whom."""

from __future__ import annotations

from typing import Any

import pytest
from sanfran_controller.providers.kubernetes.calls import CALLS

from tests.chart.helm import VALUES, function_pod, pods, template

FILES = ["", *sorted(file.stem for file in VALUES.glob("*.yaml"))]
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""What Pod Security "restricted" lets pods mount."""


def broken_rules(spec: dict[str, Any]) -> list[str]:
    """What Kubernetes' Pod Security Standard "restricted" would say against a pod.

    Source: kubernetes.io/docs/concepts/security/pod-security-standards, version 1.36.
    """
    pod = spec.get("securityContext", {})
    broken = [f"{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    broken += [
        f"volume {volume['name']}"
        for volume in spec.get("volumes", [])
        if not set(volume) - {"name"} <= VOLUMES
    ]
    if pod.get("sysctls"):
        broken.append("sysctls")
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container.get("securityContext", {})

        def effective(name: str, own: dict[str, Any] = own) -> Any:
            return own.get(name, pod.get(name))

        wrong = {
            "privileged": own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation", True),
            "capabilities": own.get("capabilities") != {"drop": ["ALL"]},
            "runAsNonRoot": effective("runAsNonRoot") is not True,
            "runAsUser": effective("runAsUser") in (None, 0),
            "seccomp": effective("seccompProfile") != {"type": "RuntimeDefault"},
            "procMount": own.get("procMount", "Default") != "Default",
            "hostPort": any("hostPort" in port for port in container.get("ports", [])),
        }
        broken += [f"{container['name']}: {rule}" for rule, is_wrong in wrong.items() if is_wrong]
    return broken


@pytest.mark.parametrize("values", FILES)
def test_pod_security_restricted_holds_for_every_pod(values: str) -> None:
    for name, pod in pods(template(values=values)).items():
        assert broken_rules(pod["spec"]) == [], name


@pytest.mark.parametrize("values", FILES)
def test_no_container_can_write_to_its_image_or_goes_without_limits(values: str) -> None:
    for pod in pods(template(values=values)).values():
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("values", FILES)
def test_only_the_controller_gets_a_token_of_kubernetes(values: str) -> None:
    made = pods(template(values=values))
    with_token = [name for name, pod in made.items() if pod["spec"]["automountServiceAccountToken"]]
    assert with_token == ["demo-sanfran-controller"]


def test_the_controllers_may_do_what_their_code_does_and_nothing_else() -> None:
    (role,) = (made for made in template() if made["kind"] == "Role")
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == {(kind.group, kind.plural): set(verbs) for kind, verbs in CALLS.items()}


@pytest.mark.parametrize("values", FILES)
def test_there_is_no_cluster_wide_rule(values: str) -> None:
    objects = template(values=values, namespace="here")
    assert not [made for made in objects if made["kind"].startswith("ClusterRole")]
    roles = [made for made in objects if made["kind"] == "Role"]
    functions = "strangers" if values in ("everything", "cluster-issuer") else "here"
    assert [role["metadata"]["namespace"] for role in roles] == [functions]
    assert not [rule for rule in roles[0]["rules"] if "*" in rule["verbs"] + rule["resources"]]


def test_function_code_sees_neither_the_certificate_nor_writes_what_it_loads() -> None:
    containers = {one["name"]: one for one in function_pod(template())["spec"]["containers"]}
    mounts = {
        name: {mount["name"]: mount.get("readOnly", False) for mount in one["volumeMounts"]}
        for name, one in containers.items()
    }
    assert mounts["runtime"] == {"shared": True, "scratch": False}
    assert mounts["sidecar"] == {"shared": False, "tls": True, "tmp": False}
    users = {one["securityContext"]["runAsUser"] for one in containers.values()}
    assert len(users) == 2


def test_a_template_of_ones_own_cannot_take_away_what_pods_are_found_by() -> None:
    pod = function_pod(template(values="everything"))
    assert pod["metadata"]["labels"]["sanfran.dev/release"] == "default.demo-sanfran"
    assert pod["metadata"]["labels"]["example.com/team"] == "functions"
    assert pod["spec"]["runtimeClassName"] == "gvisor"
    assert [one["name"] for one in pod["spec"]["containers"]] == ["runtime", "sidecar"]


def allowed(objects: list[dict[str, Any]], source: str, target: str, port: int | str) -> bool:
    """Whether NetworkPolicies let a component's pods reach a port of another's."""
    policies = {
        made["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: made["spec"]
        for made in objects
        if made["kind"] == "NetworkPolicy"
    }

    def meets(peers: list[dict[str, Any]] | None, component: str) -> bool:
        if peers is None:
            return True
        for peer in peers:
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if "podSelector" in peer and labels["app.kubernetes.io/component"] == component:
                return True
            if peer.get("namespaceSelector") == {}:
                return True
        return False

    inward = any(
        any(one["port"] == port for one in rule["ports"]) and meets(rule.get("from"), source)
        for rule in policies[target]["ingress"]
    )
    numbers = {
        "http": 8080 if target == "router" else 8081,
        "grpc": 8091 if target == "api" else 8090,
    }
    number = numbers.get(port, port) if isinstance(port, str) else port
    outward = any(
        any(one["port"] == number for one in rule.get("ports", []))
        and meets(rule.get("to"), target)
        for rule in policies[source]["egress"]
        if rule.get("to") is None or any("podSelector" in peer for peer in rule["to"])
    )
    return inward and outward


@pytest.mark.parametrize(
    ("target", "port", "sources"),
    [
        ("function", 8083, {"router"}),
        ("function", 8084, {"controller"}),
        ("controller", "grpc", {"router", "api", "controller"}),
        ("api", "grpc", {"router", "controller", "function"}),
        ("router", "http", {"function"}),
    ],
)
def test_each_port_is_reached_by_those_who_need_it(
    target: str, port: int | str, sources: set[str]
) -> None:
    objects = template()
    components = {"router", "controller", "api", "function"}
    assert {one for one in components if allowed(objects, one, target, port)} == sources


def test_functions_reach_the_internet_and_nothing_private() -> None:
    (policy,) = (
        made
        for made in template()
        if made["kind"] == "NetworkPolicy" and made["metadata"]["name"].endswith("-functions")
    )
    blocks = [
        peer["ipBlock"]
        for rule in policy["spec"]["egress"]
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "::/0"]
    assert "169.254.0.0/16" in blocks[0]["except"]
    assert "10.0.0.0/8" in blocks[0]["except"]
    assert blocks[1]["except"] == ["fc00::/7", "fe80::/10"]


def test_functions_reach_nothing_outside_where_that_is_off() -> None:
    objects = template(functions__egress__internet="false", functions__egress__router="false")
    (policy,) = (
        made
        for made in objects
        if made["kind"] == "NetworkPolicy" and made["metadata"]["name"].endswith("-functions")
    )
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 8091]
