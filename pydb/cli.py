"""The command `pydb`. Exit code 0: done, 1: refused or failed, 2: wrong usage."""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, LiteralString, TextIO, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from . import (
    __version__,
    _files,
    artifact,
    calls,
    directory,
    doctor,
    embedded,
    evidence,
    evidence_page,
    front,
    graph,
    importer,
    metrics,
    migrate,
    move,
    session,
    token,
    transfer,
)
from .dsn import InvalidDsn, parse
from .errors import StorageError
from .output import Screen, escape, raw
from .storage import LOGIN_POWERS, TenantAwareStorage, refuse_powerful

__all__ = ["main"]

T = TypeVar("T")

# The five levels of a key, in its order.
LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
# Option of pydb token -> claim of the token.
TOKEN_LEVELS = {"org": "org", "server": "srv", "project": "prj", "env": "env", "code": "code"}
PERMISSIONS = ("read", "execute", "write", "share")

# The application login of the embedded server, created when a tenant command first needs it.
LOCAL_LOGIN = "ai_storage_local"

WIDE_PATTERN_NOTE = (
    "Note: whoever can run SQL as {login} may name any tenant that {pattern} covers. That is a convenience for trusted "
    "code. Use a narrower --pattern, or --token-only, to hold against SQL injection."
)


class CommandError(Exception):
    """A refusal of the command line itself. hint: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# Where to connect


def _secret(name: str) -> str | None:
    """A secret: the value of an environment variable, or of the file that the variable NAME_FILE names."""
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name) or None
    if os.environ.get(name):
        raise CommandError(f"{name} and {name}_FILE are both set.", "Unset one of them.")
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"{name}_FILE cannot be read: {reason}.", f"It names {path}.") from None


def _given_dsn(args: argparse.Namespace) -> str | None:
    given = args.dsn or _secret("DATABASE_URL")
    return parse(given) if given else None


def _admin_dsn(args: argparse.Namespace) -> str:
    """The DSN given, else the embedded server's, which is started when it is not running."""
    given = _given_dsn(args)
    if given is not None:
        return given
    return embedded.start()


def _run(args: argparse.Namespace, call: calls.Call[T]) -> T:
    """Run one call for the tenant of --as."""
    with _connect_tenant(args) as connection:
        return session.run(connection, call, args.credential)


@contextmanager
def _connect_tenant(args: argparse.Namespace) -> Iterator[psycopg.Connection[Any]]:
    """A connection that may serve tenants."""
    given = _given_dsn(args)
    if given is not None:
        # Nothing is set: behind a pooler the session is not ours.
        with psycopg.connect(given, autocommit=True, client_encoding="UTF8", prepare_threshold=None) as connection:
            refuse_powerful(session.run(connection, LOGIN_POWERS), args.trusted_login)
            yield connection
        return
    admin = _admin_dsn(args)
    with migrate.connect(admin) as connection:
        made, known = connection.execute(
            "select pg_catalog.to_regprocedure('ai_storage.version()') is not null, "
            "exists (select from pg_catalog.pg_roles where rolname = %s)",
            (LOCAL_LOGIN,),
        ).fetchone() or (False, False)
        if not known:  # the first use of this embedded server
            migrate.init(admin, app_login=LOCAL_LOGIN, pattern="*:*:*:*:*")
        elif not made or session.run(connection, calls.version()) != __version__:  # another release's
            migrate.init(admin)
    with migrate.connect(make_conninfo(admin, user=LOCAL_LOGIN)) as connection:
        yield connection


def _run_on(dsn: str, call: calls.Call[T], credential: str | None = None) -> T:
    with migrate.connect(dsn) as connection:
        return session.run(connection, call, credential)


# What to print


def _span(value: timedelta) -> str:
    """A duration as the options take it, such as 90d."""
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if not value % length:
            return f"{value // length}{unit}"
    return f"{value.total_seconds():g}s"


