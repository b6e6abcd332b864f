"""Runs the benchmarks. Usage: python -m bench [--quick] [NAME ...]"""

import argparse

from bench import cold, pods, warm

BENCHMARKS = {"warm": warm.report, "cold": cold.report, "pods": pods.report}


def main() -> None:
    """Runs the chosen ones, all without a choice."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*BENCHMARKS, []], help="all when none is given"
    )
    parser.add_argument("--quick", action="store_true", help="only see that they work")
    options = parser.parse_args()
    for name in options.names or BENCHMARKS:
        BENCHMARKS[name](quick=options.quick)
        print(flush=True)


if __name__ == "__main__":
    main()
