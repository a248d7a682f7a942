-- Who may do what. Every right of the package stands here, in one place, and nowhere else.
--
-- The first block closes everything, also what an older release opened. Applications get EXECUTE on
-- the tenant functions and no right on any table: with no SELECT there is no EXPLAIN, no statistics
-- and no error to learn from.

-- Close everything --------------------------------------------------------------------------------

set local role ai_storage_owner;

do $close$
declare
    v_right record;
begin
    for v_right in
        select distinct
            o.place,
            o.owner,
            o.target,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee
        from (
            select
                2 as place,
                nspowner as owner,
                'schema ' || oid::regnamespace as target,
                nspacl as acl
            from pg_namespace
            where nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration')
            union all
            select 1, proowner, 'function ' || oid::regprocedure, proacl
            from pg_proc
            where pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
            union all
            select 1, relowner, 'table ' || oid::regclass, relacl
            from pg_class
            where relnamespace in (
                    'ai_storage'::regnamespace, 'ai_storage_private'::regnamespace,
                    'ai_storage_migration'::regnamespace
                )
              and relkind in ('r', 'p', 'v', 'm')
            union all
            -- A right on a column goes with the rights on its table.
            select 1, c.relowner, 'table ' || c.oid::regclass, a.attacl
            from pg_class as c
            join pg_attribute as a on a.attrelid = c.oid
            where c.relnamespace in (
                    'ai_storage'::regnamespace, 'ai_storage_private'::regnamespace,
                    'ai_storage_migration'::regnamespace
                )
              and c.relkind in ('r', 'p', 'v', 'm')
        ) as o
        cross join lateral aclexplode(o.acl) as a
        where a.grantee <> o.owner
        order by o.place -- the schemas last: without them no owner finds what is its own
    loop
        execute format('set local role %s', v_right.owner::regrole);
        execute format('revoke all on %s from %s', v_right.target, v_right.grantee);
    end loop;
end;
$close$;

-- The three owners among themselves ---------------------------------------------------------------

set local role ai_storage_owner;
grant usage, create on schema ai_storage, ai_storage_private
to ai_storage_sharing, ai_storage_operator;
grant select, insert, update (moved_to) on ai_storage_private.tenant to ai_storage_operator;
grant select, insert, update, delete
on ai_storage_private.login_authorization
to ai_storage_operator;
grant select, insert, truncate on ai_storage_private.context_secret to ai_storage_operator;
grant select, insert, update on ai_storage_private.signing_key to ai_storage_operator;
grant select, insert, update, delete
on ai_storage_private.cell, ai_storage_private.home
to ai_storage_operator;
grant select, insert, delete on ai_storage_private.external_sharing_permit to ai_storage_operator;
grant select on ai_storage_private.model_share to ai_storage_operator;
grant select, insert, delete
on ai_storage_private.audit_pending
to ai_storage_operator;
grant select, insert, update (salt, detail)
on ai_storage_private.audit_event
to ai_storage_operator;
grant select on ai_storage_private.artifact_upload to ai_storage_operator;
grant select, update on ai_storage_private.artifact_limit to ai_storage_operator;
grant select, insert on ai_storage_private.audit_seal to ai_storage_operator;
grant select, insert on ai_storage_private.audit_checkpoint to ai_storage_operator;
grant select, update on ai_storage_private.refusal_report to ai_storage_operator;
grant usage, select on sequence ai_storage_private.refused_credential to ai_storage_operator;
grant select, insert, update, delete on ai_storage_private.retention_rule to ai_storage_operator;
grant select, update on ai_storage_private.retention_gate to ai_storage_operator;
grant select, insert, update, delete
on ai_storage_private.quota, ai_storage_private.quota_use
to ai_storage_operator;
grant select, insert on ai_storage_private.erasure_certificate to ai_storage_operator;
grant execute on function
    ai_storage.is_isolation_key(text),
    ai_storage.isolation_key(text, text, text, text, text),
    ai_storage.version(),
    ai_storage_private.is_name(text),
    ai_storage_private.is_tenant_pattern(text),
    ai_storage_private.find_unlogged(bigint),
    ai_storage_private.find_unlogged_model(bigint),
    ai_storage_private.find_unlogged_artifact(bigint),
    ai_storage_private.find_unlogged_row(bigint),
    ai_storage_private.prove_event(bigint, uuid),
    ai_storage_private.erase_content(bigint),
    ai_storage_private.sweep_uploads(bigint),
    ai_storage_private.lock_models(bigint),
    ai_storage_private.sweep_versions(bigint, integer, timestamptz, integer),
    ai_storage_private.list_subjects(bigint),
    ai_storage_private.measure_tenant(bigint),
    ai_storage_private.list_own_rows(bigint),
    ai_storage_private.read_own_rows(bigint, text, jsonb),
    ai_storage_private.write_own_rows(bigint, text, jsonb, jsonb),
    ai_storage_private.list_bundle(bigint),
    ai_storage.parse_isolation_key(text)
