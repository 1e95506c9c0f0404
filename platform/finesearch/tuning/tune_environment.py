"""What Ray Tune hands on of the environment of the driver: no secrets."""

from __future__ import annotations

from ray.tune.execution import class_cache

from finesearch.secrets import is_secret_name


def keep_secrets_home() -> None:
    """Have Tune hand no secret variable of the driver to its actors.

    It would put the driver's AWS keys into their runtime environment, which Ray logs on every node and shows.
    """
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update([name for name in names if is_secret_name(name)])
