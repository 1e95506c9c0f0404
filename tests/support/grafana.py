"""The project's dashboard as tests read it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from paths import ROOT

PATH = ROOT / "cluster" / "grafana" / "finesearch.json"


@dataclass(frozen=True)
class Query:
    """One target of a panel; ``expression`` with the dashboard's variables standing for everything."""

    panel: str
    legend: str
    expression: str

    @property
    def names(self) -> set[str]:
        """Metrics that it reads."""
        return set(re.findall(r"\bray_\w+", self.expression))


def board() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


def queries() -> list[Query]:
    """Every query of every panel."""
    return [
        Query(panel["title"], target["legendFormat"], re.sub(r"\$\w+", ".*", target["expr"]))
        for panel in board()["panels"]
        for target in panel["targets"]
    ]
