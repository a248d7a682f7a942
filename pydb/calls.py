"""The SQL API as values: each function here builds one call of one `ai_storage` function and touches no connection.

A Call is run by `pydb.session.run` or `pydb.aio.run`; both add the credential. Only what is said about Python is said
here: shapes, units and errors of each function are its COMMENT ON in `sql/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Generic, Literal, LiteralString, TypeVar
from uuid import UUID

from ._values import number, to_json
from .errors import InvalidArgument, InvalidTarget, ModelNotFound

__all__ = [
    "Artifact",
    "AuditEvent",
    "AuditSummary",
    "AuditVerification",
    "Authorization",
    "Call",
    "Cell",
    "CodeVersion",
    "Control",
    "Erasure",
    "ExternalSharing",
    "Grant",
    "Home",
    "Metric",
    "NewSigningKey",
    "Opened",
    "Permission",
    "Progress",
    "Promoted",
    "Put",
    "Quota",
    "RetentionRule",
    "RowDigest",
    "Saved",
    "Scope",
    "Sealed",
    "Share",
    "SigningKey",
    "Swept",
    "Target",
    "Tenant",
    "TenantDigest",
    "TenantStats",
    "Upload",
    "Version",
    "abort_artifact",
    "adopt_signing_key",
    "adopt_tenant",
    "allow_external_sharing",
    "append_artifact",
    "apply_retention",
    "audit_proof",
    "audit_trail",
    "authorize_login",
    "begin_artifact",
    "break_glass",
    "changes",
    "clear_tenant",
    "collect_evidence",
    "compliance_report",
    "create_checkpoint",
    "create_signing_key",
    "current_tenant",
    "deauthorize_login",
    "decline_share",
    "delete_artifact",
    "delete_progress",
    "digest_organisation",
    "drop_quota",
    "drop_retention",
    "erase_tenant",
    "erasure_certificate",
    "export_audit",
    "export_tenant",
    "export_tenant_audit",
    "finish_artifact",
    "forbid_external_sharing",
    "get_artifact",
    "has_permission",
    "hold_organisation",
    "home",
    "import_tenant",
    "is_isolation_key",
    "isolation_key",
    "list_artifacts",
    "list_authorizations",
    "list_cells",
    "list_code_versions",
    "list_erasures",
    "list_external_sharing",
    "list_homes",
    "list_quotas",
    "list_received_shares",
    "list_retention",
    "list_rows",
    "list_shares",
    "list_signing_keys",
    "list_tenants",
    "list_uploads",
    "load_history",
    "load_model",
    "load_progress",
    "metrics",
    "open_artifact",
    "open_organisation",
    "parse_isolation_key",
    "promote_progress",
    "put_artifact",
    "read_artifact",
    "read_chunks",
    "read_rows",
    "release_organisation",
    "renew_context_secret",
    "report_backup",
    "retire_signing_key",
    "revoke_share",
    "save_progress",
    "save_progress_batch",
    "seal_audit",
    "set_artifact_limit",
    "set_cells",
    "set_home",
    "set_quota",
    "set_retention",
    "set_tenant",
    "share_model",
    "stage_artifact",
    "tenant_stats",
    "unshare_model",
    "verify_all_audit",
    "verify_audit",
    "version",
    "write_rows",
]

MAX_BATCH = 64 * 2**20  # bytes of JSON; PostgreSQL takes 256 MiB, of jsonb, which is up to several times as large

T = TypeVar("T")
Row = tuple[Any, ...]
Scope = Literal["all", "own", "shared"]
Permission = Literal["read", "execute", "write", "share"]
#: Any of org_id, server_id, project_id, environment, code_hash (or orgId ...); a level left out is the sharer's own,
#: "*" is any.
Target = Mapping[str, str]


def _is_token(credential: str) -> bool:
    return ":" not in credential  # which a key has


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One SELECT of one function.

    query: its columns by name, so that a release may add one; named notation, one %s per parameter.
    params: their values, without the credential. parse: makes the result of the rows, whose values came in binary.
    tenant: the query's last parameter is the credential, p_as. secret: a parameter is a token.
    """

    query: LiteralString
    params: tuple[object, ...] = field(repr=False)
    parse: Callable[[list[Row]], T]
    tenant: bool = True
    secret: bool = False

    def bind(self, credential: str | None) -> tuple[object, ...]:
        """All parameters in the query's order."""
        return (*self.params, credential) if self.tenant else self.params

    def carries_token(self, credential: str | None) -> bool:
        """Whether a parameter is a token, which is a secret. A key is none."""
        return self.secret or (self.tenant and credential is not None and _is_token(credential))


@dataclass(frozen=True, slots=True)
class Saved:
    """The answer to a save. saved_at: aware."""

    model_name: str
    version: int
    created: bool
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """The current state of a model. cursor: pass it as `after` to go on behind this row.

    metrics, metadata: empty for another tenant's model in a list; load_model with owner brings them.
    """

    model_name: str
    owner_key: str
    is_shared: bool
    permissions: list[str]
    mse: float | None
    training_samples: int | None
    metrics: dict[str, float]
    metadata: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    cursor: str


@dataclass(frozen=True, slots=True)
class Version:
    """One saved version of a model.

    saved_by: isolation key of the tenant that saved it; None in another tenant's model for a third one.
    """

    version: int
    mse: float | None
    training_samples: int | None
    metrics: dict[str, float]
    metadata: dict[str, Any]
    saved_at: datetime
    saved_by: str | None


@dataclass(frozen=True, slots=True)
class Promoted:
    """A model copied into the caller's tenant, and its version there."""

    model_name: str
    version: int


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """A code version of the caller's other four levels. models: how many it has. last_saved_at: None without any."""

    code_hash: str
    is_own: bool
    models: int
    last_saved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Put:
    """The answer to putting bytes. sha256: hexadecimal. is_new: the tenant did not have them before."""

    sha256: str
    size_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that is not finished. received_bytes: how many have arrived; sha256: of those, hexadecimal.

    model_name, version: what it was begun for, None for a save. is_current: the version is still the model's.
    """

    upload_id: UUID
    model_name: str | None
    artifact_name: str
    version: int | None
    is_current: bool | None
    received_bytes: int
    sha256: str
    media_type: str
    began_at: datetime
    touched_at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """What an artifact is. version: at which it was put; for_version: for which it was opened. sha256: hexadecimal.

    cache_key: 32 bytes that seal what a cache keeps for the caller, a secret; or None.
    """

    version: int
    for_version: int
    sha256: str
    size_bytes: int
    media_type: str
    put_at: datetime
    cache_key: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact as it was put at a version. sha256: hexadecimal."""

    model_name: str
    owner_key: str
    artifact_name: str
    version: int
    sha256: str
    size_bytes: int
    media_type: str
    put_at: datetime