to ai_storage_operator;

grant select, insert, update, delete on ai_storage_private.model_share to ai_storage_sharing;
grant select, insert, update, delete on ai_storage_private.share_end to ai_storage_sharing;
grant select, insert, delete on ai_storage_private.share_decline to ai_storage_sharing;
grant select on ai_storage_private.external_sharing_permit to ai_storage_sharing;
grant select, update on ai_storage_private.ai_progress_tenant to ai_storage_sharing;
grant select, insert on ai_storage_private.progress_version to ai_storage_sharing;
grant select
on ai_storage_private.model_artifact, ai_storage_private.artifact_blob,
    ai_storage_private.artifact_chunk
to ai_storage_sharing;
grant execute on function
    ai_storage_private.is_tenant_pattern(text),
    ai_storage_private.is_name(text),
    ai_storage_private.is_metrics(jsonb),
    ai_storage_private.name_wrong_metric(jsonb),
    ai_storage_private.is_metadata(jsonb),
    ai_storage_private.check_progress(
        text, double precision, bigint, jsonb, jsonb, bigint
    ),
    ai_storage_private.write_progress(
        bigint, text, double precision, bigint, jsonb, jsonb, bigint, text, uuid
    ),
    ai_storage_private.target_patterns(text[]),
    ai_storage_private.render_target(jsonb, text[]),
    ai_storage_private.check_targets(jsonb, text[]),
    ai_storage_private.check_version(bigint, uuid, bigint),
    ai_storage_private.join_chunks(bigint, uuid, bigint, bigint),
    ai_storage_private.refuse_artifact()
to ai_storage_sharing;

set local role ai_storage_sharing;
grant execute on function
    ai_storage_private.has_grant(ai_storage_private.acting_tenant, text, text, text),
    ai_storage_private.hold_grant(
        ai_storage_private.acting_tenant, text, text, text[], timestamptz, bigint
    ),
    ai_storage_private.write_shares(
        ai_storage_private.model_share, ai_storage_private.acting_tenant,
        text[], text[], timestamptz, bigint
    ),
    ai_storage_private.may_write(bigint, uuid, text),
    ai_storage_private.may_share_with(text, text),
    ai_storage_private.may_receive(text),
    ai_storage_private.load_shared(
        ai_storage_private.acting_tenant, text, text, text, text, integer
    ),
    ai_storage_private.load_shared_history(
        ai_storage_private.acting_tenant, text, text, bigint, integer
    ),
    ai_storage_private.write_shared(
        ai_storage_private.acting_tenant, text, text, double precision, bigint, jsonb, jsonb, bigint
    ),
    ai_storage_private.count_received(ai_storage_private.acting_tenant),
    ai_storage_private.open_shared_artifact(
        ai_storage_private.acting_tenant, text, text, text, bigint, boolean
    ),
    ai_storage_private.read_shared_artifact(
        ai_storage_private.acting_tenant, text, text, text, bigint, boolean, bigint, integer
    ),
    ai_storage_private.read_shared_chunks(
        ai_storage_private.acting_tenant, text, text, text, bigint, boolean, integer, integer
    ),
    ai_storage_private.list_shared_artifacts(
        ai_storage_private.acting_tenant, text, text, bigint, boolean
    )
to ai_storage_owner;
grant execute on function
    ai_storage_private.erase_shares(bigint),
    ai_storage_private.sweep_shares(),
    ai_storage_private.count_permitted(uuid[]),
    ai_storage_private.summarize_shares()
