"""Choices whose branches have their own parameters: adaptation and optimizer."""

from dataclasses import KW_ONLY, dataclass

from finesearch.plan.space.parameters import NEED_TRAINED_LAYERS, PARAMETERS, ParameterSpec, Scalar


@dataclass(frozen=True)
class Branch:
    """One branch of a choice.

    A branch may also have any root parameter (such as ``learning_rate``); it replaces the root's there. ``required``
    names own parameters without a default; ``without_effect`` names root parameters that have no effect here.
    ``trains`` is false where the model is prompted, or its output layer solved, without training.
    """

    name: str
    doc: str
    parameters: dict[str, ParameterSpec]
    defaults: dict[str, Scalar]
    _: KW_ONLY
    without_effect: frozenset[str] = frozenset()
    trains: bool = True
    is_prompted: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(name for name in self.parameters if name not in self.defaults)

    @property
    def known(self) -> dict[str, ParameterSpec]:
        """All parameters that this branch allows: its own, then the root's that have an effect."""
        shared = {name: item for name, item in PARAMETERS.items() if name not in self.without_effect}
        return self.parameters | shared


REQUIRED = "no default"

BASE_WEIGHTS = "base_weights"
"""Parameter of the branches under which no weight of the base trains."""
QUANTIZED = ("int8", "nf4")
"""Values of ``base_weights`` that hold matrices in fewer bits than can be trained."""


def _branch(
    name: str,
    doc: str,
    *parameters: tuple[ParameterSpec, Scalar],
    without_effect: frozenset[str] = frozenset(),
    trains: bool = True,
    is_prompted: bool = False,
) -> Branch:
    own = {parameter.name: parameter for parameter, _ in parameters}
    defaults = {parameter.name: default for parameter, default in parameters if default != REQUIRED}
    return Branch(name, doc, own, defaults, without_effect=without_effect, trains=trains, is_prompted=is_prompted)


_FROZEN = ParameterSpec("layers", "integer", "How many of the bottom layers stay frozen, beside the embeddings.", low=0)
_TRAINED = ParameterSpec(
    "layers", "integer", "How many of the top layers train, with all that stands above them.", low=0
)
_PATTERNS = ParameterSpec("patterns", "patterns", "Regular expressions; parameters train in whose names one is found.")
_EVERY_STEPS = ParameterSpec(
    "every_steps",
    "integer",
    "Optimizer steps after which one more layer trains; null leaves it to every_fraction.",
    low=1,
    nullable=True,
)
_EVERY_FRACTION = ParameterSpec(
    "every_fraction",
    "float",
    "Share of all optimizer steps after which one more layer trains, unless every_steps is given.",
    low=0.0,
    high=1.0,
    open_low=True,
)
_LORA_PLUS = "Learning rate of the second matrix as a factor on the first's: LoRA+ (Hayou et al., 2024), who take 16."
_TARGETS = ParameterSpec(
    "targets",
    "names",
    "Linear layers to adapt, by the end of their names; auto takes the usual ones, all_linear (all-linear) every one.",
    words=("auto", "all_linear", "all-linear"),
)
_BASE_WEIGHTS = ParameterSpec(
    BASE_WEIGHTS,
    "word",
    "Type of the frozen matrices inside the layers; int8 and nf4 are quantized by bitsandbytes (Dettmers et al., "
    "QLoRA, 2023). auto: bf16 where the folder has it and trials compute in it, else fp32.",
    words=("auto", "fp32", "bf16", *QUANTIZED),
)

_PROMPT = (
    (
        ParameterSpec(
            "template", "text", "Prompt with placeholders, {label} where the answer stands; auto: the task's own."
        ),
        "auto",
    ),
    (
        ParameterSpec(
            "method",
            "word",
            "Answers by likelihood, by filling a gap (cloze) or by similarity of embeddings, or written (generation); "
            "auto: what task and model can.",
            words=("auto", "likelihood", "cloze", "similarity", "generation"),
        ),
        "auto",
    ),
    (
        ParameterSpec(
            "style",
            "word",
            "Whether the prompt is put into the model's chat template; auto: where it has one.",
            words=("auto", "chat", "plain"),
        ),
        "auto",
    ),
    (
        ParameterSpec(
            "calibrate",
            "boolean",
            "Divides an answer's likelihood by that after a prompt without content (Zhao et al., 2021).",
        ),
        True,
    ),
)
_VIRTUAL_TOKENS = ParameterSpec("virtual_tokens", "integer", "Tokens of the prompt that trains.", low=1)
_INIT = ParameterSpec(
    "init",
    "names",
    "What the prompt starts as: random numbers, rows drawn from the vocabulary, or the rows of a list of words.",
    words=("vocabulary", "random"),
)
_HIDDEN_SIZE = ParameterSpec(
    "hidden_size",
    "integer",
    "Width of the network that makes the prompt; null: as its output.",
    1,
    nullable=True,
)

