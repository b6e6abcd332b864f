"""Generates the Python code of the contracts, with protoc from grpcio-tools and betterproto2, and
`descriptors.json`, from which a server tells what it offers: services have no protobuf at run time.

Usage: python proto/generate.py FOLDER
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (  # type: ignore[import-untyped]
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

SOURCES = Path(__file__).parent / "sanfran_proto"


def generate(target: Path) -> None:
    """Writes the generated packages into a folder.

    Raises:
        subprocess.CalledProcessError: protoc refused a source; its reason is on stderr.
    """
    # protoc finds its plugin, a script beside the interpreter, on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "descriptors"
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}"]
            + [f"--python_betterproto2_out={target}"]
            + [f"--python_betterproto2_opt={one}_generation=async" for one in ("client", "server")]
            + [f"--descriptor_set_out={described}", "--include_imports"]
            + [str(source) for source in sorted(SOURCES.glob("*.proto"))],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": path},
        )
        files = FileDescriptorSet.FromString(described.read_bytes()).file
    text = json.dumps({file.name: shown(file) for file in files}, indent=1, sort_keys=True)
    (target / "descriptors.json").write_text(text + "\n")


def shown(file: FileDescriptorProto) -> dict[str, object]:
    """A source: its descriptor, the files that it imports, and the names that are declared in it."""
    names = [f"{file.package}.{name}" for name in declared(file)]
    return {
        "descriptor": base64.b64encode(file.SerializeToString(deterministic=True)).decode(),
        "imports": list(file.dependency),
        "names": names,
    }


def declared(file: FileDescriptorProto) -> Iterator[str]:
    """Names without the package's, of all that a client may ask for."""
    for service in file.service:
        yield service.name
        yield from (f"{service.name}.{method.name}" for method in service.method)
    for enum in file.enum_type:
        yield enum.name
        yield from (value.name for value in enum.value)
    for message in file.message_type:
        yield from within(message, message.name)


def within(message: DescriptorProto, name: str) -> Iterator[str]:
    """A message's own name and those below it."""
    yield name
    yield from (f"{name}.{field.name}" for field in message.field)
    for enum in message.enum_type:
        yield f"{name}.{enum.name}"
        yield from (f"{name}.{value.name}" for value in enum.value)
    for nested in message.nested_type:
        yield from within(nested, f"{name}.{nested.name}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
