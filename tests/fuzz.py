"""Random SQL by an attacker who has all the SQL of an application's login, and an oracle that watches him.

    python -m tests.fuzz --pg 18 --statements 100000 --seed 1

A **world** is a database with the attacker's two tenants and five victims, of his own organisation and of others. Each
place where a victim's text or number can stand holds a **canary**. The **generator** writes statements by a grammar
(fuzz.grammar), the same ones for a seed; what only the server knows, such as a context or the id of a share, stands in
them as «name» and is filled in when they are sent.

The **oracle** searches everything the server says for canaries, also as hex, base64 or raw bytes: values, names of
columns, every field of notices and errors, notifications, COPY. It compares all rows that are not the attacker's, and
the catalog, with what they were. It does not see what is learned bit by bit, from times or counts: other tests do.

Three attackers take turns. All act for the tenant HOME:
- fuzz_key is authorised for exactly HOME and OLD, by key;
- fuzz_token is authorised for its whole organisation, but by token only, and has one token, for HOME;
- fuzz_sql is fuzz_key with the reporting view.

What may be seen: the data of HOME and OLD, and what victims shared with HOME. That has a stamp of its own, which is no
finding; a run that never meets it has looked at nothing (Report.shared_seen). Some things PostgreSQL shows to
everybody, so no canary stands there: names of roles and databases, pg_db_role_setting, comments, policies, function
bodies, names of temporary tables, NOTIFY (our functions send none), sizes and counters of whole tables.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import select
import signal
import string
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from pydb.token import Tenant, mint
from tests.helpers import call, save

HOME = "acme:mcp-1:shop:production:abc"
OLD = "acme:mcp-1:shop:production:old"
# The victims whose keys an attacker may guess differ from HOME in one level.
BETA = "beta:mcp-1:shop:production:abc"
NEIGHBOUR = "acme:mcp-2:shop:production:abc"
SIBLING = "acme:mcp-1:shop:production:def"

ATTACKERS = ("fuzz_key", "fuzz_token", "fuzz_sql")
VICTIM_LOGIN = "fuzz_victim"

CHECK_EVERY = 500  # statements between two comparisons of rows and catalog
ROUND = 10_000  # statements in one world of a long run
STATEMENT_SECONDS = 3.0
MOST_FINDINGS = 10


# What must not be seen ------------------------------------------------------------------------------------------------


class Canaries:
    """Makes canaries, and finds them in what the server says.

    All texts begin with one stamp and all numbers with the same digits, so one search finds any of them.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.stamp = self._letters(10)
        self.shared_stamp = self._letters(10)
        self._digits = str(rng.randrange(10**11, 10**12))
        self.place: dict[str, str] = {}  # canary -> where it stands
        # Searched in the lower-cased bytes, and in the bytes as they are.
        self._folded: dict[bytes, str] = {}
        self._exact: dict[bytes, str] = {}
        self.add_secret(self.stamp.encode(), "text")
        # The first digit may stand apart, as in 7.39e-01.
        self._folded[self._digits[1:].encode()] = "number"
        low, high = (struct.pack(">d", float(f"0.{self._digits}{tail}")) for tail in ("00000", "99999"))
        same = bytes(a for a, b in zip(low, high, strict=True) if a == b)
        self._folded[same.hex().encode()] = "number, binary"
        self._exact[same] = "number, binary"

    def _letters(self, count: int) -> str:
        return "".join(self._rng.choices(string.ascii_lowercase, k=count))

    def text(self, place: str, *, shared: bool = False) -> str:
        """A new canary of letters, fit for a level of a key. shared: one the attacker may see."""
        made = (self.shared_stamp if shared else self.stamp) + self._letters(8)
        self.place[made] = place
        return made

    def number(self) -> float:
        """A new number of 17 digits."""
        return float(f"0.{self._digits}{self._rng.randrange(10_000, 99_999) | 1}")

    def count(self) -> int:
        """A new bigint."""
        return int(f"{self._digits}{self._rng.randrange(10_000, 99_999)}")

    def add_id(self, value: object, place: str) -> None:
        """Text that is a secret as it is: an id of the server's making."""
        shown = str(value).lower()
        self._folded[shown.encode()] = place
        if "-" in shown:
            self._folded[shown.replace("-", "").encode()] = place

    def add_secret(self, value: bytes, place: str) -> None:
        """Bytes, to be found also in hex, in base64 and escaped."""
        part = value[:16]
        self._exact[part] = place
        self._folded[part.lower()] = place
        self._folded[part.hex().encode()] = place + ", hex"
        self._folded[part[::-1].lower()] = place + ", reversed"
        escaped = "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in part)
        self._folded[escaped.lower().encode()] = place + ", escaped"
        for shift in range(3):
            # Only the characters that do not depend on the bytes around.
            encoded = base64.b64encode(b"\0" * shift + part)[(0, 2, 3)[shift] : (shift + len(part)) * 8 // 6]
            self._exact[encoded] = place + ", base64"
            self._exact[encoded.replace(b"+", b"-").replace(b"/", b"_")] = place + ", base64url"

    def found(self, said: bytes) -> list[str]:
        """What of the victims stands in the bytes: kind, place and the text around it."""
        views = [said, *(bytes.fromhex(run.decode()) for run in re.findall(rb"\\x((?:[0-9a-fA-F]{2}){5,})", said))]
        found = []
        for view in views:
            lowered = view.lower()
            for haystack, needles in ((lowered, self._folded), (view, self._exact)):
                for needle, kind in needles.items():
                    at = haystack.find(needle)
                    if at >= 0:
                        around = view[max(at - 60, 0) : at + 100].decode("utf-8", "replace")
                        canary = lowered[at : at + 18].decode("ascii", "replace")
                        found.append(f"{self.place.get(canary, kind)}: ...{around}...")
        return found


# The world ------------------------------------------------------------------------------------------------------------


class Function(NamedTuple):
    name: str  # with its schema, quoted
    arguments: tuple[tuple[str, str, bool], ...]  # name, type, has a default
    is_open: bool  # to applications


class Setting(NamedTuple):
    name: str
    kind: str
    values: tuple[str, ...]


# Rows of victims that a lawful act of the attacker changes, by table: what of them stays, as SQL over t. %(own)s: the
# attacker's tenants; %(written)s: the model that is shared with HOME with write and share.
LAWFUL = {
    # HOME passes on what it holds: grants on a victim's model that HOME gave.
    "model_share": "case when t.sharer_id <> all (%(own)s) then t.xmin || t::text end",
    # It may end what derives from that, and decline what it is offered.
    "share_end": "case when t.ended_by <> all (%(own)s) then t.xmin || t::text end",
    "share_decline": "case when t.tenant_id <> all (%(own)s) then t.xmin || t::text end",
    "ai_progress_tenant": "case when t.model_id = %(written)s "
    "then (t.tenant_id, t.model_id, t.model_name, t.created_at)::text else t.xmin || t::text end",
    "progress_version": "case when t.model_id <> %(written)s or t.version = 1 then t.xmin || t::text end",
    # The use of a victim's model stands in the victim's log, and so do the version and the grants that come of it.
    "audit_pending": "case when t.action not in ('read model', 'read history', 'write model', 'insert share end') "
    "and not (t.action in ('save model', 'insert share', 'update share', 'delete share') and t.model_id = %(written)s) "
    "then t.xmin || t::text end",
}

# Text of each catalog row that no attacker may change. Temporary objects are a session's own.
# A login may change its own settings, password and default privileges. Under `set role ai_storage_app` it may do the
# same for that role; nothing comes of it, since nobody logs in as that role and it owns nothing.
_MAY_SET = f"array[{', '.join(repr(name) for name in (*ATTACKERS, 'ai_storage_app'))}]"
_PUBLISHED = "nspname !~ '^pg_(toast_)?temp_'"
_ABIDING = f"(select oid from pg_namespace where {_PUBLISHED})"
_OURS = f"(select oid from pg_namespace where {_PUBLISHED} and nspname !~ '^pg_' and nspname <> 'information_schema')"
CATALOG = {
    "schemas": f"select n::text from pg_namespace as n where {_PUBLISHED}",
    "relations": "select concat_ws(' ', c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.reloptions, "
    "c.relrowsecurity, c.relforcerowsecurity, c.relhasrules, c.relnatts, c.relpersistence) "
    f"from pg_class as c where c.relnamespace in {_OURS}",
    "columns": "select a::text from pg_attribute as a "
    f"join pg_class as c on c.oid = a.attrelid where c.relnamespace in {_OURS}",
    "functions": f"select p::text from pg_proc as p where p.pronamespace in {_OURS}",
    "rights on system objects": "select md5(string_agg(concat(oid, proacl, proowner, prosrc), ',' order by oid)) "
    "from pg_proc where pronamespace = 'pg_catalog'::regnamespace union all "
    "select md5(string_agg(concat(oid, relacl, relowner), ',' order by oid)) "
    "from pg_class where relnamespace = 'pg_catalog'::regnamespace",
    "policies": "select p::text from pg_policy as p "
    f"join pg_class as c on c.oid = p.polrelid where c.relnamespace in {_ABIDING}",
    "triggers": "select t::text from pg_trigger as t "
    f"join pg_class as c on c.oid = t.tgrelid where c.relnamespace in {_ABIDING}",
    "rules": "select r::text from pg_rewrite as r "
    f"join pg_class as c on c.oid = r.ev_class where c.relnamespace in {_OURS}",
    "constraints": f"select c::text from pg_constraint as c where c.connamespace in {_OURS}",
    "types": f"select t::text from pg_type as t where t.typnamespace in {_OURS}",
    "operators": f"select o::text from pg_operator as o where o.oprnamespace in {_ABIDING} and o.oid >= 16384",
    "collations": f"select c::text from pg_collation as c where c.collnamespace in {_ABIDING} and c.oid >= 16384",
    "casts": "select c::text from pg_cast as c join pg_type as s on s.oid = c.castsource "
    "join pg_type as t on t.oid = c.casttarget where c.oid >= 16384 "
    f"and s.typnamespace in {_ABIDING} and t.typnamespace in {_ABIDING}",
    "roles": "select concat_ws(' ', r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, "
    "r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil, "
    f"case when r.rolname <> all ({_MAY_SET}) then r.rolpassword end) from pg_authid as r",
    "members": "select m::text from pg_auth_members as m",
    "settings of roles": "select s::text from pg_db_role_setting as s "
    f"where coalesce((select rolname from pg_roles where oid = s.setrole), '') <> all ({_MAY_SET})",
    "default privileges": "select d::text from pg_default_acl as d "
    f"where d.defaclrole::regrole::text <> all ({_MAY_SET})",
    "databases": "select concat_ws(' ', d.oid, d.datname, d.datdba, d.datacl, d.datconnlimit) "
    "from pg_database as d where d.datname = current_database()",
    "large objects": "select m::text from pg_largeobject_metadata as m "
    f"where m.lomowner::regrole::text <> all ({_MAY_SET}) union all "
    "select l::text from pg_largeobject as l join pg_largeobject_metadata as m on m.oid = l.loid "
    f"where m.lomowner::regrole::text <> all ({_MAY_SET})",
    "the rest": "select e::text from pg_extension as e union all select l::text from pg_language as l "
    "union all select p::text from pg_publication as p union all select e::text from pg_event_trigger as e "
    "union all select f::text from pg_foreign_server as f union all select a::text from pg_parameter_acl as a "
    "union all select t::text from pg_tablespace as t union all select d::text from pg_shdescription as d",
}

Snapshot = dict[str, Counter[str]]


class World:
    """An installed database with an attacker and his victims.

    dsn: the conninfo of a login in it; without a name, of a superuser.
    """

    def __init__(self, dsn: Callable[..., str], seed: int, stack: ExitStack) -> None:
        self.dsn = dsn
        self.canaries = Canaries(random.Random(f"canaries {seed}"))
        self.admin = stack.enter_context(psycopg.connect(dsn(), autocommit=True))
        self.admin.execute("set lock_timeout = '30s'")  # an attacker who holds us up is a finding too
        self._victim = stack.enter_context(psycopg.connect(self.make_logins(), autocommit=True))
        # «name» in a statement -> what it stands for
        self.known: dict[str, str] = {"database": self.admin.info.dbname}
        text = self.canaries.text
        self.hidden = ":".join(text(f"level of a hidden key: {level}") for level in Tenant._fields)
        self.hidden_code = HOME.removesuffix("abc") + text("code version of a hidden key")
        self._make_tenants()
        self._make_shares()
        self._make_keys()
        (loid,) = self._victim.execute("select lo_from_bytea(0, %s)", (text("large object").encode(),)).fetchone()
        self.known["large object"] = str(loid)
        self._collect_ids()
        self._read_vocabulary()

    def make_logins(self) -> str:
        """The attackers' logins and the victims' one. Returns: the victims' conninfo."""
        for login in (*ATTACKERS, VICTIM_LOGIN):
            if self.admin.execute("select from pg_roles where rolname = %s", (login,)).fetchone() is None:
                self.admin.execute(sql.SQL("create role {} login").format(sql.Identifier(login)))
        for login, pattern, token_only in (
            ("fuzz_key", HOME, False),
            ("fuzz_key", OLD, False),
            ("fuzz_sql", HOME, False),
            ("fuzz_sql", OLD, False),
            ("fuzz_token", "acme:*:*:*:*", True),
            (VICTIM_LOGIN, "*:*:*:*:*", False),
            (VICTIM_LOGIN, self.canaries.text("pattern of another login") + ":*:*:*:*", True),
        ):
            call(self.admin, "authorize_login", login=login, pattern=pattern, token_only=token_only)
        self.admin.execute("grant ai_storage_sql to fuzz_sql")
        return self.dsn(VICTIM_LOGIN)

    def _save(self, name: str, tenant: str, *, shared: bool = False, **more: Any) -> None:
        """One version that is full of canaries."""
        if shared:
            mark = self.canaries.text(f"shared model {name}", shared=True)
            values: dict[str, Any] = {"metrics": {mark: 0.5}, "metadata": {"shared": mark}}
            save(self._victim, name, 0.25, **values, **more, as_=tenant)
            return
        text, number = self.canaries.text, self.canaries.number
        of = f"of {'a hidden tenant' if self.canaries.stamp in tenant else tenant}, model {self._shown(name)}"
        save(
            self._victim,
            name,
            number(),
            training_samples=self.canaries.count(),
            metrics={text(f"metric {of}"): number()},
            metadata={"secret": text(f"metadata {of}"), "deep": [{text(f"name in metadata {of}"): number()}]},
            **more,
            as_=tenant,
        )

    def _shown(self, name: str) -> str:
        return "with a hidden name" if self.canaries.stamp in name else name

    def _make_tenants(self) -> None:
        text = self.canaries.text
        for tenant in (BETA, NEIGHBOUR, SIBLING, self.hidden, self.hidden_code):
            for name in ("common", text("model name")):
                for _ in range(2):
                    self._save(name, tenant)
            self._save("again", tenant, idempotency_key=text("idempotency key"))
            self._save("again", tenant, idempotency_key="k1")
            gone = text("name of a deleted model")
            self._save(gone, tenant)
            call(self._victim, "delete_progress", model_name=gone, as_=tenant)
        for tenant, names in ((HOME, ("common", "m1", "m2", "m3")), (OLD, ("m1", "old"))):
            for name in names * 2:
                save(self._victim, name, 0.5, metrics={"accuracy": 0.75}, metadata={"mine": name}, as_=tenant)

    def _share(self, name: str, owner: str, target: str, *permissions: str, **more: Any) -> Any:
        levels = dict(
            zip(("org_id", "server_id", "project_id", "environment", "code_hash"), target.split(":"), strict=True)
        )
        granted = call(
            self._victim,
            "share_model",
            model_name=name,
            targets=[levels],
            permissions="{" + ",".join(permissions) + "}",
            **more,
            as_=owner,
        )
        return granted[0].share_id

    def _make_shares(self) -> None:
        """What HOME was given, may no longer use, and was never given."""
        for organisation in ("beta", self.hidden.split(":")[0]):
            for other in {HOME.split(":")[0], "beta", self.hidden.split(":")[0]} - {organisation}:
                call(self.admin, "allow_external_sharing", org_id=organisation, to_org_id=other)
        # Read, all versions. Who else writes is between the owner and them.
        self._save("read", BETA, shared=True)
        self._share("read", BETA, self.hidden, "read", "write")
        save(self._victim, "read", 0.25, owner=BETA, as_=self.hidden)
        self._save("read", BETA, shared=True)
        self._share("read", BETA, "acme:*:shop:*:abc", "read")
        # One version of three.
        self._save("pinned", BETA)
        self._save("pinned", BETA, shared=True)
        self._save("pinned", BETA)
        self._share("pinned", BETA, HOME, "read", version=2)
        # Read, write and passing on: the one model of a victim that HOME may change.
        self._save("written", NEIGHBOUR, shared=True)
        self._share("written", NEIGHBOUR, HOME, "read", "write", "share")
        # Its content is not for reading.
        self._save("executed", BETA)
        self._share("executed", BETA, HOME, "execute")
        # Over, taken back, and given on an earlier model of the name.
        for name, owner in (("expired", BETA), ("revoked", NEIGHBOUR), ("reused", BETA)):
            self._save(name, owner)
            self._share(name, owner, HOME, "read", "write", "share", expires_at="2999-01-01")
        self.admin.execute(
            "update ai_storage_private.model_share set expires_at = now() - interval '1 hour' "
            "where model_name = 'expired'"
        )
        call(self._victim, "unshare_model", model_name="revoked", as_=NEIGHBOUR)
        call(self._victim, "delete_progress", model_name="reused", as_=BETA)
        self._save("reused", BETA)
        # Among victims. The attacker guessed the id of this one.
        self.known["guessed share"] = str(self._share("again", BETA, NEIGHBOUR, "read", "write", "share"))
        self._share("again", BETA, self.hidden_code, "read")
        self._share("common", self.hidden, NEIGHBOUR, "read")
        self._share("common", self.hidden, self.hidden_code, "read", "share")

    def _make_keys(self) -> None:
        """Signing keys, the secrets that must not be seen, and the tokens an attacker has."""
        database = self.known["database"]
        (key,) = call(self.admin, "create_signing_key", kid="fuzz", audience=database)
        (retired,) = call(self.admin, "create_signing_key", kid="retired", audience=database)
        text = self.canaries.text
        (other,) = call(self.admin, "create_signing_key", kid=text("kid"), audience=text("audience"))
        call(self.admin, "retire_signing_key", kid="retired")
        for row in (key, retired, other):
            self.canaries.add_secret(row.secret.encode(), "secret of a signing key")
        for table, columns in (("signing_key", "inner_pad, outer_pad"), ("context_secret", "inner_key, outer_key")):
            for row in self.admin.execute(f"select {columns} from ai_storage_private.{table}").fetchall():
                for value in row:
                    self.canaries.add_secret(value, table)
                    self.canaries.add_secret(value[16:], table)

        def token(tenant: str, *, of: Any = key, audience: str = database, hours: float = 23) -> str:
            ttl = timedelta(hours=hours)
            return mint(Tenant(*tenant.split(":")), kid=of.kid, secret=of.secret, audience=audience, ttl=ttl)

        head, claims, signature = token(HOME).split(".")
        forged = base64.urlsafe_b64encode(
            json.dumps(
                {
                    **dict(zip(Tenant._fields, NEIGHBOUR.split(":"), strict=True)),
                    "aud": database,
                    "exp": time.time() + 999,
                }
            ).encode()
        )
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"fuzz"}')
        self.known |= {
            "token": f"{head}.{claims}.{signature}",
            "expired token": token(HOME, hours=-1),
            "long token": token(NEIGHBOUR, hours=48),
            "retired token": token(NEIGHBOUR, of=retired),
            "foreign token": token(NEIGHBOUR, audience="elsewhere"),
            "edited token": f"{head}.{forged.decode().rstrip('=')}.{signature}",
            "unsigned token": f"{unsigned.decode().rstrip('=')}.{forged.decode().rstrip('=')}.{signature}",
        }

    def _collect_ids(self) -> None:
        """Ids of the server's making: the attacker's, those he guessed, and those that must not be seen."""
        tenants = dict(self.admin.execute("select isolation_key, tenant_id from ai_storage_private.tenant").fetchall())
        self.own = [tenants[HOME], tenants[OLD]]
        (self.written,) = self.admin.execute(
            "select model_id from ai_storage_private.ai_progress_tenant where model_name = 'written'"
        ).fetchone()
        # Of one victim the attacker knows the id and a model: such ids shall be no secret that protects.
        self.known["beta id"] = str(tenants[BETA])
        (model,) = self.admin.execute(
            "select model_id from ai_storage_private.ai_progress_tenant where tenant_id = %s and model_name = 'common'",
            (tenants[BETA],),
        ).fetchone()
        self.known["beta model"] = str(model)
        for tenant_id in tenants.values():
            if tenant_id not in (*self.own, tenants[BETA]):
                self.canaries.add_id(tenant_id, "id of a tenant")
        reaching = {row.share_id for row in call(self._victim, "list_received_shares", as_=HOME)}
        # HOME's log names the models of others that HOME used.
        for (model_id,) in self.admin.execute(
            "select model_id from ai_storage_private.ai_progress_tenant where tenant_id <> all (%s) except "
            "select model_id from ai_storage_private.model_share where share_id = any (%s)",
            (self.own, list(reaching)),
        ).fetchall():
            if model_id != model:
                self.canaries.add_id(model_id, "id of a model")
        for (share_id,) in self.admin.execute("select share_id from ai_storage_private.model_share").fetchall():
            if share_id not in reaching and str(share_id) != self.known["guessed share"]:
                self.canaries.add_id(share_id, "id of a grant")
        self.known |= {
            "share": self.known["guessed share"],
            "cursor": f"{BETA} read",
            "context": "",
            "older context": "",
        }

    def put_victims_to_work(self, stack: ExitStack) -> None:
        """Open sessions of victims and leave them in the middle of their work."""
        for tenant, name in ((self.hidden, "hidden"), (BETA, "stolen context")):
            working = stack.enter_context(psycopg.connect(self.dsn(VICTIM_LOGIN)))
            secret = self.canaries.text("another session")
            working.execute(f"create temporary table working as select '{secret}' as line")
            working.execute(f"prepare working as select '{secret}'")
            working.commit()
            working.execute(f"set local app.secret = '{secret}'")
            call(working, "set_tenant", credential=tenant)
            call(working, "load_progress")
            (context,) = working.execute("select current_setting('app.tenant_context')").fetchone()
            working.execute(f"select '{secret}'")
            if name == "hidden":
                self.canaries.add_secret(context[:64].encode(), "context of another session")
            else:
                # Read off the victim's screen: good in that session alone.
                self.known[name] = context

    def _read_vocabulary(self) -> None:
        """What statements are made of here: functions, tables, catalogs, settings."""
        rows = self.admin.execute(
            "select format('%I.%I', n.nspname, p.proname), coalesce(p.proargnames[1:p.pronargs], '{}'), "
            "array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, place) "
            "order by a.place), p.pronargdefaults, has_function_privilege('ai_storage_app', p.oid, 'execute') "
            "from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace "
            "where n.nspname in ('ai_storage', 'ai_storage_private') order by 1, p.oid::regprocedure::text"
        ).fetchall()
        self.functions = [
            Function(
                name,
                tuple(
                    (argument, kind, place >= len(kinds) - defaults)
                    for place, (argument, kind) in enumerate(zip(names, kinds, strict=False))
                ),
                is_open,
            )
            for name, names, kinds, defaults, is_open in rows
        ]
        self.tables = self._column(
            "select c.relname from pg_class as c where c.relnamespace = 'ai_storage_private'::regnamespace "
            "and c.relkind in ('r', 'p') order by 1"
        )
        self.catalogs = self._column(
            "select c.oid::regclass::text from pg_class as c where c.relkind in ('r', 'v') "
            "and c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) order by 1"
        )
        self.settings = []
        for name, kind, low, boot, choices in self.admin.execute(
            "select name, vartype, min_val, boot_val, enumvals from pg_settings where context in ('user', 'superuser') "
            # Compiling every plan would only take time, and the log is not ours to fill.
            "and name !~ '^(jit|log_)' order by name"
        ).fetchall():
            values = choices or {"bool": ("on", "off"), "string": (boot or "", "x")}.get(kind, (low, boot))
            self.settings.append(Setting(name, kind, tuple(values)))

    def _column(self, query: str) -> list[str]:
        return [value for (value,) in self.admin.execute(query).fetchall()]

    def snapshot(self) -> Snapshot:
        """Every row that is not the attacker's, and the catalog, as text."""
        rows = {}
        for table in self.tables:
            kept = LAWFUL.get(table, "t.xmin || t::text")
            has_tenant = self.admin.execute(
                "select true from pg_attribute where attrelid = %s::regclass and attname = 'tenant_id'",
                (f"ai_storage_private.{table}",),
            ).fetchone()
            where = "t.tenant_id <> all (%(own)s)" if has_tenant else "true"
            rows[table] = Counter(
                text
                for (text,) in self.admin.execute(
                    f"select {kept} from ai_storage_private.{table} as t where {where}",
                    {"own": self.own, "written": self.written},
                )
                if text is not None
            )
        return rows | {name: Counter(self._column(query)) for name, query in CATALOG.items()}

    def tidy(self) -> None:
        """Undo what an attacker may lawfully leave behind for his next sessions, or for the disk."""
        for login in ATTACKERS:
            for statement in ("alter role {} reset all", "alter role {} in database {} reset all"):
                self.admin.execute(
                    sql.SQL(statement).format(sql.Identifier(login), sql.Identifier(self.known["database"]))
                )
        self.admin.execute(
            "select lo_unlink(m.oid) from pg_largeobject_metadata as m where m.oid <> %s",
            (int(self.known["large object"]),),
        )
        # What HOME declined once, it would not be shown again.
        self.admin.execute("delete from ai_storage_private.share_decline where tenant_id = any (%s)", (self.own,))


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """The rows that came and went, in words."""
    found = []
    for name in before.keys() | after.keys():
        gone, new = (before.get(name, Counter()), after.get(name, Counter()))
        found += [f"{name}: gone: {row[:300]}" for row in gone - new]
        found += [f"{name}: new: {row[:300]}" for row in new - gone]
    return sorted(found)


