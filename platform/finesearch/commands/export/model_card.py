"""The model card of an export: README.md with what was searched, scores with intervals, data, limits and licence.

Scores stand in the metadata too, in ``model-index``; where the data set has an id on the hub also in
``.eval_results/``, the form in which the hub collects scores. The card tells no path of the machine and no text of the
data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from finesearch.commands.export.base_licence import base_card_data, licence_words
from finesearch.commands.export.usage_code import usage_code
from finesearch.report.number_format import score
from finesearch.run.ranked_json import RunReport
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.export.peft_adapter import address
from finesearch.training.model.base_reference import BaseReference
from finesearch.training.weights.quantization import base_weights_of

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

PIPELINE_TAGS = {"relation-extraction": "text-classification", "dialogue": "text-generation"}
WRITTEN_BY_US = "Written by finesearch"
"""Stands in a README.md that an export has of its own; peft writes one without content."""
EVALUATIONS = Path(".eval_results") / "finesearch.yaml"


def write_model_card(
    folder: Path, record: CheckpointRecord, report: RunReport, rank: int, remarks: Sequence[str] = ()
) -> None:
    """Write README.md, and ``.eval_results/`` where the hub can take it, into an export.

    A README.md of ours that is there already says how to use the model; it becomes that part of the card.

    Args:
        folder: the export.
        record: of the checkpoint.
        report: the run's.
        rank: place of the checkpoint in it, from 1.
        remarks: what is to be known of this export beside the checkpoint's scores.
    """
    from huggingface_hub import ModelCardData, eval_result_entries_to_yaml

    row, plan = report.ranked[rank - 1], yaml.safe_load(report.plan)
    inherited = base_card_data(Path(record.base.folder))
    data = ModelCardData(
        **inherited,
        library_name="peft" if (folder / "adapter_config.json").exists() else "transformers",
        pipeline_tag=PIPELINE_TAGS.get(record.kind, record.kind),
        base_model=_hub_id(record.base),
        datasets=plan["task"]["data"].get("hub"),
        model_name=report.name,
        eval_results=_model_index(record.kind, plan, report, row) or None,
        tags=["finesearch"],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {report.name}\n",
        f"{_first_words(record)} Trained and chosen by finesearch. {_claim(report, row, rank)}\n",
        f"## Use\n\n{_usage(folder, plan['task'], base_weights_of(record.recipe))}",
        f"## Scores\n\n{_scores(report, row, remarks)}",
        f"## How it was made\n\n{_making(record, plan, report, row)}",
        f"## Limits\n\n{_limits(record, plan, report, row)}",
        f"## Licence\n\n{licence_words(inherited)}\n",
    ]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")
    entries = _hub_scores(plan, report, row)
    if entries:
        (folder / EVALUATIONS).parent.mkdir()
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
        (folder / EVALUATIONS).write_text(text, encoding="utf-8")


def _hub_id(base: BaseReference) -> str | None:
    """The base's id on the hub; None for a folder."""
    home, _ = address(base)
    return home if home == base.model and base.revision else None


def _first_words(record: CheckpointRecord) -> str:
    name = record.base.model if _hub_id(record.base) or "://" in record.base.model else Path(record.base.model).name
    return f"A model for {record.kind.replace('-', ' ')}, made from `{name}` by `{record.recipe.adaptation}`."


def _claim(report: RunReport, row: Mapping[str, Any], rank: int) -> str:
    sentence: str = report.verdict["sentence"]
    return sentence if rank == 1 else f"It is {row['name']}, rank {rank} of its search, which says: {sentence}"


def _usage(folder: Path, task: dict[str, Any], base_weights: str) -> str:
    own = folder / "README.md"
    written = own.read_text(encoding="utf-8") if own.exists() else ""
    if WRITTEN_BY_US in written:
        return re.sub(r"\A# .*\n+", "", written)
    return f"```python\n{usage_code(folder, task, base_weights)}```\n"


