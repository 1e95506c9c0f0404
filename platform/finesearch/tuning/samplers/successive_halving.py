"""Successive halving whose verdicts cost the same for any number of trials."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict

from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

RUNG = "completed_rung_"


class RungPruner(SuccessiveHalvingPruner):
    """Optuna's asynchronous successive halving (Li et al., 2020), verdict by verdict, for one study.

    Optuna's own collects and sorts a rung's values from all trials at each verdict; here they are kept sorted, and read
    from the trials once. ``min_resource`` must be a number.
    """

    def __init__(self, min_resource: int, reduction_factor: int) -> None:
        super().__init__(min_resource=min_resource, reduction_factor=reduction_factor)
        self._lowest, self._factor = min_resource, reduction_factor
        self._rungs: dict[str, list[float]] | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop at its last step."""
        step = trial.last_step
        if step is None:
            return False
        rungs = self._values_by_rung(study)
        value = trial.intermediate_values[step]
        rung = 0
        while f"{RUNG}{rung}" in trial.system_attrs:
            rung += 1
        while step >= self._lowest * self._factor**rung:
            if math.isnan(value):
                return True
            key = f"{RUNG}{rung}"
            # As Optuna's own pruners do: its public interface has no call that writes a trial's system attribute.
            study._storage.set_trial_system_attr(trial._trial_id, key, value)
            bisect.insort(rungs[key], value)
            if not self._goes_on(value, rungs[key], study.direction):
                return True
            rung += 1
        return False

    def _values_by_rung(self, study: Study) -> dict[str, list[float]]:
        if self._rungs is None:
            self._rungs = defaultdict(list)
            for trial in study.get_trials(deepcopy=False):
                for key, value in trial.system_attrs.items():
                    if key.startswith(RUNG):
                        bisect.insort(self._rungs[key], value)
        return self._rungs

    def _goes_on(self, value: float, competing: list[float], direction: StudyDirection) -> bool:
        """Whether a value is among the best ``1 / reduction_factor`` of its rung, itself included; the best is."""
        last = max(len(competing) // self._factor, 1)
        return value >= competing[-last] if direction is StudyDirection.MAXIMIZE else value <= competing[last - 1]