# The attacker's session -----------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What the server said to one statement. sqlstate: of the last error, or 00000."""

    sqlstate: str
    said: bytes


_FIELDS = list(pq.DiagnosticField)


class Session:
    """A connection that keeps every byte it is told, and cannot be stopped by what the attacker sends."""

    def __init__(self, world: World, attacker: str, options: str) -> None:
        self._world = world
        self._heard: list[bytes] = []
        conninfo = world.dsn(attacker, options=options) if options else world.dsn(attacker)
        self._pg = pq.PGconn.connect(conninfo.encode())
        self.is_open = self._pg.status == pq.ConnStatus.OK
        self.refusal = self._pg.get_error_message()
        self._heard.append(self.refusal.encode())
        if self.is_open:
            self._pg.notice_handler = self._hear_fields
            self.pid = self._pg.backend_pid

    def close(self) -> None:
        self._pg.finish()
        self.is_open = False

    @property
    def has_failed_transaction(self) -> bool:
        return self.is_open and self._pg.transaction_status == pq.TransactionStatus.INERROR

    @property
    def is_in_transaction(self) -> bool:
        return self.is_open and self._pg.transaction_status == pq.TransactionStatus.INTRANS

    def execute(self, statement: str, *, binary: bool = False) -> Answer:
        """Send one message and hear the whole answer. binary: by the extended protocol, with binary results."""
        sqlstate = "00000"
        try:
            if binary:
                self._pg.send_query_params(statement.encode(), None, result_format=pq.Format.BINARY)
            else:
                self._pg.send_query(statement.encode())
            self._deadline = time.monotonic() + STATEMENT_SECONDS
            while True:
                self._wait()
                result = self._pg.get_result()
                if result is None:
                    break
                sqlstate = self._hear(result, sqlstate)
            while (notification := self._pg.notifies()) is not None:
                self._heard += [notification.relname, notification.extra]
        except psycopg.OperationalError as error:
            self._heard.append(str(error).encode())
            sqlstate = sqlstate if sqlstate != "00000" else "lost"
        if self._pg.status != pq.ConnStatus.OK:
            self.close()
        said, self._heard = b"\n".join(self._heard), []
        return Answer(sqlstate, said)

    def _wait(self) -> None:
        while self._pg.is_busy():
            self._listen()

    def _listen(self) -> None:
        readable, _, _ = select.select([self._pg.socket], [], [], max(self._deadline - time.monotonic(), 0.1))
        if readable:
            self._pg.consume_input()
        elif time.monotonic() > self._deadline:
            # Cancelled once, then ended: an attacker's handler may swallow the cancellation.
            late = time.monotonic() > self._deadline + STATEMENT_SECONDS
            stop = "pg_terminate_backend" if late else "pg_cancel_backend"
            self._world.admin.execute(f"select {stop}(%s)", (self.pid,))
            time.sleep(0.1)

    def _hear(self, result: pq.PGresult, sqlstate: str) -> str:
        status = result.status
        if status == pq.ExecStatus.TUPLES_OK:
            names = [result.fname(column) or b"" for column in range(result.nfields)]
            self._heard += names
            for row in range(result.ntuples):
                for column, name in enumerate(names):
                    value = result.get_value(row, column)
                    if value:
                        self._heard.append(value)
                        self._learn(name, value)
        elif status == pq.ExecStatus.COPY_OUT:
            self._copy_out()
        elif status == pq.ExecStatus.COPY_IN:
            self._pg.put_copy_data(b"one line\n")
            self._pg.put_copy_end()
        elif status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR):
            self._hear_fields(result)
            self._heard.append(result.error_message or b"")
            return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"lost").decode()
        if result.command_status:
            self._heard.append(result.command_status)
        return sqlstate

    def _copy_out(self) -> None:
        while True:
            count, data = self._pg.get_copy_data(1)
            if count > 0:
                self._heard.append(bytes(data))
            elif count == 0:
                self._listen()
            else:
                return

    def _hear_fields(self, result: pq.PGresult) -> None:
        self._heard += [value for name in _FIELDS if (value := result.error_field(name))]

    def _learn(self, column: bytes, value: bytes) -> None:
        """Keep what later statements try again: contexts, ids of grants, cursors."""
        known = self._world.known
        if column == b"current_setting" and re.match(rb"[0-9a-f]{64}\|", value):
            if value.decode() != known["context"]:
                known["older context"], known["context"] = known["context"], value.decode()
        elif column == b"share_id" and len(value) == 36:
            known["share"] = value.decode("ascii", "replace")
        elif column == b"cursor" and len(value) < 300:
            known["cursor"] = value.decode("utf-8", "replace").replace("'", "''")


