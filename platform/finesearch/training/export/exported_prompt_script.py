"""Asks the model in this folder with the prompt in prompt.json. Needs torch and transformers; finesearch wrote it.

prompt.json: ``method`` is likelihood, cloze, similarity or generation; ``answer`` names the placeholder of ``template``
that stands for the answer; ``candidates`` are the possible answers as the prompt words them, ``labels`` their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import torch
import transformers

BETWEEN, CONTENT_FREE = "\n\n", "N/A"


class Asker:
    """The model, its tokenizer and what it is asked."""

    def __init__(self, folder: str | Path) -> None:
        self.prompt: dict[str, Any] = json.loads(Path(folder, "prompt.json").read_text(encoding="utf-8"))
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        auto = getattr(transformers, self.prompt["model_class"])
        self.model: Any = auto.from_pretrained(folder, dtype=torch.float32).eval()
        self.is_pair = self.model.config.is_encoder_decoder
        self.is_chat, self.is_written = self.prompt["style"] == "chat", self.prompt["method"] == "generation"
        template, answer = self.prompt["template"], self.prompt["answer"]
        found = re.search(rf"(?<!\{{)(?:\{{\{{)*(\{{{re.escape(answer)}\}})", template)
        at, behind = found.span(1) if found else (len(template), len(template))
        self.start, self.end = template[:at], template[behind:]
        self.limit: int = self.prompt["max_length"]
        if self.is_written:
            # The whole prompt has so many tokens, not each text in it.
            names = {name for _, name, _, _ in Formatter().parse(self.start) if name}
            empty = len(self._ids(self._worded(dict.fromkeys(names, ""), ())))
            self.limit = (self.limit - empty) // max(1, len(names))

    @torch.no_grad()
    def answer(self, span: tuple[int, int] | None = None, **fields: str) -> Any:
        """The answer to one question. fields: a text for each placeholder. span: of the text that is asked about."""
        if self.is_written:
            return self._written(fields)
        if self.prompt["method"] == "similarity":
            if not self.prompt["candidates"]:
                one, other = (self._embedded(self._cut(fields[side])) for side in ("text", "text_pair"))
                return float(one @ other)
            scores = self._cosines(fields, span)
        else:
            score = self._likelihoods if self.prompt["method"] == "likelihood" else self._fillings
            scores = score(fields, self._shown(fields))
            if self.prompt["calibrate"]:
                free = dict.fromkeys(
                    (name for name in fields if f"{{{name}}}" in self.prompt["template"]), CONTENT_FREE
                )
                scores -= score(free, () if self.prompt["similar_shown"] else self.prompt["examples"])
        return self.prompt["labels"][int(scores.argmax())]

    # -- words -------------------------------------------------------------------------------------------------------

    def _filled(self, part: str, fields: dict[str, str]) -> str:
        cut = {name: self._cut(text) for name, text in fields.items()}
        return part.format_map({**cut, "labels": ", ".join(self.prompt["candidates"])})

    def _cut(self, text: str) -> str:
        if len(text.encode()) <= self.limit:
            return text
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(offsets) <= self.limit else text[: offsets[self.limit - 1][1]]

    def _worded(self, fields: dict[str, str], examples: Sequence[Any]) -> str:
        """All that stands before the answer."""
        shown = [(self._filled(self.start, each["fields"]), self._told(each), each["fields"]) for each in examples]
        if self.is_chat:
            turns = [
                {"role": role, "content": text}
                for asked, told, _ in shown
                for role, text in (("user", asked.rstrip()), ("assistant", told))
            ]
            turns.append({"role": "user", "content": self._filled(self.start, fields).rstrip()})
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        parts = [asked + told + self._filled(self.end, own) for asked, told, own in shown]
        return BETWEEN.join([*parts, self._filled(self.start, fields)])

    def _told(self, example: dict[str, Any]) -> str:
        if example["written"] is not None:
            return self._cut(example["written"])
        return str(self.prompt["candidates"][example["answer"]])

    def _shown(self, fields: dict[str, str]) -> Sequence[Any]:
        """The examples, or those of them that share most words with the question, the nearest last."""
        examples, number = self.prompt["examples"], self.prompt["similar_shown"]
        if number is None:
            return list(examples)
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True)
        known = vectorizer.fit_transform([" ".join(each["fields"].values()) for each in examples])
        alike = (vectorizer.transform([" ".join(fields.values())]) @ known.T).toarray()[0]
        return [examples[place] for place in (-alike).argsort(kind="stable")[:number][::-1]]

    def _fitting(self, fields: dict[str, str], examples: Sequence[Any], room: int) -> str:
        """The prompt with as many of the last examples as leave ``room`` tokens."""
        most = self.prompt["most_tokens"]
        for left_out in range(len(examples) + 1):
            text = self._worded(fields, examples[left_out:])
            if most is None or len(self.tokenizer(text)["input_ids"]) + room <= most:
                break
        return text

    def _ids(self, text: str) -> list[int]:
        if self.is_chat:
            return self._pieces(text)
        if self.is_pair:
            return list(self.tokenizer(text.rstrip(" "))["input_ids"])
        return self._frame()[0] + self._pieces(text.rstrip(" "))

    def _pieces(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind a text."""
        bare, framed = self._pieces("a"), list(self.tokenizer("a")["input_ids"])
        at = next(at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
        return framed[:at], framed[at + len(bare) :]

    # -- answers -----------------------------------------------------------------------------------------------------

    def _written(self, fields: dict[str, str]) -> str:
        room = 0 if self.is_pair else max(self.prompt["answer_tokens"], self.model.generation_config.max_new_tokens)
        ids = torch.tensor([self._ids(self._fitting(fields, self._shown(fields), room))])
        written = self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
        text = self.tokenizer.decode(written[0 if self.is_pair else ids.shape[1] :], skip_special_tokens=True).strip()
        if self.is_chat or self.is_pair:
            return str(text)
        # Behind the answer the model would go on with the next example.
        text = text.partition(BETWEEN)[0]
        return str(text if "\n" in self.prompt["template"] else text.partition("\n")[0].rstrip())

    def _likelihoods(self, fields: dict[str, str], examples: Sequence[Any]) -> torch.Tensor:
        answers = self._continuations()
        ids = self._ids(self._fitting(fields, examples, max(map(len, answers))))
        found = []
        for answer in answers:
            if self.is_pair:
                start = next(token for token in self._starts() if token is not None)
                before = torch.tensor([[start, *answer[:-1]]])
                logits = self.model(input_ids=torch.tensor([ids]), decoder_input_ids=before).logits[0]
            else:
                logits = self.model(input_ids=torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
            found.append(logits.log_softmax(-1)[range(len(answer)), answer].sum())
        return torch.stack(found)

    def _continuations(self) -> list[list[int]]:
        """Token ids of the candidates behind the prompt."""
        if self.is_chat or self.is_pair:
            return [self._pieces(text) for text in self.prompt["candidates"]]
        lead = self.start.rpartition("}")[2] or "a "
        stripped, gap = lead.rstrip(" ") or "a", " " if lead.endswith(" ") else ""
        known, found = self._pieces(stripped), []
        for text in self.prompt["candidates"]:
            whole = self._pieces(stripped + gap + text)
            found.append(whole[len(known) :] if whole[: len(known)] == known else self._pieces(gap + text))
        return found

    def _starts(self) -> tuple[int | None, ...]:
        config, own = self.model.config, self.tokenizer
        first = (getattr(config, "decoder_start_token_id", None), getattr(config, "bos_token_id", None))
        return (*first, own.bos_token_id, own.cls_token_id, own.pad_token_id)

    def _fillings(self, fields: dict[str, str], examples: Sequence[Any]) -> torch.Tensor:
        lead = len(self._pieces("a"))
        answers = [self._pieces(f"a {text}")[lead:] for text in self.prompt["candidates"]]
        behind = self._pieces(self._filled(self.end, fields))
        text = self._fitting(fields, examples, max(map(len, answers)) + len(behind))
        first, last = self._frame()
        before, found = first + self._pieces(text.rstrip(" ")), []
        for answer in answers:
            ids = [*before, *[self.tokenizer.mask_token_id] * len(answer), *behind, *last]
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, len(before) : len(before) + len(answer)]
            found.append(logits.log_softmax(-1)[range(len(answer)), answer].mean())
        return torch.stack(found)

    def _cosines(self, fields: dict[str, str], span: tuple[int, int] | None) -> torch.Tensor:
        gap, lines = f"{{{self.prompt['answer']}}}", self.prompt["template"].split("\n")
        about = next(line for line in lines if gap in line)
        words = [each.replace("{", "{{").replace("}", "}}") for each in self.prompt["candidates"]]
        total = torch.stack([self._embedded(about.replace(gap, each).format()) for each in words])
        text = "\n".join(line for line in lines if gap not in line)
        own = self._placed(text, fields, span)
        examples = [
            (self._placed(text, each["fields"], each["span"]), each["answer"]) for each in self.prompt["examples"]
        ]
        if self.prompt["similar_shown"] is not None:
            alike = torch.stack([own @ embedding for embedding, _ in examples])
            near = (-alike).argsort(stable=True)[: self.prompt["similar_shown"]]
            examples = [examples[int(place)] for place in near]
        for embedding, answer in examples:
            total[answer] += embedding
        return torch.nn.functional.normalize(total, dim=-1) @ own

    def _placed(self, template: str, fields: dict[str, str], span: Sequence[int] | None) -> torch.Tensor:
        text = self._filled(template, fields)
        if span is None:
            return self._embedded(text)
        start = max(0, text.find(self._cut(fields["text"])))
        return self._embedded(text, (start + span[0], start + span[1]))

    def _embedded(self, text: str, span: tuple[int, int] | None = None) -> torch.Tensor:
        most = self.prompt["most_tokens"]
        tokens = self.tokenizer(text, truncation=most is not None, max_length=most, return_offsets_mapping=True)
        model = self.model.get_encoder() if self.is_pair else self.model
        states = model(input_ids=torch.tensor([tokens["input_ids"]])).last_hidden_state[0]
        inside = [
            at
            for at, (start, end) in enumerate(tokens["offset_mapping"])
            if span is not None and start < span[1] and end > span[0]
        ]
        pooled = states[inside].mean(0) if inside else states[0] if self.prompt["first_token"] else states.mean(0)
        return torch.nn.functional.normalize(pooled, dim=-1)
