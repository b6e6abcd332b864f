"""A cluster with simulated pods, and an api service with many functions, as a process of their own.

`kmock` serves 1,000 calls per second of a core and keeps each in its record, which is what is counted here.

Usage: python -m bench.cluster FOLDER FUNCTIONS PODS. A line on its input is answered with what the API server was
asked for so far, as JSON: calls by method and kind, and labels of functions on pods.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import kmock
import uvloop

from bench.simulated import allow_files, many_functions
from controller.tests.cluster import TEMPLATE, ApiServer, Kubelet, kubeconfig
from controller.tests.simulated import SimHost


async def serve(folder: Path, functions: int) -> None:
    """Until its input ends."""
    api = many_functions(folder, functions)
    async with ApiServer(bookmark_every=10) as server, kmock.Server(server) as at:
        kubeconfig(folder, str(at.url))
        (folder / "pod.yaml").write_text(TEMPLATE)
        async with Kubelet(server.objects, SimHost(folder)):
            await api.start()
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
            )
            print("ready", flush=True)
            while await reader.readline():
                print(json.dumps(asked(server)), flush=True)


def asked(server: ApiServer) -> dict[str, object]:
    """What was asked for, and what labels say."""
    calls = Counter(
        f"{one.method.value} {one.url.path.rpartition('/functions/')[2].partition('/')[0]}"
        for one in server._requests
    )
    pods = server.objects.of.get("pods", {}).values()
    labelled = [pod["metadata"]["labels"].get("sanfran.dev/function") for pod in pods]
    return {"calls": calls, "pods": len(labelled), "labelled": sum(map(bool, labelled))}


if __name__ == "__main__":
    allow_files(int(sys.argv[3]))
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
