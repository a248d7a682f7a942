"""What the SQL linters find and what stays as it is, each with its reason. Nothing is excepted anywhere else.

Every rule here must be found on every target here, or `make lint` fails. Either may hold *: a rule for messages that
name something, a target for a rule that contradicts a decision about all of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.test_layout import DEFINERS, FUNCTIONS, SQL, options


class Exceptions(NamedTuple):
    tool: str
    rules: list[str]
    targets: list[str]
    reason: str


# Functions without a search path of their own.
HELPERS = [
    name
    for _, name, function, _ in FUNCTIONS
    if not any(option == "set" and value.name == "search_path" for option, value in options(function))
]

TRIGGERS = [
    f"{table}.{trigger}"
    for trigger, table in re.findall(
        r"trigger (\w+)\s+after [\w ]+?\s+on (ai_storage_private\.\w+)\b",
        "".join(path.read_text("utf-8") for path in SQL),
    )
]

# Tables that lie before or between tenants, and the one policy by which their functions see all rows.
OF_NO_TENANT = [
    "ai_storage_private.artifact_limit.operator_limits_artifacts",
    "ai_storage_private.audit_checkpoint.operator_keeps_checkpoints",
    "ai_storage_private.audit_event.operator_seals_events",
    "ai_storage_private.audit_pending.operator_records_events",
    "ai_storage_private.audit_seal.operator_keeps_seals",
    "ai_storage_private.refusal_report.operator_reports_refusals",
    "ai_storage_private.external_sharing_permit.operator_permits_sharing",
    "ai_storage_private.login_authorization.operator_keeps_authorizations",
    "ai_storage_private.model_share.sharing_matches_grants",
    "ai_storage_private.share_end.sharing_ends_grants",
    "ai_storage_private.share_decline.sharing_matches_declines",
    "ai_storage_private.cell.operator_keeps_cells",
    "ai_storage_private.home.operator_keeps_homes",
    "ai_storage_private.erasure_certificate.operator_keeps_certificates",
    "ai_storage_private.quota.operator_keeps_quotas",
    "ai_storage_private.quota_use.operator_counts_use",
    "ai_storage_private.retention_gate.operator_passes_the_gate",
    "ai_storage_private.retention_rule.operator_keeps_rules",
    "ai_storage_private.signing_key.operator_keeps_signing_keys",
    "ai_storage_private.tenant.operator_registers_tenants",
]
SECRET = "ai_storage_private.context_secret.operator_signs_contexts"

EXCEPTIONS = [
    Exceptions(
        "pgspot",
        ["PS005"],
        HELPERS,
        "Only functions that set the search path call it, and it runs on theirs. No login may name it: "
        "tests/test_layout.py sees that whatever a caller can reach sets the path. Setting it again in each helper "
        "would cost every call, and those in SQL could no longer be inlined.",
    ),
    Exceptions(
        "pgspot",
        ["PS010"],
        ["ai_storage", "ai_storage_private", "ai_storage_migration"],
        "The file can be run again. A schema that somebody else made before is refused: sql/00_version.sql comments on "
        "all three as their owner, in the transaction of the migrations.",
    ),
    Exceptions(
        "pgspot",
        ["PS010"],
        ["ai_storage_front"],
        "The file can be run again. It refuses a schema that somebody else made before.",
    ),
    Exceptions(
        "squawk",
        ["require-statement-timeout"],
        ["migrations/*"],
        "A migration may take as long as its table is large. What must not be long is the wait of everybody else "
        "behind it, and `pydb migrate` sets a lock_timeout for that.",
    ),
    Exceptions(
        "pgrls",
        ["SEC001"],
        [
            "ai_storage_migration._yoyo_log",
            "ai_storage_migration._yoyo_migration",
            "ai_storage_migration._yoyo_version",
            "ai_storage_migration.applied_file",
        ],
        "The installer's ledger holds no tenant's data, and nobody but its owner has rights on it.",
    ),
    Exceptions(
        "pgrls",
        ["SEC005", "SEC008", "SEC028", "SEC038"],
        OF_NO_TENANT,
        "For one role that cannot log in, and whose functions are listed in tests/test_layout.py. Its rows are not one "
        "tenant's: the functions find out with them whom a caller may act for, or whose model he may use.",
    ),
    Exceptions(
        "pgrls",
        ["SEC005", "SEC008", "SEC038"],
        ["ai_storage_private.external_sharing_permit.sharing_reads_permits"],
        "Whether a pair of organisations is permitted decides what any tenant's grant is worth.",
    ),
    Exceptions(
        "pgrls",
        ["SEC027"],
        ["ai_storage_private.share_decline"],
        "A decline lies between three tenants: who declined, who owns the model, who shared it. The sharing functions "
        "look it up from all three ends.",
    ),
    Exceptions(
        "pgrls",
        ["SEC005", "SEC008", "SEC038"],
        ["ai_storage_private.artifact_upload.operator_sweeps_uploads"],
        "apply_retention() finds out whose uploads stand still; it is the tenant's own function that sweeps them.",
    ),
    Exceptions(
        "pgrls",
        ["SEC005", "SEC008", "SEC028", "SEC038"],
        [SECRET],
        "The one row, the secret, is read and renewed by the operator's functions only: the operator cannot log in.",
    ),
    Exceptions(
        "pgrls",
        ["SEC007"],
        ["ai_storage_private.*"],
        "Each policy is for one role, which cannot log in: there is nothing that a restrictive one would narrow.",
    ),
    Exceptions(
        "pgrls",
        ["SEC014"],
        sorted(set().union(*DEFINERS.values())),
        "The owner is neither superuser nor BYPASSRLS, and row level security is forced on the tables' owner too. The "
        "functions that may run so are listed in tests/test_layout.py, by owner.",
    ),
    Exceptions(
        "pgrls",
        ["PERF003"],
        [
            "ai_storage_private.ai_progress_tenant.sharing_sees_lent_models",
            "ai_storage_private.artifact_blob.sharing_sees_lent_contents",
            "ai_storage_private.artifact_chunk.sharing_sees_lent_bytes",
            "ai_storage_private.model_artifact.sharing_sees_lent_artifacts",
            "ai_storage_private.progress_version.sharing_sees_lent_versions",
        ],
        "Every query of the sharing functions also names tenant_id, which leads the key, before model_id.",
    ),
    Exceptions(
        "pgrls",
        ["PERF003", "PERF004"],
        ["ai_storage_private.model_share.operator_counts_external_shares"],
        "Grants to outside are searched for only by reports for administrators.",
    ),
    Exceptions(
        "plpgsql_check",
        ["control reached end of function without RETURN"],
        ["ai_storage.delete_progress"],
        "It ends in a loop that is left by return or by an error only.",
    ),
    Exceptions(
        "plpgsql_check",
        ['never read variable "v_set"'],
        ["ai_storage_private.enter", "ai_storage_private.check_credential"],
        "Nobody wants the result. An assignment of a simple expression spares the query that PERFORM would run, in the "
        "function that every call begins with.",
    ),
    Exceptions(
        "pgrls",
        ["SEC013"],
        TRIGGERS,
        "It has the rights and policies of whoever makes the change and needs no more, or it runs as the operator, "
        "whose functions are listed in tests/test_layout.py.",
    ),
    Exceptions(
        "plpgsql_check",
        ['never read variable "v_durable"'],
        ["ai_storage_private.record_event"],
        "As v_set: it runs with every save.",
    ),
    Exceptions(
        "plpgsql_check",
        ['never read variable "v_event_id"'],
        ["ai_storage_private.record_artifact_change", "ai_storage_private.record_model_change"],
        "As v_set: the trigger runs with every save.",
    ),
    Exceptions(
        "plpgsql_check",
        ['never read variable "v_valid"'],
        ["ai_storage_private.write_progress"],
        "As v_set: it runs with every save.",
    ),
    Exceptions(
        "squawk",
        ["prefer-bigint-over-int"],
        ["migrations/0005_audit.sql"],
        "Counts and places within one seal or checkpoint.",
    ),
    Exceptions(
        "squawk",
        ["prefer-bigint-over-int"],
        ["migrations/0006_retention.sql"],
        "How many versions of one model a rule keeps.",
    ),
    Exceptions(
        "squawk",
        ["prefer-bigint-over-int"],
        ["migrations/0007_artifact.sql"],
        "The number of a chunk of 1 MiB: a content would have 2 PiB.",
    ),
    Exceptions(
        "plpgsql_check",
        ["routine is marked as STABLE, should be IMMUTABLE"],
        ["ai_storage_private.refuse_artifact"],
        "It only raises: an immutable function would raise already when a query that names it is planned.",
    ),
    Exceptions(
        "plpgsql_check",
        ["text type variable is not sanitized"],
        ["ai_storage_private.check_controls"],
        "It runs the queries that list_controls() holds, which are text of this release and nobody's input.",
    ),
    Exceptions(
        "plpgsql_check",
        ["text type variable is not sanitized"],
        ["ai_storage_private.read_own_rows", "ai_storage_private.write_own_rows"],
        "name_columns() refuses any table but those of its list, and quotes the columns, which are the catalogue's.",
    ),
    Exceptions(
        "plpgsql_check",
        ["routine is marked as VOLATILE, should be STABLE"],
        ["ai_storage_private.has_grant", "ai_storage_private.may_write"],
        "A volatile function looks at the grants as they are now, a stable one through the snapshot of its caller.",
    ),
]
