"""Peak memory of the driver: a real search of 1,000 small trials by the front door, beside the same search of 20.

    python tests/benchmarks/memory.py [--trials 1000] [--peer-trials 20] [--json FILE]

Trials train a tiny random encoder for one epoch, so that the driver's own work is most of what happens. The peak is the
kernel's (VmHWM of the driver process alone); Ray's processes and the workers are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support")]

from plans import tiny_plan, write_sentiment  # noqa: E402
from tiny_models import write_tiny_model  # noqa: E402

GOAL_BYTES = 1.5e9
POLL_S = 0.2


def peak_of(process: subprocess.Popen[bytes]) -> int:
    """Largest resident size in bytes that a process reached before it ended."""
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:
            break
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(POLL_S)
    return peak


def search(folder: Path, trials: int) -> dict[str, float]:
    """One whole search; the driver's peak in bytes and the wall seconds."""
    name = f"trials-{trials}"
    changes = [f"budget.trials={trials}", "training.epochs=1", "search.concurrent_trials=auto"]
    command = [sys.executable, str(ROOT / "platform" / "search.py"), "tiny.yaml", "--name", name]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    with (folder / f"{name}.log").open("wb") as log:
        driver = subprocess.Popen(
            [*command, *(word for change in changes for word in ("--set", change))],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        peak = peak_of(driver)
    assert driver.wait() == 0, (folder / f"{name}.log").read_text()[-3000:]
    done = json.loads((folder / "reports" / name / "report.json").read_text(encoding="utf-8"))["cost"]["trials"]
    assert done["complete"] == trials, done
    return {"trials": trials, "peak_bytes": peak, "seconds": time.perf_counter() - began}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=1000)
    options.add_argument("--peer-trials", type=int, default=20)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_model(folder / "model")
        write_sentiment(folder)
        (folder / "tiny.yaml").write_text(tiny_plan())
        rows = [search(folder, trials) for trials in (given.peer_trials, given.trials)]
    print(f"{'trials':>8}{'driver peak GB':>17}{'wall s':>10}")
    for row in rows:
        print(f"{row['trials']:>8.0f}{row['peak_bytes'] / 1e9:>17.2f}{row['seconds']:>10.0f}")
    few, many = rows
    growth = (many["peak_bytes"] - few["peak_bytes"]) / (many["trials"] - few["trials"])
    goal_met = many["peak_bytes"] < GOAL_BYTES
    print(f"{growth / 1e3:.0f} kB a trial; goal below {GOAL_BYTES / 1e9:g} GB: {'met' if goal_met else 'MISSED'}")
    if given.json:
        told = {"rows": rows, "bytes_per_trial": growth, "goal_met": goal_met}
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if goal_met else 1


if __name__ == "__main__":
    sys.exit(main())
