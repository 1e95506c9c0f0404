"""Lines about memory for ``--dry-run`` and ``finesearch doctor``: a forecast for each branch of the space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finesearch.training.cost_model.device_fit import Fit
    from finesearch.training.cost_model.trial_sizes import BranchSize, TrialSizes

GB = 1e9
KINDS = ("weights", "gradients", "optimizer", "activations", "logits")


def memory_lines(sizes: TrialSizes) -> list[str]:
    """A heading, and a line for the largest trial of each branch; gigabytes of one worker."""
    branches = sizes.branches
    if not branches:
        return []
    on_gpu = branches[0].setting.run.on_gpu
    places = "device, and host" if on_gpu else "host"
    lines = [
        f"a worker's peak on its {places} in GB, forecast; kinds are not all there at once, so that the peak is less"
    ]
    shown = (*KINDS, "peak", "host") if on_gpu else (*KINDS, "peak")
    lines.append(f"{'':<20}" + "".join(f"{kind:>12}" for kind in shown))
    return lines + [row(branch) for branch in branches]


def row(branch: BranchSize) -> str:
    """A branch's line; a note behind it says what its peak stands on."""
    memory, run = branch.memory, branch.setting.run
    values = [getattr(memory, kind) for kind in KINDS]
    values += [memory.device, memory.host] if run.on_gpu else [memory.host]
    note = f"  {run.rows} × {run.tokens} tokens" + (", blocks computed again" if branch.setting.checkpoints else "")
    return f"{branch.name:<20}" + "".join(f"{value / GB:>12.2f}" for value in values) + note


def fit_words(branch: BranchSize, fit: Fit) -> str:
    """A branch's peak on a device, and its kinds."""
    setting, memory = branch.setting, fit.memory
    kinds = ", ".join(f"{kind} {value / GB:.1f}" for kind, value in memory.kinds().items() if value >= GB / 20)
    how = f"{setting.workers} worker(s), ZeRO {setting.zero_stage}, {setting.run.rows} × {setting.run.tokens} tokens"
    again = ", blocks computed again" if setting.checkpoints else ""
    return f"{branch.name}: {memory.device / GB:.1f} GB ({kinds}) with {how}{again}; host {memory.host / GB:.1f} GB"
