"""How long a report of many trials takes to write, and how large it is.

    python tests/benchmarks/report.py [--trials 1000] [--steps 9] [--repeat 3] [--json FILE]

Prints a table and the same figures as JSON; exits with 1 where a report of 1,000 trials takes 10 s or more.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# This file's own folder is first on the path and would hide anything called `report`.
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "report")]

from report_records import search_record  # noqa: E402

from finesearch.report import RunRecord, write_report  # noqa: E402
from finesearch.report.markdown import markdown  # noqa: E402
from finesearch.report.page import html_page  # noqa: E402
from finesearch.report.report_json import summary_json  # noqa: E402
from finesearch.report.trials_parquet import trials_parquet  # noqa: E402

LIMIT_S = 10.0
FILES: dict[str, Callable[[RunRecord], str | bytes]] = {
    "report.html": html_page,
    "report.md": markdown,
    "report.json": summary_json,
    "trials.parquet": trials_parquet,
}


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(record: RunRecord, repeat: int) -> dict[str, Any]:
    """Seconds of the first report in this process and of later ones; seconds and megabytes of each file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        first_s = timed(lambda: write_report(record, path))
        later_s = statistics.median(timed(lambda: write_report(record, path)) for _ in range(repeat))
        sizes = {name: (path / name).stat().st_size / 1e6 for name in FILES}
    built = {name: statistics.median(timed(lambda f=f: f(record)) for _ in range(repeat)) for name, f in FILES.items()}
    return {
        "trials": len(record.trials),
        "evaluations": sum(len(row.history) for row in record.trials),
        "first_report_seconds": round(first_s, 3),
        "later_report_seconds": round(later_s, 3),
        "megabytes": round(sum(sizes.values()), 3),
        "peak_memory_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "files": {name: {"seconds": round(built[name], 3), "megabytes": round(sizes[name], 3)} for name in FILES},
    }


def shown(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['trials']:,} trials with {figures['evaluations']:,} evaluations, "
        f"peak memory {figures['peak_memory_megabytes']} MB",
        f"{'':<24}{'seconds':>10}{'MB':>10}",
        f"{'first report':<24}{figures['first_report_seconds']:>10.3f}{figures['megabytes']:>10.3f}",
        f"{'later report':<24}{figures['later_report_seconds']:>10.3f}{figures['megabytes']:>10.3f}",
    ]
    for name, file in figures["files"].items():
        lines.append(f"{'  building ' + name:<24}{file['seconds']:>10.3f}{file['megabytes']:>10.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=9, help="evaluations of a trial that is not stopped")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    figures = measured(search_record(arguments.trials, arguments.steps, groups=8), arguments.repeat)
    print(shown(figures))
    written = json.dumps(figures)
    print(written)
    if arguments.json:
        arguments.json.write_text(written + "\n")
    slow = figures["first_report_seconds"] >= LIMIT_S and figures["trials"] <= 1000
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
