"""A workload and plans over it whose trials cost more and less, for tests and measurements that train nothing."""

from __future__ import annotations

from finesearch.plan import Plan
from finesearch.training.cost_model.workload import TokenCounts, Workload
from finesearch.training.model.dimensions import Dimensions, StackDimensions
from plans import empty_plan

BRANCHES = (
    "{one_of: {full: {}, freeze_bottom: {layers: {min: 1, max: 5}}, "
    "head_only: {learning_rate: {min: 1.0e-4, max: 1.0e-1, log: true}}, "
    "lora: {rank: [4, 16], learning_rate: {min: 1.0e-5, max: 1.0e-2, log: true}}}}"
)
SPACE = (
    "{learning_rate: {min: 1.0e-6, max: 1.0e-2, log: true}, weight_decay: {min: 0.0, max: 0.3}, "
    f"dropout: {{min: 0.0, max: 0.3}}, adaptation: {BRANCHES}}}"
)


def minilm_workload(rows: int = 2000) -> Workload:
    """MiniLM (6 blocks, 384 wide) over ``rows`` rows of 27 tokens, and half as many to validate on."""
    train = TokenCounts(tokens=27.0 * rows, squares=27.0**2 * rows)
    validation = TokenCounts(tokens=27.0 * rows / 2, squares=27.0**2 * rows / 2)
    return Workload(
        dimensions=Dimensions(
            stacks=(StackDimensions(blocks=6, weights=1_769_472),), hidden_size=384, embedding_weights=11_917_824
        ),
        num_layers=6,
        parameters=22_714_000,
        train_rows=rows,
        validation_rows=rows // 2,
        train=(train,),
        validation=(validation,),
        evaluation_batch_size=64,
    )


def priced_plan(cost_weight: float = 0.0, seed: int = 0, trials: int = 40, **sections: object) -> Plan:
    """A plan over branches of very different cost."""
    search = f"{{pruner: none, concurrent_trials: 1, startup_trials: 8, seed: {seed}, cost_weight: {cost_weight}}}"
    return empty_plan("priced", **{"space": SPACE, "search": search, "budget": f"{{trials: {trials}}}", **sections})