@dataclass(frozen=True, slots=True)
class Share:
    """A grant just given. target: five levels joined by colons, each a value or *."""

    share_id: UUID
    target: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Who may reach a model, and how. version: the only one to be seen, or None. expires_at: None means no end.

    state: active, declined by the tenant it names, or partly declined by some that its * covers. parent_id: the grant
    it was passed on from; None for one of the owner's, and for one that is received.
    """

    share_id: UUID
    model_name: str
    owner_key: str
    shared_by: str
    target: str
    permissions: list[str]
    version: int | None
    expires_at: datetime | None
    created_at: datetime
    state: str
    parent_id: UUID | None


@dataclass(frozen=True, slots=True)
class ExternalSharing:
    """An organisation that may share models with another."""

    org_id: str
    to_org_id: str
    permitted_at: datetime
    permitted_by: str


@dataclass(frozen=True, slots=True)
class NewSigningKey:
    """A key that signs tokens. secret: shown this once; keep it where tokens are minted."""

    kid: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs tokens, without its secret. retired_at: None while it is in use."""

    kid: str
    audience: str
    created_at: datetime
    created_by: str
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Authorization:
    """A login may name every tenant the pattern covers."""

    login_name: str
    pattern: str
    token_only: bool
    authorized_at: datetime
    authorized_by: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event of a tenant's log.

    credential: key, token and its kid, or none for a change by hand. actor: the token's sub, if it had one. detail:
    names. Both are None after an erasure. sealed: whether a seal covers it. cursor: pass it as `after` to go on behind
    this row.
    """

    event_id: UUID
    recorded_at: datetime
    action: str
    model_id: UUID | None
    version: int | None
    login: str
    credential: str
    actor: str | None
    detail: dict[str, Any] | None
    sealed: bool
    cursor: str


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """A tenant's log, recomputed. pending: events that no seal covers yet. problem: what is wrong first, or None."""

    verified: bool
    events: int
    seals: int
    pending: int
    event_id: UUID | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """All tenants' logs, recomputed. pending: events that no seal covers yet.

    isolation_key, event_id: where the problem is, as far as it is known.
    """

    verified: bool
    events: int
    seals: int
    checkpoints: int
    pending: int
    isolation_key: str | None
    event_id: UUID | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """How many events were sealed, under how many seals."""

    events: int
    seals: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant that is known, from its first save on. is_held: a legal hold keeps its data."""

    isolation_key: str
    registered_at: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long the data of a pattern's tenants is kept. None: all of it, for ever. legal_hold: delete nothing."""

    pattern: str
    keep_versions: int | None
    keep_versions_for: timedelta | None
    keep_events_for: timedelta | None
    legal_hold: bool
    set_at: datetime
    set_by: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One of the servers that divide the organisations among them."""

    cell_name: str
    is_here: bool
    takes_new: bool


@dataclass(frozen=True, slots=True)
class Home:
    """The cell that an organisation lives in, and how many of its tenants are open and closed in the one asked."""

    org_id: str
    cell_name: str
    is_moving: bool
    open_tenants: int = field(compare=False)
    closed_tenants: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class TenantDigest:
    """What a move copies of a tenant. moved_to: the cell that it is closed for; None: it is open here.

    digest: hexadecimal; equal in two cells: the same content.
    """

    isolation_key: str
    tenant_id: int
    registered_at: datetime
    moved_to: str | None
    row_count: int
    digest: str


@dataclass(frozen=True, slots=True)
class RowDigest:
    """One row that a move copies. row_id: its primary key, as JSON. digest: of its content, hexadecimal."""

    table_name: str
    row_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Quota:
    """How much the tenants of a pattern may keep in an organisation, and do keep. None: no limit."""

    pattern: str
    max_models: int | None
    max_bytes: int | None
    models: int
    bytes: int
    set_at: datetime
    set_by: str


@dataclass(frozen=True, slots=True)
class Swept:
    """What retention took: how many tenants lost something; versions; names of events; grants worth nothing.

    cursor: where the next call goes on; None when all is done.
    """

    tenants: int
    versions: int
    events: int
    shares: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that has a certificate. tenants: how many were erased."""

    certificate_id: UUID
    erased_at: datetime
    erased_by: str
    pattern: str
    reason: str
    tenants: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of the whole database, in the terms of Prometheus. kind: gauge or counter."""

    metric: str
    kind: str
    help: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Control:
    """One line of the compliance report.

    reference: GDPR articles and SOC 2 criteria. status: passed, warning, failed, or unknown when nobody told.
    result: what was found. evidence: the query that found it.
    """

    control: str
    reference: str
    status: str
    result: str
    evidence: str
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class TenantStats:
    """How much a tenant has. shared_models: others' that it may read. artifact_bytes: in bytes.

    compliance_status: passed, warning or failed: the worst of the controls of the whole database that are quick to
    check.
    """

    isolation_key: str
    own_models: int
    shared_models: int
    total_models: int
    versions: int
    artifact_bytes: int
    last_saved_at: datetime | None
    compliance_status: str


@cache
def _draft(cls: Any) -> type:
    """A class with the slots of a result's class, but not frozen, so that its instances can become that class's."""
    return make_dataclass(cls.__name__, [one.name for one in fields(cls)], slots=True, eq=False, repr=False)


def _rows_of(cls: Callable[..., T]) -> Callable[[list[Row]], list[T]]:
    def parse(rows: list[Row]) -> list[T]:
        # A frozen dataclass looks each of its fields up to set it, and takes five times as long as one that is not.
        draft = _draft(cls)
        made = [draft(*row) for row in rows]
        for one in made:
            one.__class__ = cls
        return made

    return parse


def _row_of(cls: Callable[..., T]) -> Callable[[list[Row]], T]:
    return lambda rows: cls(*rows[0])


def _value(rows: list[Row]) -> Any:
    return rows[0][0]


_SAVED = _row_of(Saved)
_SAVED_EACH = _rows_of(Saved)
_LOADED = _rows_of(Progress)
_VERSIONS = _rows_of(Version)
_PROMOTED = _rows_of(Promoted)
_CODE_VERSIONS = _rows_of(CodeVersion)
_AUTHORIZATIONS = _rows_of(Authorization)
_NEW_KEY = _row_of(NewSigningKey)
_KEYS = _rows_of(SigningKey)
_PUT = _row_of(Put)
_UPLOADS = _rows_of(Upload)
_OPENED = _row_of(Opened)
_ARTIFACTS = _rows_of(Artifact)
_SHARES = _rows_of(Share)
_GRANTS = _rows_of(Grant)
_EXTERNAL = _rows_of(ExternalSharing)
_EVENTS = _rows_of(AuditEvent)
_VERIFICATION = _row_of(AuditVerification)
_SUMMARY = _row_of(AuditSummary)
_SEALED = _row_of(Sealed)
_TENANTS = _rows_of(Tenant)
_RULES = _rows_of(RetentionRule)
_QUOTAS = _rows_of(Quota)
_CELLS = _rows_of(Cell)
_HOMES = _rows_of(Home)
_TENANT_DIGESTS = _rows_of(TenantDigest)
_ROW_DIGESTS = _rows_of(RowDigest)
_SWEPT = _row_of(Swept)
_ERASURES = _rows_of(Erasure)
_METRICS = _rows_of(Metric)
_CONTROLS = _rows_of(Control)
_STATS = _row_of(TenantStats)


def _values(rows: list[Row]) -> list[Any]:
    return [row[0] for row in rows]


def _progress(rows: list[Row]) -> list[Progress]:
    loaded = _LOADED(rows)
    for one in loaded:
        if one.metadata is None:  # a shared model in a list
            object.__setattr__(one, "metrics", {})
            object.__setattr__(one, "metadata", {})
    return loaded


def _model(rows: list[Row]) -> Progress:
    if not rows:
        raise ModelNotFound(
            "no such model",
            hint="Check the name; a model of another tenant has to be shared with you, and is loaded with its owner.",
        )
    return _progress(rows)[0]


def _aware(time: datetime | None, what: str) -> datetime | None:
    """Refuse a time that could be of any zone: the server would take it for one of its own."""
    if time is not None and (not isinstance(time, datetime) or time.utcoffset() is None):
        raise InvalidArgument(
            f"invalid {what}",
            detail="It is no datetime with a time zone.",
            hint="Pass an aware datetime, such as datetime.now(timezone.utc) + timedelta(hours=1).",
        )
    return time


def _targets(targets: Iterable[Target]) -> str:
    if isinstance(targets, (str, Mapping)):
        raise InvalidTarget("targets are a list", hint='Pass a list of objects, such as [{"server_id": "mcp-2"}].')
    return to_json(list(targets), "targets")


# Context


def version() -> Call[str]:
    """The release of the package this database runs.

    Source: sql/00_version.sql, ai_storage.version
    """
    return Call("select ai_storage.version()", (), _value, tenant=False)


def isolation_key(org_id: str, server_id: str, project_id: str, environment: str, code_hash: str) -> Call[str]:
    """Render five tenant levels as an isolation key.

    Raises: InvalidArgument (22023).
    Source: sql/10_context.sql, ai_storage.isolation_key
    """
    return Call(
        "select ai_storage.isolation_key(p_org_id => %s, p_server_id => %s, p_project_id => %s, "
        "p_environment => %s, p_code_hash => %s)",
        (org_id, server_id, project_id, environment, code_hash),
        _value,
        tenant=False,
    )


def parse_isolation_key(key: str) -> Call[tuple[str, str, str, str, str]]:
    """Split an isolation key into its five levels.

    Raises: InvalidArgument (22023).
    Source: sql/10_context.sql, ai_storage.parse_isolation_key
    """
    return Call(
        "select org_id, server_id, project_id, environment, code_hash from ai_storage.parse_isolation_key(p_key => %s)",
        (key,),
        lambda rows: rows[0],
        tenant=False,
    )


def is_isolation_key(key: str) -> Call[bool]:
    """Whether a text is a well-formed isolation key.

    Source: sql/10_context.sql, ai_storage.is_isolation_key
    """
    return Call("select ai_storage.is_isolation_key(p_key => %s)", (key,), _value, tenant=False)


def set_tenant(credential: str) -> Call[str]:
    """Make the rest of the transaction act for one tenant.

    Returns: its isolation key.
    Raises: MalformedCredential (TN002), NotAuthorized (TN003), AnotherTenant (TN004).
    Source: sql/10_context.sql, ai_storage.set_tenant
    """
    return Call(
        "select ai_storage.set_tenant(p_credential => %s)",
        (credential,),
        _value,
        tenant=False,
        secret=_is_token(credential),
    )


def clear_tenant() -> Call[None]:
    """End what set_tenant began.

    Source: sql/10_context.sql, ai_storage.clear_tenant
    """
    return Call("select ai_storage.clear_tenant()", (), lambda rows: None, tenant=False)


def current_tenant() -> Call[str | None]:
    """The isolation key that set_tenant set for this transaction, or None.

    Source: sql/10_context.sql, ai_storage.current_tenant
    """
    return Call("select ai_storage.current_tenant()", (), _value, tenant=False)


def authorize_login(login: str, pattern: str, *, token_only: bool = False) -> Call[None]:
    """Let a login act for every tenant the pattern covers. For administrators.

    pattern: five levels joined by colons, each a value or `*`.
    Raises: InvalidArgument (22023), LoginTooPowerful (TN006); psycopg's UndefinedObject when there is no such login.
    Source: sql/10_context.sql, ai_storage.authorize_login
    """
    return Call(
        "select ai_storage.authorize_login(p_login => %s, p_pattern => %s, p_token_only => %s::boolean)",
        (login, pattern, token_only),
        lambda rows: None,
        tenant=False,
    )


def deauthorize_login(login: str, pattern: str | None = None) -> Call[int]:
    """Take back one authorisation of a login, or all of them. For administrators.

    Returns: how many were taken back.
    Raises: InvalidArgument (22023).
    Source: sql/10_context.sql, ai_storage.deauthorize_login
    """
    return Call(
        "select ai_storage.deauthorize_login(p_login => %s, p_pattern => %s)",
        (login, pattern),
        _value,
        tenant=False,
    )


def list_authorizations() -> Call[list[Authorization]]:
    """Who may name which tenants. For administrators.

    Source: sql/10_context.sql, ai_storage.list_authorizations
    """
    return Call(
        "select login_name, pattern, token_only, authorized_at, authorized_by from ai_storage.list_authorizations()",
        (),
        _AUTHORIZATIONS,
        tenant=False,
    )


def renew_context_secret() -> Call[None]:
    """Make a new secret to sign contexts with; open transactions lose their tenant. For administrators.

    Source: sql/10_context.sql, ai_storage.renew_context_secret
    """
    return Call("select ai_storage.renew_context_secret()", (), lambda rows: None, tenant=False)


# Tokens


def create_signing_key(kid: str | None = None, *, audience: str | None = None) -> Call[NewSigningKey]:
    """Make a key that signs tokens. For administrators.

    kid: its name; None makes one up. audience: what tokens name as aud; None for the name of the database.
    Raises: InvalidArgument (22023); psycopg's UniqueViolation when the kid was used before.
    Source: sql/12_token.sql, ai_storage.create_signing_key
    """
    return Call(
        "select kid, secret from ai_storage.create_signing_key(p_kid => %s, p_audience => %s)",
        (kid, audience),
        _NEW_KEY,
        tenant=False,
    )


def retire_signing_key(kid: str) -> Call[bool]:
    """Refuse the tokens of a key from now on. For administrators.

    Returns: False when there is no such key in use.
    Source: sql/12_token.sql, ai_storage.retire_signing_key
    """
    return Call("select ai_storage.retire_signing_key(p_kid => %s)", (kid,), _value, tenant=False)


def list_signing_keys() -> Call[list[SigningKey]]:
    """The keys that sign tokens, retired ones too, without their secrets. For administrators.

    Source: sql/12_token.sql, ai_storage.list_signing_keys
    """
    return Call(
        "select kid, audience, created_at, created_by, retired_at from ai_storage.list_signing_keys()",
        (),
        _KEYS,
        tenant=False,
    )


# Progress


def save_progress(
    model_name: str,
    mse: float | None = None,
    *,
    training_samples: int | None = None,
    metrics: Mapping[str, float] | None = None,
    metadata: Mapping[str, Any] | None = None,
    expected_version: int | None = None,
    idempotency_key: str | None = None,
    owner: str | None = None,
    artifacts: Mapping[str, Any] | None = None,
) -> Call[Saved]:
    """Save the state of one model as its next version.

    mse: finite; may be left out when metrics is not empty. metrics: up to 256 finite numbers by name.
    metadata: any JSON object up to 1 MiB. Numbers of numpy and torch, but no arrays, count as numbers everywhere.
    expected_version: 0 = must not exist yet, n = must be the current version, None = last writer wins.
    idempotency_key: a repeated request returns the first answer. owner: the owner's isolation key, when the model was
    shared for writing. artifacts: of an own model, by name the id of an upload that stage_artifact ended, or a mapping
    with upload or content (base64), and media_type.
    Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102),
    IdempotencyConflict (TN103), UploadNotFound (TN201).
    Source: sql/20_progress.sql, ai_storage.save_progress
    """
    return Call(
        "select model_name, version, created, saved_at "
        "from ai_storage.save_progress(p_model_name => %s, p_mse => %s::double precision, "
        "p_training_samples => %s::bigint, p_metrics => %s, p_metadata => %s, "
        "p_expected_version => %s::bigint, p_idempotency_key => %s, p_owner => %s, p_artifacts => %s, p_as => %s)",
        (
            model_name,
            number(mse, "mse"),
            number(training_samples, "training_samples"),
            to_json(metrics or {}, "metrics"),
            to_json(metadata or {}, "metadata"),
            expected_version,
            idempotency_key,
            owner,
            to_json(artifacts, "artifacts") if artifacts else "{}",
        ),
        _SAVED,
    )


def save_progress_batch(items: Iterable[Mapping[str, Any]]) -> Call[list[Saved]]:
    """Save many model states, all or none, in the order given.

    items: each with model_name and any of mse, training_samples, metrics, metadata, expected_version, idempotency_key,
    owner, artifacts, as in save_progress; all of them together at most 64 MiB of JSON.
    Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102),
    IdempotencyConflict (TN103), UploadNotFound (TN201).
    Source: sql/20_progress.sql, ai_storage.save_progress_batch
    """
    batch = to_json(list(items), "batch")
    if len(batch) > MAX_BATCH:
        raise InvalidArgument(
            "the batch is too large",
            detail=f"It has {len(batch)} bytes of JSON, of {MAX_BATCH}.",
            hint="Save it in several batches.",
        )
    return Call(
        "select model_name, version, created, saved_at from ai_storage.save_progress_batch(p_items => %s, p_as => %s)",
        (batch,),
        _SAVED_EACH,
    )


def load_progress(
    model_name: str | None = None,
    *,
    scope: Scope | None = None,
    owner: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Call[list[Progress]]:
    """Load the current state of own models, by name, then of shared ones, by owner and name: of one name, or of all.

    scope: None means own where a name is given, else all. all with a name: another's where there is no own one.
    owner: only this tenant's models. after: the cursor of the last row already had. limit: largest number of rows;
    None loads all own ones, and up to 1,000 shared ones, of each owner the first 100.
    Returns: no row when there is no such model. Only with name and owner a shared model comes with metrics and
    metadata; then its use is logged.
    Raises: InvalidArgument (22023).
    Source: sql/20_progress.sql, ai_storage.load_progress
    """
    return Call(
        "select model_name, owner_key, is_shared, permissions, mse, training_samples, metrics, metadata, "
        "version, created_at, updated_at, cursor "
        "from ai_storage.load_progress(p_model_name => %s, p_scope => %s, p_after => %s, "
        "p_limit => %s::integer, p_owner => %s, p_as => %s)",
        (model_name, scope, after, limit, owner),
        _progress,
    )


def load_model(model_name: str, owner: str | None = None) -> Call[Progress]:
    """Load the current state of one own model, or with owner of one that this tenant shares for reading.

    Raises: ModelNotFound (TN101).
    Source: sql/20_progress.sql, ai_storage.load_progress
    """
    call = load_progress(model_name, scope="own", owner=owner)
    return Call(call.query, call.params, _model)


def load_history(
    model_name: str,
    *,
    owner: str | None = None,
    before_version: int | None = None,
    limit: int | None = None,
) -> Call[list[Version]]:
    """Load the saved versions of one model, the newest first.

    before_version: only versions below it. limit: largest number of rows; None loads all of them.
    Raises: InvalidArgument (22023), ModelNotFound (TN101).
    Source: sql/20_progress.sql, ai_storage.load_history
    """
    return Call(
        "select version, mse, training_samples, metrics, metadata, saved_at, saved_by "
        "from ai_storage.load_history(p_model_name => %s, p_owner => %s, "
        "p_before_version => %s::bigint, p_limit => %s::integer, p_as => %s)",
        (model_name, owner, before_version, limit),
        _VERSIONS,
    )


def delete_progress(model_name: str, *, expected_version: int | None = None) -> Call[bool]:
    """Delete a model with all its versions.

    Returns: False when there was none of that name.
    Raises: VersionConflict (TN102), LegalHold (TN501).
    Source: sql/20_progress.sql, ai_storage.delete_progress
    """
    return Call(
        "select ai_storage.delete_progress(p_model_name => %s, p_expected_version => %s::bigint, p_as => %s)",
        (model_name, expected_version),
        _value,
    )


def promote_progress(
    from_code_hash: str, model_name: str | None = None, *, with_history: bool = False
) -> Call[list[Promoted]]:
    """Copy the models of another code version of the same four levels into the caller's tenant, with their artifacts.

    with_history: all versions, and not only the current one. A token names in its claim `from` what it may copy from.
    Returns: what was copied; names that exist already are left alone.
    Raises: InvalidArgument (22023), NotAuthorized (TN003), ModelNotFound (TN101), VersionConflict (TN102).
    Source: sql/20_progress.sql, ai_storage.promote_progress
    """
    return Call(
        "select model_name, version from ai_storage.promote_progress(p_from_code_hash => %s, p_model_name => %s, "
        "p_with_history => %s::boolean, p_as => %s)",
        (from_code_hash, model_name, with_history),
        _PROMOTED,
    )


def list_code_versions() -> Call[list[CodeVersion]]:
    """The code versions that promote_progress takes with this credential, and the caller's own, the newest first.

    Source: sql/20_progress.sql, ai_storage.list_code_versions
    """
    return Call(
        "select code_hash, is_own, models, last_saved_at from ai_storage.list_code_versions(p_as => %s)",
        (),
        _CODE_VERSIONS,
    )


# Artifacts. pydb.artifact puts and gets them in parts.

#: Bytes as psycopg sends them.
Content = bytes | bytearray | memoryview
OCTETS = "application/octet-stream"


def put_artifact(
    model_name: str,
    artifact_name: str,
    content: Content,
    *,
    media_type: str = OCTETS,
    version: int | None = None,
    expected_version: int | None = None,
) -> Call[Put]:
    """Keep bytes as an artifact of one version of an own model, in place of what it had under the name.

    version: None for the current one. expected_version: only if it is the current one.
    Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102).
    Source: sql/25_artifact.sql, ai_storage.put_artifact
    """
    return Call(
        "select sha256, size_bytes, is_new "
        "from ai_storage.put_artifact(p_model_name => %s, p_artifact_name => %s, p_content => %s, "
        "p_media_type => %s, p_version => %s::bigint, p_expected_version => %s::bigint, p_as => %s)",
        (model_name, artifact_name, content, media_type, version, expected_version),
        _PUT,
    )


def begin_artifact(
    model_name: str | None = None,
    artifact_name: str = "upload",
    *,
    media_type: str = OCTETS,
    version: int | None = None,
    expected_version: int | None = None,
) -> Call[UUID]:
    """Begin an upload in parts. Nothing is visible before finish_artifact, or a save after stage_artifact.

    model_name: None for a save, whose model need not exist yet. version: None for the one that is current now.
    expected_version: only if it is the current one.
    Returns: the id of the upload, which is abandoned when it stands still for a day.
    Raises: InvalidArgument (22023), ModelNotFound (TN101), VersionConflict (TN102).
    Source: sql/25_artifact.sql, ai_storage.begin_artifact
    """
    return Call(
        "select ai_storage.begin_artifact(p_model_name => %s, p_artifact_name => %s, p_media_type => %s, "
        "p_version => %s::bigint, p_expected_version => %s::bigint, p_as => %s)",
        (model_name, artifact_name, media_type, version, expected_version),
        _value,
    )


def append_artifact(upload_id: UUID, offset: int, content: Content) -> Call[int]:
    """Add the next part to an upload. All parts but the last are multiples of 1 MiB.

    offset: how many bytes have arrived before.
    Returns: how many have arrived with it.
    Raises: InvalidArgument (22023), ArtifactTooLarge (54000), UploadNotFound (TN201), UploadOffset (TN202).
    Source: sql/25_artifact.sql, ai_storage.append_artifact
    """
    return Call(
        "select ai_storage.append_artifact(p_upload_id => %s, p_offset => %s::bigint, p_content => %s, p_as => %s)",
        (upload_id, offset, content),
        _value,
    )


def finish_artifact(upload_id: UUID, size_bytes: int, sha256: str) -> Call[Put]:
    """Make an upload an artifact of the version for which it was begun.

    sha256: hexadecimal; of the bytes up to 1 MiB, above of the sha256s of the chunks of 1 MiB.
    Raises: ModelNotFound (TN101), UploadNotFound (TN201), ContentMismatch (TN203).
    Source: sql/25_artifact.sql, ai_storage.finish_artifact
    """
    return Call(
        "select sha256, size_bytes, is_new "
        "from ai_storage.finish_artifact(p_upload_id => %s, p_size_bytes => %s::bigint, p_sha256 => %s, "
        "p_as => %s)",
        (upload_id, size_bytes, sha256),
        _PUT,
    )


def stage_artifact(upload_id: UUID, size_bytes: int, sha256: str) -> Call[None]:
    """End an upload that a save is to name. size_bytes, sha256: as for finish_artifact.

    Raises: UploadNotFound (TN201), ContentMismatch (TN203).
    Source: sql/25_artifact.sql, ai_storage.stage_artifact
    """
    return Call(
        "select ai_storage.stage_artifact(p_upload_id => %s, p_size_bytes => %s::bigint, p_sha256 => %s, p_as => %s)",
        (upload_id, size_bytes, sha256),
        lambda rows: None,
    )


def abort_artifact(upload_id: UUID) -> Call[bool]:
    """End an upload and delete what has arrived.

    Returns: False when there is none.
    Source: sql/25_artifact.sql, ai_storage.abort_artifact
    """
    return Call("select ai_storage.abort_artifact(p_upload_id => %s, p_as => %s)", (upload_id,), _value)


def list_uploads() -> Call[list[Upload]]:
    """The tenant's uploads that are not finished, the oldest first.

    Source: sql/25_artifact.sql, ai_storage.list_uploads
    """
    return Call(
        "select upload_id, model_name, artifact_name, version, is_current, received_bytes, sha256, media_type, "
        "began_at, touched_at "
        "from ai_storage.list_uploads(p_as => %s)",
        (),
        _UPLOADS,
    )


def open_artifact(
    model_name: str,
    artifact_name: str,
    *,
    owner: str | None = None,
    version: int | None = None,
    or_earlier: bool = False,
) -> Call[Opened]:
    """Say what an artifact is, without its bytes.

    owner: isolation key of another tenant that shared the model for execute; None: an own model. version: the artifact
    of exactly this version; None: of the current one. or_earlier: the last one up to it.
    Raises: ModelNotFound (TN101), ArtifactNotFound (TN204).
    Source: sql/25_artifact.sql, ai_storage.open_artifact
    """
    return Call(
        "select version, for_version, sha256, size_bytes, media_type, put_at, cache_key "
        "from ai_storage.open_artifact(p_model_name => %s, p_artifact_name => %s, p_owner => %s, "
        "p_version => %s::bigint, p_as_of => %s::boolean, p_as => %s)",
        (model_name, artifact_name, owner, version, or_earlier),
        _OPENED,
    )


def read_artifact(
    model_name: str,
    artifact_name: str,
    *,
    owner: str | None = None,
    version: int | None = None,
    offset: int = 0,
    length: int | None = None,
    or_earlier: bool = False,
) -> Call[bytes]:
    """Part of an artifact. offset, length: in bytes; None reads to the end. version, or_earlier: see open_artifact.

    Raises: InvalidArgument (22023), ModelNotFound (TN101), ArtifactNotFound (TN204).
    Source: sql/25_artifact.sql, ai_storage.read_artifact
    """
    return Call(
        "select ai_storage.read_artifact(p_model_name => %s, p_artifact_name => %s, p_owner => %s, "
        "p_version => %s::bigint, p_offset => %s::bigint, p_length => %s::integer, p_as_of => %s::boolean, p_as => %s)",
        (model_name, artifact_name, owner, version, offset, length, or_earlier),
        _value,
    )


def read_chunks(
    model_name: str,
    artifact_name: str,
    *,
    owner: str | None = None,
    version: int | None = None,
    first: int = 0,
    count: int = 4,
    or_earlier: bool = False,
) -> Call[list[bytes]]:
    """Chunks of an artifact by their numbers, from 0: 1 MiB each, less only the last.

    version, or_earlier: see open_artifact.
    Raises: InvalidArgument (22023), ModelNotFound (TN101), ArtifactNotFound (TN204).
    Source: sql/25_artifact.sql, ai_storage.read_chunks
    """
    return Call(
        "select read_chunks "
        "from ai_storage.read_chunks(p_model_name => %s, p_artifact_name => %s, p_owner => %s, "
        "p_version => %s::bigint, p_first => %s::integer, p_count => %s::integer, p_as_of => %s::boolean, p_as => %s)",
        (model_name, artifact_name, owner, version, first, count, or_earlier),
        _values,
    )


def get_artifact(
    model_name: str,
    artifact_name: str,
    *,
    owner: str | None = None,
    version: int | None = None,
    or_earlier: bool = False,
) -> Call[bytes]:
    """All bytes of an artifact in one value: for small ones. version, or_earlier: see open_artifact.

    Raises: ModelNotFound (TN101), ArtifactNotFound (TN204).
    Source: sql/25_artifact.sql, ai_storage.get_artifact
    """
    return Call(
        "select ai_storage.get_artifact(p_model_name => %s, p_artifact_name => %s, p_owner => %s, "
        "p_version => %s::bigint, p_as_of => %s::boolean, p_as => %s)",
        (model_name, artifact_name, owner, version, or_earlier),
        _value,
    )


def list_artifacts(
    model_name: str | None = None, *, owner: str | None = None, version: int | None = None, or_earlier: bool = False
) -> Call[list[Artifact]]:
    """The artifacts of one own model or of all, or with owner of one that is shared for execute, the newest first.

    version: those of exactly this version; None: of all. or_earlier: those that were put last up to version, or up to
    the current one.
    Raises: ModelNotFound (TN101).
    Source: sql/25_artifact.sql, ai_storage.list_artifacts
    """
    return Call(
        "select model_name, owner_key, artifact_name, version, sha256, size_bytes, media_type, put_at "
        "from ai_storage.list_artifacts(p_model_name => %s, p_owner => %s, p_version => %s::bigint, "
        "p_as_of => %s::boolean, p_as => %s)",
        (model_name, owner, version, or_earlier),
        _ARTIFACTS,
    )


def delete_artifact(model_name: str, artifact_name: str, *, version: int | None = None) -> Call[int]:
    """Delete what was put at one version of an own model, or without a version at any.

    Returns: at how many versions.
    Raises: LegalHold (TN501).
    Source: sql/25_artifact.sql, ai_storage.delete_artifact
    """
    return Call(
        "select ai_storage.delete_artifact(p_model_name => %s, p_artifact_name => %s, p_version => %s::bigint, "
        "p_as => %s)",
        (model_name, artifact_name, version),
        _value,
    )


def set_artifact_limit(max_bytes: int) -> Call[None]:
    """Set how many bytes one artifact may have; 5 GiB unless set. For administrators.

    Raises: InvalidArgument (22023).
    Source: sql/25_artifact.sql, ai_storage.set_artifact_limit
    """
    return Call(
        "select ai_storage.set_artifact_limit(p_max_bytes => %s::bigint)", (max_bytes,), lambda rows: None, tenant=False
    )


# Sharing


def share_model(
    model_name: str,
    targets: Iterable[Target],
    permissions: Iterable[Permission] = ("read",),
    *,
    expires_at: datetime | None = None,
    version: int | None = None,
    owner: str | None = None,
) -> Call[list[Share]]:
    """Let other tenants reach one model. Sharing again with the same target replaces what was given.

    What was passed on from a grant that is replaced ends; the same grant once more changes nothing. A sharer has up to
    1,000 grants on a model, and a model is passed on up to 8 times in a row.
    expires_at: aware; None means no end. version: the only version to be seen.
    owner: the owner's isolation key, to pass on a model that was shared with the permission share.
    Returns: one Share per target, in their order.
    Raises: InvalidArgument (22023), ModelNotFound (TN101), InvalidTarget (TN301), ExternalSharingForbidden (TN302),
    MoreThanHeld (TN303), VersionNotFound (TN304), TooManyGrants (TN305), PassedOnTooOften (TN306).
    Source: sql/30_sharing.sql, ai_storage.share_model
    """
    return Call(
        "select share_id, target "
        "from ai_storage.share_model(p_model_name => %s, p_targets => %s, "
        "p_permissions => %s, p_expires_at => %s::timestamp with time zone, p_version => %s::bigint, "
        "p_owner => %s, p_as => %s)",
        (
            model_name,
            _targets(targets),
            list(permissions),
            _aware(expires_at, "expires_at"),
            version,
            owner,
        ),
        _SHARES,
    )


def revoke_share(share_id: UUID | str) -> Call[bool]:
    """End one grant that the caller gave, or that derives from one, and all that derive from it.

    Returns: False when there is no such grant.
    Raises: InvalidArgument (22023) when share_id is not a UUID.
    Source: sql/30_sharing.sql, ai_storage.revoke_share
    """
    return Call(
        "select ai_storage.revoke_share(p_share_id => %s, p_as => %s)",
        (str(share_id),),
        _value,
    )


def unshare_model(model_name: str, targets: Iterable[Target] | None = None, *, owner: str | None = None) -> Call[int]:
    """End what the caller gave on one model, to some targets or to all, with all that derives from it.

    targets: as in share_model. owner: the owner's isolation key of a model that was passed on.
    Returns: how many grants ended.
    Raises: InvalidTarget (TN301).
    Source: sql/30_sharing.sql, ai_storage.unshare_model
    """
    return Call(
        "select ai_storage.unshare_model(p_model_name => %s, p_targets => %s, p_owner => %s, p_as => %s)",
        (
            model_name,
            None if targets is None else _targets(targets),
            owner,
        ),
        _value,
    )


def list_shares(model_name: str | None = None) -> Call[list[Grant]]:
    """The grants the caller may end: on its own models, whoever gave them, and those it passed on.

    Source: sql/30_sharing.sql, ai_storage.list_shares
    """
    return Call(
        "select share_id, model_name, owner_key, shared_by, target, permissions, version, expires_at, "
        "created_at, state, parent_id "
        "from ai_storage.list_shares(p_model_name => %s, p_as => %s)",
        (model_name,),
        _GRANTS,
    )


def list_received_shares(owner: str | None = None) -> Call[list[Grant]]:
    """The grants that reach the caller, on up to 1,000 models: of each owner on its first 100, or of one owner alone.

    Source: sql/30_sharing.sql, ai_storage.list_received_shares
    """
    return Call(
        "select share_id, model_name, owner_key, shared_by, target, permissions, version, expires_at, "
        "created_at, state, parent_id "
        "from ai_storage.list_received_shares(p_owner => %s, p_as => %s)",
        (owner,),
        _GRANTS,
    )


def decline_share(share_id: UUID | str) -> Call[bool]:
    """End a grant that the caller receives, and for good: its sharer cannot grant the model to the caller again.

    What the caller passed on from it ends too.
    Returns: False when no such grant reaches the caller.
    Raises: InvalidArgument (22023) when share_id is not a UUID.
    Source: sql/30_sharing.sql, ai_storage.decline_share
    """
    return Call("select ai_storage.decline_share(p_share_id => %s, p_as => %s)", (str(share_id),), _value)


def has_permission(owner: str | None, model_name: str, permission: Permission) -> Call[bool]:
    """Whether the caller may read, execute, write or share a model.

    owner: the owner's isolation key; None asks for an own model.
    Raises: InvalidArgument (22023).
    Source: sql/30_sharing.sql, ai_storage.has_permission
    """
    return Call(
        "select ai_storage.has_permission(p_owner => %s, p_model_name => %s, p_permission => %s, p_as => %s)",
        (owner, model_name, permission),
        _value,
    )


def allow_external_sharing(org_id: str, to_org_id: str) -> Call[None]:
    """Let the tenants of one organisation share models with those of another. For administrators.

    Raises: InvalidArgument (22023).
    Source: sql/30_sharing.sql, ai_storage.allow_external_sharing
    """
    return Call(
        "select ai_storage.allow_external_sharing(p_org_id => %s, p_to_org_id => %s)",
        (org_id, to_org_id),
        lambda rows: None,
        tenant=False,
    )


def forbid_external_sharing(org_id: str, to_org_id: str | None = None) -> Call[int]:
    """End allow_external_sharing with one organisation or with all, and what was shared there. For administrators.

    Returns: how many grants ended.
    Source: sql/30_sharing.sql, ai_storage.forbid_external_sharing
    """
    return Call(
        "select ai_storage.forbid_external_sharing(p_org_id => %s, p_to_org_id => %s)",
        (org_id, to_org_id),
        _value,
        tenant=False,
    )


def list_external_sharing() -> Call[list[ExternalSharing]]:
    """Which organisation may share with which other. For administrators.

    Source: sql/30_sharing.sql, ai_storage.list_external_sharing
    """
    return Call(
        "select org_id, to_org_id, permitted_at, permitted_by from ai_storage.list_external_sharing()",
        (),
        _EXTERNAL,
        tenant=False,
    )


# Audit


def audit_trail(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    action: str | None = None,
    after: str | None = None,
    limit: int | None = 1000,
) -> Call[list[AuditEvent]]:
    """The events of the tenant's own log, in the order of their time.

    since, until: aware datetimes, from and before. action: such as "save model". after: the cursor of the last row
    already had. limit: None for all.
    Raises: InvalidArgument (22023).
    Source: sql/40_audit.sql, ai_storage.audit_trail
    """
    return Call(
        "select event_id, recorded_at, action, model_id, version, login, credential, actor, detail, sealed, cursor "
        "from ai_storage.audit_trail(p_since => %s::timestamp with time zone, "
        "p_until => %s::timestamp with time zone, p_action => %s, p_after => %s, p_limit => %s::integer, p_as => %s)",
        (_aware(since, "since"), _aware(until, "until"), action, after, limit),
        _EVENTS,
    )


def changes(*, after: str | None = None, limit: int | None = 1000) -> Call[list[AuditEvent]]:
    """The sealed events of the tenant's own log in the order of their seals, for a follower: none lost, none twice.

    after: the cursor of the last row already had. limit: None for all.
    Raises: InvalidArgument (22023).
    Source: sql/40_audit.sql, ai_storage.changes
    """
    return Call(
        "select event_id, recorded_at, action, model_id, version, login, credential, actor, detail, sealed, cursor "
        "from ai_storage.changes(p_after => %s, p_limit => %s::integer, p_as => %s)",
        (after, limit),
        _EVENTS,
    )


def verify_audit() -> Call[AuditVerification]:
    """Recompute the tenant's own log, and compare its models with what was logged.

    Source: sql/40_audit.sql, ai_storage.verify_audit
    """
    return Call(
        "select verified, events, seals, pending, event_id, problem from ai_storage.verify_audit(p_as => %s)",
        (),
        _VERIFICATION,
    )


def audit_proof(event_id: UUID | str) -> Call[dict[str, Any]]:
    """Prove one sealed event: the event, its path to its seal, and the seal's path to its checkpoint.

    Returns: a dict that pydb/verifier.py checks offline.
    Raises: EventNotFound (TN401).
    Source: sql/40_audit.sql, ai_storage.audit_proof
    """
    return Call("select ai_storage.audit_proof(p_event_id => %s, p_as => %s)", (str(event_id),), _value)


def export_audit() -> Call[list[dict[str, Any]]]:
    """The bundle of the tenant's sealed log: its events, its seals, and all checkpoints.

    Returns: dicts that pydb/verifier.py checks offline, as JSON lines.
    Source: sql/40_audit.sql, ai_storage.export_audit
    """
    return Call("select export_audit from ai_storage.export_audit(p_as => %s)", (), _values)


def seal_audit() -> Call[Sealed]:
    """Seal events that are committed and not sealed yet, at most 50,000 in a call. For administrators.

    Source: sql/40_audit.sql, ai_storage.seal_audit
    """
    return Call("select events, seals from ai_storage.seal_audit()", (), _SEALED, tenant=False)


def create_checkpoint() -> Call[dict[str, Any] | None]:
    """Chain one root over all seals since the last checkpoint. For administrators.

    Returns: the newest checkpoint, to be kept outside the database; None while there is no seal at all.
    Source: sql/40_audit.sql, ai_storage.create_checkpoint
    """
    return Call("select ai_storage.create_checkpoint()", (), _value, tenant=False)


def verify_all_audit() -> Call[AuditSummary]:
    """Recompute every leaf, seal and checkpoint of all tenants. For administrators and auditors.

    Source: sql/40_audit.sql, ai_storage.verify_all_audit
    """
    return Call(
        "select verified, events, seals, checkpoints, pending, isolation_key, event_id, problem "
        "from ai_storage.verify_all_audit()",
        (),
        _SUMMARY,
        tenant=False,
    )


# Retention and erasure


def list_tenants(pattern: str = "*:*:*:*:*") -> Call[list[Tenant]]:
    """The tenants that a pattern covers, in the order of their keys. For administrators and auditors.

    Raises: InvalidArgument (22023).
    Source: sql/45_retention.sql, ai_storage.list_tenants
    """
    return Call(
        "select isolation_key, registered_at, is_held from ai_storage.list_tenants(p_pattern => %s)",
        (pattern,),
        _TENANTS,
        tenant=False,
    )


def set_retention(
    pattern: str,
    *,
    keep_versions: int | None = None,
    keep_versions_for: timedelta | None = None,
    keep_events_for: timedelta | None = None,
    legal_hold: bool | None = None,
) -> Call[None]:
    """Set how long the data of a pattern's tenants is kept, in place of the pattern's rule before. For administrators.

    keep_versions: most versions of a model. keep_versions_for: how long those that are not current are kept.
    keep_events_for: how long events keep names. None: all, for ever. legal_hold: delete and erase nothing; None leaves
    a hold as it is.
    Raises: InvalidArgument (22023); psycopg's LockNotAvailable when a session keeps a deletion from ending.
    Source: sql/45_retention.sql, ai_storage.set_retention
    """
    return Call(
        "select ai_storage.set_retention(p_pattern => %s, p_keep_versions => %s::integer, "
        "p_keep_versions_for => %s::interval, p_keep_events_for => %s::interval, p_legal_hold => %s::boolean)",
        (pattern, keep_versions, keep_versions_for, keep_events_for, legal_hold),
        lambda rows: None,
        tenant=False,
    )


def drop_retention(pattern: str) -> Call[bool]:
    """Remove the rule of exactly this pattern, and its legal hold with it. For administrators.

    Returns: False when there is none.
    Raises: InvalidArgument (22023).
    Source: sql/45_retention.sql, ai_storage.drop_retention
    """
    return Call("select ai_storage.drop_retention(p_pattern => %s)", (pattern,), _value, tenant=False)


def list_retention() -> Call[list[RetentionRule]]:
    """The rules, one per pattern. For administrators and auditors.

    Source: sql/45_retention.sql, ai_storage.list_retention
    """
    return Call(
        "select pattern, keep_versions, keep_versions_for, keep_events_for, legal_hold, set_at, set_by "
        "from ai_storage.list_retention()",
        (),
        _RULES,
        tenant=False,
    )


def apply_retention(*, after: str | None = None, limit: int = 1000) -> Call[Swept]:
    """Delete what the rules keep no longer, of a part of the tenants. For administrators.

    after: the cursor of the call before. limit: of how many tenants something is deleted, at most.
    Raises: InvalidArgument (22023); psycopg's InvalidTransactionState under REPEATABLE READ or SERIALIZABLE.
    Source: sql/45_retention.sql, ai_storage.apply_retention
    """
    return Call(
        "select tenants, versions, events, shares, cursor "
        "from ai_storage.apply_retention(p_after => %s, p_limit => %s::integer)",
        (after, limit),
        _SWEPT,
        tenant=False,
    )


def set_quota(pattern: str, *, max_models: int | None = None, max_bytes: int | None = None) -> Call[None]:
    """Limit what a pattern's tenants may keep in total, in place of the pattern's quota before. For administrators.

    pattern: with * as the first level, each organisation by itself. max_bytes: of artifacts and uploads; states and
    their versions do not count. None: no limit.
    Raises: InvalidArgument (22023); psycopg's LockNotAvailable while a transaction that adds some is open, and
    InvalidTransactionState under REPEATABLE READ or SERIALIZABLE.
    Source: sql/46_quota.sql, ai_storage.set_quota
    """
    return Call(
        "select ai_storage.set_quota(p_pattern => %s, p_max_models => %s::bigint, p_max_bytes => %s::bigint)",
        (pattern, max_models, max_bytes),
        lambda rows: None,
        tenant=False,
    )


def drop_quota(pattern: str) -> Call[bool]:
    """Remove the quota of exactly this pattern. For administrators.

    Returns: False when there is none.
    Raises: as set_quota.
    Source: sql/46_quota.sql, ai_storage.drop_quota
    """
    return Call("select ai_storage.drop_quota(p_pattern => %s)", (pattern,), _value, tenant=False)


def list_quotas() -> Call[list[Quota]]:
    """List the quotas, by pattern, and what is used of them. For administrators and auditors.

    Source: sql/46_quota.sql, ai_storage.list_quotas
    """
    return Call(
        "select pattern, max_models, max_bytes, models, bytes, set_at, set_by from ai_storage.list_quotas()",
        (),
        _QUOTAS,
        tenant=False,
    )


def home() -> Call[str | None]:
    """Name the cell in which the caller's organisation lives. None when there are no cells.

    Raises: OrganisationMoving (TN603).
    Source: sql/60_cell.sql, ai_storage.home
    """
    return Call("select ai_storage.home(p_as => %s)", (), _value)


def set_cells(cells: Sequence[str], here: str | None, takes_new: str | None) -> Call[None]:
    """Set the names of all cells. For administrators.

    here: the one that this database is. takes_new: the one that takes new organisations. No cells, None and None: this
    server is alone.
    Raises: InvalidArgument (22023); psycopg's ObjectNotInPrerequisiteState when an organisation lives in a cell that is
    left out.
    Source: sql/60_cell.sql, ai_storage.set_cells
    """
    return Call(
        "select ai_storage.set_cells(p_cells => %s, p_here => %s, p_takes_new => %s)",
        (list(cells), here, takes_new),
        lambda rows: None,
        tenant=False,
    )


def list_cells() -> Call[list[Cell]]:
    """List the cells, by name. For administrators and auditors.

    Source: sql/60_cell.sql, ai_storage.list_cells
    """
    return Call("select cell_name, is_here, takes_new from ai_storage.list_cells()", (), _CELLS, tenant=False)


def set_home(org_id: str, cell_name: str | None, *, is_moving: bool = False) -> Call[None]:
    """Say in which cell an organisation lives; None: no row for it. For administrators.

    Raises: InvalidArgument (22023); psycopg's UndefinedObject for an unknown cell.
    Source: sql/60_cell.sql, ai_storage.set_home
    """
    return Call(
        "select ai_storage.set_home(p_org_id => %s, p_cell_name => %s, p_is_moving => %s::boolean)",
        (org_id, cell_name, is_moving),
        lambda rows: None,
        tenant=False,
    )


def list_homes() -> Call[list[Home]]:
    """List the organisations that a cell knows, and where they live. For administrators and auditors.

    Source: sql/60_cell.sql, ai_storage.list_homes
    """
    return Call(
        "select org_id, cell_name, is_moving, open_tenants, closed_tenants from ai_storage.list_homes()",
        (),
        _HOMES,
        tenant=False,
    )


def hold_organisation(org_id: str, cell_name: str) -> Call[int]:
    """Close an organisation that is going to move to a cell, in the old and in the new one. For administrators.

    Transactions that began before may go on: wait for them.
    Returns: how many tenants were closed.
    Raises: InvalidArgument (22023); psycopg's UndefinedObject for an unknown cell.
    Source: sql/60_cell.sql, ai_storage.hold_organisation
    """
    return Call(
        "select ai_storage.hold_organisation(p_org_id => %s, p_cell_name => %s)",
        (org_id, cell_name),
        _value,
        tenant=False,
    )


def release_organisation(org_id: str, cell_name: str, digest: str | None = None) -> Call[None]:
    """Send an organisation's callers to its new cell, once everything was copied. For administrators, at the source.

    digest: of what was copied, for the log.
    Raises: InvalidArgument (22023); psycopg's UndefinedObject for an unknown cell, and ObjectNotInPrerequisiteState
    when it is not being moved.
    Source: sql/60_cell.sql, ai_storage.release_organisation
    """
    return Call(
        "select ai_storage.release_organisation(p_org_id => %s, p_cell_name => %s, p_digest => %s)",
        (org_id, cell_name, digest),
        lambda rows: None,
        tenant=False,
    )


def open_organisation(org_id: str, digest: str | None = None) -> Call[int]:
    """Open an organisation in this cell, after release_organisation at the source. For administrators.

    digest: of what was copied, for the log.
    Returns: how many tenants were opened.
    Raises: InvalidArgument (22023).
    Source: sql/60_cell.sql, ai_storage.open_organisation
    """
    return Call(
        "select ai_storage.open_organisation(p_org_id => %s, p_digest => %s)", (org_id, digest), _value, tenant=False
    )


def digest_organisation(org_id: str) -> Call[list[TenantDigest]]:
    """Compute the digest of all that a move copies, tenant by tenant. For administrators.

    Source: sql/62_move.sql, ai_storage.digest_organisation
    """
    return Call(
        "select isolation_key, tenant_id, registered_at, moved_to, row_count, digest"
        " from ai_storage.digest_organisation(p_org_id => %s)",
        (org_id,),
        _TENANT_DIGESTS,
        tenant=False,
    )


def list_rows(isolation_key: str) -> Call[list[RowDigest]]:
    """List the rows that a move copies of a tenant, in the order in which to write them. For administrators.

    Raises: psycopg's UndefinedObject for an unknown tenant.
    Source: sql/62_move.sql, ai_storage.list_rows
    """
    return Call(
        "select table_name, row_id, digest from ai_storage.list_rows(p_isolation_key => %s)",
        (isolation_key,),
        _ROW_DIGESTS,
        tenant=False,
    )


def read_rows(isolation_key: str, table_name: str, row_ids: Sequence[str]) -> Call[list[str]]:
    """Read rows of a tenant by their keys, as JSON, for a copy in another cell. Logged. For administrators.

    Raises: psycopg's UndefinedObject for an unknown tenant or table.
    Source: sql/62_move.sql, ai_storage.read_rows
    """
    return Call(
        "select read_rows from ai_storage.read_rows(p_isolation_key => %s, p_table_name => %s, p_row_ids => %s)",
        (isolation_key, table_name, f"[{','.join(row_ids)}]"),
        lambda rows: [row[0] for row in rows],
        tenant=False,
    )


def adopt_tenant(isolation_key: str, tenant_id: int, registered_at: datetime) -> Call[None]:
    """Register a tenant of another cell, closed, under the id that it has there. For administrators.

    Raises: InvalidArgument (22023); psycopg's ObjectNotInPrerequisiteState when it has another id here.
    Source: sql/62_move.sql, ai_storage.adopt_tenant
    """
    return Call(
        "select ai_storage.adopt_tenant(p_isolation_key => %s, p_tenant_id => %s::bigint,"
        " p_registered_at => %s::timestamp with time zone)",
        (isolation_key, tenant_id, registered_at),
        lambda rows: None,
        tenant=False,
    )


def write_rows(isolation_key: str, table_name: str, rows: Sequence[str], gone: Sequence[str]) -> Call[None]:
    """Write rows of a tenant that is being moved here. For administrators.

    rows: as read_rows returned them. gone: the keys of rows to delete.
    Raises: InvalidArgument (22023); psycopg's UndefinedObject for an unknown tenant or table, and
    ObjectNotInPrerequisiteState for a tenant that is open.
    Source: sql/62_move.sql, ai_storage.write_rows
    """
    return Call(
        "select ai_storage.write_rows(p_isolation_key => %s, p_table_name => %s, p_rows => %s, p_gone => %s)",
        (isolation_key, table_name, f"[{','.join(rows)}]", f"[{','.join(gone)}]"),
        lambda rows: None,
        tenant=False,
    )


def export_tenant_audit(isolation_key: str) -> Call[list[dict[str, Any]]]:
    """Export the bundle of a tenant's log, as export_audit does for the tenant. For administrators.

    Raises: psycopg's UndefinedObject for an unknown tenant.
    Source: sql/62_move.sql, ai_storage.export_tenant_audit
    """
    return Call(
        "select export_tenant_audit from ai_storage.export_tenant_audit(p_isolation_key => %s)",
        (isolation_key,),
        lambda rows: [row[0] for row in rows],
        tenant=False,
    )


def adopt_signing_key(kid: str, secret: str, audience: str) -> Call[None]:
    """Take over a key that another cell made, so that its tokens are good here too. For administrators.

    Raises: InvalidArgument (22023); psycopg's UniqueViolation for a kid that was used here.
    Source: sql/60_cell.sql, ai_storage.adopt_signing_key
    """
    return Call(
        "select ai_storage.adopt_signing_key(p_kid => %s, p_secret => %s, p_audience => %s)",
        (kid, secret, audience),
        lambda rows: None,
        tenant=False,
    )


def erase_tenant(pattern: str, reason: str) -> Call[dict[str, Any]]:
    """Erase all data of the tenants that a pattern covers. It cannot be undone. For administrators.

    Returns: the certificate, which pydb/verifier.py checks offline, as JSON.
    Raises: InvalidArgument (22023), LegalHold (TN501); psycopg's UndefinedObject when the pattern covers no tenant, and
    InvalidTransactionState under REPEATABLE READ or SERIALIZABLE.
    Source: sql/45_retention.sql, ai_storage.erase_tenant
    """
    return Call(
        "select ai_storage.erase_tenant(p_pattern => %s, p_reason => %s)", (pattern, reason), _value, tenant=False
    )


def erasure_certificate(certificate_id: UUID | str) -> Call[dict[str, Any]]:
    """The certificate of an erasure once more. For administrators and auditors.

    Raises: CertificateNotFound (TN502), InvalidArgument (22023) when certificate_id is not a UUID.
    Source: sql/45_retention.sql, ai_storage.erasure_certificate
    """
    return Call(
        "select ai_storage.erasure_certificate(p_certificate_id => %s)", (str(certificate_id),), _value, tenant=False
    )


def list_erasures() -> Call[list[Erasure]]:
    """The erasures, one per certificate. For administrators and auditors.

    Source: sql/45_retention.sql, ai_storage.list_erasures
    """
    return Call(
        "select certificate_id, erased_at, erased_by, pattern, reason, tenants from ai_storage.list_erasures()",
        (),
        _ERASURES,
        tenant=False,
    )


# Export and import


def export_tenant() -> Call[list[dict[str, Any]]]:
    """All that the tenant has: a manifest, then a record per version, remembered deletion, idempotency key and grant.

    Returns: dicts. The manifest's digest is of the records as the server writes them; `pydb export` keeps them so.
    Raises: psycopg's ReadOnlySqlTransaction in a read-only transaction, since the export is logged.
    Source: sql/45_retention.sql, ai_storage.export_tenant
    """
    return Call("select export_tenant from ai_storage.export_tenant(p_as => %s)", (), _values)


def import_tenant(records: Iterable[Mapping[str, Any] | str]) -> Call[int]:
    """Restore records of export_tenant, all or none, into the caller's tenant. Grants are left out.

    records: in their order, as dicts or as JSON texts. Many go in several calls, best in one transaction.
    Returns: how many were restored.
    Raises: InvalidArgument (22023); psycopg's UniqueViolation when the tenant has or had a model of the same name.
    Source: sql/45_retention.sql, ai_storage.import_tenant
    """
    lines = (record if isinstance(record, str) else to_json(record, "record") for record in records)
    return Call("select ai_storage.import_tenant(p_records => %s, p_as => %s)", (f"[{','.join(lines)}]",), _value)


# Compliance


def tenant_stats() -> Call[TenantStats]:
    """How much the tenant has, and how the database stands.

    Source: sql/50_compliance.sql, ai_storage.tenant_stats
    """
    return Call(
        "select isolation_key, own_models, shared_models, total_models, versions, artifact_bytes, "
        "last_saved_at, compliance_status "
        "from ai_storage.tenant_stats(p_as => %s)",
        (),
        _STATS,
    )


def compliance_report() -> Call[list[Control]]:
    """Check every control now, which takes as long as verify_all_audit. For administrators and auditors.

    Source: sql/50_compliance.sql, ai_storage.compliance_report
    """
    return Call(
        "select control, reference, status, result, evidence, checked_at from ai_storage.compliance_report()",
        (),
        _CONTROLS,
        tenant=False,
    )


def metrics() -> Call[list[Metric]]:
    """Figures of the whole database for a monitor, none of a tenant's. For administrators and auditors.

    Source: sql/55_metrics.sql, ai_storage.metrics
    """
    return Call("select metric, kind, help, labels, value from ai_storage.metrics()", (), _METRICS, tenant=False)


def collect_evidence() -> Call[dict[str, Any]]:
    """What an auditor takes along, by section; `pydb evidence` writes it as files. For administrators and auditors.

    Source: sql/50_compliance.sql, ai_storage.collect_evidence
    """
    return Call("select section, content from ai_storage.collect_evidence()", (), lambda rows: dict(rows), tenant=False)


def report_backup(taken_at: datetime, location: str | None = None) -> Call[None]:
    """Tell the log that a backup was taken, for the compliance report. For administrators.

    taken_at: aware and past.
    Raises: InvalidArgument (22023).
    Source: sql/50_compliance.sql, ai_storage.report_backup
    """
    return Call(
        "select ai_storage.report_backup(p_taken_at => %s::timestamp with time zone, p_location => %s)",
        (taken_at, location),
        lambda rows: None,
        tenant=False,
    )


def break_glass(pattern: str, reason: str) -> Call[int]:
    """Announce, in the log of each tenant of a pattern, that somebody is going to look at its data. For administrators.

    Returns: how many tenants are told.
    Raises: InvalidArgument (22023).
    Source: sql/50_compliance.sql, ai_storage.break_glass
    """
    return Call(
        "select ai_storage.break_glass(p_pattern => %s, p_reason => %s)", (pattern, reason), _value, tenant=False
    )
