from typing import Any

import pytest

from plan_examples import BRANCHED, made


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"task__revision": "x"}, "task.revision has no effect: a model in a package has no revisions."),
        (
            {"task__form": "multi-label", "space": {"label_smoothing": [0.0, 0.1], "class_weights": "balanced"}},
            "space.label_smoothing has no effect: task.form is multi-label.",
        ),
        (
            {"task__form": "regression", "space": {"class_weights": ["none", "balanced"], "label_smoothing": 0.0}},
            "space.class_weights has no effect: task.form is regression.",
        ),
        ({"task__data__format": "csv"}, "task.data.format has no effect: the rows come from builtin."),
        (
            {"task__data": {"train": "a", "test": "b", "test_fraction": 0.2}},
            "task.data.test_fraction has no effect: the test split",
        ),
        (
            {"task__data": {"train": "a", "validation": "c", "test": "b", "split_seed": 2}},
            "task.data.split_seed has no effect: every",
        ),
        (
            {"space": {"adaptation": "head_only", "dropout": [0.1, 0.2], "schedule": ["linear", "cosine"]}},
            "space.dropout has no effect under any branch of this",
        ),
        (
            {"space": {"adaptation": "head_only", "neftune": [0.0, 5.0], "schedule": ["linear", "cosine"]}},
            "space.neftune has no effect under any branch of this",
        ),
        (
            {"space": {"adaptation": "head_only", "layerwise_decay": 0.9, "schedule": ["linear", "cosine"]}},
            "space.layerwise_decay has no effect under any branch of this",
        ),
        (
            {"space": {"adaptation": "head_only", "optimizer": {"one_of": {"sgd": {"dropout": 0.1}, "adamw": {}}}}},
            "space.optimizer.sgd.dropout has",
        ),
        (
            {
                "space": {
                    "learning_rate": [1e-4, 1e-3],
                    "adaptation": {"one_of": {"full": {"learning_rate": [1e-4, 1e-5]}}},
                }
            },
            "space.learning_rate has no effect under any branch of this space.",
        ),
        (
            {
                "space": {
                    "adaptation": {"one_of": {"gradual_unfreezing": {"every_steps": [5, 9], "every_fraction": 0.2}}},
                }
            },
            "space.adaptation.gradual_unfreezing.every_fraction has no effect: every_steps is given.",
        ),
        ({"space": {}}, "space: it holds one configuration; further trials only repeat it with other seeds."),
        (
            {"space": {"epochs": [1, 2]}, "training__epochs": 4},
            "training.epochs has no effect on the trials: space.epochs decides.",
        ),
        (
            {"space": {"pooling": ["own", "mean"]}, "task__pooling": "max"},
            "task.pooling has no effect on the trials: space.pooling decides.",
        ),
        (
            {"space": {"adaptation": "head_only", "head_learning_rate": 10, "schedule": ["linear", "cosine"]}},
            "space.head_learning_rate has no effect under any branch of this",
        ),
        (
            {"space": {"adaptation": "lora", "reinit_top_layers": [0, 1], "schedule": ["linear", "cosine"]}},
            "space.reinit_top_layers has no effect under any branch of this",
        ),
        ({"training__zero_stage": 2}, "training.zero_stage 2 saves no memory: one worker has nobody to share with."),
        (
            {"training__prefix_cache": "memory", "training__prefix_cache_disk_gib": 2.0},
            "training.prefix_cache_disk_gib has no effect: training.prefix_cache is memory.",
        ),
        (
            {"training__prefix_cache": "off", "training__prefix_cache_memory_gib": 2.0},
            "training.prefix_cache_memory_gib has no effect: training.prefix_cache is off.",
        ),
        (
            {"search__pruner": "median", "search__reduction_factor": 4},
            "search.reduction_factor has no effect: the pruner is median.",
        ),
        (
            {"search__pruner": "none", "search__min_evaluations": 2},
            "search.min_evaluations has no effect: the pruner is none.",
        ),
        (
            {"training__epochs": 1},
            "search.pruner has no effect: a trial is evaluated 1 time(s), and successive_halving waits for 1;",
        ),
        (
            {"search__sampler": "random", "search__startup_trials": 3},
            "search.startup_trials has no effect with random and succ",
        ),
        (
            {"budget__trials": 10},
            "search.sampler has no effect: tpe proposes trials after the first 10, and budget.trials is 10; lower",
        ),
        (
            {"space": {"dropout": [0.1, 0.2]}, "search__sampler": "grid", "search__seed": 3},
            "search.seed decides only the order of",
        ),
        ({"budget__trials": 11, "report__top": 12}, "report.top: 12 is more than budget.trials (11); all are ranked."),
    ],
)
def test_an_option_without_effect_warns(change: dict[str, Any], warning: str) -> None:
    warnings = made(**change).warnings
    assert [said for said in warnings if said.startswith(warning)], warnings
    assert len(warnings) == 1


def test_a_parameter_that_some_branch_needs_does_not_warn() -> None:
    assert made(space=BRANCHED).warnings == ()