def _scores(report: RunReport, row: Mapping[str, Any], remarks: Sequence[str]) -> str:
    metric, better = report.metric, "larger" if report.goal == "max" else "smaller"
    ours = [{**row, "name": "this model"}]
    scored = [each for each in (*ours, *report.baselines) if each["error"] is None]
    lines = [
        f"{metric} ({better} is better). Each baseline was scored on the same rows.\n",
        "| | validation | test | 95 % interval of test |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each['name']} | {_shown(each['validation'])} | {_shown(each['test'])} | {_interval(each)} |"
            for each in scored
        ),
    ]
    others = {name: value for name, value in row["test_metrics"].items() if name != metric and value is not None}
    if others:
        lines.append(
            f"\nOther scores on test: {', '.join(f'{name} {score(value)}' for name, value in others.items())}."
        )
    if known := [*row["remarks"], *remarks]:
        lines.append(f"\nTo be known: {'; '.join(known)}.")
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "" if value is None else score(value)


def _interval(row: Mapping[str, Any]) -> str:
    interval = row["test_interval"]
    return "" if interval is None else f"{score(interval[0])} to {score(interval[1])}"


def _making(record: CheckpointRecord, plan: Mapping[str, Any], report: RunReport, row: Mapping[str, Any]) -> str:
    trials = report.cost.get("trials", {})
    counts = ", ".join(f"{number} {state}" for state, number in trials.items() if number)
    known = report.reproduction
    versions = ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items())
    prints = known.get("data_fingerprints", {})
    lines = [
        f"- Searched: {', '.join(f'`{name}`' for name in plan['space']) or 'nothing'}; trials: {counts}.",
        f"- This one: {', '.join(f'`{key}` {_short(value)}' for key, value in row['parameters'].items())}.",
        f"- {record.trainable_parameters:,} of {record.total_parameters:,} parameters trained, in {record.precision}.",
        *(f"- SHA-256 of the rows of {split}: `{value}`." for split, value in prints.items()),
        f"- SHA-256 of the base model's weights: `{record.base.sha256}`.",
        f"- Versions: {versions}.",
    ]
    return "\n".join(lines) + "\n"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _limits(record: CheckpointRecord, plan: Mapping[str, Any], report: RunReport, row: Mapping[str, Any]) -> str:
    lines = [
        "- The scores hold for texts like those of test. Texts of another source, time or language were not tried.",
        f"- Inputs of more than {plan['task']['max_length']} tokens were cut or read in parts, also when scored.",
    ]
    if row["test_interval"] is None:
        lines.append("- Test gave no interval.")
    lines += [f"- {warning}" for warning in report.warnings if str(warning).startswith(f"Trial {row['trial']}:")]
    return "\n".join(lines) + "\n"


def _metrics(report: RunReport, row: Mapping[str, Any]) -> dict[str, float]:
    found = {report.metric: row["test"]} | row["test_metrics"]
    return {name: value for name, value in found.items() if value is not None}


def _model_index(kind: str, plan: Mapping[str, Any], report: RunReport, row: Mapping[str, Any]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    data = plan["task"]["data"]
    name = data.get("hub") or report.name
    return [
        EvalResult(
            task_type=PIPELINE_TAGS.get(kind, kind),
            dataset_type=name,
            dataset_name=name,
            dataset_config=data.get("config"),
            dataset_revision=data.get("revision"),
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in _metrics(report, row).items()
    ]


def _hub_scores(plan: Mapping[str, Any], report: RunReport, row: Mapping[str, Any]) -> list[EvalResultEntry]:
    """Scores of a data set on the hub; of files of one's own the hub's form cannot tell any."""
    from huggingface_hub import EvalResultEntry

    data = plan["task"]["data"]
    if data.get("hub") is None or row["test"] is None:
        return []
    notes = f"{report.metric} on test, 95 % interval {_interval(row)}" if row["test_interval"] else report.metric
    task = data.get("config") or "default"
    return [
        EvalResultEntry(
            dataset_id=data["hub"], task_id=task, value=row["test"], dataset_revision=data.get("revision"), notes=notes
        )
    ]