def _plain(value: Any) -> str:
    if isinstance(value, timedelta):
        return _span(value)
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds"))
    if isinstance(value, timedelta):
        return _span(value)
    if isinstance(value, (dict, list)):
        return escape(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")), keep="")
    return escape(str(value), keep="")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _print_rows(args: argparse.Namespace, rows: Sequence[Any], columns: Sequence[str]) -> None:
    """Print dataclass rows as a table of the given columns, or all their fields as JSON."""
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2, ensure_ascii=False, default=_plain))
        return
    table = [list(columns)] + [[_cell(getattr(row, column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _progress(what: str) -> transfer.Progress:
    """Hands on what passes, and draws on a terminal how much it was."""

    draw = _bar(what)

    def watch(lines: Iterable[str], total: int) -> Iterator[str]:
        for done, line in enumerate(lines, 1):
            yield line
            draw(done, total)

    return watch


def _bar(what: str) -> artifact.Progress:
    """Draws on a terminal how much is done."""
    drawn = 0.0  # seconds

    def draw(done: int, total: int | None) -> None:
        nonlocal drawn
        if not sys.stderr.isatty() or (time.monotonic() - drawn <= 0.1 and done != total):
            return
        drawn = time.monotonic()
        screen = raw(sys.stderr)
        if total is None:
            print(f"\r{escape(what)} {done:,}", end="", file=screen, flush=True)
            return
        bar = "#" * (30 * done // total if total else 30)
        end = "\n" if done == total else ""
        print(f"\r{escape(what)} [{bar:<30}] {done:,} of {total:,}", end=end, file=screen, flush=True)

    return draw


# Operating the database


def _init(args: argparse.Namespace) -> None:
    if args.app_login is None and (args.pattern or args.token_only):
        args.refuse("--pattern and --token-only are about an application login: add --app-login NAME")
    if args.app_login is not None and args.pattern is None:
        args.refuse(
            "--app-login takes --pattern, the tenants that the login may name: 'acme:*:*:*:*' is one organisation; "
            "with --token-only '*:*:*:*:*' is safe, since each token names one tenant"
        )
    password = _secret("AI_STORAGE_APP_PASSWORD")
    login = migrate.init(
        _admin_dsn(args),
        app_login=args.app_login,
        app_password=password,
        pattern=args.pattern,
        token_only=args.token_only,
    )
    print(f"Roles and schema are in place, release {__version__}.")
    if login is None:
        return
    for row in login.authorizations:
        print(f"Login {row.login_name} is authorised for {row.pattern}{' by token' if row.token_only else ''}.")
    if not args.token_only and any(row.pattern == args.pattern and row.token_only for row in login.authorizations):
        print(f"By token it was before, and stays so. pydb authorize {args.app_login} '{args.pattern}' ends that.")
    if not login.created and password:
        print(f"It existed before: its password was left alone. Set one: \\password {args.app_login} in psql.")
    if login.created and not password:
        print(f"It was created without a password. Set one: \\password {args.app_login} in psql.")
    wide = [row.pattern for row in login.authorizations if not row.token_only and "*" in row.pattern]
    if wide:
        print(WIDE_PATTERN_NOTE.format(login=args.app_login, pattern=" or ".join(wide)))


def _migrate(args: argparse.Namespace) -> None:
    written = migrate.migrate(_admin_dsn(args), lock_timeout=args.lock_timeout)
    for path in written:
        print(f"applied {path}")
    print(f"The database is at release {__version__}.")


def _status(args: argparse.Namespace) -> None:
    files = migrate.status(_admin_dsn(args))
    _print_rows(args, files, ["path", "state"])
    behind = [file for file in files if file.state != "applied"]
    if behind:
        some = f"{_count(len(behind), 'file')} {'is' if len(behind) == 1 else 'are'}"
        raise CommandError(f"{some} not applied as this release has them.", "Run: pydb migrate")


def _doctor(args: argparse.Namespace) -> int:
    with migrate.connect(_admin_dsn(args)) as connection:
        results = doctor.examine(connection, probes=not args.no_probes)
    print(doctor.as_json(results) if args.json else doctor.render(results))
    return doctor.summarise(results, args.fail_on)


def _authorize(args: argparse.Namespace) -> None:
    _run_on(_admin_dsn(args), calls.authorize_login(args.login, args.pattern, token_only=args.token_only))
    print(f"Login {args.login} is authorised for {args.pattern}{' by token' if args.token_only else ''}.")
    if "*" in args.pattern and not args.token_only:
        print(WIDE_PATTERN_NOTE.format(login=args.login, pattern=args.pattern))


def _deauthorize(args: argparse.Namespace) -> None:
    count = _run_on(_admin_dsn(args), calls.deauthorize_login(args.login, args.pattern))
    if count == 0:
        raise CommandError("There is no such authorisation.", "Run: pydb authorizations")
    print(f"Took back {count} of login {args.login}.")


def _authorizations(args: argparse.Namespace) -> None:
    rows = _run_on(_admin_dsn(args), calls.list_authorizations())
    _print_rows(args, rows, ["login_name", "pattern", "token_only", "authorized_at", "authorized_by"])


def _external(args: argparse.Namespace) -> None:
    if (args.org is None) != (args.action == "list") or (args.action == "allow" and args.to is None):
        args.refuse("allow takes ORG and TO, forbid takes ORG, and TO for one alone, list takes none")
    if args.action == "allow":
        _run_on(_admin_dsn(args), calls.allow_external_sharing(args.org, args.to))
        print(f"Tenants of {args.org} may share models with {args.to}.")
    elif args.action == "forbid":
        count = _run_on(_admin_dsn(args), calls.forbid_external_sharing(args.org, args.to))
        others = args.to or "other organisations"
        print(f"Tenants of {args.org} may not share models with {others}. Grants ended: {count}.")
    else:
        rows = _run_on(_admin_dsn(args), calls.list_external_sharing())
        _print_rows(args, rows, ["org_id", "to_org_id", "permitted_at", "permitted_by"])


def _key(args: argparse.Namespace) -> None:
    if args.audience is not None and args.action != "create":
        args.refuse("--audience goes with create")
    if args.kid is not None and args.action == "list":
        args.refuse("list takes no key")
    dsn = _admin_dsn(args)
    if args.action == "create":
        _print_rows(args, [_run_on(dsn, calls.create_signing_key(args.kid, audience=args.audience))], ["kid", "secret"])
        print("The secret is shown this once. Keep it where tokens are minted.", file=sys.stderr)
    elif args.action == "list":
        rows = _run_on(dsn, calls.list_signing_keys())
        _print_rows(args, rows, ["kid", "audience", "created_at", "created_by", "retired_at"])
    elif args.kid is None:
        raise CommandError("Which key?", "Run: pydb key retire KID")
    elif not _run_on(dsn, calls.retire_signing_key(args.kid)):
        raise CommandError("There is no such key in use.", "Run: pydb key list")
    else:
        print(f"Key {args.kid} is retired: its tokens are refused from now on.")


def _token(args: argparse.Namespace) -> None:
    given = {level: getattr(args, option) for option, level in TOKEN_LEVELS.items()}
    claimed = dict(args.claim)
    provider = (args.issuer, args.idp_audience, args.jwks)
    if args.exchange is None and (claimed or any(provider)):
        args.refuse("--issuer, --idp-audience, --jwks and --claim go with --exchange")
    if args.exchange is not None and not all(provider):
        args.refuse("--exchange takes --issuer, --idp-audience and --jwks")
    for option, level in TOKEN_LEVELS.items():
        if given[level] is not None and level in claimed:
            args.refuse(f"{option} is given twice, by --{option} and by --claim")
        if given[level] is None and level not in claimed:
            args.refuse(f"one --{option} is needed" + (f", or one --claim {option}=CLAIM" if args.exchange else ""))
    if len(args.claim) != len(claimed):
        args.refuse("a level is given twice by --claim")
    secret = _secret("AI_STORAGE_TOKEN_SECRET")
    if not secret:
        raise CommandError(
            "The signing key's secret is not known.",
            "Put it into AI_STORAGE_TOKEN_SECRET, or its file's name into AI_STORAGE_TOKEN_SECRET_FILE.",
        )
    if args.exchange is None:
        print(
            token.mint(
                token.Tenant(**given),
                kid=args.kid,
                secret=secret,
                audience=args.audience,
                ttl=args.ttl,
                promote_from=args.promote_from,
            )
        )
        return
    try:
        from . import identity  # needs an extra
    except ImportError as error:
        raise CommandError("--exchange needs PyJWT.", evidence.EXTRA_HINT) from error
    try:
        exchanger = identity.IdentityProvider(
            issuer=args.issuer,
            audience=args.idp_audience,
            jwks=args.jwks,
            claims={level: claimed.get(level) or identity.Fixed(value) for level, value in given.items()},
            promote_from=args.promote_from,
        )
        print(
            exchanger.exchange(
                _token_text(args.exchange, identity.MAX_TOKEN_LENGTH),
                kid=args.kid,
                secret=secret,
                audience=args.audience,
                ttl=args.ttl,
            )
        )
    except identity.IdentityError as error:
        # It names levels as tokens do; here they go by their options.
        for option, level in TOKEN_LEVELS.items():
            if error.detail == f"Level {level}.":
                error.detail = f"Level {option}."
        if isinstance(error, identity.InvalidProvider):
            args.refuse(str(error))
        raise


# The audit trail

LONGEST_PAUSE = 60.0  # seconds between two attempts to reach a server that is gone


def _seal(args: argparse.Namespace) -> None:
    dsn = _admin_dsn(args)
    if args.every is None:
        with migrate.connect(dsn) as connection:
            events, seals = move.seal_all(connection)
        print(f"Sealed {_count(events, 'event')} under {_count(seals, 'seal')}.")
        return
    every = args.every.total_seconds()
    if every < 1:
        args.refuse("--every takes 1s or more")
    # What was wrong from the start is not waited for.
    _run_on(dsn, calls.seal_audit())
    # SIGTERM ends it as SIGINT does: a statement under way is cancelled, and no event is between two states.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(f"Sealing every {every:g} s.", flush=True)
        _seal_for_ever(dsn, every)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


def _seal_for_ever(dsn: str, every: float) -> None:
    pause = every
    while True:
        try:
            with migrate.connect(dsn) as connection:
                while True:
                    move.seal_all(connection)
                    pause = every
                    time.sleep(every)
        except psycopg.OperationalError as error:
            _print_server_error(error)
            print(f"pydb: trying again in {pause:g} s", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, max(every, LONGEST_PAUSE))


def _checkpoint(args: argparse.Namespace) -> None:
    with migrate.connect(_admin_dsn(args)) as connection:
        move.seal_all(connection)
        checkpoint = session.run(connection, calls.create_checkpoint())
    if checkpoint is None:
        raise CommandError("Nothing has happened yet that a checkpoint could cover.", "Save a model first.")
    if args.out is None:
        print(json.dumps(checkpoint))
        return
    try:
        added = _keep_checkpoint(args.out, checkpoint)
    except OSError as error:
        raise CommandError(
            f"{args.out} cannot be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from error
    number = checkpoint["checkpoint_number"]
    print(f"Added checkpoint {number} to {args.out}." if added else f"{args.out} has checkpoint {number} already.")


def _keep_checkpoint(path: Path, checkpoint: dict[str, Any]) -> bool:
    """Append a checkpoint to a file of checkpoints, for good.

    Returns: False when it is there already.
    Raises: CommandError when the file holds another history, or something else; OSError.
    """
    line = json.dumps(checkpoint).encode() + b"\n"
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        try:
            kept = {row["checkpoint_number"]: row for row in map(json.loads, whole.splitlines())}
            if not line.startswith(text[len(whole) :][:10]):
                raise ValueError
        except (ValueError, TypeError, KeyError) as error:
            raise CommandError(f"{path} holds something else than checkpoints.", "Name another file.") from error
        number, newest = checkpoint["checkpoint_number"], max(kept, default=0)
        if kept.get(newest) == checkpoint:
            return False
        if number <= newest:
            raise CommandError(
                f"{path} holds another history: its newest checkpoint is {newest}, the database's is {number}.",
                "Either this is another database, it was restored to an earlier state, or its log was rewritten. "
                "Keep the file, and find out which.",
            )
        # Half a line is what a crash left of a checkpoint that was not kept.
        file.truncate(len(whole))
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    transfer.sync_folder(path.parent)
    return True


# Whether logical replication fills a table of ours.
COPIED: LiteralString = """
    select exists (
        select from pg_catalog.pg_subscription_rel as s
        join pg_catalog.pg_class as c on c.oid = s.srrelid
        where c.relnamespace = pg_catalog.to_regnamespace('ai_storage_private')
    )
"""


def _verify(args: argparse.Namespace) -> int:
    columns = ["verified", "events", "seals"]
    log: calls.AuditVerification | calls.AuditSummary
    if args.credential is not None:
        log = _run(args, calls.verify_audit())
        _print_rows(args, [log], [*columns, "pending", "event_id", "problem"])
        if log.verified and log.events == log.pending == 0:
            print("This tenant has no log; compare the five levels.", file=sys.stderr)
    else:
        with migrate.connect(_admin_dsn(args)) as connection:
            log = session.run(connection, calls.verify_all_audit())
            (copied,) = connection.execute(COPIED).fetchone() or (False,)
        _print_rows(args, [log], [*columns, "checkpoints", "pending", "isolation_key", "event_id", "problem"])
        if copied:
            print(
                "A subscription writes these tables, and the log has events that nobody made: see pydb doctor.",
                file=sys.stderr,
            )
    if log.pending:
        said = "event is not sealed yet: nothing is proved about it"
        if log.pending > 1:
            said = "events are not sealed yet: nothing is proved about them"
        print(f"{log.pending} {said}.", file=sys.stderr)
    return 0 if log.verified else 1


AUDIT_COLUMNS = ["recorded_at", "action", "model_id", "version", "login", "credential", "actor", "sealed", "detail"]


def _audit(args: argparse.Namespace) -> None:
    if args.bundle is not None and (args.follow or args.json or args.since or args.until or args.action or args.limit):
        args.refuse("--bundle is the whole log and goes with no other option")
    if args.follow and (args.until or args.limit is not None):
        args.refuse("--until and --limit do not go with --follow")
    if args.after is not None and not args.follow:
        args.refuse("--after goes with --follow")
    if args.bundle is not None:
        try:
            with _connect_tenant(args) as connection:
                counts, log = transfer.export_audit(connection, args.credential, args.bundle)
        except OSError as error:
            raise CommandError(
                f"{args.bundle} cannot be written: {error.strerror}.", "Name a file in a folder that exists."
            ) from error
        wrote = ", ".join(_count(counts[kind], kind) for kind in ("event", "seal", "checkpoint"))
        print(f"Wrote {wrote} to {args.bundle}. Not sealed yet, and so not in it: {_count(log.pending, 'event')}.")
    elif args.follow:
        try:
            _follow(args)
        except KeyboardInterrupt:
            return
    else:
        call = calls.audit_trail(since=args.since, until=args.until, action=args.action, limit=args.limit)
        events = _run(args, call)
        _print_rows(args, events, AUDIT_COLUMNS)


def _follow(args: argparse.Namespace) -> None:
    """Print events as they are sealed, a line each, until interrupted."""
    after = args.after
    since = args.since or (datetime.now().astimezone() - timedelta(minutes=1) if after is None else None)
    with _connect_tenant(args) as connection:
        while True:
            events = session.run(connection, calls.changes(after=after), args.credential)
            for event in events:
                after = event.cursor
                if (since and event.recorded_at < since) or (args.action and event.action != args.action):
                    continue
                if args.json:
                    print(json.dumps(dataclasses.asdict(event), ensure_ascii=False, default=_plain), flush=True)
                else:
                    print("  ".join(_cell(getattr(event, column)) for column in AUDIT_COLUMNS), flush=True)
            if not events:
                time.sleep(1)


def _evidence(args: argparse.Namespace) -> int:
    attacks = None if args.attacks is None else evidence.read_attacks(args.attacks)
    key = None if args.key is None else evidence.read_key(args.key)
    with migrate.connect(_admin_dsn(args)) as connection:
        sections = evidence.collect(connection)
    files = evidence.build(sections, attacks=attacks, key=key)
    try:
        evidence.write(args.out, files)
    except OSError as error:
        raise CommandError(
            f"{args.out} cannot be written: {error.strerror}.", "Name a folder whose parent exists."
        ) from error
    counts = Counter(control["status"] for control in sections["controls"])
    print("Controls: " + (", ".join(f"{counts[name]} {name}" for name in sorted(counts)) or "none") + ".")
    if attacks is None:
        print("Attack suite: not given.")
    else:
        counts = Counter(attacks.values())
        print("Attack suite: " + ", ".join(f"{counts[name]} {name}" for name in sorted(counts)) + ".")
    print(f"Audit trail: {'verified' if sections['audit']['verified'] else 'NOT verified'}.")
    print(f"{args.out}/manifest.json: sha256 {sha256(files['manifest.json']).hexdigest()}")
    return 1 if evidence_page.status(sections, attacks) == "failed" else 0


def _compliance(args: argparse.Namespace) -> int:
    controls = _run_on(_admin_dsn(args), calls.compliance_report())
    _print_rows(args, controls, ["control", "status", "reference", "result"])
    return 1 if any(control.status == "failed" for control in controls) else 0


def _metrics(args: argparse.Namespace) -> None:
    found = _run_on(_admin_dsn(args), calls.metrics())
    print(metrics.render(found), end="")


def _break_glass(args: argparse.Namespace) -> None:
    count = _run_on(_admin_dsn(args), calls.break_glass(args.pattern, args.reason))
    print(f"It stands in the operator's log and in the logs of {_count(count, 'tenant')}. It granted nothing.")


def _report_backup(args: argparse.Namespace) -> None:
    with migrate.connect(_admin_dsn(args)) as connection:
        # Now is what the server's clock says: by ours the backup might be of the future.
        now = calls.Call("select pg_catalog.clock_timestamp()", (), lambda rows: rows[0][0], tenant=False)
        taken_at = args.taken_at or session.run(connection, now)
        session.run(connection, calls.report_backup(taken_at, args.location))
    print(f"Reported a backup of {_cell(taken_at)}.")


# Retention and erasure


def _retention_set(args: argparse.Namespace) -> None:
    if not (args.legal_hold or any(keep is not None for keep in (args.versions, args.versions_for, args.events_for))):
        args.refuse("Say what to keep: --versions, --versions-for, --events-for or --legal-hold.")
    call = calls.set_retention(
        args.pattern,
        keep_versions=args.versions,
        keep_versions_for=args.versions_for,
        keep_events_for=args.events_for,
        legal_hold=args.legal_hold or None,  # a hold that somebody sets meanwhile stays
    )
    with migrate.connect(_admin_dsn(args)) as connection:
        held = any(
            rule.pattern == args.pattern and rule.legal_hold for rule in session.run(connection, calls.list_retention())
        )
        if held and not args.legal_hold:
            raise CommandError(
                "The pattern's rule has a legal hold, which this would end.",
                f"Add --legal-hold to keep it. To end it, first run: pydb retention drop '{args.pattern}'",
            )
        session.run(connection, call)
    if args.legal_hold:
        then = "Nothing of these tenants is deleted or erased until the hold is dropped."
    else:
        then = "pydb retention apply deletes what it keeps no longer."
    print(f"Set the rule of {args.pattern}. {then}")


def _retention_list(args: argparse.Namespace) -> None:
    rows = _run_on(_admin_dsn(args), calls.list_retention())
    _print_rows(
        args,
        rows,
        ["pattern", "keep_versions", "keep_versions_for", "keep_events_for", "legal_hold", "set_at", "set_by"],
    )


def _retention_drop(args: argparse.Namespace) -> None:
    if not _run_on(_admin_dsn(args), calls.drop_retention(args.pattern)):
        raise CommandError("There is no rule of this pattern.", "Run: pydb retention list")
    print(f"Dropped the rule of {args.pattern}.")


def _retention_apply(args: argparse.Namespace) -> None:
    total = calls.Swept(0, 0, 0, 0, "")
    with migrate.connect(_admin_dsn(args)) as connection:
        while total.cursor is not None:
            # A transaction for each tenant that loses something.
            part = session.run(connection, calls.apply_retention(after=total.cursor, limit=1))
            total = calls.Swept(
                total.tenants + part.tenants,
                total.versions + part.versions,
                total.events + part.events,
                total.shares + part.shares,
                part.cursor,
            )
    _print_rows(args, [total], ["tenants", "versions", "events", "shares"])


def _quota_set(args: argparse.Namespace) -> None:
    if args.models is None and args.bytes is None and not args.unlimited:
        args.refuse("Say what is allowed: --models, --bytes or --unlimited.")
    _run_on(_admin_dsn(args), calls.set_quota(args.pattern, max_models=args.models, max_bytes=args.bytes))
    print(f"Set the quota of {args.pattern}.")


def _quota_list(args: argparse.Namespace) -> None:
    rows = _run_on(_admin_dsn(args), calls.list_quotas())
    _print_rows(args, rows, ["pattern", "max_models", "max_bytes", "models", "bytes", "set_at", "set_by"])


def _quota_drop(args: argparse.Namespace) -> None:
    if not _run_on(_admin_dsn(args), calls.drop_quota(args.pattern)):
        raise CommandError("There is no quota of this pattern.", "Run: pydb quota list")
    print(f"Dropped the quota of {args.pattern}.")


# Several servers


def _cells_apply(args: argparse.Namespace) -> None:
    dsns = directory.read(args.file)
    takes_new = args.takes_new or next(iter(dsns))
    if takes_new not in dsns:
        args.refuse(f"--takes-new names no cell of {args.file}.")
    with directory.opened(dsns) as cells:
        found = directory.apply(cells, takes_new)
    print(f"{_count(len(dsns), 'cell')} with {_count(len(found), 'organisation')}; {takes_new} takes new ones.")


def _cells_show(args: argparse.Namespace) -> None:
    with directory.opened(directory.read(args.file)) as cells:
        _print_rows(args, list(directory.homes(cells).values()), ["org_id", "cell_name", "is_moving"])


def _cells_check(args: argparse.Namespace) -> int:
    with directory.opened(directory.read(args.file)) as cells:
        wrong = directory.check(cells)
    print("\n".join(wrong) if wrong else "The cells have the same directory.")
    return 1 if wrong else 0


def _cells_authorize(args: argparse.Namespace) -> None:
    with directory.opened(directory.read(args.file)) as cells:
        for connection in cells.values():
            session.run(connection, calls.authorize_login(args.login, args.pattern, token_only=args.token_only))
    print(f"Login {args.login} may act for {args.pattern} in {_count(len(cells), 'cell')}.")


def _cells_adopt_key(args: argparse.Namespace) -> None:
    secret = sys.stdin.readline().strip()
    with directory.opened(directory.read(args.file)) as cells:
        adopted = directory.adopt_key(cells, args.kid, secret)
    print(f"The key {args.kid} was adopted in {_count(adopted, 'cell')}.")


def _move_org(args: argparse.Namespace) -> None:
    folder = args.out or Path(f"{args.org.replace('/', '_')}-moved-to-{args.cell}")

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    try:
        folder.mkdir(exist_ok=True)
        with directory.opened(directory.read(args.file)) as cells:
            moved = move.move(cells, args.org, args.cell, folder, wait=args.wait, say=say)
    except OSError as error:
        raise CommandError(
            f"{error.filename} cannot be written: {error.strerror}.", "Name another --out, and move again."
        ) from error
    print(f"{args.org} lives in {args.cell}: {_count(moved.tenants, 'tenant')}, {_count(moved.rows, 'row')}.")
    if moved.closed:
        print(f"It was closed for {moved.closed:.1f} s. Digest in the logs of both cells: {moved.digest}")
    for cell in moved.erased:
        print(f"Erased in {cell}. The bundles of its log there, and the certificate: {folder / cell}")


def _pgbouncer(args: argparse.Namespace) -> None:
    dsns = directory.read(args.file)
    if args.front:
        print(front.pgbouncer(dsns), end="")
        return
    with directory.opened(dsns) as cells:
        print(directory.pgbouncer(dsns, directory.homes(cells)), end="")


def _front_sql(args: argparse.Namespace) -> None:
    with directory.opened(directory.read(args.file)) as cells:
        print(front.render(cells, args.pooler), end="")


def _size(text: str) -> int:
    found = re.fullmatch("([0-9]{1,9})([KMGT]i?B)?", text)
    if not found:
        raise argparse.ArgumentTypeError("expected a number of bytes, or one with KB, MB, GB, TB, KiB, MiB, GiB or TiB")
    unit = found[2] or ""
    power = " KMGT".index(unit[0]) if unit else 0
    base = 1024 if "i" in unit else 1000
    return int(found[1]) * int(base**power)


def _keep(text: str) -> timedelta:
    years = re.fullmatch("([0-9]{1,3})y", text)
    return timedelta(days=365 * int(years[1])) if years else _duration(text)


def _tenants(args: argparse.Namespace) -> None:
    rows = _run_on(_admin_dsn(args), calls.list_tenants(args.pattern))
    _print_rows(args, rows, ["isolation_key", "registered_at", "is_held"])


MOST_KEYS = 20  # that the question before an erasure names


def _erasable(pattern: str, tenants: Sequence[calls.Tenant]) -> None:
    """Raises: CommandError when there is nothing to erase, or not all of it may be."""
    if not tenants:
        raise CommandError(
            f"no tenant is covered by {pattern}.",
            "Run pydb tenants and compare the five levels; a tenant is known from its first save on.",
        )
    held = [tenant.isolation_key for tenant in tenants if tenant.is_held]
    if held:
        more = f" and {_count(len(held) - 1, 'other')}" if len(held) > 1 else ""
        raise CommandError(
            f"A legal hold keeps {held[0]}{more}. Nothing was erased.",
            f"pydb tenants '{pattern}' shows which are held, pydb retention list by which rule.",
        )


def _confirm(pattern: str, tenants: Sequence[calls.Tenant]) -> None:
    """Let the pattern be typed. Raises: CommandError."""
    rest = len(tenants) - MOST_KEYS
    print(
        f"This erases all data of {_count(len(tenants), 'tenant')}. It cannot be undone.",
        *(f"  {tenant.isolation_key}" for tenant in tenants[:MOST_KEYS]),
        *([f"  and {rest} more, which pydb tenants '{pattern}' shows"] if rest > 0 else []),
        "Type the pattern to go on: ",
        sep="\n",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().removesuffix("\n") != pattern:
        raise CommandError("Nothing was erased.", "Type the pattern exactly as it was given.")


def _erase(args: argparse.Namespace) -> int:
    ask = args.yes is None and sys.stdin.isatty()
    if not ask and args.yes != args.pattern:
        args.refuse(
            "--yes has to repeat PATTERN exactly" if args.yes else "without a terminal, --yes has to repeat PATTERN"
        )
    dsn = _admin_dsn(args)
    # All that can be known is checked before anybody is asked. The server checks it once more.
    tenants = _run_on(dsn, calls.list_tenants(args.pattern))
    _erasable(args.pattern, tenants)
    # The file too: a certificate that nothing can take is no use.
    try:
        file = None if args.out is None else open(args.out, "x", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise CommandError(
            f"{args.out} cannot be made: {error.strerror}.", "Name a new file in a folder that exists."
        ) from error
    with ExitStack() as stack:
        try:
            if ask:
                _confirm(args.pattern, tenants)
            connection = stack.enter_context(migrate.connect(dsn))
            certificate = session.run(connection, calls.erase_tenant(args.pattern, args.reason))
        except BaseException:
            if file is not None:
                file.close()
                args.out.unlink()
            raise
        written = _hand_over(json.dumps(certificate), file)
        said = sys.stderr if file is None else sys.stdout
        for tenant in json.loads(certificate["statement"])["tenants"]:
            print(
                f"Erased {tenant['isolation_key']}: {_count(tenant['models'], 'model')}, "
                f"{_count(tenant['versions'], 'version')}.",
                file=said,
            )
        if args.rewrite:
            print("Rewriting the tables, which are locked meanwhile.", file=said, flush=True)
        problems = _vacuum(connection, args.rewrite)
    for problem in problems:
        print(f"pydb: {problem}", file=sys.stderr)
    if problems:
        print(
            "hint: The erasure is done and certified; its dead rows are not all gone. As the database's owner, run: "
            f"vacuum ({'full, ' if args.rewrite else ''}analyze);",
            file=sys.stderr,
        )
    else:
        print("The tables are rewritten." if args.rewrite else "The tables are vacuumed.", file=said)
    print(OLD_BYTES_NOTE, file=said)
    return 0 if written and not problems else 1


OLD_BYTES_NOTE = (
    "The write-ahead log, its archive, replicas and backups hold what was erased until they are recycled or expire."
)


def _hand_over(certificate: str, file: TextIO | None) -> bool:
    """Write a certificate into its file, and onto standard output when there is none or it cannot take it.

    Returns: False when the file could not take it.
    """
    error = None
    if file is not None:
        try:
            with file:
                print(certificate, file=file, flush=True)
                os.fsync(file.fileno())
            transfer.sync_folder(Path(file.name).parent)
            return True
        except OSError as caught:
            error = caught
    print(certificate, flush=True)
    if error is not None:
        print(f"pydb: {file.name if file else ''} cannot be written: {error.strerror}.", file=sys.stderr)
    return error is None


# Whoever may still see rows that were dead before a transaction id: transactions, prepared ones, replicas' slots.
OLD_SNAPSHOTS: LiteralString = """
select bool_or(greatest(age(o.xid), age(o.xmin)) > age(xid(%s::xid8))) from (
    select a.backend_xid, a.backend_xmin
    from pg_stat_activity as a
    where coalesce(a.datname, current_database()) = current_database()
      and a.pid <> pg_backend_pid()
      and a.pid not in (select v.pid from pg_stat_progress_vacuum as v)
    union all
    select p.transaction, null from pg_prepared_xacts as p where p.database = current_database()
    union all
    select null, s.xmin from pg_replication_slots as s
) as o (xid, xmin)
"""
OLD_SNAPSHOT_PATIENCE = 5.0  # seconds


def _vacuum(connection: psycopg.Connection[Any], rewrite: bool) -> list[str]:
    """Vacuum the tables after an erasure, and what the planner remembers of their values.

    Returns: what was wrong; nothing when all dead rows are gone.
    """
    problems: list[str] = []

    def warn(diagnostic: psycopg.errors.Diagnostic) -> None:
        # A table that the login may not vacuum is no error to the server.
        if diagnostic.severity_nonlocalized == "WARNING":
            problems.append(diagnostic.message_primary or "")

    connection.add_notice_handler(warn)
    try:
        rows = connection.execute("select pg_snapshot_xmax(pg_current_snapshot())").fetchall()
        end = time.monotonic() + OLD_SNAPSHOT_PATIENCE
        while connection.execute(OLD_SNAPSHOTS, rows[0]).fetchone() == (True,):
            if time.monotonic() > end:
                problems.append("Open transactions can still see what was erased.")
                break
            time.sleep(0.1)
        tables = connection.execute(
            "select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where n.nspname = 'ai_storage_private' and c.relkind = 'r' order by 2"
        ).fetchall()
        vacuum = sql.SQL("vacuum (full, analyze) {}" if rewrite else "vacuum (analyze) {}")
        for schema, name in (*tables, ("pg_catalog", "pg_statistic")):
            connection.execute(vacuum.format(sql.Identifier(schema, name)))
    except psycopg.Error as error:
        problems.append(error.diag.message_primary or str(error).strip())
    return problems


def _token_text(path: str, limit: int) -> str:
    """What a file holds, or standard input for -, without white space around it: somewhat more than limit at most."""
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            return file.read(limit + 16).decode("ascii", "replace").strip()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", "Name a file with the token, or -.") from error


def _level(text: str) -> str:
    if token.LEVEL.fullmatch(text) is None:
        raise argparse.ArgumentTypeError("expected 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -")
    return text


def _ttl(text: str) -> timedelta:
    ttl = _duration(text)
    if not timedelta(0) < ttl <= token.MAX_TTL:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 24h")
    return ttl


def _artifact(text: str) -> tuple[str, str]:
    name, found, path = text.partition("=")
    if not name or not found or not path:
        raise argparse.ArgumentTypeError("expected NAME=PATH")
    return name, path


def _claim(text: str) -> tuple[str, str]:
    """A level, by the name that tokens use, and the claim that holds it."""
    option, found, claim = text.partition("=")
    if option not in TOKEN_LEVELS or not found or not claim:
        raise argparse.ArgumentTypeError(f"expected LEVEL=CLAIM with one of {', '.join(TOKEN_LEVELS)}")
    return TOKEN_LEVELS[option], claim


def _db(args: argparse.Namespace) -> None:
    if args.action in ("start", "url"):
        url = embedded.start() if args.action == "start" else embedded.url()
        print(url.replace(f"//{embedded.SUPERUSER}@", f"//{args.login}@") if args.login else url)
    elif args.action == "stop":
        embedded.stop()
        print(f"The server of {embedded.default_data_dir()} is stopped. Its data stays.")
    elif args.action == "status":
        _print_rows(args, [embedded.status()], ["state", "version", "pid", "data_dir", "url"])
    else:
        data_dir = embedded.default_data_dir()
        try:
            sure = args.yes or input(f"This deletes {data_dir} with all data in it. Type yes to go on: ") == "yes"
        except EOFError:
            sure = False
        if not sure:
            raise CommandError("Nothing was deleted.", "Type yes, or pass --yes.")
        embedded.destroy()
        print(f"The server and all data of {data_dir} are deleted.")


# One tenant's models


def _metric(text: str) -> tuple[str, float]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError("expected NAME=NUMBER")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("expected a JSON object")
    return value


def _save(args: argparse.Namespace) -> None:
    artifacts = dict(args.artifact)
    if len(artifacts) < len(args.artifact):
        args.refuse("an artifact is named twice")
    try:
        with _connect_tenant(args) as connection:
            saved = TenantAwareStorage(connection, args.credential).save_ai_progress(
                args.name,
                args.mse,
                training_samples=args.samples,
                metrics=dict(args.metric),
                metadata=args.metadata,
                expected_version=args.expected_version,
                idempotency_key=args.idempotency_key,
                owner=args.owner,
                artifacts=artifacts,
                progress=_bar("Saving") if artifacts else None,
            )
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be read: {error.strerror}.", "Name a file.") from error
    _print_rows(args, [saved], ["model_name", "version", "created", "saved_at"])


def _load(args: argparse.Namespace) -> None:
    if args.name is not None and args.scope is None:
        rows = [_run(args, calls.load_model(args.name, args.owner))]
    else:
        call = calls.load_progress(args.name, scope=args.scope, owner=args.owner, after=args.after, limit=args.limit)
        rows = _run(args, call)
    _print_rows(args, rows, ["model_name", "owner_key", "version", "mse", "training_samples", "metrics", "updated_at"])


def _history(args: argparse.Namespace) -> None:
    rows = _run(
        args,
        calls.load_history(args.name, owner=args.owner, before_version=args.before_version, limit=args.limit),
    )
    _print_rows(args, rows, ["version", "mse", "training_samples", "metrics", "saved_at", "saved_by"])


def _delete(args: argparse.Namespace) -> None:
    if not _run(args, calls.delete_progress(args.name, expected_version=args.expected_version)):
        raise CommandError("There is no such model.", "Run: pydb load --as ...")
    print(f"Deleted {args.name}.")


def _promote(args: argparse.Namespace) -> None:
    rows = _run(args, calls.promote_progress(args.from_code_hash, args.name, with_history=args.with_history))
    _print_rows(args, rows, ["model_name", "version"])


def _versions(args: argparse.Namespace) -> None:
    rows = _run(args, calls.list_code_versions())
    _print_rows(args, rows, ["code_hash", "is_own", "models", "last_saved_at"])


def _stats(args: argparse.Namespace) -> None:
    columns = [field.name for field in dataclasses.fields(calls.TenantStats)]
    _print_rows(args, [_run(args, calls.tenant_stats())], columns)


def _export(args: argparse.Namespace) -> None:
    try:
        with _connect_tenant(args) as connection:
            manifest = transfer.export_tenant(connection, args.credential, args.out, _progress("Exporting"))
    except OSError as error:
        raise CommandError(
            f"{args.out} cannot be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from error
    if args.json:
        print(json.dumps(dataclasses.asdict(manifest), indent=2))
    else:
        print(f"Exported {_count(manifest.records, 'record')} of {manifest.isolation_key} to {args.out}.")


def _import(args: argparse.Namespace) -> None:
    try:
        with _connect_tenant(args) as connection:
            manifest, imported = transfer.import_tenant(connection, args.credential, args.file, _progress("Importing"))
    except OSError as error:
        raise CommandError(f"{args.file} cannot be read: {error.strerror}.", "Name a file of pydb export.") from error
    grants = manifest.records - imported
    if args.json:
        print(json.dumps({**dataclasses.asdict(manifest), "imported": imported, "grants": grants}, indent=2))
        return
    print(f"Imported {_count(imported, 'record')} of {manifest.isolation_key}.")
    if grants:
        print(f"Left out {_count(grants, 'grant')}: share anew what is to be shared from here.")


# Artifacts


def _put(args: argparse.Namespace) -> None:
    if str(args.file) == "-" and args.name is None:
        args.refuse("--name is needed with standard input")
    source = sys.stdin.buffer if str(args.file) == "-" else args.file
    try:
        with _connect_tenant(args) as connection:
            saved = TenantAwareStorage(connection, args.credential).put_artifact(
                args.model,
                args.name or _files.name_of(args.file),
                source,
                media_type=args.media_type,
                version=args.version,
                expected_version=args.expected_version,
                progress=_bar("Putting"),
            )
    except OSError as error:
        raise CommandError(f"{args.file} cannot be read: {error.strerror}.", "Name a file.") from error
    _print_rows(args, [saved], ["sha256", "size_bytes", "is_new"])


def _get(args: argparse.Namespace) -> None:
    path = args.out or Path(args.artifact)
    if args.out is None and (path.name != args.artifact or args.artifact.startswith("-")):
        # A name is another's text: it does not choose where to write.
        raise CommandError("This artifact's name is no plain name of a file.", "Add --out FILE.")
    to_output = str(path) == "-"
    if args.out is None and os.path.lexists(path):
        raise CommandError(f"{path} exists already.", "Add --out FILE; a file that you name is replaced.")
    try:
        with _connect_tenant(args) as connection:
            opened = TenantAwareStorage(connection, args.credential).get_artifact(
                args.model,
                args.artifact,
                sys.stdout.buffer if to_output else path,
                owner=args.owner,
                version=args.version,
                or_earlier=args.or_earlier,
                progress=_bar("Getting"),
            )
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from error
    if not to_output:
        _print_rows(args, [opened], ["version", "sha256", "size_bytes", "media_type", "put_at"])


def _artifacts(args: argparse.Namespace) -> None:
    rows = _run(
        args, calls.list_artifacts(args.model, owner=args.owner, version=args.version, or_earlier=args.or_earlier)
    )
    columns = ["model_name", "artifact_name", "version", "size_bytes", "media_type", "sha256", "put_at"]
    _print_rows(args, rows, columns)


# Importing files


# Most files that are imported at the same time. Two keep a small server busy; the client is one process.
IMPORTERS = 4


def _import_files(args: argparse.Namespace) -> int:
    try:
        importer.check_template(args.credential)
    except ValueError as error:
        args.refuse(f"--as: {error}")
    try:
        with ExitStack() as stack:
            connections = [stack.enter_context(_connect_tenant(args)) for _ in range(IMPORTERS)]
            report = importer.import_files(
                connections, args.path, args.credential, _progress("Importing"), dry_run=args.dry_run
            )
    except OSError as error:
        raise CommandError(f"{args.path} cannot be read: {error.strerror}.", "Name a file or a folder.") from error
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, **dataclasses.asdict(report)}, indent=2, ensure_ascii=False))
    else:
        _print_rows(args, report.tenants, [field.name for field in dataclasses.fields(importer.TenantCount)])
        for skipped in report.skipped:
            print(f"skipped {skipped.path}: {skipped.reason}")
        print(
            f"{'Would save' if args.dry_run else 'Saved'} {_count(report.saved, 'state')} of models out of "
            f"{_count(report.files, 'file')} into {_count(len(report.tenants), 'tenant')}. There already: "
            f"{report.unchanged}. Skipped: {len(report.skipped)}."
        )
    return 1 if report.skipped else 0


# Sharing


def _target(text: str) -> dict[str, str]:
    """Levels by name. A level's value has no ':', so one tells the two notations apart."""
    if ":" in text:
        values = text.split(":")
        if len(values) != len(LEVELS):
            raise argparse.ArgumentTypeError("expected five levels joined by colons, such as :mcp-2:::")
        return {level: value for level, value in zip(LEVELS, values, strict=True) if value}
    target: dict[str, str] = {}
    for pair in text.split(","):
        level, found, value = pair.partition("=")
        if not found:
            raise argparse.ArgumentTypeError("expected five levels joined by colons, or NAME=VALUE,NAME=VALUE ...")
        if level in target:
            raise argparse.ArgumentTypeError(f"{level} is named twice")
        target[level] = value
    return target


def _duration(text: str) -> timedelta:
    duration = re.fullmatch("([0-9]{1,6})([dhms])", text)
    if duration is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 7d, 12h, 30m or 90s")
    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[duration[2]]
    return timedelta(**{unit: int(duration[1])})


def _end(text: str) -> datetime:
    """The end of a share, from a duration from now on or an ISO 8601 time."""
    return _moment(text, 1)


def _past(text: str) -> datetime:
    """A time in the log, from a duration up to now or an ISO 8601 time."""
    return _moment(text, -1)


def _moment(text: str, direction: int) -> datetime:
    try:
        if re.fullmatch("[0-9]+[dhms]", text):
            return datetime.now().astimezone() + direction * _duration(text)
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration such as 7d, 12h or 30m nor an ISO 8601 time such as 2030-12-31T18:00"
        ) from None


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".svg":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .svg, and the picture is one")
    return path


def _share(args: argparse.Namespace) -> None:
    call = calls.share_model(
        args.name,
        args.to,
        args.permission or ["read"],
        expires_at=args.expires,
        version=args.version,
        owner=args.owner,
    )
    shared = _run(args, call)
    _print_rows(args, shared, ["share_id", "target"])


def _unshare(args: argparse.Namespace) -> None:
    if args.id is None:
        count = _run(args, calls.unshare_model(args.name, args.to, owner=args.owner))
    elif args.to or args.owner:
        args.refuse("--to and --owner go with NAME, not with --id")
    else:
        count = int(_run(args, calls.revoke_share(args.id)))
    if count == 0:
        raise CommandError("There is no such grant.", "Run: pydb shares --as ...")
    # What was passed on ended too; for a name its count is known.
    print("The grant ended." if args.id else f"Grants ended: {count}.")


def _decline(args: argparse.Namespace) -> None:
    if not _run(args, calls.decline_share(args.id)):
        raise CommandError("No such grant reaches the tenant.", "Run: pydb shares --received --as ...")
    print("Declined: its sharer cannot share this model with the tenant again.")


def _shares(args: argparse.Namespace) -> None:
    given: list[calls.Grant] = []
    received: list[calls.Grant] = []
    if args.graph or not args.received:
        given = _run(args, calls.list_shares(args.name))
    if args.graph or args.received:
        received = [row for row in _run(args, calls.list_received_shares()) if args.name in (None, row.model_name)]
    if args.graph:
        # The credential may be a token: the database says whose.
        me = _run(args, calls.set_tenant(args.credential))
        try:
            with open(args.graph, "x", encoding="utf-8") as file:
                file.write(graph.draw_shares(me, given, received))
        except OSError as error:
            raise CommandError(
                f"{args.graph} cannot be written: {error.strerror}.", "Name a new file in a folder that exists."
            ) from error
    _print_rows(
        args,
        received if args.received else given,
        ["share_id", "model_name", "owner_key", "shared_by", "target", "permissions", "version", "expires_at", "state"],
    )


def _demo(args: argparse.Namespace) -> int:
    from . import demo  # heavy

    with redirect_stdout(raw(sys.stdout)):  # rich draws on it
        return demo.main(
            ["--out", args.out, "--epochs", str(args.epochs), *(["--dsn", args.dsn] if args.dsn is not None else [])]
        )


# The parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pydb",
        description="Tenant-aware storage for the progress of AI models, on PostgreSQL.",
        epilog="Without --dsn and DATABASE_URL, pydb runs a PostgreSQL of its own: see pydb db.",
    )
    parser.add_argument("--version", action="version", version=f"pydb {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    database = argparse.ArgumentParser(add_help=False)
    database.add_argument(
        "--dsn",
        help="PostgreSQL URL or connection string (default: DATABASE_URL, or the file DATABASE_URL_FILE names)",
    )
    listing = argparse.ArgumentParser(add_help=False)
    listing.add_argument("--json", action="store_true", help="print JSON")
    tenant = argparse.ArgumentParser(add_help=False, parents=[database, listing])
    any_tenant = argparse.ArgumentParser(add_help=False, parents=[database, listing])
    for parser_, required in ((tenant, True), (any_tenant, False)):
        parser_.add_argument(
            "--as",
            dest="credential",
            metavar="CREDENTIAL",
            help="isolation key: org:server:project:env:code; or a token, which is safer in AI_STORAGE_TOKEN, or in "
            "the file that AI_STORAGE_TOKEN_FILE names (default: that" + (")" if required else ", else all tenants)"),
        )
        parser_.set_defaults(needs_credential=required)
        parser_.add_argument(
            "--trusted-login",
            metavar="NAME",
            help="serve tenants as this login though it is superuser, has BYPASSRLS or owns the schema",
        )

    target_help = (
        "five levels joined by colons, empty: the sharer's own, *: any, such as ':mcp-2:::'; "
        "or NAME=VALUE,..., such as server_id=mcp-2,project_id=*; may be repeated"
    )

    def command(
        name: str,
        run: Callable[[argparse.Namespace], int | None] | None,
        text: str,
        *parents: argparse.ArgumentParser,
        of: argparse._SubParsersAction[argparse.ArgumentParser] = commands,
    ) -> argparse.ArgumentParser:
        added = of.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=parents)
        added.set_defaults(run=run, refuse=added.error)
        return added

    added = command("init", _init, "create roles and schema, and authorise an application login", database)
    added.epilog = (
        "A login that is created gets the password in AI_STORAGE_APP_PASSWORD, or in the file that "
        "AI_STORAGE_APP_PASSWORD_FILE names, or none."
    )
    added.add_argument(
        "--app-login", metavar="NAME", help="application login, with --pattern; created when it does not exist"
    )
    added.add_argument("--pattern", help="tenants it may name as well: five levels joined by colons, each a value or *")
    added.add_argument("--token-only", action="store_true", help="it has to present signed tokens")
    added = command(
        "migrate", _migrate, "bring the database to this release; connect directly, not by a pooler", database
    )
    added.add_argument("--lock-timeout", default="10s", help="longest wait for a table in use (default: %(default)s)")
    command("status", _status, "show which files of the schema are applied; exit 1 when behind", database, listing)
    added = command(
        "doctor",
        _doctor,
        "look for what would let a tenant's data out; exit 1 when an error is found",
        database,
        listing,
    )
    added.epilog = (
        "It changes nothing. Run it as the login that ran pydb init; docs/doctor.md lists the checks. The holes that "
        "it tries write errors into the server's log; its application_name there is 'pydb doctor'."
    )
    added.add_argument(
        "--fail-on",
        action="append",
        choices=["error", "warning", "unknown"],
        default=["error"],
        help="exit 1 for these too; may be given twice (default: error)",
    )
    added.add_argument(
        "--no-probes",
        action="store_true",
        help="compare the server's minor only; try no hole in a rolled back transaction",
    )
    added = command("authorize", _authorize, "let a login act for the tenants of a pattern", database)
    added.add_argument("login")
    added.add_argument("pattern", help="five levels joined by colons, each a value or *")
    added.add_argument("--token-only", action="store_true", help="it has to present signed tokens")
    added = command("deauthorize", _deauthorize, "take back one authorisation of a login, or all", database)
    added.add_argument("login")
    added.add_argument("pattern", nargs="?", help="as pydb authorizations shows it (default: all)")
    command("authorizations", _authorizations, "show which login may name which tenants", database, listing)
    added = command(
        "external", _external, "let an organisation share models with another, or end that", database, listing
    )
    added.add_argument("action", choices=["allow", "forbid", "list"])
    added.add_argument("org", nargs="?", metavar="ORG", help="level 1 of its tenants")
    added.add_argument("to", nargs="?", metavar="TO", help="the other organisation (forbid: default all)")
    added = command("key", _key, "make, list and retire the keys that sign tokens", database, listing)
    added.add_argument("action", choices=["create", "list", "retire"])
    added.add_argument("kid", nargs="?", help="name of the key (create: default made up)")
    added.add_argument("--audience", help="what tokens name as aud (default: the name of the database)")
    added = command("token", _token, "mint a signed token for one tenant")
    for option in TOKEN_LEVELS:
        added.add_argument(f"--{option}", type=_level, metavar="LEVEL")
    added.add_argument(
        "--kid",
        required=True,
        help="the signing key; its secret is in AI_STORAGE_TOKEN_SECRET or in the file of AI_STORAGE_TOKEN_SECRET_FILE",
    )
    added.add_argument("--audience", required=True, help="the key's audience, as pydb key list shows it")
    added.add_argument("--ttl", type=_ttl, default="15m", help="how long it lasts, up to 24h (default: %(default)s)")
    added.add_argument(
        "--from",
        dest="promote_from",
        type=_level,
        action="append",
        default=[],
        metavar="CODE_HASH",
        help="a code version that it may promote from; repeatable",
    )
    exchange = added.add_argument_group(
        "exchange", "Give an identity provider's token for it. A level comes from its option above, or from a claim."
    )
    exchange.add_argument("--exchange", metavar="FILE", help="where the provider's token is; -: standard input")
    exchange.add_argument("--issuer", help="what the provider's token names as iss")
    exchange.add_argument("--idp-audience", metavar="AUDIENCE", help="what it names as aud")
    exchange.add_argument("--jwks", metavar="FILE_OR_URL", help="the provider's public keys: a file or an https URL")
    exchange.add_argument(
        "--claim",
        type=_claim,
        action="append",
        default=[],
        metavar="LEVEL=CLAIM",
        help="the claim that holds a level: its name, or a path that begins with a dot, such as org=.realm.org; for "
        "each level that has no option",
    )
    added = command(
        "seal", _seal, "seal what happened since the last time, so that no change of the log is unseen", database
    )
    added.add_argument(
        "--every", type=_duration, metavar="TIME", help="go on, each so often, such as 1s; SIGTERM or SIGINT ends it"
    )
    added = command("checkpoint", _checkpoint, "seal, and chain one hash over all tenants' seals", database)
    added.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="append it to this file as a line of JSON, once; keep the file where the database's operator cannot write",
    )
    command("verify", _verify, "recompute the log; exit 1 when it was changed", any_tenant)
    added = command("audit", _audit, "show the tenant's log: who changed and used what", tenant)
    past = "7d, 12h or 30m back from now, or an ISO 8601 time, local unless it has an offset"
    added.add_argument("--since", type=_past, metavar="TIME", help=past)
    added.add_argument("--until", type=_past, metavar="TIME", help=f"before: {past}")
    added.add_argument("--action", help="only this one, such as 'save model'")
    added.add_argument("--limit", type=int, metavar="N", help="only the first N, the oldest first (default: all)")
    added.add_argument(
        "--follow",
        action="store_true",
        help="go on with what is sealed, from --after, --since or the last minute on, a line each",
    )
    added.add_argument(
        "--after", metavar="CURSOR", help="with --follow: go on behind the event whose cursor --json showed"
    )
    added.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="write the whole sealed log with its proofs, as JSON lines, into a new file for its owner only",
    )
    added = command(
        "evidence",
        _evidence,
        "write what an auditor reads: controls, rights, checkpoints, shares; exit 1 when anything failed",
        database,
    )
    added.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder; an earlier one that is unchanged is replaced"
    )
    added.add_argument("--attacks", type=Path, metavar="FILE", help="JUnit XML of the attack suite: make attacks")
    added.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="Ed25519 key in PEM that signs the manifest, which needs the extra identity (default: not signed)",
    )
    added.epilog = (
        "python pydb/verifier.py DIR verifies it without a database. The same bytes while nothing "
        "changed and no control's time ran out."
    )
    command(
        "compliance",
        _compliance,
        "check every control, the whole log too; exit 1 when one failed, 0 for warnings and what is unknown",
        database,
        listing,
    )
    command("metrics", _metrics, "print figures of the whole database for Prometheus, none of a tenant's", database)
    rules = command("retention", None, "say how long data is kept, and delete what is not kept").add_subparsers(
        metavar="ACTION", required=True
    )
    pattern_help = "five levels joined by colons, each a value or *"
    added = command("set", _retention_set, "set the rule of a pattern, in place of the one before", database, of=rules)
    added.epilog = (
        "Of several rules the most specific one counts for a tenant; a legal hold of any of them keeps everything. "
        "Events are never deleted: they lose their names. Durations are such as 90d or 1y, which is 365d."
    )
    added.add_argument("pattern", help=pattern_help)
    added.add_argument("--versions", type=int, metavar="N", help="keep at most N versions of a model (default: all)")
    added.add_argument(
        "--versions-for",
        type=_keep,
        metavar="TIME",
        help="keep versions that are not current, and idempotency keys, so long (default: for ever)",
    )
    added.add_argument(
        "--events-for", type=_keep, metavar="TIME", help="keep names in events so long (default: for ever)"
    )
    added.add_argument("--legal-hold", action="store_true", help="delete and erase nothing")
    command("list", _retention_list, "show the rules", database, listing, of=rules)
    added = command("drop", _retention_drop, "drop the rule of a pattern, and its legal hold", database, of=rules)
    added.add_argument("pattern", help="as pydb retention list shows it")
    command(
        "apply", _retention_apply, "delete what the rules keep no longer; run it daily", database, listing, of=rules
    )
    quotas = command("quota", None, "say how many models and bytes tenants may keep").add_subparsers(
        metavar="ACTION", required=True
    )
    added = command("set", _quota_set, "set the quota of a pattern, in place of the one before", database, of=quotas)
    added.epilog = (
        "A quota limits the total of the tenants that its pattern covers; with * as the first level, each organisation "
        "by itself, unless it has a quota of its own with the same other levels. Each quota that covers a tenant "
        "counts. What is there already stays."
    )
    added.add_argument("pattern", help=pattern_help)
    added.add_argument("--models", type=int, metavar="N", help="at most N models (default: no limit)")
    added.add_argument(
        "--bytes",
        type=_size,
        metavar="SIZE",
        help="at most so many bytes of artifacts and uploads, such as 50GiB (default: no limit)",
    )
    added.add_argument("--unlimited", action="store_true", help="no limit: an exception from a pattern with *")
    command("list", _quota_list, "show the quotas, and what is used of them", database, listing, of=quotas)
    added = command("drop", _quota_drop, "drop the quota of a pattern", database, of=quotas)
    added.add_argument("pattern", help="as pydb quota list shows it")
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument(
        "file", type=Path, metavar="FILE", help="JSON: the name of each cell and the DSN of an administrator's login"
    )
    cells = command("cells", None, "divide the organisations among several servers").add_subparsers(
        metavar="ACTION", required=True
    )
    added = command("apply", _cells_apply, "give all cells the same directory", places, of=cells)
    added.add_argument("--takes-new", metavar="CELL", help="where new organisations live (default: the first)")
    command("show", _cells_show, "show in which cell each organisation lives", places, listing, of=cells)
    command("check", _cells_check, "compare the directories of all cells; exit 1 when they differ", places, of=cells)
    added = command("authorize", _cells_authorize, "let a login act for tenants, in every cell", places, of=cells)
    added.add_argument("login")
    added.add_argument("pattern", help=pattern_help)
    added.add_argument("--token-only", action="store_true", help="it has to present signed tokens")
    added = command("adopt-key", _cells_adopt_key, "make a signing key valid in every cell", places, of=cells)
    added.epilog = "Reads the secret, as create_signing_key returned it, from standard input."
    added.add_argument("kid", help="the key's name, as select kid from ai_storage.list_signing_keys() shows it")
    added = command("move-org", _move_org, "move an organisation to another cell, while it is in use", places)
    added.epilog = (
        "Calls are refused only while the last changes are copied. If it is interrupted, run it again to continue. "
        "The bundles of the log in the old cell and the certificate of its erasure there are written to --out."
    )
    added.add_argument("org", help="level 1 of its tenants")
    added.add_argument("cell", help="where it is to live")
    added.add_argument("--out", type=Path, metavar="FOLDER", help="(default: ORG-moved-to-CELL)")
    added.add_argument(
        "--wait",
        type=float,
        default=10,
        metavar="SECONDS",
        help="how long to wait for older transactions before giving up (default: %(default)s)",
    )
    added = command("pgbouncer", _pgbouncer, "print PgBouncer's databases: each cell, and each organisation", places)
    added.add_argument("--front", action="store_true", help="those of a front instead: each cell, and again read-only")
    added = command("front-sql", _front_sql, "print the SQL of a front: one address for all cells, on PL/Proxy", places)
    added.add_argument("pooler", help="DSN of the front's own PgBouncer: 'host=/run/pydb-front port=6432'")
    added = command(
        "tenants", _tenants, "show the tenants that are known, and whether a legal hold keeps them", database, listing
    )
    added.add_argument("pattern", nargs="?", default="*:*:*:*:*", help=f"{pattern_help} (default: %(default)s)")
    added = command("erase", _erase, "erase all data of the tenants of a pattern, and certify it", database)
    added.epilog = (
        "Shows the tenants and asks for the pattern to be typed. Afterwards the tables are vacuumed, as the login that "
        "ran pydb init. "
        f"{OLD_BYTES_NOTE} python pydb/verifier.py FILE verifies the certificate; the database keeps it, too: "
        "ai_storage.erasure_certificate(id)."
    )
    added.add_argument("pattern", help=pattern_help)
    added.add_argument("--reason", required=True, help="stands in the certificate and in the log; name no person")
    added.add_argument("--out", type=Path, metavar="FILE", help="new file for the certificate (default: print it)")
    added.add_argument("--yes", metavar="PATTERN", help="the pattern once more, instead of typing it")
    added.add_argument(
        "--rewrite",
        action="store_true",
        help="rewrite the tables, so that nothing stays in their pages' free space either; locks them meanwhile",
    )
    added = command("break-glass", _break_glass, "announce that somebody looks at tenants' data by hand", database)
    added.epilog = "The tenants read it in their logs. It grants nothing."
    added.add_argument("pattern", help=pattern_help)
    added.add_argument("--reason", required=True, help="stands in the logs")
    added = command("report-backup", _report_backup, "tell the compliance report that a backup was taken", database)
    added.add_argument("--taken-at", type=_past, metavar="TIME", help=f"{past} (default: now)")
    added.add_argument("--location", metavar="TEXT", help="where it is")
    added = command("db", _db, "run the embedded PostgreSQL", listing)
    added.add_argument("action", choices=["start", "stop", "status", "url", "destroy"])
    added.add_argument("--yes", action="store_true", help="destroy without asking")
    added.add_argument("--login", metavar="NAME", help="the login in the URL (default: the superuser)")
    added.epilog = (
        "start creates the server when there is none and prints its URL; it runs until stop. destroy deletes all its "
        "data. AI_STORAGE_DATA_DIR names its folder (default: /var/lib/tenant-ai-storage for root, else your folder "
        "for application data)."
    )

    added = command("save", _save, "save the state of a model as its next version", tenant)
    added.add_argument("name")
    added.add_argument("--mse", type=float, help="mean squared error")
    added.add_argument("--samples", type=int, help="training samples so far")
    added.add_argument("--metric", type=_metric, action="append", default=[], metavar="NAME=NUMBER", help="repeatable")
    added.add_argument("--metadata", type=_json_object, default={}, metavar="JSON")
    added.add_argument(
        "--expected-version",
        type=int,
        metavar="N",
        help="save only if this is the current version; 0: must not exist yet",
    )
    added.add_argument("--idempotency-key", metavar="KEY", help="makes a repeated save safe")
    added.add_argument("--owner", metavar="KEY", help="the owner of a model shared for writing")
    added.add_argument(
        "--artifact",
        type=_artifact,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a file to keep with this version, in the same commit; repeatable",
    )
    added = command("load", _load, "show one model or all", tenant)
    added.add_argument("name", nargs="?")
    added.add_argument("--owner", metavar="KEY", help="the owner of a shared model, or of those to list")
    added.add_argument("--scope", choices=["all", "own", "shared"], help="whose (default: all; with NAME: own)")
    added.add_argument("--after", metavar="CURSOR", help="go on behind this row; the cursor is in --json")
    added.add_argument("--limit", type=int, metavar="N")
    added = command("history", _history, "show the saved versions of a model, the newest first", tenant)
    added.add_argument("name")
    added.add_argument("--owner", metavar="KEY", help="the owner of a shared model")
    added.add_argument("--before-version", type=int, metavar="N")
    added.add_argument("--limit", type=int, metavar="N")
    added = command("delete", _delete, "delete a model with all its versions", tenant)
    added.add_argument("name")
    added.add_argument("--expected-version", type=int, metavar="N")
    added = command("promote", _promote, "copy the models of another code version into the tenant", tenant)
    added.add_argument("from_code_hash", metavar="FROM_CODE_HASH", help="level 5 of the tenant to copy from")
    added.add_argument("name", nargs="?")
    added.add_argument("--with-history", action="store_true", help="copy all versions, not only the current one")
    command("versions", _versions, "show the code versions that promote takes with this credential", tenant)
    command("stats", _stats, "show how much the tenant has, and how the database stands", tenant)
    added = command("export", _export, "write all that the tenant has into a file, its log aside", tenant)
    added.epilog = "JSON lines: a manifest with their count and digest, then the records. The export is logged."
    added.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="new file, which only its owner may read"
    )
    added = command("import-export", _import, "restore an export into the tenant, all or nothing", tenant)
    added.epilog = (
        "The file is checked first. It takes a tenant that never had a model of the same names. What was interrupted "
        "changed nothing, and can be run again. Grants are left out."
    )
    added.add_argument("file", type=Path, metavar="FILE", help="as pydb export wrote it")

    added = command("put", _put, "keep a file as an artifact of one version of a model", tenant)
    added.epilog = "What was interrupted goes on where it was, when the same file is put again within a day."
    added.add_argument("model")
    added.add_argument("file", type=Path, metavar="FILE", help="-: standard input")
    added.add_argument("--name", metavar="ARTIFACT", help="the artifact's name (default: that of the file, in NFC)")
    added.add_argument("--media-type", default=calls.OCTETS, metavar="TYPE", help="(default: %(default)s)")
    added.add_argument("--version", type=int, metavar="N", help="the version it belongs to (default: the current one)")
    added.add_argument("--expected-version", type=int, metavar="N", help="put only if this is the current version")
    added = command("get", _get, "write an artifact into a file", tenant)
    added.add_argument("model")
    added.add_argument("artifact")
    added.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to; -: standard output (default: a new file named like the artifact)",
    )
    added.add_argument("--owner", metavar="KEY", help="the owner of a model shared for execute")
    added.add_argument(
        "--version", type=int, metavar="N", help="that of exactly this version (default: the current one)"
    )
    added.add_argument("--or-earlier", action="store_true", help="the last one up to the version")
    added = command("artifacts", _artifacts, "show the artifacts of a model or of all, at each version", tenant)
    added.add_argument("model", nargs="?")
    added.add_argument("--owner", metavar="KEY", help="the owner of a model shared for execute")
    added.add_argument("--version", type=int, metavar="N", help="those of exactly this version (default: of all)")
    added.add_argument("--or-earlier", action="store_true", help="the last ones up to the version")
    added = command(
        "import", _import_files, "save the models that lie in JSON files; exit 1 when a file was skipped", tenant
    )
    added.epilog = (
        "A file holds one model, an array of them (.json), or one on each line (.jsonl, .ndjson); it is saved whole or "
        "skipped. In --as, {1} stands for the first folder below PATH, {2} for the next, {name} for a field of the "
        "record: PATH/<server>/<project>/*.json is imported by --as 'acme:{1}:{2}:production:{codeHash}'. A record has "
        "model_name, mse, training_samples, metrics and metadata, or modelName and trainingSamples; other fields go "
        "into the metadata. A state that the model has, or had, is not saved again. Symbolic links are not followed."
    )
    added.add_argument("path", type=Path, metavar="PATH", help="a file, or a folder with all that is in it")
    added.add_argument("--dry-run", action="store_true", help="save nothing; the database is asked, and rolls back")

    added = command("share", _share, "let other tenants reach a model; a repetition replaces what was given", tenant)
    added.add_argument("name")
    added.add_argument("--to", type=_target, action="append", required=True, metavar="TARGET", help=target_help)
    added.add_argument(
        "--permission",
        choices=PERMISSIONS,
        action="append",
        help="may be repeated; share: to pass it on (default: read)",
    )
    added.add_argument(
        "--expires",
        type=_end,
        metavar="END",
        help="7d, 12h or 30m from now on, or an ISO 8601 time, local unless it has an offset (default: no end)",
    )
    added.add_argument("--version", type=int, metavar="N", help="the only version to be seen (default: all)")
    added.add_argument("--owner", metavar="KEY", help="the owner of a received model to pass on")
    added = command("unshare", _unshare, "end what was given on a model, with all that was passed on from it", tenant)
    which = added.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?")
    which.add_argument("--id", type=UUID, metavar="UUID", help="one grant, as pydb shares shows it")
    added.add_argument(
        "--to", type=_target, action="append", metavar="TARGET", help=f"only this one (default: all); {target_help}"
    )
    added.add_argument("--owner", metavar="KEY", help="the owner of a received model that was passed on")
    added = command("decline", _decline, "refuse a model that is shared with the tenant, for good", tenant)
    added.add_argument("id", type=UUID, metavar="UUID", help="the grant, as pydb shares --received shows it")
    added = command("shares", _shares, "show the grants that the tenant may end, or those that reach it", tenant)
    added.add_argument("name", nargs="?")
    added.add_argument("--received", action="store_true", help="those that reach the tenant")
    added.add_argument("--graph", type=_picture, metavar="FILE.svg", help="also draw both kinds into this new file")

    added = command("demo", _demo, "train real models as three servers and show what each one sees")
    added.add_argument("--dsn", help="where to run pydb init and train (default: the embedded server)")
    added.add_argument("--out", default="demo-out", help="folder for the pictures (default: %(default)s)")
    added.add_argument("--epochs", type=int, default=30, help="epochs per model (default: %(default)s)")
    return parser


