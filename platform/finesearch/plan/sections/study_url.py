"""The URL of the study's database: check, and form without password for messages."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from finesearch.plan.problems import Problem
from finesearch.redaction import is_secret_in_query

EXAMPLE_URL = "postgresql+psycopg://USER@HOST/DATABASE"
URL_PATTERN = r"^postgres(ql)?(\+\w+)?://[^/]"


def without_password(url: str) -> str:
    """The URL as messages show it.

    >>> without_password("postgresql+psycopg://ada:pw@db.lan:5433/finesearch?sslmode=require&password=pw")
    'postgresql+psycopg://ada@db.lan:5433/finesearch?sslmode=require'
    """
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    options = [(name, value) for name, value in parse_qsl(parts.query) if not is_secret_in_query(name)]
    return urlunsplit(parts._replace(netloc=account.partition(":")[0] + at + host, query=urlencode(options)))


def study_problem(url: object) -> Problem | None:
    """What is wrong with ``study``; the value is not shown, since it may hold a password."""
    if isinstance(url, str) and re.match(URL_PATTERN, url):
        return None
    came = "an SQLite URL" if isinstance(url, str) and url.startswith("sqlite") else "something else"
    return Problem(
        ("study",),
        f"study: expected the URL of a PostgreSQL database, such as {EXAMPLE_URL}, got {came}",
        "Leave 'study' out to keep the study in SQLite, in the run folder. Passwords are better given by PGPASSWORD, "
        "~/.pgpass, or the whole URL by FINESEARCH_STUDY.",
    )