SOLVED_BY = frozenset({"class_weights", "pooling"})
"""Parameters with an effect where the output layer is solved and nothing trains."""

NO_EFFECT_ON_FROZEN_WEIGHTS = frozenset({"l2sp", "mixout", "neftune", "reinit_top_layers"})
"""Parameters without effect where every pretrained weight is frozen."""

ADAPTATIONS: dict[str, Branch] = {
    branch.name: branch
    for branch in (
        _branch("full", "Every parameter trains."),
        _branch(
            "freeze_embeddings",
            "The embeddings stay as they are; every layer trains.",
            without_effect=frozenset({"neftune"}),
        ),
        _branch(
            "freeze_bottom",
            "The embeddings and the bottom layers stay as they are.",
            (_FROZEN, REQUIRED),
            without_effect=frozenset({"neftune"}),
        ),
        _branch("train_top", "The top layers train; all below them stays as it is.", (_TRAINED, REQUIRED)),
        _branch(
            "head_only", "The output layer alone trains.", without_effect=NEED_TRAINED_LAYERS | {"head_learning_rate"}
        ),
        _branch(
            "linear_probe",
            "Nothing trains: the output layer is solved by logistic or ridge regression on the frozen model's outputs.",
            (
                ParameterSpec(
                    "layer",
                    "integer",
                    "Layer whose outputs are used; the model is cut above it. null: the last.",
                    low=1,
                    nullable=True,
                ),
                None,
            ),
            (
                ParameterSpec(
                    "regularization",
                    "float",
                    "Factor of the squared weights beside the mean loss; auto: that of the lowest loss on validation.",
                    low=0.0,
                    open_low=True,
                    words=("auto",),
                ),
                "auto",
            ),
            without_effect=frozenset(PARAMETERS) - SOLVED_BY,
            trains=False,
        ),
        _branch(
            "norms_only",
            "The normalisations and the output layer of a task train.",
            without_effect=frozenset({"mixout", "reinit_top_layers"}),
        ),
        _branch(
            "biases_only",
            "The biases and the output layer of a task train: BitFit (Ben Zaken et al., 2022).",
            without_effect=frozenset({"mixout", "reinit_top_layers"}),
        ),
        _branch(
            "pattern",
            "The parameters whose names match train, and a new output layer.",
            (_PATTERNS, REQUIRED),
            without_effect=frozenset({"reinit_top_layers"}),
        ),
        _branch(
            "gradual_unfreezing",
            "The output layer trains first, then one more layer from the top each time (Howard and Ruder, 2018).",
            (_EVERY_STEPS, None),
            (_EVERY_FRACTION, 0.1),
            without_effect=frozenset({"reinit_top_layers"}),
        ),
        _branch(
            "lora",
            "Low-rank matrices beside frozen weights train, and a task's output layer (Hu et al., 2022).",
            (ParameterSpec("rank", "integer", "Rank of the matrices.", low=1), 8),
            (ParameterSpec("alpha", "float", "Their product counts alpha / rank.", low=0.0, open_low=True), 16.0),
            (ParameterSpec("lora_dropout", "float", "Dropout before the matrices.", 0.0, 1.0, open_high=True), 0.0),
            (_TARGETS, "auto"),
            (ParameterSpec("dora", "boolean", "Weights' length and direction train apart (Liu et al., 2024)."), False),
            (ParameterSpec("rslora", "boolean", "alpha / root of rank instead (Kalajdzievski, 2023)."), False),
            (ParameterSpec("lora_plus", "float", _LORA_PLUS, low=1.0), 1.0),
            (_BASE_WEIGHTS, "auto"),
            without_effect=NO_EFFECT_ON_FROZEN_WEIGHTS,
        ),
        _branch(
            "ia3",
            "Vectors that scale keys, values and feed-forwards train, and a task's output layer: (IA)³.",
            (_BASE_WEIGHTS, "auto"),
            without_effect=NO_EFFECT_ON_FROZEN_WEIGHTS,
        ),
        _branch(
            "prompt_tuning",
            "Embeddings before those of the text train, and a task's output layer (Lester et al., 2021).",
            (_VIRTUAL_TOKENS, 20),
            (_INIT, "vocabulary"),
            (_BASE_WEIGHTS, "auto"),
            without_effect=NEED_TRAINED_LAYERS,
        ),
        _branch(
            "p_tuning",
            "A network that makes embeddings before the text's trains, and a task's output layer (Liu et al., 2021).",
            (_VIRTUAL_TOKENS, 20),
            (ParameterSpec("encoder", "word", "The network that makes the prompt.", words=("mlp", "lstm")), "mlp"),
            (_HIDDEN_SIZE, None),
            (_BASE_WEIGHTS, "auto"),
            without_effect=NEED_TRAINED_LAYERS,
        ),
        _branch(
            "prefix_tuning",
            "Keys and values before those of every layer train, and a task's output layer (Li and Liang, 2021).",
            (_VIRTUAL_TOKENS, 20),
            (ParameterSpec("projection", "boolean", "A network makes them, and trains with its input."), False),
            (_HIDDEN_SIZE, None),
            (_BASE_WEIGHTS, "auto"),
            without_effect=NEED_TRAINED_LAYERS,
        ),
        _branch(
            "zero_shot",
            "Nothing trains: the model is asked with a prompt.",
            *_PROMPT,
            without_effect=frozenset(PARAMETERS),
            trains=False,
            is_prompted=True,
        ),
        _branch(
            "few_shot",
            "Nothing trains: the model is asked with a prompt that shows examples of train (Brown et al., 2020).",
            (ParameterSpec("examples", "integer", "Examples that are shown, in all.", low=1), 8),
            (
                ParameterSpec(
                    "selection",
                    "word",
                    "At random, as many of each label, or those most similar to what is asked.",
                    words=("balanced", "random", "similar"),
                ),
                "balanced",
            ),
            *_PROMPT,
            without_effect=frozenset(PARAMETERS),
            trains=False,
            is_prompted=True,
        ),
    )
}

