"""Records learning curves of fine-tuning: configurations of a plan's space, drawn at random, trained to their end.

    HF_HUB_OFFLINE=1 python tests/benchmarks/record_curves.py [--trials 300] [--repeated 30] [--seeds 3] [--draw 0]
        [--plan tests/benchmarks/shared/recorded_space.yaml] [--folder FOLDER] [--out FILE.parquet] [--json FILE]

The default space holds every way to adapt that trains or is solved, on the quickstart's sentences. Every trial has six
evaluations, one an epoch; ``epochs`` is therefore not drawn. The first ``--repeated`` configurations train again under
other seeds. A row of the Parquet file is a trial: its parameters, null where inactive, ``seed``, ``values`` and
``seconds`` of each evaluation. The space stands in the file's metadata. An interrupted recording goes on with the same
command and ``--folder``. Trials that ``--out`` holds already are kept, so that it grows by recordings of other draws
(``--draw``), on other machines too. What ``search_quality.py`` reads by default is
``tests/benchmarks/shared/fine_tuning_curves.parquet``: give that as ``--out`` to add to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform")]

from shared import machine  # noqa: E402
from shared.competitors import timed  # noqa: E402
from shared.curve_tables import EVALUATIONS, Curve, RecordedTrial, read_recorded, write_recorded  # noqa: E402

from finesearch.plan import parse_plan  # noqa: E402

LEFT_OUT = ("epochs", "early_stopping_patience")
"""Parameters that change how many evaluations a trial has."""


def recording_plan(
    path: Path, name: str, trials: int, seed: int, first: Sequence[Mapping[str, Any]] = (), draw: int = 0
) -> dict[str, Any]:
    """A plan that trains ``trials`` configurations, drawn by the seed ``draw``, to their end and compares nothing."""
    plan: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    space = {key: domain for key, domain in plan["space"].items() if key not in LEFT_OUT}
    training = {**plan.get("training", {}), "epochs": EVALUATIONS, "evaluations_per_epoch": 1, "seed": seed}
    search = {"sampler": "random", "pruner": "none", "seed": draw, "first": [dict(each) for each in first]}
    report = {"top": 1, "baselines": []}
    sections = {"name": name, "space": space, "training": training, "search": search, "report": report}
    return {**plan, **sections, "budget": {"trials": trials}}


def recorded(folder: Path, plan: dict[str, Any]) -> list[RecordedTrial]:
    """Run a plan in a folder, or go on with it; its complete trials."""
    name = plan["name"]
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    timed([sys.executable, str(ROOT / "platform" / "search.py"), f"{name}.yaml"], folder)
    return complete_trials(folder / "runs" / name / "study.db", name, plan["training"]["seed"])


def complete_trials(database: Path, name: str, seed: int) -> list[RecordedTrial]:
    """Complete trials of a study with their curves, larger is better."""
    import optuna

    from finesearch.tuning.study.journaled_trial import JournaledTrial

    study = optuna.load_study(study_name=name, storage=f"sqlite:///{database}")
    sign = 1.0 if study.directions[0] is optuna.study.StudyDirection.MAXIMIZE else -1.0
    found = []
    for trial in map(JournaledTrial.read, study.get_trials()):
        if trial.state == "complete" and trial.evaluations:
            evaluations = list(trial.evaluations.values())
            until = [0.0, *(each.seconds for each in evaluations)]
            seconds = tuple(max(0.0, after - before) for before, after in zip(until[:-1], until[1:], strict=True))
            curve = Curve(tuple(sign * each.value for each in evaluations), seconds)
            found.append(RecordedTrial(trial.parameters, curve, seed))
    return found


def nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by flat names as ``search.first`` nests it.

    >>> nested({"adaptation": "freeze_bottom", "adaptation.freeze_bottom.layers": 2, "dropout": 0.1})
    {'adaptation': {'freeze_bottom': {'layers': 2}}, 'dropout': 0.1}
    """
    tree: dict[str, Any] = {}
    for name, value in parameters.items():
        selector, _, inside = name.partition(".")
        if inside:
            branch, _, key = inside.partition(".")
            if not isinstance(tree[selector], dict):
                tree[selector] = {branch: {}}
            tree[selector][branch][key] = value
        else:
            tree[selector] = value
    return tree


def merged(one: Sequence[RecordedTrial], other: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Trials of both, each configuration once for each seed that it was trained with; the first one is kept."""
    found: dict[tuple[str, int], RecordedTrial] = {}
    for trial in (*one, *other):
        found.setdefault((json.dumps(dict(trial.parameters), sort_keys=True), trial.seed), trial)
    return list(found.values())


def figures(trials: Sequence[RecordedTrial], repeated: int) -> dict[str, Any]:
    """What was recorded, and how far seeds alone move the best value of a configuration."""
    best = [max(trial.curve.values) for trial in trials if trial.seed == 0]
    groups: dict[str, list[float]] = {}
    for trial in trials:
        groups.setdefault(json.dumps(dict(trial.parameters), sort_keys=True), []).append(max(trial.curve.values))
    spreads = [statistics.pstdev(group) for group in groups.values() if len(group) > 1]
    return {
        "trials": len(trials),
        "configurations": len(best),
        "best": max(best),
        "median": statistics.median(best),
        "seconds": sum(sum(trial.curve.seconds) for trial in trials),
        "repeated": repeated,
        "deviation_between_seeds": statistics.median(spreads) if spreads else None,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=300)
    options.add_argument("--repeated", type=int, default=30)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--draw", type=int, default=0, help="seed by which configurations are drawn")
    options.add_argument("--plan", type=Path, default=Path(__file__).parent / "shared" / "recorded_space.yaml")
    options.add_argument("--folder", type=Path, help="where the searches run; default: a folder that is deleted")
    options.add_argument("--out", type=Path, help="the Parquet file; default: none is kept")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    told: dict[str, Any] = {"benchmark": "record_curves", **machine.provenance()}
    print(machine.shown(told))
    with tempfile.TemporaryDirectory(prefix="curves-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        plan = recording_plan(given.plan, f"curves-{given.draw}", given.trials, 0, draw=given.draw)
        # Read as plan files are: YAML alone takes 1e-5 for a word.
        space, before = parse_plan(yaml.safe_dump(plan)).space, []
        if given.out and given.out.exists():
            known, before = read_recorded(given.out)
            if known.to_plain() != space.to_plain():
                options.error(f"{given.out} holds trials of another space. Give another --out, or --plan.")
        trials = merged(before, recorded(folder, plan) if given.trials else [])
        again = [nested(trial.parameters) for trial in trials if trial.seed == 0][: given.repeated]
        for seed in range(1, given.seeds if again else 0):
            repeated = recording_plan(given.plan, f"curves-seed-{seed}", len(again), seed, again)
            trials = merged(trials, recorded(folder, repeated))
        written = given.out or Path(temporary) / "curves.parquet"
        write_recorded(written, space, trials)
        told |= {**figures(trials, len(again)), "bytes": written.stat().st_size}
    print(json.dumps({key: told[key] for key in list(told)[5:]}, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
