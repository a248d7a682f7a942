"""The pages of docs/reference, as they follow from the database, the command's parser and the docstrings.

`python -m tests.reference` writes them (`make docs`); with `--check` it compares those that need no database, and
test_drift compares the other.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

import pydb
from pydb import cli

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"

# File of sql/ -> what its functions are about.
SUBJECTS = {
    "10_context": "Tenants and logins",
    "12_token": "Keys that sign tokens",
    "20_progress": "Progress",
    "25_artifact": "Artifacts",
    "30_sharing": "Sharing",
    "40_audit": "The log",
    "45_retention": "Retention, erasure, export",
    "46_quota": "Quotas",
    "50_compliance": "Compliance",
    "55_metrics": "Monitoring",
    "60_cell": "Cells",
    "62_move": "Moving an organisation",
    "00_version": "Release",
}
GROUPS = {
    "ai_storage_app": "applications",
    "ai_storage_admin": "administrators",
    "ai_storage_auditor": "auditors",
    "ai_storage_sql": "members of `ai_storage_sql`",
}
# Modules beside pydb itself that an application imports.
MODULES = ("token", "identity", "web", "environment", "code_hash", "cache", "tracing")

SQL_HEAD = """\
# SQL functions

All functions of the schema `ai_storage`, as the database describes them; `\\df+ ai_storage.*` in psql shows the same.
Call them with named arguments: `ai_storage.load_progress(p_model_name => 'm', p_as => '...')`. The last argument of
every tenant function, `p_as`, is the credential of that call, an isolation key or a signed token; without it, the
tenant of `set_tenant` in the same transaction counts. The codes that a function raises stand in [Errors](../errors.md).

This page is written by `make docs` from the comments in `sql/`.
"""
CLI_HEAD = """\
# The command pydb

Exit code 0: done; 1: refused or failed; 2: wrong usage. `--dsn`, or else the environment variable `DATABASE_URL`, says
which database; without either it is the [embedded server](#pydb-db). `pydb COMMAND --help` prints what stands here.

This page is written by `make docs` from the command's parser.
"""
PYTHON_HEAD = """\
# Python

What an application imports. Methods of the storages take the arguments of the SQL functions without `p_`, and have the
same names or longer ones; [the SQL functions](sql.md) have the details, [Errors](../errors.md) the classes that are
raised. Every method of `TenantAwareStorage` exists on `AsyncTenantAwareStorage`, there to be awaited.

This page is written by `make docs` from the docstrings.
"""


def prose(text: str) -> str:
    """Plain text as Markdown: only what stands between backticks is special there."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(part if index % 2 else re.sub(r"([*<\[\]])", r"\\\1", part) for index, part in enumerate(parts))


# SQL


def _wrapped(before: str, parts: list[str], after: str) -> str:
    one = f"{before}({', '.join(parts)}){after}"
    if len(one) <= 90:
        return one
    return f"{before}(\n    " + ",\n    ".join(parts) + f"\n){after}"


def _arguments(names: list[str], types: list[str], defaults: list[str]) -> list[str]:
    first = len(names) - len(defaults)
    return [
        f"{name} {type_}" + (f" = {defaults[at - first]}" if at >= first else "")
        for at, (name, type_) in enumerate(zip(names, types, strict=True))
    ]


def _default(expression: str) -> str:
    bare = re.sub(r"::[a-z ]+(\[\])?", "", expression)
    return "null" if bare == "NULL" else bare


def sql(connection: psycopg.Connection[Any]) -> str:
    """The page of the SQL functions, of a database with everything installed."""
    functions = connection.execute(
        """
        select
            p.proname,
            coalesce(p.proargnames, '{}'),
            p.proargmodes::text[],
            array(
                select pg_catalog.format_type(a.type, null)
                from unnest(coalesce(p.proallargtypes, p.proargtypes)) with ordinality as a (type, place)
                order by a.place
            ),
            array(
                select pg_get_function_arg_default(p.oid, a.place::int)
                from generate_series(p.pronargs - p.pronargdefaults + 1, p.pronargs) as a (place)
            ),
            pg_get_function_result(p.oid),
            obj_description(p.oid, 'pg_proc'),
            array(
                select case x.grantee when 0 then 'public' else x.grantee::regrole::text end
                from aclexplode(p.proacl) as x
            )
        from pg_proc as p
        where p.pronamespace = 'ai_storage'::regnamespace
        """
    ).fetchall()
    described = {}
    for name, names, modes, types, defaults, result, comment, grantees in functions:
        taken = [at for at in range(len(types)) if modes is None or modes[at] == "i"]
        given = [at for at in range(len(types)) if modes is not None and modes[at] == "t"]
        arguments = _arguments([names[at] for at in taken], [types[at] for at in taken], list(map(_default, defaults)))
        signature = _wrapped(name, arguments, "")
        columns = [f"{names[at]} {types[at]}" for at in given]
        returns = _wrapped("table ", columns, "") if columns else result.lower()
        callers = [word for group, word in GROUPS.items() if group in grantees] or ["superusers"]
        described[name] = (
            f"### {name}\n\n```text\n{signature}\nreturns {returns}\n```\n\n{prose(comment)}\n\n"
            f"For {', '.join(callers)}.\n"
        )
    page = [SQL_HEAD]
    for file, subject in SUBJECTS.items():
        text = (ROOT / "sql" / f"{file}.sql").read_text("utf-8")
        names = dict.fromkeys(re.findall(r"^create or replace function ai_storage\.(\w+)\(", text, re.MULTILINE))
        page.append(f"## {subject}\n")
        page += [described.pop(name) for name in names if name in described]
    assert not described, f"in no subject: {sorted(described)}"
    page.append(_view(connection))
    return "\n".join(page)


def _view(connection: psycopg.Connection[Any]) -> str:
    view = "ai_storage.ai_progress_tenant"
    ((comment,),) = connection.execute("select obj_description(%s::regclass, 'pg_class')", (view,)).fetchall()
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 order by attnum",
        (view,),
    ).fetchall()
    rows = "".join(f"| `{name}` | {type_} | {prose(text)} |\n" for name, type_, text in columns)
    return f"## The view ai_progress_tenant\n\n{prose(comment)}\n\n| column | type | |\n|---|---|---|\n{rows}"