# What the attacker tries ----------------------------------------------------------------------------------------------

GRAMMAR = Path(__file__).with_name("fuzz.grammar")

# How often each kind of script comes, and which of them may as well stand in a transaction for the tenant.
KINDS = {
    "call": 30,
    "transaction": 13,
    "nested": 12,
    "explain": 7,
    "copy": 6,
    "cursor": 5,
    "prepared": 5,
    "do": 9,
    "temp": 7,
    "settings": 6,
    "context": 8,
    "notify": 3,
    "large object": 3,
    "catalog": 9,
    "privilege": 5,
    "tables": 2,
    "lock": 2,
    "break": 1,
}
ALSO_INSIDE = {"nested", "explain", "copy", "do", "temp", "large object"}

# How a session mostly begins: functions that hand on what they are given, as a notice, an error, an aggregate.
TOOLS = (
    "create or replace function pg_temp.peek(text) returns boolean language plpgsql cost 0.0000001 as "
    "$$ begin raise notice 'peek %', $1; return true; end $$",
    "create or replace function pg_temp.peek_two(text, text) returns boolean language plpgsql cost 0.0000001 as "
    "$$ begin raise info 'peek % %', $1, $2; return true; end $$",
    "create or replace function pg_temp.fail(text) returns boolean language plpgsql cost 0.0000001 as "
    "$$ begin raise exception using message = $1, detail = $1, hint = $1; end $$",
    "create or replace function pg_temp.gather(text, text) returns text language sql immutable as "
    "$$ select left(coalesce($1, '') || coalesce($2, ''), 10000) $$",
    "create aggregate pg_temp.collect(text) (sfunc = pg_temp.gather, stype = text)",
    "create domain pg_temp.loud as pg_catalog.text check (pg_temp.peek(value))",
    "create operator pg_temp.=== (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = pg_temp.peek_two)",
    "create temporary table loot (line pg_catalog.text)",
    "create or replace function pg_temp.run(pg_catalog.text) returns setof pg_catalog.text language plpgsql as "
    "$$ declare r record; begin for r in execute $1 loop return next r::pg_catalog.text; end loop; end $$",
)


