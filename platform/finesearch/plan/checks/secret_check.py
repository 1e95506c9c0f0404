"""Refuses secrets in a plan, since its values are written to runs and reports, and shown."""

from collections.abc import Mapping
from typing import Any

from finesearch.plan.problems import KeyPath, Problems, dotted
from finesearch.redaction import redact, secret_in_url

_BY_ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the machine's role)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, a file's path (or the machine's service account)",
    "postgresql": "FINESEARCH_STUDY, the URL of the study's database",
}


def secret_problems(value: Any, problems: Problems, path: KeyPath = ()) -> None:
    """Add a problem for each text below ``value`` with a URL that holds a password or a key."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            secret_problems(inner, problems, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            secret_problems(inner, problems, (*path, index))
    elif isinstance(value, str) and (found := secret_in_url(value)) is not None:
        scheme = value.partition("://")[0].partition("+")[0].lower()
        variable = _BY_ENVIRONMENT.get(scheme, "the variable that its library reads")
        problems.add(
            path,
            f"{dotted(path)}: expected no secret, since a plan is written into runs and reports; "
            f"got {found} ({redact(value, {})})",
            f"Leave it out, and give it by the environment of every node before Ray starts: {variable}.",
        )
