"""Lines about memory for ``--dry-run`` and ``finesearch doctor``: a forecast for each branch of the space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finesearch.training.cost_model.device_fit import Fit
    from finesearch.training.cost_model.trial_sizes import BranchSize, TrialSizes

GB = 1e9
GAP = 2
KINDS = ("weights", "gradients", "optimizer", "activations", "logits")


def memory_lines(sizes: TrialSizes) -> list[str]:
    """A heading, and a line for the largest trial of each branch; gigabytes of one worker."""
    branches = sizes.branches
    if not branches:
        return []
    shown = (*KINDS, "peak", "host") if branches[0].setting.run.on_gpu else (*KINDS, "peak")
    head = "".join(f"{kind:>{len(kind) + GAP}}" for kind in shown)
    notes = ["a worker's largest trial in GB, a forecast; the peak is less than the sum, as not all is there at once"]
    if any(branch.setting.checkpoints for branch in branches):
        notes.append("*: blocks are computed again in the backward pass")
    return [*notes, f"{'':<18}{head}  rows × tokens", *(_row(branch, shown) for branch in branches)]


def _row(branch: BranchSize, shown: tuple[str, ...]) -> str:
    memory, run = branch.memory, branch.setting.run
    values = {**memory.kinds(), "peak": memory.device if run.on_gpu else memory.host, "host": memory.host}
    cells = "".join(f"{values[kind] / GB:>{len(kind) + GAP}.2f}" for kind in shown)
    return f"{branch.name:<18}{cells}  {run.rows} × {run.tokens}{' *' if branch.setting.checkpoints else ''}"


def fit_words(branch: BranchSize, fit: Fit) -> str:
    """A branch's peak on a device, and its kinds."""
    setting, memory = branch.setting, fit.memory
    kinds = ", ".join(f"{kind} {value / GB:.1f}" for kind, value in memory.kinds().items() if value >= GB / 20)
    how = f"{setting.workers} worker(s), ZeRO {setting.zero_stage}, {setting.run.rows} × {setting.run.tokens} tokens"
    again = ", blocks computed again" if setting.checkpoints else ""
    return f"{branch.name}: {memory.device / GB:.1f} GB ({kinds}) with {how}{again}; host {memory.host / GB:.1f} GB"
