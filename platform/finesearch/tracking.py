"""Whether what ``tracking:`` asks for can be done here: its packages are an extra, and are looked for beforehand."""

from __future__ import annotations

from importlib.util import find_spec

from finesearch.errors import InputError
from finesearch.plan import Plan


def check_tracking(plan: Plan) -> None:
    """
    Raises:
        InputError: a package is missing; all of them are named.
    """
    wanted = {"mlflow": plan.tracking.mlflow is not None, "wandb": plan.tracking.wandb is not None}
    missing = [name for name, is_wanted in wanted.items() if is_wanted and find_spec(name) is None]
    if missing:
        raise InputError(
            "\n".join(
                f"tracking.{name}: expected the package {name}, and it is not installed. "
                f"Run pip install '.[tracking]' (or pip install {name}), or leave tracking.{name} out."
                for name in missing
            )
        )
