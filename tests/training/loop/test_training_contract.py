"""Every adaptation under every kind of task: one step, or a refusal that says what would work.

Kinds come from the registry of the tasks' own contract, adaptations from that of training: a new one is here by itself.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finesearch.errors import ModelError
from finesearch.plan import ADAPTATIONS as BRANCHES
from finesearch.plan import TASK_KINDS, DataPlan, GenerationPlan, Recipe, TaskPlan, TrainingPlan
from finesearch.training.adaptations.adapt import ADAPTATIONS, attach
from finesearch.training.adaptations.adapters import base_name, is_added
from finesearch.training.checkpointing.load_checkpoint import load_checkpoint_model
from finesearch.training.cost_model.cost_model import CostModel
from finesearch.training.cost_model.workload import measure_workload
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.trial_types import TrialResult
from paths import TESTS
from tiny_models import write_tiny_model
from tiny_writers import ENCODER_DECODERS, write_tiny_writer, write_writer_tokenizer
from training_cases import merged, run, trial

sys.path.append(str(TESTS / "tasks"))
from test_tasks_contract import EXAMPLES

TRAINING = [name for name, adaptation in ADAPTATIONS.items() if adaptation.trains]
# One example of each kind and shape of model.
SHAPES = {(name.partition("/")[0], example.get("writer")): name for name, example in reversed(EXAMPLES.items())}
NAMES = sorted(SHAPES.values())
# Values that every tiny model takes, for parameters without a default or with one that is too large.
VALUES = {"layers": 1, "patterns": r"\.1\.", "virtual_tokens": 3}
# Kinds that speak in turns find one of these in the tokenizer.
CHAT = (
    "{% for message in messages %}<|turn|> {{ message['role'] }} : {% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}</s>{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|> assistant : {% endif %}"
)


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trial runner for each example by its name, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("kinds")

    @cache
    def work(name: str) -> TrialRunner:
        example, kind, home = EXAMPLES[name], TASK_KINDS[name.partition("/")[0]], folder / name
        home.mkdir(parents=True)
        writer = example.get("writer")
        if writer:
            write_tiny_writer(home / "model", writer)
            write_writer_tokenizer(home / "model", with_end=writer in ENCODER_DECODERS, chat_template=CHAT)
        else:
            write_tiny_model(home / "model", layers=2)
        columns = example["rows"]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for split in ("train", "validation", "test"):
            (home / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        options: dict[str, Any] = {}
        if "generation" in kind.options:
            options["generation"] = GenerationPlan(max_new_tokens=2, batch_size=8)
        if "max_target_length" in kind.options:
            options["max_target_length"] = 12
        plan = TaskPlan(
            kind=kind.kind,
            model="model",
            data=DataPlan(**{split: (f"{split}.jsonl",) for split in ("train", "validation", "test")}),
            columns=example["columns"],
            max_length=48,
            **options,
        )
        training = TrainingPlan(epochs=1, batch_size=64, precision="fp32")
        return TrialRunner(plan, training, str(home), str(home / "cache"), plan.metric, "max")

    return work


@pytest.mark.parametrize("adaptation", TRAINING)
@pytest.mark.parametrize("name", NAMES)
def test_one_step_changes_what_is_trained_and_nothing_else_or_is_refused(
    name: str, adaptation: str, works: Any, tmp_path: Path
) -> None:
    work = works(name)
    branch = BRANCHES[adaptation]
    parameters = {**branch.defaults, **{key: VALUES[key] for key in branch.parameters if key in VALUES}}
    settings = {"adaptation": adaptation, "adaptation_parameters": parameters, "warmup_fraction": 0.0}
    spec = trial(tmp_path, **settings, schedule="constant", epochs=1, batch_size=64)
    result = result_or_refusal(work, spec)
    if isinstance(result, str):
        # A head that is the embeddings, a model without biases: it is said what to do instead.
        assert re.search(r"\b(Use|Choose|Lower|Leave) ", result), result
        assert adaptation in ("head_only", "gradual_unfreezing", "biases_only"), result
        return
    before = started_from(work, spec)
    after = merged(result.checkpoint)
    stored = load_file(Path(str(result.checkpoint)) / "model.safetensors")
    trained = {base_name(tensor) for tensor in stored}
    assert {parameter for parameter, tensor in before.items() if not torch.equal(tensor, after[parameter])} == trained
    assert result.trainable_parameters == sum(tensor.numel() for tensor in stored.values()) > 0
    assert result.total_parameters == sum(tensor.numel() for tensor in before.values())
    record = load_checkpoint_model(str(result.checkpoint))[2]
    assert set(record.trained) == set(stored)
    if any(map(is_added, stored)):
        # Beside what was added, nothing trains but what the base did not have.
        assert {tensor for tensor in stored if not is_added(tensor)} == set(work._context.base.fresh)


@pytest.mark.parametrize("name", NAMES)
def test_what_every_kind_asks_of_a_model_is_known_beforehand(name: str, works: Any) -> None:
    work = works(name)
    context, facts = work._context, inspect_model(work.task_plan, Path(work.base))
    load = measure_workload(context.task, context.splits, context.facts, facts)
    assert (load.train_rows, load.validation_rows) == (len(context.tokens.train), len(context.tokens.validation))
    assert load.train[0].tokens == pytest.approx(context.tokens.train.lengths.sum())
    model = CostModel(load, work.training)
    for adaptation, branch in BRANCHES.items():
        parameters = {key: VALUES[key] for key in branch.parameters if key in VALUES}
        assert model.seconds(Recipe(adaptation=adaptation, adaptation_parameters=parameters)) > 0.0
    for cut in range(1, load.num_layers + 1):
        assert load.prefix_bytes(cut) > 0


def result_or_refusal(work: TrialRunner, spec: Any) -> TrialResult | str:
    try:
        return run(work, spec)[0]
    except ModelError as error:
        return error.message


def started_from(work: TrialRunner, spec: Any) -> dict[str, torch.Tensor]:
    base, recipe = work._context.base, spec.recipe
    model, _ = base.build(recipe, spec.seed)
    attach(model, recipe.adaptation, recipe.adaptation_parameters, base.fresh, spec.seed)
    return {base_name(name): parameter.detach() for name, parameter in model.named_parameters()}


def test_every_kind_and_every_adaptation_is_tried() -> None:
    assert {name.partition("/")[0] for name in NAMES} == set(TASK_KINDS)
    assert {*TRAINING} | {name for name, each in ADAPTATIONS.items() if not each.trains} == set(ADAPTATIONS)