# The command


def _option(action: argparse.Action) -> str:
    name = max(action.option_strings, key=len, default="")
    choices = "|".join(map(str, action.choices)) if action.choices else None
    value = action.metavar or choices or (action.dest if not name else action.dest.upper())
    if not name:
        return str(value)
    return name if action.nargs == 0 else f"{name} {value}"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return prose(text).replace("|", "\\|")


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _commands(command)
            return
    yield parser


def command_line() -> str:
    """The page of the command."""
    page = [CLI_HEAD]
    for parser in _commands(cli._parser()):
        actions = [action for action in parser._actions if action.dest != "help"]
        usage = [parser.prog]
        usage += [_option(action) for action in actions if action.option_strings and action.required]
        usage += ["[options]"] if any(action.option_strings and not action.required for action in actions) else []
        for action in actions:
            if not action.option_strings:
                usage.append(f"[{_option(action)}]" if action.nargs == "?" else _option(action))
        page.append(f"## {parser.prog}\n\n{prose(parser.description or '')}\n\n```text\n{' '.join(usage)}\n```\n")
        if actions:
            rows = [
                f"| `{_option(action).replace('|', chr(92) + '|')}` | {_help(parser, action)} |" for action in actions
            ]
            page.append("| argument | |\n|---|---|\n" + "\n".join(rows) + "\n")
        if parser.epilog:
            page.append(prose(parser.epilog) + "\n")
    return "\n".join(page)


# Python


