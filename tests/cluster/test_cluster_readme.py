"""cluster/README.md is true: it names every file, each file's five things, and flags that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hosts import missing, require
from ray.scripts.scripts import cli as ray_cli

from finesearch.cli import parser
from paths import ROOT

README = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")
SECTIONS = {"local.yaml", "ssh.yaml", "aws.yaml", "gcp.yaml", "kubernetes.yaml", "slurm.sh"}
# Of programs that are not installed here; whoever changes such a command tries it where they are.
UNCHECKED = {"docker", "gcloud", "grafana", "kubectl", "prometheus", "xdg-open"}


def section(name: str) -> str:
    """The text about one file."""
    found = re.search(rf"^## [^\n]*`{re.escape(name)}`\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no section"
    return found[1]


def blocks(text: str) -> list[str]:
    """Commands on indented lines."""
    return re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)


def every_command() -> Iterator[str]:
    """Commands of blocks and, of what stands in the text, those that begin with a program that is called here."""
    found = [*blocks(README), *re.findall(r"`((?:aws|gcloud|kubectl|ray|sbatch|scancel|sacct|squeue) [^`]*)`", README)]
    for line in found:
        # What runs on the head is a command of its own.
        yield from (part for part in re.split(r" && | & |&$", line) if part.strip())
        yield from re.findall(r"'cd ~/finesearch && ([^']*)'", line)


def flags_of(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def calls(program: str) -> list[list[str]]:
    """Words behind a program's name, wherever it is called."""
    found = []
    for command in every_command():
        if "'" in command and command.count("'") % 2:
            continue  # cut out of a quoted word, and looked at by itself
        words = shlex.split(command)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0] == program:
            found.append(words[1:])
    return found


def test_every_file_is_named() -> None:
    for path in (ROOT / "cluster").rglob("*"):
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts:
            inside = path.relative_to(ROOT / "cluster").parts
            assert f"`{inside[0]}{'/' if len(inside) > 1 else ''}`" in README, (
                f"cluster/{'/'.join(inside)} is undocumented"
            )


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_every_cluster_says_what_it_costs_idle_how_the_report_comes_home_and_how_it_ends(name: str) -> None:
    text = section(name)
    for said in ("- **Idle**: ", "- **Report**: ", "- **Tear down**: "):
        assert text.count(said) == 1
    way = blocks(text.split("Then, from nothing to a report:")[-1])
    assert 4 <= len(way) <= 5, "five commands from nothing to a report"
    assert any("cluster/" in command for command in way)
    assert not re.search(r"[$€£]\s?\d|\d\s?(?:USD|EUR|dollars|cents)", text), "prices change; say where they are found"


def test_every_program_is_checked_or_known_not_to_be_here() -> None:
    programs = set()
    for command in every_command():
        words = command.split()
        programs.add(next(word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)))
    checked = {"ray", "aws", "python", "sbatch", "scancel", "squeue", "sacct", "git", "cd", "make", "mkdir", "tail"}
    assert programs <= checked | UNCHECKED


def test_commands_of_ray_have_the_flags_that_are_given() -> None:
    given = calls("ray")
    assert len(given) > 15
    for words in given:
        words = words[: words.index("--")] if "--" in words else words
        command: click.Command = ray_cli
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert not isinstance(command, click.Group), f"ray {words}: no such command"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = set(flags_of(words)) - known
        assert not unknown, f"ray {command.name} has no {unknown}"


def test_searches_are_started_as_the_front_door_takes_them() -> None:
    found = re.findall(r"python platform/search\.py ([^'`\n]*)", README)
    assert len(found) >= 4
    for arguments in [*found, *re.findall(r"slurm\.sh ([^`\n]*--storage \S+)", README)]:
        parser().parse_args(["search", *arguments.split()])
    assert "python cluster/stop_workers.py cluster/ssh.yaml" in README


def test_commands_of_aws_have_the_flags_that_are_given() -> None:
    try:
        from botocore import xform_name
        from botocore.session import get_session
    except ImportError:
        missing("boto3 is not installed")
    session = get_session()
    given = calls("aws")
    assert len(given) >= 8
    for service, operation, *words in given:
        model = session.get_service_model(service)
        names = {xform_name(name).replace("_", "-"): name for name in model.operation_names}
        assert operation in names, f"aws {service} has no {operation}"
        shape = model.operation_model(names[operation]).input_shape
        known = {f"--{xform_name(member).replace('_', '-')}" for member in shape.members}
        unknown = set(flags_of(words)) - known
        assert not unknown, f"aws {service} {operation} has no {unknown}"


@pytest.mark.parametrize("program", ["sbatch", "scancel", "squeue"])
def test_commands_of_slurm_have_the_flags_that_are_given(program: str, tmp_path: Path) -> None:
    require(program)
    # Without a configuration some of them do not even tell their flags.
    (tmp_path / "slurm.conf").write_text("ClusterName=none\nSlurmctldHost=localhost\n")
    environment = {**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf")}
    told = subprocess.run([program, "--help"], env=environment, capture_output=True, text=True, timeout=20).stdout
    given = calls(program)
    assert given
    for words in given:
        # What stands behind the script belongs to the search.
        own = words[: next((n for n, word in enumerate(words) if word.endswith("slurm.sh")), len(words))]
        for flag in flags_of(own):
            assert re.search(rf"{flag}\b", told), f"{program} has no {flag}"


def test_what_must_be_private_is_said() -> None:
    text = " ".join(README[README.index("## What must be private") : README.index("## One machine")].split())
    for said in ("port 22", "RAY_AUTH_MODE=token", "loopback", "~/.ray/auth_token", "without any authentication"):
        assert said in text
