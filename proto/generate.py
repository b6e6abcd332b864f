"""Generates the Python code of the contracts, with protoc from grpcio-tools and betterproto2.

Usage: python proto/generate.py FOLDER
"""

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent / "sanfran_proto"


def generate(target: Path) -> None:
    """Writes the generated packages into a folder.

    Raises:
        subprocess.CalledProcessError: protoc refused a source; its reason is on stderr.
    """
    # protoc finds its plugin, a script beside the interpreter, on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}"]
        + [f"--python_betterproto2_out={target}"]
        + [f"--python_betterproto2_opt={side}_generation=async" for side in ("client", "server")]
        + [str(source) for source in sorted(SOURCES.glob("*.proto"))],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": path},
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