def _docstring(thing: Any, parameters: list[str]) -> str:
    """A docstring as Markdown: a paragraph for each part, parameters as code."""
    lines = []
    for line in inspect.cleandoc(inspect.getdoc(thing) or "").splitlines():
        if re.match(r"(Returns|Raises|Source): ", line):
            lines.append("")
        lines.append(line)
    blocks = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        if block.startswith("    "):
            code = textwrap.dedent(block)
            try:
                compile(code, "docstring", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                language = "python"
            except SyntaxError:
                language = "text"
            blocks.append(f"```{language}\n{code}\n```")
            continue
        text = prose(re.sub(r"\n +", "\n", block))
        for name in parameters:
            text = re.sub(
                rf"(^|[\s,])({re.escape(name)})(?=[:,][^/]*)(?=(, \w+)*: )", r"\1`\2`", text, flags=re.MULTILINE
            )
        if text.startswith("Source: "):
            text = re.sub(r"ai_storage\.(\w+)", r"[ai_storage.\1](sql.md#\1)", text)
        blocks.append(re.sub(r"^(Returns|Raises|Source): ", r"*\1:* ", text))
    return "\n\n".join(blocks) + "\n"


def _callable(name: str, thing: Any, level: str) -> str:
    try:
        signature = inspect.signature(thing)
    except ValueError:
        signature = inspect.Signature()
    shown = [
        parameter.replace(annotation=_annotation(parameter.annotation))
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    texts = []
    kinds = inspect.Parameter
    starred = False
    for parameter in shown:
        if parameter.kind is kinds.KEYWORD_ONLY and not starred:
            texts.append("*")
        starred = starred or parameter.kind in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL)
        texts.append(str(parameter).replace("'", "") if parameter.default is kinds.empty else _with_default(parameter))
    # A storage's method runs a Call, and returns what that gives.
    returned = inspect.signature(getattr(thing, "__wrapped__", thing), follow_wrapped=False).return_annotation
    result = (
        re.sub(r"^Call\[(.*)\]$", r"\1", _annotation(returned)) if returned is not inspect.Signature.empty else "None"
    )
    after = "" if isinstance(thing, type) else f" -> {result}"
    parameters = [parameter.name for parameter in shown]
    heading = f"{level} {name.rpartition('.')[2]}"
    return f"{heading}\n\n```text\n{_wrapped(name, texts, after)}\n```\n\n{_docstring(thing, parameters)}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _with_default(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}: {parameter.annotation} = {repr(parameter.default).removeprefix('datetime.')}"


def _class(name: str, cls: Any) -> str:
    fields = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    if hasattr(cls, "_fields"):
        return f"### {name}\n\n{_docstring(cls, [])}\nFields: {', '.join(f'`{field}`' for field in cls._fields)}.\n"
    if fields:
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        rows = ", ".join(f"`{field}` ({_annotation(types[field])})" for field in fields)
        return f"### {name}\n\n{_docstring(cls, fields)}\nFields: {rows}.\n"
    if issubclass(cls, (dict, tuple)) or not (cls.__doc__ or "").strip():
        return f"### {name}\n\n{_docstring(cls, [])}"
    page = [_callable(name, cls, "###")]
    for member in vars(cls):
        thing = getattr(cls, member)
        if not member.startswith("_") and callable(thing) and inspect.getdoc(thing):
            page.append(_callable(f"{name}.{member}", thing, "####"))
    return "\n".join(page)


def _member(name: str, thing: Any) -> str | None:
    if isinstance(thing, type) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)):
        return None  # errors stand in docs/errors.md, and a protocol is for type checkers
    if isinstance(thing, type):
        return _class(name, thing)
    if inspect.isfunction(thing):
        return _callable(name, thing, "###")
    return None


def python() -> str:
    """The page of the package."""
    page = [PYTHON_HEAD, "## pydb\n"]
    storages = ["TenantAwareStorage"]
    names = storages + [name for name in pydb.__all__ if name not in (*storages, "AsyncTenantAwareStorage")]
    page += filter(None, (_member(name, getattr(pydb, name)) for name in names))
    for module_name in MODULES:
        module = importlib.import_module(f"pydb.{module_name}")
        page.append(f"## pydb.{module_name}\n\n{_docstring(module, [])}")
        page += filter(None, (_member(name, getattr(module, name)) for name in module.__all__))
    return "\n".join(page)


def main() -> int:
    from pydb import migrate
    from tests import schema, servers
    from tests.conftest import FAST, new_cluster

    pages = {"cli.md": command_line(), "python.md": python()}
    if sys.argv[1:] == ["--check"]:
        old = [name for name, text in pages.items() if (FOLDER / name).read_text("utf-8") != text]
        if old:
            print(f"docs/reference is not as the code is: {', '.join(old)}. Run: make docs", file=sys.stderr)
        return 1 if old else 0
    for cluster in new_cluster(servers.bin_dir(schema.GOLDEN_MAJOR)):
        cluster.start(FAST, database="reference")
        migrate.init(cluster.url("reference"))
        with psycopg.connect(cluster.url("reference")) as connection:
            pages["sql.md"] = sql(connection)
    for name, text in pages.items():
        (FOLDER / name).write_text(text, "utf-8")
    print(f"wrote {FOLDER}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
