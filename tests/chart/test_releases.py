"""Several releases live in one cluster, and in one namespace."""

from __future__ import annotations

import pytest

from tests.chart.helm import Failed, Object, pods, template

PLACES = [
    # two releases in one namespace
    ({"name": "one", "namespace": "here"}, {"name": "two", "namespace": "here"}),
    # the same name in two namespaces
    ({"name": "one", "namespace": "here"}, {"name": "one", "namespace": "there"}),
    # and with their function pods in one
    (
        {"name": "one", "namespace": "here", "functions__namespace": "shared"},
        {"name": "one", "namespace": "there", "functions__namespace": "shared"},
    ),
    # one beside the function pods of another, with names that run together
    (
        {"name": "b-sanfran", "namespace": "a", "functions__namespace": "shared"},
        {"name": "sanfran", "namespace": "a-b", "functions__namespace": "shared"},
    ),
    # names that are the same where they are cut
    ({"name": "x" * 52 + "a", "namespace": "here"}, {"name": "x" * 52 + "b", "namespace": "here"}),
]


def identity(made: Object) -> tuple[str, str, str]:
    metadata = made["metadata"]
    return made["kind"], metadata.get("namespace", ""), metadata["name"]


def selectors(objects: list[Object]) -> list[tuple[str, dict[str, str]]]:
    """What objects choose pods by, and in which namespace."""
    return [
        (
            made["metadata"]["namespace"],
            made["spec"][key].get("matchLabels", made["spec"][key]),
        )
        for made in objects
        for key in ("selector", "podSelector")
        if key in made.get("spec", {})
    ]


@pytest.mark.parametrize(("first", "second"), PLACES)
def test_two_releases_share_neither_an_object_nor_a_pod(
    first: dict[str, str], second: dict[str, str]
) -> None:
    both = [
        template(**place, priorityClasses__create="true", metrics__serviceMonitor__enabled="true")  # type: ignore[arg-type]  # names of values
        for place in (first, second)
    ]
    assert not {identity(made) for made in both[0]} & {identity(made) for made in both[1]}
    places = [place.get("functions__namespace", place["namespace"]) for place in (first, second)]
    for mine, other, place, functions in (
        (both[0], both[1], second, places[1]),
        (both[1], both[0], first, places[0]),
    ):
        for name, pod in pods(other).items():
            namespace = functions if name == "functions" else place["namespace"]
            labels = pod["metadata"]["labels"].items()
            for where, selector in selectors(mine):
                assert where != namespace or not selector.items() <= labels, selector


def test_the_selectors_of_deployments_never_change() -> None:
    fixed = ("Deployment", "StatefulSet")
    before, after = (
        {made["metadata"]["name"]: made["spec"] for made in objects if made["kind"] in fixed}
        for objects in (template(), template(values="everything"))
    )
    for name, spec in before.items():
        assert spec["selector"] == after[name]["selector"]
    claims = [
        one["demo-sanfran-api"]["volumeClaimTemplates"][0]["metadata"] for one in (before, after)
    ]
    assert claims[0]["labels"] == claims[1]["labels"]


@pytest.mark.parametrize("name", ["a", "sanfran", "x" * 53, "my.release"])
def test_names_leave_room_for_what_kubernetes_adds(name: str) -> None:
    for made in template(name=name, namespace="n" * 63, functions__namespace="other"):
        most = 63 if made["kind"] in ("Service", "StatefulSet") else 253
        assert len(made["metadata"]["name"]) <= most
        if made["kind"] == "Deployment":
            # <name>-<hash of the template: 10>-<5>, which becomes a label's value
            assert len(made["metadata"]["name"]) + 17 <= 63
        for value in made["metadata"]["labels"].values():
            assert len(value) <= 63


def test_the_functions_namespace_has_to_be_another_one_to_be_made() -> None:
    with pytest.raises(Failed, match=r"functions\.createNamespace: .* try functions\.namespace="):
        template(functions__createNamespace="true")
