"""Prints a front: one address for all cells, on PL/Proxy. For pydb.cli; see docs/how-to/front.md.

front/base.sql comes first, then front/call.sql once for each function of tenants, then the directory and
front/rights.sql.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from . import calls, directory, session
from .migrate import Schema

__all__ = ["pgbouncer", "render"]

READ_ONLY = ".read-only"  # what PgBouncer calls a cell's read-only connections, behind its name
# Set in PgBouncer's connections to a cell, over the login's own. PL/Proxy would wait forever for a call that the cell's
# timeout ended. A cell of another major version answers in text, which must keep all digits.
SETTINGS = "set statement_timeout = 0; set extra_float_digits = 1"
BY_HAND = {"set_tenant", "clear_tenant", "current_tenant"}  # written in base.sql

FUNCTIONS: LiteralString = """
    select
        p.proname, p.provolatile = 'i', p.proretset,
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
        array(select format_type(t.oid, null) from unnest(p.proargtypes) with ordinality as t (oid, n) order by t.n),
        coalesce(p.proargnames, '{}'), pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')
    from pg_proc as p
    where p.pronamespace = 'ai_storage'::regnamespace
      and exists (select from aclexplode(p.proacl) as a where a.grantee = 'ai_storage_app'::regrole)
    order by p.proname
"""


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of tenants in a cell. names: of the arguments, then of the columns of the result.

    is_pure: immutable; the front has it as it is.
    """

    name: str
    is_pure: bool
    returns_set: bool
    arguments: str
    result: str
    types: list[str]
    names: list[str]
    definition: str
    comment: str

    def render(self, template: str) -> str:
        """The SQL of the function in a front. template: front/call.sql."""
        comment = sql.Literal(self.comment).as_string()
        if self.is_pure:
            return f"{self.definition.rstrip()};\ncomment on function ai_storage.{self.name} is {comment};\n"
        inputs, columns = self.names[: len(self.types)], self.names[len(self.types) :]
        # The first argument of the inner function is the address.
        sent = ", ".join(f"{name} => ${number}" for number, name in enumerate(inputs, 2))
        documents = [f"${number}" for number, type_ in enumerate(self.types, 1) if type_ == "jsonb"]
        call = f"ai_storage_front.{self.name}({', '.join(['v_address', *(f'${n + 1}' for n in range(len(inputs)))])})"
        if self.returns_set:
            call = f"return query select r.* from {call} as r;\n            return;"  # noqa: S608  # from the catalogue
        else:
            call = f"perform {call};\n            return;" if self.result == "void" else f"return {call};"
        return template.format(
            name=self.name,
            arguments=self.arguments,
            inner_arguments=", ".join(["p_address text", *self.types]),
            result=self.result,
            columns=f"{', '.join(columns) or 'r'} from ai_storage.{self.name}({sent}) as r",
            credential=f"${inputs.index('p_as') + 1}",
            check=f"perform ai_storage_front.check_documents({', '.join(documents)});" if documents else "",
            call=call,
            comment=comment,
        )


def render(cells: Mapping[str, psycopg.Connection[Any]], pooler: str) -> str:
    """The SQL of a front of these cells, for a superuser.

    pooler: DSN of the PgBouncer between front and cells, without a database.
    Raises: DirectoryError; psycopg.Error.
    """
    if "password" in conninfo_to_dict(pooler):
        raise directory.DirectoryError(
            "The DSN of the pooler has a password.", "Let the pooler trust the front: see docs/how-to/front.md."
        )
    homes = directory.homes(cells)
    connection = next(iter(cells.values()))
    new = [cell.cell_name for cell in session.run(connection, calls.list_cells()) if cell.takes_new]
    if not new:
        raise directory.DirectoryError("The cells have no directory.", "Run: pydb cells apply FILE")
    schema = Schema()
    template = schema.read("front/call.sql")
    functions = [_Function(*row) for row in connection.execute(FUNCTIONS)]
    parts = [schema.read("front/base.sql")]
    parts += [function.render(template) for function in functions if function.name not in BY_HAND]
    addresses = {name: [make_conninfo(pooler, dbname=name + suffix) for suffix in ("", READ_ONLY)] for name in cells}
    parts += [_insert("cell", [(name, *both, name == new[0]) for name, both in addresses.items()])]
    parts += [_insert("home", [(home.org_id, home.cell_name) for home in homes.values()])]
    parts += [schema.read("front/rights.sql")]
    return "begin;\n" + "\n".join(parts) + "commit;\n"


def _insert(table: str, rows: list[tuple[Any, ...]]) -> str:
    """The SQL that replaces the rows of a table."""
    values = ",\n".join(f"({', '.join(sql.Literal(value).as_string() for value in row)})" for row in rows)
    insert = f"insert into ai_storage_front.{table} values\n{values};\n" if rows else ""
    return f"delete from ai_storage_front.{table};\n{insert}"  # noqa: S608  # every value is quoted


def pgbouncer(dsns: Mapping[str, str]) -> str:
    """The section [databases] of the PgBouncer between a front and its cells: each cell twice, once read-only.

    Raises: DirectoryError when a cell has the name of another one's read-only entry.
    """
    if wrong := [name for name in dsns if name + READ_ONLY in dsns]:
        raise directory.DirectoryError(f"A cell is named {wrong[0]}{READ_ONLY}.", "Name it otherwise: pydb cells apply")
    lines = ["[databases]"]
    for name, place in directory.servers(dsns).items():
        for suffix, more in (("", ""), (READ_ONLY, "; set default_transaction_read_only = on")):
            lines.append(f"{name}{suffix} = {place} datestyle=ISO connect_query='{SETTINGS}{more}'")
    return "\n".join(lines) + "\n"
