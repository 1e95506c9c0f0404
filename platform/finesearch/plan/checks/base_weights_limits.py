"""What excludes base weights in fewer bits: ZeRO 3, and an output layer that is solved on the base's outputs."""

from finesearch.plan.problems import Problems
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import BASE_WEIGHTS, QUANTIZED
from finesearch.plan.space.search_space import Space


def check_base_weights(space: Space, training: TrainingPlan, problems: Problems) -> None:
    """Add a problem for each branch whose ``base_weights`` the rest of the plan excludes."""
    for name, domains in space.selectors["adaptation"].items():
        if BASE_WEIGHTS not in domains:
            continue
        path = ("space", "adaptation", "one_of", name, BASE_WEIGHTS)
        what, domain = f"space.adaptation.{name}.{BASE_WEIGHTS}", domains[BASE_WEIGHTS]
        quantized = ", ".join(word for word in QUANTIZED if domain.contains(word))
        smaller = ", ".join(word for word in ("bf16", *QUANTIZED) if domain.contains(word))
        if smaller and training.zero_stage == 3:
            problems.add(
                path,
                f"{what}: expected auto or fp32 beside training.zero_stage 3, got {smaller}: ZeRO 3 cuts the weights "
                f"of every layer into parts and holds them in fp32",
                "Set training.zero_stage to 2: what is quantized and frozen takes less memory whole than in such parts "
                "of fp32 on a few workers.",
            )
        if domain.contains("int8") and "dora" in domains and domains["dora"].contains(True):
            problems.add(
                path,
                f"{what}: expected auto, fp32, bf16 or nf4 beside dora, got int8: peft loses the scales of 8-bit "
                f"layers when it reads the lengths of their rows",
                "Use nf4 in its place, or leave dora out.",
            )
        if quantized and _solves_head(space, name):
            problems.add(
                path,
                f"{what}: expected auto, fp32 or bf16 beside head_init probe, got {quantized}: the output layer is "
                f"solved on outputs of the weights as the model's folder has them",
                "Set head_init to random for this branch, or leave the quantized types out.",
            )


def _solves_head(space: Space, adaptation: str) -> bool:
    return any(
        entry.domain.contains("probe") and adaptation in dict(entry.conditions).get("adaptation", (adaptation,))
        for entry in space.entries
        if entry.key == "head_init"
    )