OPTIMIZERS: dict[str, Branch] = {
    branch.name: branch
    for branch in (
        _branch(
            "adamw",
            "AdamW (Loshchilov and Hutter, 2019).",
            (ParameterSpec("beta1", "float", "Decay of the mean of gradients.", 0.0, 1.0, open_high=True), 0.9),
            (
                ParameterSpec("beta2", "float", "Decay of the mean of squared gradients.", 0.0, 1.0, open_high=True),
                0.999,
            ),
            (ParameterSpec("epsilon", "float", "Added to the divisor.", low=0.0, open_low=True), 1e-8),
        ),
        _branch(
            "adamw_8bit",
            "AdamW whose two means are kept in 8 bits by bitsandbytes (Dettmers et al., 2022): a quarter of their "
            "memory.",
            (ParameterSpec("beta1", "float", "Decay of the mean of gradients.", 0.0, 1.0, open_high=True), 0.9),
            (
                ParameterSpec("beta2", "float", "Decay of the mean of squared gradients.", 0.0, 1.0, open_high=True),
                0.999,
            ),
            (ParameterSpec("epsilon", "float", "Added to the divisor.", low=0.0, open_low=True), 1e-8),
        ),
        _branch(
            "sgd",
            "Stochastic gradient descent with momentum.",
            (ParameterSpec("momentum", "float", "Decay of the running gradient.", 0.0, 1.0, open_high=True), 0.9),
            (ParameterSpec("nesterov", "boolean", "Nesterov's momentum; needs momentum above 0."), False),
        ),
        _branch(
            "adafactor",
            "Adafactor (Shazeer and Stern, 2018); a step is the rate times the size of the weights, about 0.06 in "
            "pretrained matrices: 1e-3 to 3e-3 are AdamW's 5e-5 to 2e-4.",
            (
                ParameterSpec("beta2_decay", "float", "Memory of step t is 1 - t ** this.", -1.0, 0.0, open_high=True),
                -0.8,
            ),
            (ParameterSpec("clipping_threshold", "float", "Largest root mean square of an update.", low=1.0), 1.0),
            (
                ParameterSpec("smallest_scale", "float", "Size below which a matrix does not shrink its steps.", 0.0),
                1e-3,
            ),
        ),
        _branch(
            "lion",
            "Lion (Chen et al., 2023); every step has the size of the rate: start at a tenth of AdamW's.",
            (
                ParameterSpec("beta1", "float", "Share of the mean in the step's direction.", 0.0, 1.0, open_high=True),
                0.9,
            ),
            (ParameterSpec("beta2", "float", "Decay of the mean of gradients.", 0.0, 1.0, open_high=True), 0.99),
        ),
    )
}

SELECTORS: dict[str, dict[str, Branch]] = {"adaptation": ADAPTATIONS, "optimizer": OPTIMIZERS}
"""The choices with branches, in drawing order: before every parameter that depends on them."""

DEFAULT_BRANCHES: dict[str, str] = {"adaptation": "full", "optimizer": "adamw"}
