"""One recipe in this process, by finesearch's training code or by peft and Trainer: its memory and its speed, as JSON.

    python memory_work.py ours|peer WORK.json

A thread reads the process's memory every 5 ms: the kernel's peak (VmHWM) holds file pages, which mapped weights are.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "platform")]

EVERY_S = 0.005


def memory() -> dict[str, int]:
    """Bytes of this process by the kernel's names."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line.startswith(("VmHWM", "VmRSS", "RssAnon", "RssFile")))
    return {name.rstrip(":"): int(value) * 1024 for name, value, _ in pairs}


class PeakOfOwnPages(threading.Thread):
    """The largest amount of memory that is no page of a file, while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._over = 0, threading.Event()

    def run(self) -> None:
        while not self._over.wait(EVERY_S):
            self.peak = max(self.peak, memory()["RssAnon"])

    def end(self) -> int:
        self._over.set()
        self.join()
        return max(self.peak, memory()["RssAnon"])


def ours(work: dict[str, Any]) -> list[float]:
    """A trial by ``TrialRunner``; the moments at which steps ended."""
    from finesearch.plan import DataPlan, Recipe, TaskPlan, TrainingPlan
    from finesearch.training.loop.trial_runner import TrialRunner
    from finesearch.training.trial_types import TrialSpec

    folder = Path(work["folder"])
    data = DataPlan(train=("train.jsonl",), validation=("validation.jsonl",), test=("test.jsonl",))
    task = TaskPlan(
        kind="dialogue", model=work["model"], data=data,
        columns={"messages": "messages"}, metric="perplexity", max_length=work["tokens"],
        chat_template="plain",
    )  # fmt: skip
    training = TrainingPlan(
        batch_size=work["rows"], precision=work["precision"], cpus_per_worker=work["threads"],
        activation_checkpointing=work["checkpointing"], prefix_cache="off",
    )  # fmt: skip
    runner = TrialRunner(task, training, str(folder), str(folder / "cache"), "perplexity", "min")
    spec = TrialSpec(number=0, recipe=Recipe(**work["recipe"]), directory=str(folder / "trial"))
    ends: list[float] = []
    runner.run(spec, lambda _: True, lambda: None, on_step=lambda _: ends.append(time.perf_counter()))
    return ends


def peer(work: dict[str, Any]) -> list[float]:
    """The same by ``peft`` and ``Trainer``: the base in bf16 as its folder has it, bf16 by autocast."""
    import torch
    import transformers
    from peft import LoraConfig, TaskType, get_peft_model

    torch.set_num_threads(work["threads"])
    folder, recipe = Path(work["folder"]), work["recipe"]
    kept = work["precision"] == "bf16" and recipe["adaptation"] == "lora"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.bfloat16 if kept else torch.float32
    )
    if recipe["adaptation"] == "lora":
        given = recipe["adaptation_parameters"]
        targets = "all-linear" if given.get("targets") == "all_linear" else None
        settings = LoraConfig(
            r=given["rank"], lora_alpha=2 * given["rank"], lora_dropout=0.0, target_modules=targets,
            task_type=TaskType.CAUSAL_LM,
        )  # fmt: skip
        model = get_peft_model(model, settings)
    elif recipe["adaptation"] == "freeze_bottom":
        model.get_input_embeddings().requires_grad_(False)
        for block in model.model.layers[: recipe["adaptation_parameters"]["layers"]]:
            block.requires_grad_(False)
    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        """Notes when steps end."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, work["words"], (work["train_rows"], work["tokens"]), generator=draw)
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "peer"), per_device_train_batch_size=work["rows"], num_train_epochs=1,
        bf16=work["precision"] == "bf16", use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
        disable_tqdm=True, optim="adamw_torch_fused", learning_rate=recipe["learning_rate"],
        dataloader_pin_memory=False,
        gradient_checkpointing=work["checkpointing"] == "on",
    )  # fmt: skip
    transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Clock()]).train()
    return ends


def main() -> None:
    who, path = sys.argv[1:3]
    work = json.loads(Path(path).read_text(encoding="utf-8"))
    watch = PeakOfOwnPages()
    watch.start()
    ends = {"ours": ours, "peer": peer}[who](work)
    own = watch.end()
    seconds = [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]
    step = statistics.median(seconds)
    told = {
        "peak_bytes": memory()["VmHWM"],
        "own_pages_bytes": own,
        "tokens_per_s": work["rows"] * work["tokens"] / step,
        "seconds_a_step": step,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
