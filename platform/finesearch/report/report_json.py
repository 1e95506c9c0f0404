"""report.json: the report for programs.

The contract: ``schema_version`` rises when a key is removed or changes its meaning; keys may be added. Strict JSON: an
unknown number is null (a record has no non-finite ones).
"""

import json
from typing import Any

from finesearch.report.page_sections import all_warnings
from finesearch.report.ranking import Unranked, remarks, unranked, verified_rows
from finesearch.report.run_record import RunRecord
from finesearch.report.verdict import verdict

SCHEMA_VERSION = 2


def summary(record: RunRecord) -> dict[str, Any]:
    """The content of report.json as JSON-able data."""
    claim = verdict(record)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": record.name,
        "metric": record.metric,
        "goal": record.goal,
        "objectives": [objective.model_dump() for objective in record.objectives],
        "partial": record.partial,
        "verdict": {
            "sentence": claim.sentence,
            "tone": claim.tone,
            "baseline": claim.baseline,
            "compared": list(claim.compared),
        },
        "baselines": [row.model_dump() for row in record.baselines],
        "ranked": [
            {"rank": place} | row.model_dump() | {"remarks": remarks(row, record)}
            for place, row in enumerate(verified_rows(record), start=1)
        ],
        "breakdown": record.breakdown.model_dump(),
        "unranked": [_unranked(entry) for entry in unranked(record)],
        "front": list(record.front),
        "importances": dict(record.importances),
        "cost": dict(record.cost),
        "notes": list(record.notes),
        "warnings": all_warnings(record),
        "reproduction": dict(record.reproduction),
        "plan": record.plan_yaml,
        "started": record.started,
        "updated": record.updated,
    }


def summary_json(record: RunRecord) -> str:
    """The text of report.json."""
    return json.dumps(summary(record), allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _unranked(entry: Unranked) -> dict[str, Any]:
    row = entry.row
    return {
        "trial": row.trial,
        "state": row.state,
        "reason": entry.reason,
        "validation": row.value,
        "stopped_at": row.stopped_at,
        "evaluations": row.evaluations,
        "values": row.values,
        "parameters": row.parameters,
        "trainable_parameters": row.trainable_parameters,
        "seconds": row.seconds,
        "checkpoint": row.checkpoint,
    }