to ai_storage_operator;

set local role ai_storage_operator;
grant execute on function ai_storage_private.enter(text, boolean, text)
to ai_storage_owner, ai_storage_sharing;
grant execute on function
    ai_storage_private.restore_context(text),
    ai_storage_private.current_tenant_id()
to ai_storage_owner, ai_storage_sharing;
grant execute on function
    ai_storage_private.enter_code_version(text, text),
    ai_storage_private.list_covered_versions(text),
    ai_storage_private.current_credential(),
    ai_storage.current_tenant()
to ai_storage_owner;
grant execute on function ai_storage_private.check_home(text)
to ai_storage_owner, ai_storage_sharing;
grant execute on function
    ai_storage_private.record_event(bigint, text, uuid, bigint, text, jsonb)
to ai_storage_owner, ai_storage_sharing;
grant execute on function
    ai_storage_private.record_use(
        text, ai_storage_private.acting_tenant, bigint[], text[], uuid[], bigint[], text[]
    )
to ai_storage_sharing;
grant execute on function
    ai_storage_private.micros(timestamptz),
    ai_storage_private.model_content(
        double precision, bigint, timestamptz, timestamptz, jsonb, jsonb, text
    ),
    ai_storage_private.artifact_content(bytea, bigint, timestamptz, text),
    ai_storage_private.event_subject(text, uuid, bigint, jsonb)
to ai_storage_owner, ai_storage_sharing;
grant execute on function
    ai_storage_private.leaf_hash(
        bigint, uuid, bigint, integer, timestamptz, text, uuid, bigint, text, bytea, bytea, text
    ),
    ai_storage_private.seal_hash(ai_storage_private.audit_seal),
    ai_storage_private.merkle_root(bytea[]),
    ai_storage_private.merkle_paths(bytea[], integer[]),
    ai_storage_private.check_seal(ai_storage_private.audit_seal),
    ai_storage_private.check_events(bigint),
    ai_storage_private.check_seals(bigint),
    ai_storage_private.check_log(bigint),
    ai_storage_private.render_event(ai_storage_private.audit_event),
    ai_storage_private.render_seals(bigint, bigint),
    ai_storage_private.list_checkpoints(),
    ai_storage_private.artifact_limit(),
    ai_storage_private.check_hold(text[]),
    ai_storage_private.pass_gate(bigint),
    ai_storage_private.is_held(bigint),
    ai_storage_private.count_use(bigint, bigint, bigint),
    ai_storage_private.compliance_status()
to ai_storage_owner;
grant execute on function
    ai_storage_private.lend(bigint[], uuid[]),
    ai_storage_private.lent_tenant_ids(),
    ai_storage_private.lent_ids(),
    ai_storage_private.render_time(timestamptz)
to ai_storage_sharing;

-- Applications: the tenant functions --------------------------------------------------------------

set local role ai_storage_owner;
grant usage on schema ai_storage
to ai_storage_app, ai_storage_admin, ai_storage_auditor, ai_storage_sql;
grant execute on function ai_storage.version()
to ai_storage_app, ai_storage_admin, ai_storage_auditor, ai_storage_sql;
grant execute on function
    ai_storage.is_isolation_key(text),
    ai_storage.isolation_key(text, text, text, text, text),
    ai_storage.parse_isolation_key(text),
    ai_storage.save_progress(
        text, double precision, bigint, jsonb, jsonb, bigint, text, text, jsonb, text
    ),
    ai_storage.save_progress_batch(jsonb, text),
    ai_storage.load_progress(text, text, text, integer, text, text),
    ai_storage.load_history(text, text, bigint, integer, text),
    ai_storage.delete_progress(text, bigint, text),
    ai_storage.promote_progress(text, text, boolean, text),
    ai_storage.list_code_versions(text),
    ai_storage.put_artifact(text, text, bytea, text, bigint, bigint, text),
    ai_storage.begin_artifact(text, text, text, bigint, bigint, text),
    ai_storage.append_artifact(uuid, bigint, bytea, text),
    ai_storage.finish_artifact(uuid, bigint, text, text),
    ai_storage.stage_artifact(uuid, bigint, text, text),
    ai_storage.abort_artifact(uuid, text),
    ai_storage.list_uploads(text),
    ai_storage.open_artifact(text, text, text, bigint, boolean, text),
    ai_storage.read_artifact(text, text, text, bigint, bigint, integer, boolean, text),
    ai_storage.read_chunks(text, text, text, bigint, integer, integer, boolean, text),
    ai_storage.get_artifact(text, text, text, bigint, boolean, text),
    ai_storage.list_artifacts(text, text, bigint, boolean, text),
    ai_storage.delete_artifact(text, text, bigint, text),
    ai_storage.share_model(text, jsonb, text[], timestamptz, bigint, text, text),
    ai_storage.has_permission(text, text, text, text),
    ai_storage.verify_audit(text),
    ai_storage.audit_trail(timestamptz, timestamptz, text, text, integer, text),
    ai_storage.changes(text, integer, text),
    ai_storage.audit_proof(uuid, text),
    ai_storage.export_audit(text),
    ai_storage.export_tenant(text),
    ai_storage.import_tenant(jsonb, text),
    ai_storage.tenant_stats(text)
