"""What a search finds against what anybody does before fine-tuning, and against what an expert does by hand.

    python tests/benchmarks/against_floors.py [--plan PLAN ...] [--setfit-python PATH] [--seconds S]
        [--ours-set KEY=VALUE ...] [--peers floors probe setfit ordinary loop] [--without-ours] [--rows N] [--json FILE]

For each plan, by default the quickstart: floors that train no model; logistic regression on the frozen model; setfit,
where ``--setfit-python`` names the Python of an environment that holds it; ``Trainer`` with the ordinary recipe; the
strong recipe by a plain loop, tried again until the seconds of our search are used up; and ours, by its command line.
Scores on test have 95 % intervals (bootstrap over the rows). The last line of each table is the paired difference of
ours to the best of all others on test; it is chosen on test, in their favour. The goal is missed where the difference
is below 0 beyond chance. ``--seconds`` sets those of the loop and of setfit. ``--without-ours`` runs the others alone,
with ``--rows`` on the first rows of each split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform")]

from peers.contest import Contest, read_contest  # noqa: E402
from peers.entrants import PEERS, Entry, Terms, entrants  # noqa: E402
from peers.our_search import our_search  # noqa: E402
from shared import machine  # noqa: E402

OURS = "finesearch"
QUICKSTART = ROOT / "search_spaces" / "quickstart.yaml"
QUICKSTART_GOAL = 0.70


def compete(contest: Contest, given: argparse.Namespace) -> dict[str, Entry]:
    """Everybody's entry. Ours comes first: it sets the seconds of those that can use any number of them."""
    entries = {} if given.without_ours else {OURS: our_search(contest, given.ours_set)}
    seconds = given.seconds or entries[OURS].seconds
    for name, run in entrants(contest, Terms(seconds, given.setfit_python, tuple(given.peers))).items():
        entries[name] = run()
        print(f"  {name}: {entries[name].test.value:.3f} in {entries[name].seconds:.0f} s", flush=True)
    return entries


def figures(contest: Contest, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Scores, seconds, and ours against the best of the others, as JSON."""
    others = {name: entry for name, entry in entries.items() if name != OURS}
    best = max(others, key=lambda name: others[name].test.value)
    told: dict[str, Any] = {
        "kind": contest.kind,
        "metric": contest.metric,
        "rows": {split: len(rows) for split, rows in contest.splits.items()},
        "entries": {
            name: {
                "test": entry.test.value, "interval": entry.test.interval, "validation": entry.validation,
                "seconds": entry.seconds, "note": entry.note,
            }
            for name, entry in entries.items()
        },
        "best_other": best,
    }  # fmt: skip
    if OURS in entries:
        gain, low, high = entries[OURS].test.gain_over(others[best].test)
        told["gain"] = {"value": gain, "interval": (low, high)}
        told["is_missed"] = high < 0 or (contest.name == "quickstart" and entries[OURS].test.value < QUICKSTART_GOAL)
    return told


def shown(contest: Contest, told: Mapping[str, Any]) -> str:
    lines = [contest.described, f"{'':54}{'test':>8}{'95 % interval':>18}{'validation':>12}{'seconds':>9}"]
    for name, row in sorted(told["entries"].items(), key=lambda item: -item[1]["test"]):
        interval = "{:.3f} to {:.3f}".format(*row["interval"])
        validation = "" if row["validation"] is None else f"{row['validation']:.3f}"
        lines.append(f"{name:54}{row['test']:>8.3f}{interval:>18}{validation:>12}{row['seconds']:>9.0f}")
        if row["note"]:
            lines.append(f"  {row['note']}")
    if "gain" in told:
        gain = "{value:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})".format_map(told["gain"])
        lines.append(f"ours, less {told['best_other']}: {gain}: {'MISSED' if told['is_missed'] else 'met'}")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--plan", type=Path, nargs="+", default=[QUICKSTART])
    options.add_argument("--setfit-python", type=Path)
    options.add_argument("--seconds", type=float)
    options.add_argument("--ours-set", nargs="+", default=[], metavar="KEY=VALUE")
    options.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    options.add_argument("--without-ours", action="store_true")
    options.add_argument("--rows", type=int)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    if given.without_ours and given.seconds is None:
        options.error("--without-ours needs --seconds: there is no search that sets them")
    if given.rows is not None and not given.without_ours:
        options.error("--rows needs --without-ours: the search reads all rows")
    told: dict[str, Any] = {"benchmark": "against_floors", **machine.provenance(), "sets": {}}
    print(machine.shown(told))
    if given.setfit_python is None:
        print("setfit is left out: --setfit-python names no environment that holds it")
    for plan in given.plan:
        contest = read_contest(plan, given.rows)
        told["sets"][contest.name] = figures(contest, compete(contest, given))
        print(shown(contest, told["sets"][contest.name]), flush=True)
        if given.json:
            given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 1 if any(one.get("is_missed") for one in told["sets"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
