"""Runs the benchmarks. Usage: python -m bench [--quick] [NAME ...]"""

import argparse

from bench import (
    burst,
    cold,
    controller,
    kubernetes,
    load_function,
    pods,
    router_cpu,
    router_idle,
    router_latency,
    router_streams,
    router_table,
    router_workers,
    runtime,
    scenarios,
    store,
    warm,
)

BENCHMARKS = {
    "warm": warm.report,
    "router-cpu": router_cpu.report,
    "router-latency": router_latency.report,
    "router-idle": router_idle.report,
    "router-table": router_table.report,
    "router-workers": router_workers.report,
    "router-streams": router_streams.report,
    "cold": cold.report,
    "burst": burst.report,
    "controller": controller.report,
    "kubernetes": kubernetes.report,
    "runtime": runtime.report,
    "pods": pods.report,
    "load": load_function.report,
    "scenarios": scenarios.report,
    "store": store.report,
}
GROUPS = {"router": [name for name in BENCHMARKS if name == "warm" or name.startswith("router-")]}


def main() -> None:
    """Runs the chosen ones, all without a choice."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        choices=[*BENCHMARKS, *GROUPS, []],
        help=f"{', '.join(BENCHMARKS)}; router: warm and all router-*; without a name: all",
    )
    parser.add_argument("--quick", action="store_true", help="only see that they work")
    options = parser.parse_args()
    chosen = [one for name in options.names for one in GROUPS.get(name, [name])]
    try:
        for name in chosen or BENCHMARKS:
            BENCHMARKS[name](quick=options.quick)
            print(flush=True)
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None


if __name__ == "__main__":
    main()
