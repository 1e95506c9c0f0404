"""Finds and redacts secrets (passwords, keys, tokens) in text that is shown, logged, reported or written to disk."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"

_WORDS = (
    r"passw(?:or)?d|passphrase|pwd|(?:db|user|admin|root)_?pass|secret|credentials?|token|bearer|authorization|"
    r"(?:api|access|account|private|secret|storage|session)[_.-]?key(?:[_.-]?id)?|signature"
)
_NAME = re.compile(rf"(?:^|[^a-z])(?:[a-z]*?(?:{_WORDS}))(?:$|[^a-z])", re.IGNORECASE)
# Names of a tokenizer's special tokens, and of variables that say where a secret is or how it is used.
_HARMLESS = re.compile(
    r"(?:^|[^a-z])(?:bos|eos|pad|unk|sep|cls|mask|special|image)[_-]token|"
    r"(?:_|\.|-)(?:path|file|dir|folder|home|mode|timeout|s|name|ttl)$",
    re.IGNORECASE,
)
_QUERY_ALONE = frozenset({"key", "sig", "auth", "sas"})

# A URL that passed through a path has one slash instead of two.
_URL = re.compile(r"\b(?P<scheme>[a-z][a-z0-9+.-]*):(?P<slashes>//?)(?P<rest>[^\s\"'<>`]+)", re.IGNORECASE)
# A password may hold unescaped `/` and `@`, so match up to the last `@`. `host:8080/...` is no user with a password.
_USER_AND_PASSWORD = re.compile(r"[^/\s@:?]*:(?!\d+(?:[/?#]|$))[^\s]*@")
_USER_ALONE = re.compile(r"[^/\s@:?#]+@")
_QUERY = re.compile(r"(?P<before>[?&;])(?P<name>[\w.%-]+)=(?P<value>[^&;#\s\"'`)]+)")
_PAIR = re.compile(
    r"(?P<name>[A-Za-z_][\w.-]*)(?P<between>=|[\"']?\s*:\s*(?=[\"']))"
    r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"'&,;)}\]]+)"
)
_HEADER = re.compile(r"(?P<before>\bBearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
SHORTEST = 8
"""Shortest value of a secret variable that is redacted: shorter ones are words that any text may hold."""


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name is likely to hold a password, key or token.

    >>> [is_secret_name(name) for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "pgpassword", "wandb.api_key")]
    [True, True, True, True]
    >>> [is_secret_name(name) for name in ("max_tokens_per_pass", "pad_token", "RAY_AUTH_TOKEN_PATH", "key")]
    [False, False, False, False]
    """
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)


def is_secret_in_query(name: str) -> bool:
    """Whether a URL's query parameter of this name is likely to be secret; such names are shorter.

    >>> is_secret_in_query("key"), is_secret_in_query("access_key"), is_secret_in_query("region")
    (True, True, False)
    """
    return name.lower() in _QUERY_ALONE or is_secret_name(name)


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with ``***`` for passwords and keys: in URLs, in ``name=value``, and values of secret variables.

    >>> redact("postgresql://ada:love@db/studies", {})
    'postgresql://***@db/studies'
    >>> redact("s3://runs?region=eu&secret_key=abc --set tracking.api_key=abc", {})
    's3://runs?region=eu&secret_key=*** --set tracking.api_key=***'
    >>> redact("the server does not know hunter2hunter2", {"DB_PASSWORD": "hunter2hunter2"})
    'the server does not know ***'
    """
    for value in secret_values(environment):
        text = text.replace(value, HIDDEN)
    text = _URL.sub(lambda url: f"{url['scheme']}:{url['slashes']}{_without_user(url['scheme'], url['rest'])}", text)
    text = _QUERY.sub(_without_value_in_query, text)
    text = _HEADER.sub(lambda found: found["before"] + HIDDEN, text)
    return _PAIR.sub(_without_value, text)


def secret_in_url(text: str) -> str | None:
    """The kind of secret in the URLs of a text, without its value; None where there is none.

    >>> secret_in_url("s3://AKIA:abc@bucket"), secret_in_url("gs://bucket/runs?sig=abc")
    ('a user with a password', "the query parameter 'sig'")
    >>> secret_in_url("s3://bucket/runs?region=eu&endpoint_override=127.0.0.1:9000") is None
    True
    """
    for url in _URL.finditer(text):
        if _without_user(url["scheme"], url["rest"]) != url["rest"]:
            return "a user with a password" if _USER_AND_PASSWORD.match(url["rest"]) else "a user"
        for pair in _QUERY.finditer(url["rest"]):
            if is_secret_in_query(pair["name"]):
                return f"the query parameter {pair['name']!r}"
    return None


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Values of secret variables, and passwords of URLs in the other variables; longest first."""
    found = set()
    for name, value in environment.items():
        if is_secret_name(name):
            found.add(value)
        for url in _URL.finditer(value):
            if _USER_AND_PASSWORD.match(url["rest"]):
                found.add(url["rest"].rpartition("@")[0].partition(":")[2])
    return sorted((value for value in found if _is_worth_hiding(value)), key=len, reverse=True)


def _is_worth_hiding(value: str) -> bool:
    return len(value) >= SHORTEST and not (os.path.isabs(value) and os.path.exists(value))


def _without_user(scheme: str, rest: str) -> str:
    found = _USER_AND_PASSWORD.match(rest)
    if found is None and scheme.lower() in ("http", "https"):  # such URLs carry a token as a user without password
        found = _USER_ALONE.match(rest)
    return rest if found is None else f"{HIDDEN}@{rest[found.end() :]}"


def _without_value_in_query(found: re.Match[str]) -> str:
    value = HIDDEN if is_secret_in_query(found["name"]) else found["value"]
    return f"{found['before']}{found['name']}={value}"


def _without_value(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]):
        return found[0]
    value, quote = found["value"], found["value"][0]
    hidden = f"{quote}{HIDDEN}{quote}" if quote in "\"'" else HIDDEN
    return f"{found['name']}{found['between']}{hidden if value != HIDDEN else value}"
