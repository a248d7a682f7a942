"""What the SQL linters find and what stays as it is, each with its reason. Nothing is excepted anywhere else.

Every rule here must be found on every target here, or `make lint` fails. Either may hold *: a rule for messages that
name something, a target for a rule that contradicts a decision about all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.test_layout import DEFINERS


class Exceptions(NamedTuple):
    tool: str
    rules: list[str]
    targets: list[str]
    reason: str


HELPERS = [
    "ai_storage_private.act_for",
    "ai_storage_private.attach_blob",
    "ai_storage_private.borrow",
    "ai_storage_private.cache_key",
    "ai_storage_private.check_artifact",
    "ai_storage_private.check_controls",
    "ai_storage_private.check_credential",
    "ai_storage_private.check_events",
    "ai_storage_private.check_log",
    "ai_storage_private.check_pattern",
    "ai_storage_private.check_permission",
    "ai_storage_private.check_progress",
    "ai_storage_private.check_reason",
    "ai_storage_private.check_seal",
    "ai_storage_private.check_seals",
    "ai_storage_private.check_size",
    "ai_storage_private.check_targets",
    "ai_storage_private.check_version",
    "ai_storage_private.checkpoint_hash",
    "ai_storage_private.collect_events",
    "ai_storage_private.compare_models",
    "ai_storage_private.content_sha256",
    "ai_storage_private.context_mac",
    "ai_storage_private.count_refusal",
    "ai_storage_private.covered_tenants",
    "ai_storage_private.decode_base64url",
    "ai_storage_private.encode_base64url",
    "ai_storage_private.end_shares",
    "ai_storage_private.find_acts",
    "ai_storage_private.find_artifact",
    "ai_storage_private.find_shared_artifact",
    "ai_storage_private.find_tenant",
    "ai_storage_private.forget_artifacts",
    "ai_storage_private.forget_shares",
    "ai_storage_private.hmac_pad",
    "ai_storage_private.hold_model",
    "ai_storage_private.hold_own",
    "ai_storage_private.hold_upload",
    "ai_storage_private.import_artifact",
    "ai_storage_private.import_chunk",
    "ai_storage_private.import_deletion",
    "ai_storage_private.import_id",
    "ai_storage_private.import_key",
    "ai_storage_private.import_version",
    "ai_storage_private.is_base64url",
    "ai_storage_private.is_item",
    "ai_storage_private.is_metadata",
    "ai_storage_private.is_metrics",
    "ai_storage_private.is_name",
    "ai_storage_private.is_past",
    "ai_storage_private.is_tenant_pattern",
    "ai_storage_private.join_chunks",
    "ai_storage_private.leaf_hash",
    "ai_storage_private.list_controls",
    "ai_storage_private.list_effective_rules",
    "ai_storage_private.merkle_paths",
    "ai_storage_private.merkle_root",
    "ai_storage_private.micros",
    "ai_storage_private.model_content",
    "ai_storage_private.prove_event",
    "ai_storage_private.refuse_old_snapshot",
    "ai_storage_private.render_checkpoint",
    "ai_storage_private.render_event",
    "ai_storage_private.render_target",
    "ai_storage_private.render_time",
    "ai_storage_private.restore_context",
    "ai_storage_private.save_version",
    "ai_storage_private.seal_events",
    "ai_storage_private.seal_hash",
    "ai_storage_private.set_context",
    "ai_storage_private.sign_context",
    "ai_storage_private.sweep_blobs",
    "ai_storage_private.take_turn",
    "ai_storage_private.target_patterns",
    "ai_storage_private.verified_context",
    "ai_storage_private.verify_token",
    "ai_storage_private.worth",
    "ai_storage_private.write_batch",
    "ai_storage_private.write_chunks",
    "ai_storage_private.write_progress",
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
    "ai_storage_private.erasure_certificate.operator_keeps_certificates",
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
        ["SEC010"],
        ["ai_storage_private.model_share.operator_ends_external_shares"],
        "The operator ends grants, and has the right to update them only because locking a row takes it: the check "
        "keeps it from changing one.",
    ),
    Exceptions(
        "pgrls",
        ["SEC013"],
        ["ai_storage_private.ai_progress_tenant.forget_model"],
        "It is to see only the tenant of whoever deletes, so the rights and policies of that role are what it needs.",
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
        ["ai_storage_private.model_share.operator_ends_external_shares"],
        "Grants to outside are searched for only when an administrator forbids an organisation to give them.",
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
        ["ai_storage_private.enter"],
        "Nobody wants the result. An assignment of a simple expression spares the query that PERFORM would run, in the "
        "function that every call begins with.",
    ),
    Exceptions(
        "pgrls",
        ["SEC013"],
        [
            "ai_storage_private.ai_progress_tenant.record_model_change",
            "ai_storage_private.ai_progress_tenant.record_truncate",
            "ai_storage_private.artifact_blob.record_change",
            "ai_storage_private.artifact_blob.record_truncate",
            "ai_storage_private.artifact_chunk.record_change",
            "ai_storage_private.artifact_chunk.record_rewrite",
            "ai_storage_private.artifact_chunk.record_truncate",
            "ai_storage_private.artifact_limit.record_change",
            "ai_storage_private.artifact_limit.record_truncate",
            "ai_storage_private.artifact_upload.record_change",
            "ai_storage_private.artifact_upload.record_truncate",
            "ai_storage_private.context_secret.record_change",
            "ai_storage_private.context_secret.record_truncate",
            "ai_storage_private.deleted_model.record_change",
            "ai_storage_private.deleted_model.record_rewrite",
            "ai_storage_private.deleted_model.record_truncate",
            "ai_storage_private.erasure_certificate.record_change",
            "ai_storage_private.erasure_certificate.record_truncate",
            "ai_storage_private.external_sharing_permit.record_change",
            "ai_storage_private.external_sharing_permit.record_truncate",
            "ai_storage_private.idempotency_key.record_change",
            "ai_storage_private.idempotency_key.record_rewrite",
            "ai_storage_private.idempotency_key.record_truncate",
            "ai_storage_private.login_authorization.record_change",
            "ai_storage_private.login_authorization.record_truncate",
            "ai_storage_private.model_artifact.record_artifact_change",
            "ai_storage_private.model_artifact.record_truncate",
            "ai_storage_private.model_share.record_change",
            "ai_storage_private.model_share.record_truncate",
            "ai_storage_private.progress_version.record_change",
            "ai_storage_private.progress_version.record_rewrite",
            "ai_storage_private.progress_version.record_truncate",
            "ai_storage_private.retention_rule.record_change",
            "ai_storage_private.retention_rule.record_truncate",
            "ai_storage_private.signing_key.record_change",
            "ai_storage_private.signing_key.record_truncate",
            "ai_storage_private.tenant.record_change",
            "ai_storage_private.tenant.record_truncate",
            "ai_storage_private.tenant_cache_key.record_change",
            "ai_storage_private.tenant_cache_key.record_truncate",
        ],
        "It writes the event of a change by record_event(), which runs as the operator; by itself it has the rights of "
        "whoever made the change.",
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
        ["text type variable is not sanitized"],
        ["ai_storage_private.check_controls"],
        "It runs the queries that list_controls() holds, which are text of this release and nobody's input.",
    ),
    Exceptions(
        "plpgsql_check",
        ["routine is marked as VOLATILE, should be STABLE"],
        ["ai_storage_private.has_grant"],
        "A volatile function looks at the grants as they are now, a stable one through the snapshot of its caller.",
    ),
]
