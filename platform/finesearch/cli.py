"""Command line: finesearch init · search · report · export · compare · doctor. Heavy imports are each command's own."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from finesearch import __version__
from finesearch.errors import FinesearchError, InputError
from finesearch.redaction import redact

QUICKSTART = Path(__file__).resolve().parents[2] / "search_spaces" / "quickstart.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; exit code 0 ranked, 1 search failed, 2 bad input, 3 storage, 130/143 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    try:
        return int(options.act(options))
    except FinesearchError as error:
        print(f"finesearch: {redact(error.message)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("finesearch: interrupted before anything was started", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser() -> argparse.ArgumentParser:
    """The argument parser with every command and flag."""
    top = argparse.ArgumentParser(prog="finesearch", description="Find how to fine-tune a transformer.")
    top.add_argument("--version", action="version", version=f"finesearch {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="look at data files, and write a plan with the reason of each guess")
    init.add_argument("files", nargs="+", type=Path, metavar="FILE", help="one file, or train, validation and test")
    init.add_argument("--out", type=Path, metavar="PLAN", help="the plan file (default: NAME.yaml here)")
    init.add_argument("--model", help="base model: hub id, folder or package://NAME/FOLDER (default: a small one)")
    init.add_argument("--name", help="name of the run (default: by the file's name)")
    init.set_defaults(act=_init)

    search = commands.add_parser("search", help="search, or go on with a search; writes a report")
    add_search_options(search)

    report = commands.add_parser("report", help="write the report of a run again, from its journal")
    report.add_argument("run", help="run folder, such as runs/quickstart, or URI of a run")
    report.add_argument("--reports", type=Path, default=Path("reports"), help="where reports go (default: reports)")
    report.set_defaults(act=_report)

    export = commands.add_parser("export", help="write a ranked checkpoint as a plain transformers folder")
    export.add_argument("run", help="run folder, such as runs/quickstart, or URI of a run")
    export.add_argument("folder", type=Path, help="new folder for weights, config and tokenizer")
    export.add_argument("--rank", type=int, default=1, help="place in the report's ranking (default: 1)")
    export.add_argument("--adapter", action="store_true", help="write what peft loads onto the base model instead")
    export.add_argument(
        "--push", metavar="REPO", help="also put the export into a repository on the hub, such as ada/reviews"
    )
    export.add_argument("--public", action="store_true", help="let everybody read a repository that --push makes")
    export.set_defaults(act=_export)

    compare = commands.add_parser("compare", help="compare the best checkpoints of runs over the same test rows")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run folders or URIs; gains are over the first one")
    compare.add_argument("--rank", type=int, default=1, help="place in each report's ranking (default: 1)")
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    compare.set_defaults(act=_compare)

    doctor = commands.add_parser("doctor", help="say whether a search can start here, and what will limit it")
    doctor.add_argument("space", nargs="?", type=Path, help="plan file whose data, model and limits are checked too")
    doctor.add_argument("--storage", metavar="URI", help="where runs are kept, instead of the plan's `storage`")
    doctor.set_defaults(act=_doctor)

    schema = commands.add_parser("schema", help="print the JSON Schema of plan files, for editors")
    schema.set_defaults(act=_schema)
    return top


def add_search_options(search: argparse.ArgumentParser) -> None:
    """The options of ``search``, which ``platform/search.py`` shares."""
    search.add_argument("space", nargs="?", type=Path, help="plan file (default: search_spaces/quickstart.yaml)")
    search.add_argument("--name", help="name of the run, instead of the plan's")
    search.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one key of the plan; repeatable"
    )
    search.add_argument("--storage", metavar="URI", help="where runs are kept, instead of the plan's `storage`")
    search.add_argument("--reports", type=Path, default=Path("reports"), help="where reports go (default: reports)")
    search.add_argument("--dry-run", action="store_true", help="check plan, data, model and disk; start nothing")
    search.add_argument("--fresh", action="store_true", help="start over; an existing run of that name is set aside")
    search.set_defaults(act=_search)


def search_main(arguments: Sequence[str] | None = None) -> int:
    """``platform/search.py``: the command ``search`` without its name."""
    return main(["search", *(sys.argv[1:] if arguments is None else arguments)])


def _search(options: argparse.Namespace) -> int:
    from finesearch.plan import load_plan

    overrides = list(options.set)
    if options.storage is not None:
        # Quoted, since an override is YAML: a path may hold " #" or look like a number.
        overrides.append(f"storage={json.dumps(options.storage, ensure_ascii=False)}")
    plan = load_plan(options.space or QUICKSTART, overrides, options.name)
    if options.dry_run:
        from finesearch.commands.dry_run import describe_search

        print(describe_search(plan))
        return 0
    from finesearch.commands.run_search import run_search
    from finesearch.run.open_search import SearchRequest
    from finesearch.storage.local_dirs import results_home

    command = shlex.join(["python", "platform/search.py", *_as_typed(options)])
    run_search(SearchRequest(plan, results_home() / options.reports, options.fresh, command))
    return 0


def _as_typed(options: argparse.Namespace) -> list[str]:
    words = [str(options.space)] if options.space else []
    for flag in ("name", "storage"):
        if getattr(options, flag) is not None:
            words += [f"--{flag}", getattr(options, flag)]
    for override in options.set:
        words += ["--set", override]
    return words


def _init(options: argparse.Namespace) -> int:
    from finesearch.commands.init.write_plan import init_plan

    print(init_plan(options.files, options.out, options.model, options.name))
    return 0


def _report(options: argparse.Namespace) -> int:
    from finesearch.commands.rebuild_report import rebuild_report

    print(rebuild_report(options.run, options.reports.absolute()))
    return 0


def _export(options: argparse.Namespace) -> int:
    from finesearch.commands.export.export_run import export_run
    from finesearch.commands.export.push import check_push, push

    if options.public and options.push is None:
        raise InputError("--public: has no effect without --push REPO.")
    if options.push is not None:
        check_push(options.push)
    for note in export_run(options.run, options.folder, options.rank, options.adapter):
        print(note, file=sys.stderr)  # scripts read the folder from standard output
    if options.push is not None:
        print(f"pushed to {push(options.folder, options.push, options.public)}", file=sys.stderr)
    print(options.folder)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from finesearch.run.comparison.compare_runs import compare_runs, comparison_text

    if len(options.runs) < 2:
        raise InputError("compare: expected at least two runs, got one.")
    rows = compare_runs(options.runs, options.rank)
    print(json.dumps(rows, indent=1) if options.json else comparison_text(rows))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from finesearch.commands.doctor.examine import doctor

    return doctor(options.space, options.storage)


def _schema(options: argparse.Namespace) -> int:
    import json

    from finesearch.plan import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