# Of the server's context, which may quote a whole file.
CONTEXT_LINES = 3

# What the server says when something on our side is missing -> what to do.
SERVER_HINTS = {
    "3F000": "This database has no schema for tenant-ai-storage yet. Run: pydb init",
    "42883": "This database is older than the package. Run: pydb migrate",
    "42501": "This login lacks the right. An application login gets it by pydb authorize, run again if need be: the "
    "group ai_storage_app is one for all databases of the server. Administrators connect as the login that ran pydb "
    "init, or are granted ai_storage_admin.",
}


def _complain(message: str, **more: str | None) -> None:
    """Print an error. Lines of a text behind its first are indented, so that none of them looks like another error."""
    for label, text in {"pydb": message, **more}.items():
        if text:
            print(f"{label}: {text.strip()}".replace("\n", "\n    "), file=sys.stderr)


def _print_server_error(error: psycopg.Error, operates: bool = False) -> None:
    """Print an error of the server or the driver.

    operates: it ended init or migrate. Then the server's context tells which statement failed, or whose event trigger;
    else it is about our own functions.
    """
    diag = error.diag
    hint = None if operates else SERVER_HINTS.get(error.sqlstate or "")
    _complain(
        diag.message_primary or str(error),
        detail=diag.message_detail,
        where="\n".join((diag.context or "").splitlines()[:CONTEXT_LINES]) if operates else None,
        hint=hint or diag.message_hint,
    )


def _run_command(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    try:
        if getattr(args, "needs_credential", None) is not None:
            args.credential = args.credential or _secret("AI_STORAGE_TOKEN")
            if args.needs_credential and not args.credential:
                args.refuse("the tenant is needed: --as, AI_STORAGE_TOKEN or AI_STORAGE_TOKEN_FILE")
        return args.run(args) or 0
    except (
        CommandError,
        InvalidDsn,
        directory.DirectoryError,
        migrate.MigrationError,
        embedded.EmbeddedError,
        evidence.EvidenceError,
        transfer.TransferError,
    ) as error:
        _complain(error.message, hint=error.hint)
    except StorageError as error:
        _complain(
            f"{error.args[0]}{f' ({error.sqlstate})' if error.sqlstate else ''}", detail=error.detail, hint=error.hint
        )
    except psycopg.Error as error:
        _print_server_error(error, args.run in (_init, _migrate))
    except KeyboardInterrupt:
        _complain("interrupted")
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns: the exit code.
    """
    output = sys.stdout
    try:
        with redirect_stdout(Screen(sys.stdout)), redirect_stderr(Screen(sys.stderr)):
            code = _run_command(argv)
        output.flush()
    except BrokenPipeError:
        # The reader of our output has gone, as head does. Nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
