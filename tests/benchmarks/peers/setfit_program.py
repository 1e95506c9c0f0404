"""SetFit (Tunstall et al., 2022) in an environment of its own: ``python setfit_program.py work.json``.

The sentence encoder learns from pairs of texts, then logistic regression is fitted on its embeddings. Twenty pairs a
text, as in the paper, or as many steps as fit into the seconds that everybody has, measured on a few of them first.
Works with setfit 1.2, sentence-transformers 6.2 and transformers 5.24; imports nothing of this project.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

BATCH_SIZE, PAIRS_PER_TEXT, MEASURED_STEPS = 16, 20, 8
# Of the seconds; the rest is for the head and for answers.
SHARE = 0.85


def main() -> int:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    began = time.perf_counter()
    rows = work["splits"]
    train = Dataset.from_dict({"text": rows["train"]["texts"], "label": rows["train"]["labels"]})
    steps_s = trained(work, train, MEASURED_STEPS)[1] / MEASURED_STEPS
    wanted = math.ceil(2 * PAIRS_PER_TEXT * len(train) / BATCH_SIZE)
    left = work["seconds"] * SHARE - (time.perf_counter() - began)
    steps = max(1, min(wanted, int(left / steps_s)))
    model = trained(work, train, steps)[0]
    answers = {split: [str(label) for label in model.predict(rows[split]["texts"])] for split in ("validation", "test")}
    said = {"answers": answers, "steps": steps, "wanted_steps": wanted, "seconds": time.perf_counter() - began}
    Path(work["out"]).write_text(json.dumps(said), encoding="utf-8")
    return 0


def trained(work: dict[str, Any], train: Dataset, steps: int) -> tuple[SetFitModel, float]:
    """A model after so many steps, and the seconds that its encoder learned for."""
    model = SetFitModel.from_pretrained(work["model"], labels=sorted(set(train["label"])))
    model.model_body.max_seq_length = work["max_length"]
    arguments = TrainingArguments(
        output_dir=work["folder"], batch_size=BATCH_SIZE, num_iterations=PAIRS_PER_TEXT, max_steps=steps, seed=0,
        save_strategy="no", report_to="none",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=train)
    began = time.perf_counter()
    if steps == MEASURED_STEPS:
        trainer.train_embeddings(train["text"], train["label"], args=arguments)
    else:
        trainer.train()
    return model, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