to ai_storage_app;

set local role ai_storage_sharing;
grant execute on function
    ai_storage.revoke_share(uuid, text),
    ai_storage.unshare_model(text, jsonb, text, text),
    ai_storage.list_shares(text, text),
    ai_storage.list_received_shares(text, text),
    ai_storage.decline_share(uuid, text)
to ai_storage_app;

set local role ai_storage_operator;
grant execute on function
    ai_storage.set_tenant(text),
    ai_storage.clear_tenant(),
    ai_storage.current_tenant()
to ai_storage_app, ai_storage_sql;
grant execute on function ai_storage.home(text) to ai_storage_app;

-- Reporting: the view -----------------------------------------------------------------------------

set local role ai_storage_owner;
grant execute on function ai_storage_private.report_models() to ai_storage_sql;
grant select on ai_storage.ai_progress_tenant to ai_storage_sql;

-- Administrators ----------------------------------------------------------------------------------

set local role ai_storage_operator;
grant execute on function
    ai_storage.authorize_login(text, text, boolean),
    ai_storage.deauthorize_login(text, text),
    ai_storage.list_authorizations(),
    ai_storage.renew_context_secret(),
    ai_storage.create_signing_key(text, text),
    ai_storage.retire_signing_key(text),
    ai_storage.list_signing_keys(),
    ai_storage.adopt_signing_key(text, text, text),
    ai_storage.set_cells(text[], text, text),
    ai_storage.set_home(text, text, boolean),
    ai_storage.hold_organisation(text, text),
    ai_storage.release_organisation(text, text, text),
    ai_storage.open_organisation(text, text),
    ai_storage.digest_organisation(text),
    ai_storage.list_rows(text),
    ai_storage.read_rows(text, text, jsonb),
    ai_storage.adopt_tenant(text, bigint, timestamptz),
    ai_storage.write_rows(text, text, jsonb, jsonb),
    ai_storage.export_tenant_audit(text),
    ai_storage.allow_external_sharing(text, text),
    ai_storage.forbid_external_sharing(text, text),
    ai_storage.list_external_sharing(),
    ai_storage.seal_audit(),
    ai_storage.create_checkpoint(),
    ai_storage.set_retention(text, integer, interval, interval, boolean),
    ai_storage.drop_retention(text),
    ai_storage.apply_retention(text, integer),
    ai_storage.set_quota(text, bigint, bigint),
    ai_storage.drop_quota(text),
    ai_storage.erase_tenant(text, text),
    ai_storage.report_backup(timestamptz, text),
    ai_storage.break_glass(text, text),
    ai_storage.set_artifact_limit(bigint)
to ai_storage_admin;

-- Administrators and auditors ---------------------------------------------------------------------

grant execute on function
    ai_storage.verify_all_audit(),
    ai_storage.list_retention(),
    ai_storage.list_quotas(),
    ai_storage.list_cells(),
    ai_storage.list_homes(),
    ai_storage.list_tenants(text),
    ai_storage.list_erasures(),
    ai_storage.erasure_certificate(uuid),
    ai_storage.compliance_report(),
    ai_storage.collect_evidence(),
    ai_storage.metrics()
to ai_storage_admin, ai_storage_auditor;
