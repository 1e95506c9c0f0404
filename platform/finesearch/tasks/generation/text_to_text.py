"""Text-to-text tasks: encoding rows with a source and a target, for causal models and encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.errors import DataError, ModelError
from finesearch.tasks.encoding.padding import IGNORED
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.encoding.text_columns import read_texts
from finesearch.tasks.generation.generation_task import GenerationTask
from finesearch.tasks.raw_splits import SPLITS, RawSplits
from finesearch.tasks.task import ModelShape, TaskFacts
from finesearch.tasks.truncation import Truncation

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin

# Rows tokenized at a time when truncations are counted.
COUNT_CHUNK_ROWS = 4096


class TextToText(GenerationTask):
    """Columns: a source and a target, under the kind's own roles."""

    source_role: ClassVar[str]
    target_role: ClassVar[str]

    @property
    def source_column(self) -> str:
        return self.plan.columns[self.source_role]

    @property
    def target_column(self) -> str:
        return self.plan.columns[self.target_role]

    @property
    def identity_columns(self) -> tuple[str, ...]:
        return (self.source_column,)

    @property
    def encoding_options(self) -> dict[str, Any]:
        names = ("max_target_length", "prefix", "separator", "source_language", "target_language")
        return {name: getattr(self.plan, name) for name in names}

    def positions(self, is_encoder_decoder: bool) -> int:
        target = max(self._target_length, int(self._generation.max_new_tokens))
        source: int = self.plan.max_length
        return max(source, target) if is_encoder_decoder else source + target

    @property
    def _target_length(self) -> int:
        assert self.plan.max_target_length is not None
        return self.plan.max_target_length

    def read(self, splits: RawSplits) -> TaskFacts:
        """Check that every row has a source and a target.

        Raises:
            DataError: a text that is missing, blank or of the wrong type, by file and row.
        """
        for split in SPLITS:
            table, origin = splits.table(split), splits.origins[split]
            for name, other in ((self.source_column, self.target_column), (self.target_column, self.source_column)):
                _refuse_blank(read_texts(table.column(name), name, origin), name, other, origin)
        return TaskFacts(kind=self.kind, rows={split: len(splits[split]) for split in SPLITS})

    def add_model_shape(self, facts: TaskFacts, config: Any, tokenizer: Any) -> TaskFacts:
        """See the base class.

        Raises:
            ModelError: as there; or the tokenizer lacks a language, or the prompt leaves no tokens for a source.
        """
        facts = super().add_model_shape(facts, config, tokenizer)
        shape = facts.shape
        assert shape is not None
        if self.plan.target_language is not None:
            if not shape.is_encoder_decoder:
                raise ModelError(
                    f"task.target_language: {type(config).__name__} is a causal model, which opens its answer with no "
                    f"language token. Say the language in task.prefix or task.separator."
                )
            token = language_token(tokenizer, self.plan.target_language, "target_language")
            shape = shape.model_copy(update={"language_token_id": token})
        if self.plan.source_language is not None:
            language_token(tokenizer, self.plan.source_language, "source_language")
            if not hasattr(tokenizer, "src_lang"):
                raise ModelError(
                    f"task.source_language: {type(tokenizer).__name__} takes no source language. Say it in task.prefix."
                )
        frame = len(self._prompt_ids(tokenizer, "", shape))
        if frame >= self.plan.max_length:
            raise ModelError(
                f"task.max_length: {self.plan.max_length} tokens leave no room for a source: prefix and separator "
                f"alone take {frame}. Raise it, or shorten them."
            )
        return facts.model_copy(update={"shape": shape})

    def generation_config(self, own: Any, tokenizer: Any, facts: TaskFacts) -> Any:
        config = super().generation_config(own, tokenizer, facts)
        if facts.shape is not None and facts.shape.language_token_id is not None:
            config.forced_bos_token_id = facts.shape.language_token_id
        return config

    def truncations(self, splits: RawSplits, tokenizer: Any, facts: TaskFacts) -> tuple[Truncation, ...]:
        """How many sources and targets of each split are longer than the plan's limits."""
        found = []
        for split in SPLITS:
            rows = len(splits[split])
            cut = [0, 0]
            for start in range(0, rows, COUNT_CHUNK_ROWS):
                part = splits.plain_rows(split, start, min(start + COUNT_CHUNK_ROWS, rows))
                prompts = [self._whole_prompt(text, facts.shape) for text in part[self.source_column]]
                cut[0] += sum(n > self.plan.max_length for n in _lengths(tokenizer, prompts))
                # One token is the end token.
                targets = _lengths(tokenizer, part[self.target_column], special=False)
                cut[1] += sum(n >= self._target_length for n in targets)
            for count, role, key, limit in (
                (cut[0], self.source_role, "max_length", self.plan.max_length),
                (cut[1], self.target_role, "max_target_length", self._target_length),
            ):
                if count:
                    note = (
                        f"{count} of the {rows} {split} rows have a {role} longer than task.{key} ({limit} tokens): "
                        "their ends are cut off."
                    )
                    found.append(Truncation(count, rows, note))
        return tuple(found)

    def encode(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, facts: TaskFacts) -> dict[str, list[Any]]:
        """See ``generation_task``; rows without targets, as in prediction, get no ``labels`` and no ``reference``."""
        shape = facts.shape
        assert shape is not None, "add_model_shape comes before encode"
        if self.plan.source_language is not None:
            tokenizer.src_lang = self.plan.source_language
        sources = [self._prompt_ids(tokenizer, text, shape) for text in rows[self.source_column]]
        has_targets = self.target_column in rows
        encoded: dict[str, list[Any]] = {"input_ids": sources}
        if not shape.is_encoder_decoder:
            encoded["prompt"] = [len(ids) for ids in sources]
        if has_targets:
            targets = [self._target_ids(tokenizer, text, shape) for text in rows[self.target_column]]
            encoded["reference"] = self.answers(rows, facts)
            if shape.is_encoder_decoder:
                encoded["labels"] = targets
                encoded["decoder_input_ids"] = [[shape.start_token_id, *ids[:-1]] for ids in targets]
            else:
                pairs = list(zip(sources, targets, strict=True))
                encoded["labels"] = [[IGNORED] * len(prompt) + target for prompt, target in pairs]
                encoded["input_ids"] = [prompt + target for prompt, target in pairs]
        return encoded

    def answers(self, rows: Mapping[str, Sequence[Any]], facts: TaskFacts) -> list[str]:
        return [str(text) for text in rows[self.target_column]]

    def _whole_prompt(self, source: str, shape: ModelShape | None) -> str:
        separator = "" if shape is None or shape.is_encoder_decoder else self.plan.separator or ""
        return f"{self.plan.prefix or ''}{source}{separator}"

    def _prompt_ids(self, tokenizer: Any, source: str, shape: ModelShape) -> list[int]:
        """At most ``max_length`` tokens; a source that is too long is truncated, but never the separator after it."""
        prompt = self._whole_prompt(source, shape)
        if shape.is_encoder_decoder:
            ids: list[int] = tokenizer(prompt, truncation=True, max_length=self.plan.max_length)["input_ids"]
            return ids
        # Some tokenizers append an end token to every text, but the answer follows this one.
        before, _ = special_token_affixes(tokenizer)
        ids = before + _pieces(tokenizer, prompt)["input_ids"]
        max_length = self.plan.max_length
        while len(ids) > max_length and source:
            pieces = _pieces(tokenizer, source)
            kept = len(pieces["input_ids"]) - (len(ids) - max_length)
            source = source[: pieces["offset_mapping"][kept][0]] if kept > 0 else ""
            ids = before + _pieces(tokenizer, self._whole_prompt(source, shape))["input_ids"]
        return ids

    def _target_ids(self, tokenizer: Any, target: str, shape: ModelShape) -> list[int]:
        """At most ``max_target_length`` tokens, including the end token."""
        limit, end = self._target_length, shape.end_token_id
        if not shape.is_encoder_decoder:
            pieces = tokenizer(target, add_special_tokens=False, truncation=True, max_length=limit - 1)
            return [*pieces["input_ids"], end]
        if self.plan.target_language is not None and hasattr(tokenizer, "tgt_lang"):
            tokenizer.tgt_lang = self.plan.target_language
        ids = list(tokenizer(text_target=target, truncation=True, max_length=limit)["input_ids"])
        if ids and ids[0] == shape.start_token_id:
            # It is the decoder's start token, so it need not be learned as well.
            ids = ids[1:]
        if shape.language_token_id is not None and shape.language_token_id not in ids:
            ids = [shape.language_token_id, *ids]
        if end not in ids:
            ids = [*ids, end]
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def language_token(tokenizer: Any, language: str, key: str) -> int:
    """The id of a language's token; it may be spelled ``__de__`` for ``de``.

    Raises:
        ModelError: the tokenizer has none.
    """
    vocabulary = tokenizer.get_vocab()
    for token in (language, f"__{language}__"):
        if token in vocabulary:
            return int(vocabulary[token])
    special = [token for token in tokenizer.all_special_tokens if token.strip("<_>")]
    raise ModelError(
        f"task.{key}: the tokenizer knows no token {language!r}. Expected one of its language tokens "
        f"(its special tokens: {', '.join(special[:12])}{', ...' if len(special) > 12 else ''}), or leave the key out."
    )


def _pieces(tokenizer: Any, text: str) -> Any:
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)


def _lengths(tokenizer: Any, texts: Sequence[str], special: bool = True) -> list[int]:
    # verbose=False: texts that are too long are counted here, so the tokenizer need not warn of them.
    found = tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False)
    return [len(ids) for ids in found["input_ids"]]


def _refuse_blank(column: pa.ChunkedArray, name: str, other: str, origin: Origin) -> None:
    import pyarrow.compute as pc

    blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    row = pc.index(blank, True).as_py()
    if row >= 0:
        count = pc.sum(blank).as_py()
        more = f" (and {count - 1} more rows)" if count > 1 else ""
        raise DataError(
            f"{origin.where(row)}: no text in column {name!r}{more}, expected one on both sides: {name!r} and "
            f"{other!r}.\n  Remove such rows, or complete them."
        )