def rules(grammar: str) -> dict[str, tuple[list[str], list[int]]]:
    """The ways to write each rule, and how likely each of them is."""
    ways: dict[str, list[str]] = {}
    name = ""
    for line in grammar.splitlines():
        if line.startswith("        "):
            ways[name][-1] += " " + line.strip()
        elif line.startswith("    "):
            ways[name].append(line.strip())
        elif line and not line.startswith("#"):
            name, _, way = line.partition(" =")
            ways[name] = way.strip().split(" | ") if way else []
    made = {}
    for name, written in ways.items():
        parts = [re.fullmatch(r"(?:(\d+)\*(?: |$))?(.*)", way) for way in written]
        made[name] = ([part[2] for part in parts if part], [int(part[1] or 1) for part in parts if part])
    return made


class Statement(NamedTuple):
    """One message to the server.

    binary: sent by the extended protocol. recovers: a failed transaction is ended first.
    """

    kind: str
    text: str
    binary: bool = False
    recovers: bool = True


# Not counted, and sent only where there is a transaction.
END_TRANSACTION = Statement("", "rollback")


class Generator:
    """Makes statements, the same ones for the same seed and vocabulary."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._rules = rules(GRAMMAR.read_text("utf-8"))
        self._is_token_login = False
        self._tags = 0
        # Rules that are not text.
        self._made: dict[str, Callable[[int], str]] = {
            "tag": self._tag,
            "function": lambda depth: self._call(depth, within=False),
            "function within": lambda depth: self._call(depth, within=True),
            "function name": lambda _: rng.choice(world.functions).name,
            "credential": self._credential,
            "relation": lambda _: rng.choice(world.catalogs),
            "table": lambda _: rng.choice(world.tables),
            "any setting": self._any_setting,
        }

    def session(self, attacker: str) -> tuple[tuple[str, str] | None, Iterator[Statement]]:
        """A setting and its value to begin the session with, or None, and its statements."""
        self._is_token_login = attacker == "fuzz_token"
        setting = None
        if self._chance(0.1):
            setting = self._rng.choice(
                (
                    ("app.current_tenant", BETA),
                    ("app.tenant_context", "«context»"),
                    ("app.tenant_context", "«stolen context»"),
                    ("row_security", "off"),
                    ("search_path", "pg_temp, ai_storage_private"),
                    ("role", "ai_storage_owner"),
                    ("session_replication_role", "replica"),
                    ("client_min_messages", "debug2"),
                )
            )
        return setting, self._statements(self._rng.randrange(30, 200))

    def _statements(self, count: int) -> Iterator[Statement]:
        kind, script = "temp", [tool for tool in TOOLS if self._chance(0.95)]
        while count > 0:
            recovers = self._chance(0.92)
            if len(script) > 1 and kind != "copy" and self._chance(0.08):
                script = ["; ".join(script)]  # one message
            for text in script:
                single = ";" not in text and "copy" not in text
                yield Statement(kind, text, single and self._chance(0.06), recovers)
                count -= 1
            if self._chance(0.9):
                yield END_TRANSACTION
            (kind,) = self._rng.choices(list(KINDS), list(KINDS.values()))
            script = self._way(kind, 3).split(" ;; ")
            if kind in ALSO_INSIDE and self._chance(0.5):
                script = [*self._way("transaction", 0).split(" ;; ")[:2], *script, self._way("end", 0)]

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _way(self, name: str, depth: int) -> str:
        """A rule written out. depth: how many queries may still stand in each other."""
        if name in self._made:
            return self._made[name](depth)
        if name == "query":
            if depth <= 0 or self._chance(0.3):
                name = "source"
            depth -= 1
        ways, weights = self._rules[name]
        (way,) = self._rng.choices(ways, weights)
        same: dict[str, str] = {}

        def write(match: re.Match[str]) -> str:
            if match[2] is None:
                return self._way(match[1], depth)
            if match[0] not in same:
                same[match[0]] = self._way(match[1], depth)
            return same[match[0]]

        return re.sub(r"<([a-z_][a-z_ ]*)(?::(\d))?>", write, way)

    def _tag(self, _: int) -> str:
        self._tags += 1
        return f"$q{self._tags}$"

    def _any_setting(self, _: int) -> str:
        setting = self._rng.choice(self._world.settings)
        value = self._rng.choice(setting.values) or ""
        return "{} = '{}'".format(setting.name, value.replace("'", "''"))

    def _credential(self, depth: int) -> str:
        if self._chance(0.14):
            return self._way("hostile credential", depth - 1)
        if self._is_token_login:
            return "'«token»'"
        return f"'{HOME}'" if self._chance(0.9) else f"'{OLD}'"

    def _value(self, name: str, kind: str, depth: int) -> str:
        if name in ("p_as", "p_credential"):
            return self._credential(depth)
        if self._chance(0.04):
            return "null"
        fits = next((rule for rule in (name, kind) if rule in self._rules), "text")
        hostile = f"hostile {kind}"
        return self._way(hostile if hostile in self._rules and self._chance(0.12) else fits, depth - 1)

    def _call(self, depth: int, *, within: bool) -> str:
        """One of our functions with arguments by name. within: mostly without a credential of its own."""
        is_open = self._chance(0.94)
        functions = [function for function in self._world.functions if function.is_open is is_open]
        # Most may be learned and done by these.
        weights = [4 if re.search("load_|save_|share", function.name) else 1 for function in functions]
        (function,) = self._rng.choices(functions, weights)
        names = {name for name, _, _ in function.arguments}
        arguments = []
        if names >= {"p_owner", "p_model_name"} and self._chance(0.5):
            arguments.append(self._way("shared model", depth - 1))
            names -= {"p_owner", "p_model_name"}
        for name, kind, has_default in function.arguments:
            if name == "p_as":
                is_given = not self._chance(0.7 if within else 0.03)
            elif name == "p_mse":
                is_given = self._chance(0.9)
            else:
                is_given = not has_default or (name != "p_owner" and self._chance(0.3))
            if name not in names or not is_given:
                continue
            is_plain = name == "p_model_name" and self._chance(0.9)
            value = self._way("model", depth) if is_plain else self._value(name, kind, depth)
            arguments.append(f"{name} => {value}" if name else value)
        return f"{function.name}({', '.join(arguments)})"


# The run --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """A leak or a change, and how to see it again."""

    seed: int
    number: int
    attacker: str
    what: str
    statements: tuple[str, ...]  # of the session so far, the last ones

    def __str__(self) -> str:
        shown = "\n".join(f"    {statement[:2000]};" for statement in self.statements)
        return f"seed {self.seed}, statement {self.number}, as {self.attacker}: {self.what}\n{shown}"


@dataclass(slots=True)
class Report:
    """What was tried and what came of it."""

    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)  # kind -> SQLSTATE -> how many
    sessions: int = 0
    checks: int = 0
    said: int = 0  # bytes that were searched
    shared_seen: set[str] = field(default_factory=set)  # shared canaries that were met, by place

    @property
    def statements(self) -> int:
        return sum(outcomes.total() for outcomes in self.outcomes.values())

    @property
    def succeeded(self) -> float:
        """The share of statements without an error."""
        return sum(outcomes["00000"] for outcomes in self.outcomes.values()) / max(self.statements, 1)

    def add(self, other: Report) -> None:
        self.seconds += other.seconds
        self.findings += other.findings
        self.sessions += other.sessions
        self.checks += other.checks
        self.said += other.said
        self.shared_seen |= other.shared_seen
        for kind, outcomes in other.outcomes.items():
            self.outcomes.setdefault(kind, Counter()).update(outcomes)

    def __str__(self) -> str:
        lines = [
            f"{self.statements:,} statements in {self.sessions:,} sessions, {self.seconds:,.0f} s, "
            f"{self.said / 1e6:,.0f} MB searched, rows and catalog compared {self.checks:,} times",
            f"{self.succeeded:.0%} without an error; shared and seen: {', '.join(sorted(self.shared_seen)) or 'none'}",
            f"{'kind':<14}{'count':>9}{'without error':>15}  most frequent errors",
        ]
        for kind, outcomes in sorted(self.outcomes.items()):
            errors = " ".join(f"{state}:{count}" for state, count in outcomes.most_common(8) if state != "00000")
            lines.append(f"{kind:<14}{outcomes.total():>9,}{outcomes['00000'] / outcomes.total():>15.0%}  {errors}")
        total = Counter[str]()
        for outcomes in self.outcomes.values():
            total.update(outcomes)
        lines.append("all: " + " ".join(f"{state}:{count:,}" for state, count in total.most_common(25)))
        lines.append(f"{len(self.findings)} findings")
        lines += [str(finding) for finding in self.findings]
        return "\n".join(lines)


def run(
    dsn: Callable[..., str],
    seed: int,
    statements: int,
    *,
    check_every: int = CHECK_EVERY,
    prepare: Callable[[World], object] = lambda world: None,
    most_findings: int = MOST_FINDINGS,
) -> Report:
    """Send that many statements to an installed database and watch.

    dsn: see World. prepare: called before the victims are put to work and the world is first looked at.
    most_findings: where to stop.
    """
    with ExitStack() as stack:
        world = World(dsn, seed, stack)
        prepare(world)
        world.put_victims_to_work(stack)
        return _Run(world, seed, check_every, most_findings).go(statements)


class _Run:
    def __init__(self, world: World, seed: int, check_every: int, most_findings: int) -> None:
        self._world = world
        self._seed = seed
        self._check_every = check_every
        self._most_findings = most_findings
        self._rng = random.Random(f"statements {seed}")
        self._generator = Generator(world, self._rng)
        self._report = Report()
        self._number = 0
        self._session: list[str] = []
        self._attacker = ""
        self._before = world.snapshot()

    def go(self, statements: int) -> Report:
        begun = time.monotonic()
        try:
            while self._number < statements and len(self._report.findings) < self._most_findings:
                self._attacker = self._rng.choice(ATTACKERS)
                setting, script = self._generator.session(self._attacker)
                options = ""
                if setting is not None:
                    options = f"-c {setting[0]}=" + re.sub(r"([\\ ])", r"\\\1", self._fill(setting[1]))
                self._play(options, script, statements)
            self._check()
        except psycopg.Error as error:
            # The superuser's own connection was held up or lost: the server may have crashed.
            error.add_note(str(Finding(self._seed, self._number, self._attacker, "the watcher failed", self._last())))
            raise
        self._report.seconds = time.monotonic() - begun
        return self._report

    def _play(self, options: str, script: Iterator[Statement], statements: int) -> None:
        """One session, from its connection to its end."""
        self._world.tidy()
        self._session = []
        self._report.sessions += 1
        session = Session(self._world, self._attacker, options)
        if not session.is_open:
            self._search(Answer("lost", session.refusal.encode()), options)
        for statement in script:
            if not session.is_open or self._number >= statements or len(self._report.findings) >= self._most_findings:
                break
            if statement is END_TRANSACTION:
                if session.is_in_transaction or session.has_failed_transaction:
                    self._search(session.execute("rollback"), "rollback")
                continue
            if session.has_failed_transaction and statement.recovers and not statement.text.startswith("rollback"):
                self._search(session.execute("rollback"), "rollback")
                if not session.is_open:
                    break
            text = self._fill(statement.text)
            answer = session.execute(text, binary=statement.binary)
            self._number += 1
            self._report.outcomes.setdefault(statement.kind, Counter())[answer.sqlstate] += 1
            self._search(answer, text)
            if self._number % self._check_every == 0:
                self._check()
        session.close()

    def _fill(self, text: str) -> str:
        return re.sub("«([^»]*)»", lambda match: self._world.known.get(match[1], ""), text)

    def _search(self, answer: Answer, text: str) -> None:
        self._session.append(text)
        self._report.said += len(answer.said)
        canaries = self._world.canaries
        for canary in re.findall(rb"%s[a-z]{8}" % canaries.shared_stamp.encode(), answer.said):
            self._report.shared_seen.add(canaries.place.get(canary.decode(), "unknown"))
        for leak in canaries.found(answer.said)[:3]:
            self._add(f"leak: {leak}")

    def _check(self) -> None:
        self._report.checks += 1
        after = self._world.snapshot()
        for change in changes(self._before, after)[:3]:
            self._add(f"change since the last check, at most {self._check_every} statements ago: {change}")
        self._before = after

    def _add(self, what: str) -> None:
        self._report.findings.append(Finding(self._seed, self._number, self._attacker, what, self._last()))

    def _last(self) -> tuple[str, ...]:
        return tuple(self._session[-30:])


def _conninfo(host: str, port: int, database: str, user: str = "postgres", **more: str) -> str:
    return make_conninfo(host=host, port=port, user=user, dbname=database, **more)


def main(arguments: Sequence[str] | None = None) -> int:
    from pydb import migrate
    from tests import servers
    from tests.conftest import FAST, new_cluster

    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Sends random SQL as an attacker with the SQL of an application's login, and searches all that the "
        "server says for the canaries of other tenants. Starts a PostgreSQL of its own and removes it in the end.",
        epilog=f"Each {ROUND:,} statements are one world with the next seed. To repeat a finding, give its seed; "
        "--check-every 1 names the statement that changed a row.",
    )
    parser.add_argument("--pg", type=int, default=18, help="major version of PostgreSQL (default: %(default)s)")
    parser.add_argument("--statements", type=int, default=ROUND, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first world's seed (default: %(default)s)")
    parser.add_argument(
        "--check-every",
        type=int,
        default=CHECK_EVERY,
        metavar="N",
        help="statements between two comparisons of rows and catalog (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    # A polite kill has to remove the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        bin_dir = servers.bin_dir(options.pg)
    except servers.NoServer as error:
        print(error, file=sys.stderr)
        return 2
    report = Report()
    for cluster in new_cluster(bin_dir):
        cluster.start({**FAST, "log_min_messages": "panic", "log_min_error_statement": "panic"})
        with psycopg.connect(cluster.url()) as connection:
            host, port = connection.info.host, connection.info.port
        for number in range(0, options.statements, ROUND):
            seed = options.seed + number // ROUND
            name = f"fuzz_{seed}"
            with psycopg.connect(cluster.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            dsn = partial(_conninfo, host, port, name)
            migrate.init(dsn())
            done = run(dsn, seed, min(ROUND, options.statements - number), check_every=options.check_every)
            report.add(done)
            print(f"seed {seed}: {done.statements:,} statements, {done.seconds:.0f} s", flush=True)
            for finding in done.findings:
                print(finding, flush=True)
            with psycopg.connect(cluster.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
