"""Base of text generation tasks: batches for causal models and encoder-decoders, the loss, generation.

    encoder-decoder   input_ids is the source, labels the target, decoder_input_ids the target shifted right
    causal            input_ids is prompt and target, labels the target's tokens at their positions, -100 before

Token row: ``input_ids`` (t,), ``labels`` (u,) or (t,), ``reference`` the answer as text; ``decoder_input_ids`` (u,) of
an encoder-decoder, ``prompt`` the number of tokens before the answer of a causal model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.errors import ModelError
from finesearch.tasks.encoding.padding import IGNORED, PAD_TO_MULTIPLE_OF, pad_lists, pad_rows
from finesearch.tasks.generation.decoder_start import decoder_start_token
from finesearch.tasks.generation.metric_tokenizers import bleu_tokenizer, check_tokenizer, refuse_constant_metric
from finesearch.tasks.kl_divergence import symmetric_kl_divergence
from finesearch.tasks.most_frequent import most_frequent
from finesearch.tasks.task import ModelShape, Task, TaskFacts

if TYPE_CHECKING:
    from torch import Tensor

# Fields taken from a folder's generation_config.json; all others come from the plan.
MODEL_TOKEN_SETTINGS = (
    "bos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
)

CHECKED_ANSWERS = 100


class GenerationTask(Task):
    """Predictions and references are strings.

    Rows can be encoded only once the model is known: ``add_model_shape`` adds its shape to the facts before that.
    ``generate`` generates texts for a batch of ``collate_prompts``, and ``join`` combines them with the results of
    ``predict``, from a forward pass over the references, into predictions.
    """

    auto_class: ClassVar[str] = "AutoModelForCausalLM"

    @classmethod
    def auto_class_of(cls, config: Any) -> str:
        """The class for causal models or encoder-decoders.

        Raises:
            ModelError: a masked language model, which would see the words that it has to predict.
        """
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        if config.is_encoder_decoder:
            return "AutoModelForSeq2SeqLM"
        if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
            raise ModelError(
                f"task.model: {type(config).__name__} is an encoder, which cannot write text, and {cls.kind} needs a "
                f"model that does. Choose an encoder-decoder (T5, BART) or a causal model (GPT-2, Llama), or make "
                f"an encoder-decoder of it with EncoderDecoderModel.from_encoder_decoder_pretrained and save it."
            )
        return "AutoModelForCausalLM"

    @property
    def evaluation_batch_size(self) -> int | None:
        return int(self._generation.batch_size)

    @property
    def _generation(self) -> Any:
        assert self.plan.generation is not None, "the plan fills it in for kinds that have it"
        return self.plan.generation

    def add_model_shape(self, facts: TaskFacts, config: Any, tokenizer: Any) -> TaskFacts:
        """The facts with the model's shape.

        Raises:
            ModelError: the tokenizer has no end token, at which generation stops.
        """
        text = config.get_text_config()
        ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, _first(getattr(text, "eos_token_id", None)))
        end = next((token for token in ends if token is not None), None)
        if end is None:
            raise ModelError(
                "task.model: the tokenizer has no end token, expected one that generation stops at. Name it as "
                "eos_token in tokenizer_config.json."
            )
        if not config.is_encoder_decoder:
            return facts.model_copy(update={"shape": ModelShape(is_encoder_decoder=False, end_token_id=end)})
        start = decoder_start_token(config, tokenizer)
        shape = ModelShape(is_encoder_decoder=True, start_token_id=start, end_token_id=end)
        return facts.model_copy(update={"shape": shape})

    @abstractmethod
    def choose_metric_tokenizer(self, references: Sequence[str]) -> tuple[str, str]:
        """What ``task.metric_tokenizer: auto`` stands for with these true answers, and the reason in words."""

    def check_metric(self, references: Sequence[str]) -> None:
        """Check that the plan's metric can tell answers apart, by the true answers of validation.

        Raises:
            InputError: the metric's tokenizer cannot be loaded, or even true answers score 0.
        """
        name = self.plan.metric
        if name == "bleu":
            check_tokenizer(bleu_tokenizer(self.plan.metric_tokenizer))
        if not self.plan.has_own_metric and self.plan.goals[name] == "max":
            score = self.metric(name)
            # All of them are scored only where the longest say nothing.
            parts = (sorted(references, key=len)[-CHECKED_ANSWERS:], references)
            best = next((best for part in parts if (best := score(self.perfect_predictions(part), part)) > 0), 0.0)
            refuse_constant_metric(name, self.plan.metric_tokenizer, best, references)

    def prepare_tokenizer(self, tokenizer: Any) -> None:
        """Add to the tokenizer, in place, what every checkpoint must contain (a chat template, say)."""

    def model_settings(self, facts: TaskFacts) -> dict[str, Any]:
        if facts.shape is None or facts.shape.start_token_id is None:
            return {}
        return {"decoder_start_token_id": facts.shape.start_token_id}

    def generation_config(self, own: Any, tokenizer: Any, facts: TaskFacts) -> Any:
        """The plan's settings with the model's special tokens; nothing else of ``own`` is used."""
        from transformers import GenerationConfig

        assert facts.shape is not None
        settings = self._generation
        kept = {name: getattr(own, name, None) for name in MODEL_TOKEN_SETTINGS}
        ends = {facts.shape.end_token_id, *_listed(own.eos_token_id)}
        if facts.shape.start_token_id is not None:
            kept["decoder_start_token_id"] = facts.shape.start_token_id
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            **{name: value for name, value in kept.items() if value is not None},
            eos_token_id=sorted(ends) if len(ends) > 1 else next(iter(ends)),
            pad_token_id=tokenizer.pad_token_id,
        )
        apply_generation_settings(config, settings.model_dump())
        return config

    def collate(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` int64 (B, T); ``labels`` (B, T) or, with ``decoder_input_ids``, (B, U)."""
        limit = self.positions(is_encoder_decoder="decoder_input_ids" in rows[0])
        # Models number positions from the left by default, so batches for training are padded on the right.
        batch = pad_rows(rows, tokenizer, limit=limit, multiple=multiple, side="right")
        batch.pop("token_type_ids", None)
        if "decoder_input_ids" in rows[0]:
            pad = int(tokenizer.pad_token_id)
            batch["decoder_input_ids"] = pad_lists(rows, "decoder_input_ids", pad, limit, multiple)
        if "labels" in rows[0]:
            batch["labels"] = pad_lists(rows, "labels", IGNORED, limit, multiple)
        return batch

    def collate_prompts(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: Any, multiple: int = PAD_TO_MULTIPLE_OF
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` (B, T) of the text before the answer; padded left if causal."""
        causal = "prompt" in rows[0]
        taken = [{"input_ids": row["input_ids"][: row["prompt"]] if causal else row["input_ids"]} for row in rows]
        side = "left" if causal else "right"
        return pad_rows(taken, tokenizer, limit=self.plan.max_length, multiple=multiple, side=side)

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        # The key-value cache is for generation; in a training step it would only take memory.
        return {**super().model_inputs(batch), "use_cache": False}

    def loss(self, outputs: Any, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, mean over the batch's target tokens, in float32; 0 where it has none."""
        from torch.nn.functional import cross_entropy

        logits, labels = _aligned(outputs, batch)
        wanted = labels != IGNORED
        # Most positions of a batch are prompts: only the logits of labelled positions are copied to float32.
        total = cross_entropy(logits[wanted].float(), labels[wanted], reduction="sum", label_smoothing=label_smoothing)
        return total / max(1, self.weight(batch))

    def weight(self, batch: Mapping[str, Tensor]) -> int:
        """Number of target tokens."""
        # In a causal model, no token precedes the first one to predict it.
        labels = batch["labels"] if "decoder_input_ids" in batch else batch["labels"][:, 1:]
        return int((labels != IGNORED).sum())

    def divergence(self, one: Any, other: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Symmetric Kullback-Leibler divergence, the same mean over target tokens as ``loss``."""
        (ours, labels), (theirs, _) = _aligned(one, batch), _aligned(other, batch)
        wanted = labels != IGNORED
        return symmetric_kl_divergence(ours[wanted], theirs[wanted]).sum() / max(1, self.weight(batch))

    def predict(self, outputs: Any, batch: Mapping[str, Tensor]) -> list[list[float]]:
        """The summed loss of each row's target tokens and their number: [nll, tokens]."""
        from torch.nn.functional import cross_entropy

        logits, labels = _aligned(outputs, batch)
        logits = logits.detach()
        found = []
        for row, wanted in zip(logits, labels, strict=True):
            tokens = wanted != IGNORED
            found.append(
                [float(cross_entropy(row[tokens].float(), wanted[tokens], reduction="sum")), int(tokens.sum())]
            )
        return found

    def generate(self, model: Any, batch: Mapping[str, Tensor], tokenizer: Any) -> list[str]:
        """The text that ``model`` generates for each row of ``collate_prompts``, by its ``generation_config``."""
        from torch import distributed

        split = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
        # Under ZeRO-3 every rank must continue until the last one ends: each step gathers parameters from all.
        synced = split and distributed.is_initialized() and distributed.get_world_size() > 1
        written = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], synced_gpus=synced
        )
        if not model.config.is_encoder_decoder:
            written = written[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]

    def needs_generation(self, name: str) -> bool:
        """Whether a metric needs generated text; for other metrics, none is generated during training."""
        return True

    def join(self, texts: Sequence[str] | None, read: Sequence[Any]) -> list[Any]:
        """Predictions from generated texts (None: not needed) and the results of ``predict`` for the same rows."""
        assert texts is not None
        return list(texts)

    def references(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [str(row["reference"]) for row in rows]

    def majority(self, references: Sequence[str], n: int) -> list[Any]:
        """The most frequent answer in ``references``, alphabetically first among equals."""
        return [most_frequent(references)] * n


def apply_generation_settings(config: Any, settings: Mapping[str, Any]) -> None:
    """Override fields of a ``GenerationConfig`` by settings of ``task.generation``, in place; others stay unchanged."""
    names = {"beams": "num_beams", "max_new_tokens": "max_new_tokens", "no_repeat_ngram_size": "no_repeat_ngram_size"}
    for name in names.keys() & settings.keys():
        setattr(config, names[name], settings[name])
    if "temperature" in settings:
        draws = settings["temperature"] is not None
        config.do_sample = draws
        config.temperature, config.top_k = (settings["temperature"], 0) if draws else (None, None)
    if "length_penalty" in settings or "beams" in settings:
        penalty = settings.get("length_penalty", config.length_penalty)
        # Generation warns of a length penalty without beam search.
        config.length_penalty = penalty if (config.num_beams or 1) > 1 else None


def _aligned(outputs: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits and the labels that they predict; a causal model's labels are shifted by one token."""
    logits, labels = outputs.logits, batch["labels"]
    return (logits, labels) if "decoder_input_ids" in batch else (logits[:, :-1], labels[:, 1:])


def _listed(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [int(value)]


def _first(value: Any) -> int | None:
    return next(iter(_listed(value)), None)
