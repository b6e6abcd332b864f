"""The images' Dockerfiles keep the rules, and copy what is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ["router", "controller", "api", "sidecar", "runtime"]
PYTHON = ["router", "controller", "api", "sidecar"]


class Stage(NamedTuple):
    """What a FROM begins."""

    base: str
    name: str
    steps: list[tuple[str, str]]


def stages(name: str) -> tuple[dict[str, str], list[Stage]]:
    """The ARGs before the first stage, and the stages."""
    text = (ROOT / "images" / name / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    steps = re.findall(r"^([A-Z]+)[ ]+(.*)$", "\n".join(lines).replace("\\\n", " "), re.MULTILINE)
    found: list[Stage] = []
    arguments = {}
    for instruction, rest in steps:
        if instruction == "FROM":
            base, _, stage = rest.partition(" AS ")
            found.append(Stage(base, stage, []))
        elif found:
            found[-1].steps.append((instruction, rest))
        else:
            argument, _, default = rest.partition("=")
            arguments[argument] = default
    return arguments, found


def said(stage: Stage, instruction: str) -> list[str]:
    return [rest for name, rest in stage.steps if name == instruction]


@pytest.mark.parametrize("name", NAMES)
def test_bases_are_slim_and_can_be_chosen(name: str) -> None:
    arguments, found = stages(name)
    (base,) = arguments
    assert base in ("PYTHON_IMAGE", "NODE_IMAGE")
    assert "slim" in arguments[base]
    assert {stage.base for stage in found} == {f"${{{base}}}"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_built_is_built_in_another_stage(name: str) -> None:
    _, (*_, last) = stages(name)
    for command in said(last, "RUN"):
        assert not re.search(r"\b(pip install|apt-get|apk|npm (ci|install)|gcc|make)\b", command)
    copied = said(last, "COPY")
    assert copied
    assert copied[0].startswith("--from=build ")


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_a_numbered_user_of_its_own(name: str) -> None:
    users = [said(stages(one)[1][-1], "USER") for one in NAMES]
    assert len({user for (user,) in users}) == len(NAMES)
    (user,) = said(stages(name)[1][-1], "USER")
    assert re.fullmatch(r"(100\d\d):\1", user)


@pytest.mark.parametrize("name", NAMES)
def test_labels_say_what_is_in_it(name: str) -> None:
    (labels,) = said(stages(name)[1][-1], "LABEL")
    pairs = dict(word.split("=", 1) for word in shlex.split(labels))
    prefix = "org.opencontainers.image."
    assert pairs[f"{prefix}title"] == f"sanfran-{name}"
    assert pairs[f"{prefix}version"] == "${VERSION}"
    assert pairs[f"{prefix}revision"] == "${REVISION}"
    assert pairs[f"{prefix}licenses"] == "Apache-2.0"
    assert pairs[f"{prefix}description"]


@pytest.mark.parametrize("name", PYTHON)
def test_a_service_gets_its_own_lock_and_the_wheel(name: str) -> None:
    _, (wheel, build, _) = stages(name)
    assert f"requirements/{name}.txt /src/" in said(build, "COPY")
    install = " ".join(said(build, "RUN"))
    assert f"--require-hashes -r /src/{name}.txt" in install
    assert "--no-deps /dist/*.whl" in install
    # One text, so that its layers are built once for all.
    assert wheel == stages("router")[1][0]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_is_in_the_repository_and_not_ignored(name: str) -> None:
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for stage in stages(name)[1]:
        for command in said(stage, "COPY"):
            if command.startswith("--from="):
                assert command[len("--from=") :].split()[0] in ("wheel", "build")
                continue
            for source in command.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in kept, source


def test_the_wheel_is_made_of_all_that_the_project_packs() -> None:
    copied = {
        source
        for command in said(stages("router")[1][0], "COPY")
        for source in command.split()[:-1]
    }
    packages = re.findall(r'^  "(\w+)/sanfran_\w+",$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert set(packages) < copied


def test_the_keeper_runs_in_a_shell_that_functions_cannot_read() -> None:
    last = stages("runtime")[1][-1]
    assert said(last, "ENTRYPOINT") == ['["/sanfran/sh", "/sanfran/keeper.sh"]']
    assert "cp /bin/sh /sanfran/sh && chmod 0711 /sanfran/sh" in said(last, "RUN")


def test_the_kubelet_s_file_for_last_messages_is_in_a_folder_that_is_closed_to_functions() -> None:
    _, (*_, last) = stages("runtime")
    chart = (ROOT / "helm-chart/sanfran/templates/functions/_pod.tpl").read_text()
    (path,) = re.findall(r"terminationMessagePath: (\S+)", chart)
    assert f"mkdir -m 0700 {Path(path).parent}" in said(last, "RUN")


def test_without_an_engine_make_images_says_what_would_help(tmp_path: Path) -> None:
    for tool in ("sh", "dirname", "sed", "git"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        [ROOT / "images/build.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "none of docker, podman and buildah works here" in done.stderr


@pytest.mark.parametrize(
    ("engine", "begins"),
    [
        ("docker", ["build", "-t"]),
        ("podman", ["build", "-t"]),
        ("buildah", ["build", "--layers", "-t"]),
        ("minikube", ["image", "build", "-t"]),
    ],
)
def test_images_are_built_with_the_engine_that_is_there(
    engine: str, begins: list[str], tmp_path: Path
) -> None:
    tool = tmp_path / engine
    tool.write_text(f'#!/bin/sh\n[ "$1" = info ] || echo "$@" >> {tmp_path}/said\n')
    tool.chmod(0o755)
    for other in {"docker", "podman", "buildah"} - {engine}:
        (tmp_path / other).symlink_to("/bin/false")
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "REGISTRY": "registry.example.com",
        "TAG": "t1",
        "BUILD_ARGS": "--x y",
        **({"ENGINE": engine} if engine == "minikube" else {}),
    }
    subprocess.run([ROOT / "images/build.sh", "api", "runtime"], env=environment, check=True)
    lines = [line.split() for line in (tmp_path / "said").read_text().splitlines()]
    assert [line[: len(begins)] for line in lines] == [begins, begins]
    assert "registry.example.com/sanfran-api:t1" in lines[0]
    assert "images/runtime/Dockerfile" in lines[1]
    assert lines[0][-3:] == ["--x", "y", "."]


def test_an_engine_that_is_none_is_refused() -> None:
    done = subprocess.run(
        [ROOT / "images/build.sh", "api"], env={"PATH": os.environ["PATH"], "ENGINE": "kaniko"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ENGINE is 'kaniko'; try docker, podman, buildah or minikube" in done.stderr
