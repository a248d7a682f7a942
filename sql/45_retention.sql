-- How long data is kept, and how a tenant's data leaves: by a rule, by an erasure, by an export.
--
-- A rule covers the tenants of a pattern; of several the most specific one counts, but a legal hold
-- of any of them keeps everything. Versions are deleted. Events never are: they lose salt and
-- detail, which is all that is personal in them, and the log still verifies. Rules and deletions
-- meet at retention_gate: set_retention() locks it exclusively, a deletion for share when it
-- commits, and looks for a hold once more (keep_held). So a hold waits for no open transaction.
--
-- An erasure takes all that a tenant has but its place in the registry and its events, seals it,
-- and returns a certificate: a statement whose digest is an event in the operator's log, with the
-- proof that leads to a checkpoint. The operator sees no content: it turns the context to one
-- tenant at a time, and the tenant functions' owner deletes under its policies.
--
-- Tables: retention_rule, retention_gate, erasure_certificate (0006_retention). Errors: 22023,
-- 23505, 25000, 25006, 42704, 55P03, TN501, TN502, and those of 10_context.sql.

set local role ai_storage_owner;

comment on table ai_storage_private.retention_rule is
    'How long the data of the tenants of a pattern is kept.';
comment on column ai_storage_private.retention_rule.org_id is 'Level 1 of the pattern, or *.';
comment on column ai_storage_private.retention_rule.server_id is 'Level 2 of the pattern, or *.';
comment on column ai_storage_private.retention_rule.project_id is 'Level 3 of the pattern, or *.';
comment on column ai_storage_private.retention_rule.environment is 'Level 4 of the pattern, or *.';
comment on column ai_storage_private.retention_rule.code_hash is 'Level 5 of the pattern, or *.';
comment on column ai_storage_private.retention_rule.keep_versions is
    'How many versions of a model are kept at most; null: all.';
comment on column ai_storage_private.retention_rule.keep_versions_for is
    'How long a version is kept that is no longer the current one; null: for ever.';
comment on column ai_storage_private.retention_rule.keep_events_for is
    'How long events keep salt and detail; null: for ever.';
comment on column ai_storage_private.retention_rule.legal_hold is
    'Whether nothing of these tenants may be deleted or erased.';
comment on column ai_storage_private.retention_rule.set_at is 'When the rule was set.';
comment on column ai_storage_private.retention_rule.set_by is 'The login that set it.';

comment on table ai_storage_private.retention_gate is
    'One row, where rules and deletions meet: whoever changes a rule locks it exclusively, whoever '
    'deletes locks it for share when it commits.';
comment on column ai_storage_private.retention_gate.changed_at is 'When a rule was last changed.';

comment on table ai_storage_private.erasure_certificate is 'What was erased, and when.';
comment on column ai_storage_private.erasure_certificate.certificate_id is
    'Id of the certificate.';
comment on column ai_storage_private.erasure_certificate.event_id is
    'The event in the operator''s log that holds the statement''s digest.';
comment on column ai_storage_private.erasure_certificate.erased_at is 'When it was erased.';
comment on column ai_storage_private.erasure_certificate.statement is
    'What was erased, as JSON text: pattern, reason, and each tenant with its counts.';

-- One tenant's content ----------------------------------------------------------------------------

create or replace function ai_storage_private.erase_content(p_tenant_id bigint)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_models   bigint;
    v_versions bigint;
    v_names    bigint;
    v_keys     bigint;
    v_bytes    bigint;
begin
    select coalesce(sum(b.size_bytes), 0)::bigint into v_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id;
    select count(*) into v_versions
    from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id;
    delete from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id;
    get diagnostics v_models = row_count;
    -- The trigger took versions and artifacts, and left the names to be remembered.
    delete from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id;
    delete from ai_storage_private.deleted_model as d
    where d.tenant_id = p_tenant_id;
    get diagnostics v_names = row_count;
    delete from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant_id;
    get diagnostics v_keys = row_count;
    -- Whatever a deletion by hand may have left.
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id;
    -- Without it, what a cache still keeps of the tenant cannot be opened.
    delete from ai_storage_private.tenant_cache_key as k
    where k.tenant_id = p_tenant_id;
    return jsonb_build_object(
        'models', v_models, 'versions', v_versions, 'names', v_names, 'idempotency_keys', v_keys,
        'artifact_bytes', v_bytes
    );
end;
$fn$;
comment on function ai_storage_private.erase_content(bigint) is
    'Deletes all content of the tenant that the context names, and returns how much it was.';

create or replace function ai_storage_private.lock_models(p_tenant_id bigint)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
    order by p.model_id
    for update;
end;
$fn$;
comment on function ai_storage_private.lock_models(bigint) is
    'Waits for whoever writes a model of the tenant that the context names, and holds them all.';

create or replace function ai_storage_private.sweep_versions(
    p_tenant_id     bigint,
    p_keep_versions integer,
    p_before        timestamptz,
    p_limit         integer
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_model_ids uuid[];
    v_versions  bigint[];
    v_blob_ids  uuid[];
    v_count     bigint;
begin
    -- All but the current version may go. The owner's versions and those of others are counted
    -- apart, so a receiver that may write pushes out none of the owner's. Whoever is deleting a
    -- model, or sharing a version by its number, holds it: nobody is waited for, what is held goes
    -- the next time.
    select array_agg(h.model_id), array_agg(h.version)
    into v_model_ids, v_versions
    from (
        select v.model_id, v.version
        from ai_storage_private.progress_version as v
        join (
            select
                w.model_id,
                w.version,
                row_number() over (
                    partition by w.model_id, w.saved_by is null order by w.version desc
                ) as place,
                max(w.version) over (partition by w.model_id) as current_version
            from ai_storage_private.progress_version as w
            where w.tenant_id = p_tenant_id
        ) as o
            on o.model_id = v.model_id
            and o.version = v.version
        where v.tenant_id = p_tenant_id
          and o.version < o.current_version
          and (o.place > p_keep_versions or v.saved_at < p_before)
        limit p_limit
        for update of v skip locked
    ) as h;
    -- A later snapshot: it shows whatever was shared by its number before it was held.
    select array_agg(h.model_id), array_agg(h.version)
    into v_model_ids, v_versions
    from unnest(v_model_ids, v_versions) as h (model_id, version)
    where not exists (
        select from ai_storage_private.model_share as s
        where s.tenant_id = p_tenant_id
          and s.model_id = h.model_id
          and s.pinned_version = h.version
    );
    delete from ai_storage_private.progress_version as v
    using unnest(v_model_ids, v_versions) as h (model_id, version)
    where v.tenant_id = p_tenant_id
      and v.model_id = h.model_id
      and v.version = h.version;
    get diagnostics v_count = row_count;

    -- An artifact goes with the versions for which it held, once it was put again.
    delete from ai_storage_private.model_artifact as a
    using (
        select
            m.model_id,
            m.artifact_name,
            m.version,
            lead(m.version) over (
                partition by m.model_id, m.artifact_name order by m.version
            ) as next_version
        from ai_storage_private.model_artifact as m
        where m.tenant_id = p_tenant_id
    ) as o
    where a.tenant_id = p_tenant_id
      and a.model_id = o.model_id
      and a.artifact_name = o.artifact_name
      and a.version = o.version
      and o.next_version is not null
      and not exists (
          select from ai_storage_private.progress_version as v
          where v.tenant_id = p_tenant_id
            and v.model_id = o.model_id
            and v.version >= o.version
            and v.version < o.next_version
      );
    v_blob_ids := array(
        select b.blob_id
        from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and not exists (
              select from ai_storage_private.model_artifact as a
              where a.tenant_id = p_tenant_id
                and a.blob_id = b.blob_id
          )
    );
    perform ai_storage_private.sweep_blobs(p_tenant_id, v_blob_ids);

    delete from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant_id
      and k.saved_at < p_before;
    return v_count;
end;
$fn$;
comment on function ai_storage_private.sweep_versions(bigint, integer, timestamptz, integer) is
    'Deletes what a rule keeps no longer of the tenant that the context names: versions beyond the '
    'newest p_keep_versions of the owner and of others, and versions and idempotency keys from '
    'before p_before; null: no limit. At most p_limit versions; returns how many.';

set local role ai_storage_sharing;

create or replace function ai_storage_private.erase_shares(p_tenant_id bigint)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_count bigint;
begin
    -- What derives from these counts no more. Its sharer may hold a row: then a sweep takes it.
    delete from ai_storage_private.model_share as s
    where s.share_id = any (array(
        select d.share_id
        from ai_storage_private.model_share as d
        where d.share_id = any (array(
            select distinct o.share_id
            from ai_storage_private.model_share as g
            join ai_storage_private.model_share as o
                on o.tenant_id = g.tenant_id
                and o.model_id = g.model_id
            where (g.sharer_id = p_tenant_id or g.tenant_id = p_tenant_id)
              and (o.tenant_id = p_tenant_id or p_tenant_id = any (o.sharer_ids))
        ))
        for update skip locked
    ));
    get diagnostics v_count = row_count;
    delete from ai_storage_private.model_share as s
    where s.sharer_id = p_tenant_id;
    delete from ai_storage_private.share_decline as d
    where d.tenant_id = p_tenant_id
       or d.owner_id = p_tenant_id;
    return v_count;
end;
$fn$;
comment on function ai_storage_private.erase_shares(bigint) is
    'Deletes the grants on a tenant''s models and those it passed on, what it declined, and what '
    'others declined of it. Returns how many grants.';

create or replace function ai_storage_private.sweep_shares()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_count bigint;
begin
    delete from ai_storage_private.model_share as s
    where s.share_id = any (array(
        select d.share_id
        from ai_storage_private.model_share as d
        where not exists (
            select from ai_storage_private.in_force(array[d.share_id], null)
        )
        for update skip locked
    ));
    get diagnostics v_count = row_count;
    -- A grant's id is never given again.
    delete from ai_storage_private.share_end as e
    where e.share_id = any (array(
        select d.share_id
        from ai_storage_private.share_end as d
        where not exists (
            select from ai_storage_private.model_share as s
            where s.share_id = d.share_id
        )
        for update skip locked
    ));
    return v_count;
end;
$fn$;
comment on function ai_storage_private.sweep_shares() is
    'Deletes the grants that are over, such as expired ones. Returns how many.';

-- Rules -------------------------------------------------------------------------------------------

set local role ai_storage_operator;

create or replace function ai_storage_private.close_gate()
returns void
language plpgsql
volatile
as $fn$
declare
    v_sessions text;
begin
    begin
        lock table ai_storage_private.retention_gate in exclusive mode;
    exception
        when lock_not_available then
            select string_agg(distinct l.pid::text, ', ') into v_sessions
            from pg_locks as l
            where l.relation = 'ai_storage_private.retention_gate'::regclass
              and l.database = (
                  select d.oid from pg_database as d where d.datname = current_database()
              )
              and l.granted;
            raise exception using
                errcode = '55P03',
                message = 'a session keeps a deletion from ending',
                detail = format('Backends: %s.', coalesce(v_sessions, 'they are gone now')),
                hint = 'Nothing was changed. End these sessions with pg_terminate_backend(), and '
                    'set the rule again.';
    end;
    update ai_storage_private.retention_gate as g set
        changed_at = clock_timestamp();
end;
$fn$;
comment on function ai_storage_private.close_gate() is
    'Lets no deletion commit before this transaction ends. Raises 55P03.';

create or replace function ai_storage_private.check_pattern(p_pattern text)
returns text[]
language plpgsql
immutable
as $fn$
begin
    if ai_storage_private.is_tenant_pattern(p_pattern) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'A pattern has five levels joined by colons; each is a value or *, for example '
                'acme:*:*:*:*';
    end if;
    return string_to_array(p_pattern collate "C", ':');
end;
$fn$;
comment on function ai_storage_private.check_pattern(text) is
    'The five levels of a pattern. Raises 22023.';

create or replace function ai_storage_private.check_reason(p_reason text)
returns void
language plpgsql
immutable
as $fn$
begin
    if ai_storage_private.is_name(p_reason) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid reason',
            hint = 'The log keeps the reason: 1 to 255 characters and no control character.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_reason(text) is
    'Refuses a reason that the log cannot keep. Raises 22023.';

create or replace function ai_storage_private.covered_tenants(p_pattern text)
returns table (tenant_id bigint, isolation_key text)
language plpgsql
stable
as $fn$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    return query
    select t.tenant_id, t.isolation_key
    from ai_storage_private.tenant as t
    where v_level[1] in ('*', t.org_id)
      and v_level[2] in ('*', t.server_id)
      and v_level[3] in ('*', t.project_id)
      and v_level[4] in ('*', t.environment)
      and v_level[5] in ('*', t.code_hash)
    order by t.isolation_key;
end;
$fn$;
comment on function ai_storage_private.covered_tenants(text) is
    'The registered tenants that a pattern covers. Raises 22023.';

create or replace function ai_storage_private.list_effective_rules()
returns table (
    tenant_id         bigint,
    isolation_key     text,
    keep_versions     integer,
    keep_versions_for interval,
    keep_events_for   interval,
    is_held           boolean
)
language sql
stable
as $fn$
    select distinct on (t.tenant_id)
        t.tenant_id,
        t.isolation_key,
        r.keep_versions,
        r.keep_versions_for,
        r.keep_events_for,
        bool_or(r.legal_hold) over (partition by t.tenant_id)
    from ai_storage_private.tenant as t
    join ai_storage_private.retention_rule as r
        on r.org_id in ('*', t.org_id)
        and r.server_id in ('*', t.server_id)
        and r.project_id in ('*', t.project_id)
        and r.environment in ('*', t.environment)
        and r.code_hash in ('*', t.code_hash)
    -- The rule with the fewest *; among equals the one that names the higher level.
    order by
        t.tenant_id,
        cardinality(array_positions(
            array[r.org_id, r.server_id, r.project_id, r.environment, r.code_hash], '*'
        )),
        r.org_id = '*', r.server_id = '*', r.project_id = '*', r.environment = '*';
$fn$;
comment on function ai_storage_private.list_effective_rules() is
    'The rule that counts for each tenant that any rule covers, and whether a hold does.';

create or replace function ai_storage.list_tenants(p_pattern text default '*:*:*:*:*')
returns table (isolation_key text, registered_at timestamptz, is_held boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        t.isolation_key,
        t.registered_at,
        coalesce(r.is_held, false)
    from ai_storage_private.tenant as t
    left join ai_storage_private.list_effective_rules() as r on r.tenant_id = t.tenant_id
    where t.tenant_id in (
        select c.tenant_id from ai_storage_private.covered_tenants(p_pattern) as c
    )
    order by t.isolation_key;
end;
$fn$;
comment on function ai_storage.list_tenants(text) is
    'The registered tenants that a pattern covers: those that an erasure would take. is_held: a '
    'legal hold keeps their data. Raises 22023.';

create or replace function ai_storage.set_retention(
    p_pattern           text,
    p_keep_versions     integer  default null,
    p_keep_versions_for interval default null,
    p_keep_events_for   interval default null,
    p_legal_hold        boolean  default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set lock_timeout = '5s'
as $fn$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    if p_keep_versions < 1
        or p_keep_versions_for <= '0'
        or p_keep_versions_for > '1000 years'
        or p_keep_events_for <= '0'
        or p_keep_events_for > '1000 years'
    then
        raise exception using
            errcode = '22023',
            message = 'invalid retention',
            hint = 'Keep 1 version or more, and for longer than no time and no longer than 1000 '
                'years; null keeps all, for ever.';
    end if;
    perform ai_storage_private.close_gate();
    insert into ai_storage_private.retention_rule as r (
        org_id, server_id, project_id, environment, code_hash,
        keep_versions, keep_versions_for, keep_events_for, legal_hold
    )
    values (
        v_level[1], v_level[2], v_level[3], v_level[4], v_level[5],
        p_keep_versions, p_keep_versions_for, p_keep_events_for, coalesce(p_legal_hold, false)
    )
    on conflict on constraint retention_rule_pk do update set
        keep_versions     = excluded.keep_versions,
        keep_versions_for = excluded.keep_versions_for,
        keep_events_for   = excluded.keep_events_for,
        legal_hold        = coalesce(p_legal_hold, r.legal_hold),
        set_at            = excluded.set_at,
        set_by            = excluded.set_by;
end;
$fn$;
comment on function ai_storage.set_retention(text, integer, interval, interval, boolean) is
    'Sets how long the data of the tenants of a pattern is kept, and replaces the rule that the '
    'same pattern had. p_keep_versions: at most so many of a model. p_keep_versions_for: how long '
    'one that is not current, and an idempotency key. p_keep_events_for: how long events keep '
    'names. Null: all, for ever. p_legal_hold: nothing is deleted or erased, not even by the '
    'tenant, and deletions that are under way fail at their commit; null leaves a hold as it is. '
    'Of several rules the most specific counts; a hold of any. Nothing is deleted before '
    'apply_retention(). Versions that other tenants saved in a shared model are counted apart from '
    'the owner''s. Raises 22023, and 55P03 after 5 s when a session keeps a deletion from ending.';

create or replace function ai_storage.drop_retention(p_pattern text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    delete from ai_storage_private.retention_rule as r
    where (r.org_id, r.server_id, r.project_id, r.environment, r.code_hash)
        = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5]);
    return found;
end;
$fn$;
comment on function ai_storage.drop_retention(text) is
    'Removes the rule, and with it the legal hold, of exactly this pattern. Returns false when '
    'there is none. Raises 22023.';

create or replace function ai_storage.list_retention()
returns table (
    pattern           text,
    keep_versions     integer,
    keep_versions_for interval,
    keep_events_for   interval,
    legal_hold        boolean,
    set_at            timestamptz,
    set_by            text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        concat_ws(':', r.org_id, r.server_id, r.project_id, r.environment, r.code_hash),
        r.keep_versions,
        r.keep_versions_for,
        r.keep_events_for,
        r.legal_hold,
        r.set_at,
        r.set_by::text
    from ai_storage_private.retention_rule as r
    order by 1;
end;
$fn$;
comment on function ai_storage.list_retention() is 'The rules, one row a pattern.';

create or replace function ai_storage_private.check_hold(p_levels text[])
returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if exists (
        select from ai_storage_private.retention_rule as r
        where r.legal_hold
          and r.org_id in ('*', p_levels[1])
          and r.server_id in ('*', p_levels[2])
          and r.project_id in ('*', p_levels[3])
          and r.environment in ('*', p_levels[4])
          and r.code_hash in ('*', p_levels[5])
    ) then
        raise exception using
            errcode = 'TN501',
            message = 'a legal hold keeps this data',
            hint = 'An administrator sees the holds with list_retention(), and ends one with '
                'set_retention() or drop_retention().';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_hold(text[]) is
    'Refuses to delete or erase what a legal hold keeps. Raises TN501.';

create or replace function ai_storage_private.is_held(p_tenant_id bigint)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return coalesce(
        (
            select r.is_held
            from ai_storage_private.list_effective_rules() as r
            where r.tenant_id = p_tenant_id
        ),
        false
    );
end;
$fn$;
comment on function ai_storage_private.is_held(bigint) is 'Whether a legal hold keeps a tenant.';

create or replace function ai_storage_private.pass_gate(p_tenant_id bigint)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    -- A lock on the row, so that a snapshot from before a rule was changed is refused with 40001.
    perform from ai_storage_private.retention_gate as g
    for share;
    perform ai_storage_private.check_hold(array[
        t.org_id, t.server_id, t.project_id, t.environment, t.code_hash
    ])
    from ai_storage_private.tenant as t
    where t.tenant_id = p_tenant_id;
end;
$fn$;
comment on function ai_storage_private.pass_gate(bigint) is
    'The last step of a deletion: keeps rules from being changed until this transaction ends, and '
    'refuses it when a hold was set since it began. Raises TN501.';

create or replace function ai_storage_private.act_for(p_tenant_id bigint, p_isolation_key text)
returns text
language plpgsql
volatile
as $fn$
begin
    return ai_storage_private.set_context(
        'call', (p_tenant_id, p_isolation_key, null, 'operator', '')
    );
end;
$fn$;
comment on function ai_storage_private.act_for(bigint, text) is
    'Turns the context to a tenant, for an administrator''s function that puts the caller''s '
    'back.';

create or replace function ai_storage_private.sweep_tenant(
    p_tenant_id     bigint,
    p_isolation_key text,
    p_limit         integer,
    out versions    bigint,
    out events      bigint
)
returns record
language plpgsql
volatile
as $fn$
declare
    v_now       constant timestamptz := clock_timestamp();
    v_rule      record;
    v_rule_then record;
    v_subjects  text[];
    v_last      bigint;
begin
    versions := 0;
    events := 0;
    select r.* into v_rule
    from ai_storage_private.list_effective_rules() as r
    where r.tenant_id = p_tenant_id;
    if v_rule.is_held then
        return;
    end if;
    perform ai_storage_private.act_for(p_tenant_id, p_isolation_key);
    perform ai_storage_private.sweep_uploads(p_tenant_id);
    if coalesce(v_rule.keep_versions::text, v_rule.keep_versions_for::text) is not null then
        versions := ai_storage_private.sweep_versions(
            p_tenant_id, v_rule.keep_versions, v_now - v_rule.keep_versions_for, p_limit
        );
    end if;
    if v_rule.keep_events_for is not null then
        -- Read before the rows: an event that is sealed after that describes something newer.
        select max(s.seal_number) into v_last
        from ai_storage_private.audit_seal as s
        where s.tenant_id = p_tenant_id;
        -- Comparing a row with the log needs the salt and the names of its event.
        v_subjects := array(
            select s
            from ai_storage_private.list_subjects(p_tenant_id) as s
        );
        update ai_storage_private.audit_event as e set
            salt   = null,
            detail = null
        where e.tenant_id = p_tenant_id
          and e.seal_number <= v_last
          and e.recorded_at < v_now - v_rule.keep_events_for
          and e.salt is not null
          and not exists (
              select from unnest(v_subjects) as s (subject)
              where s.subject = ai_storage_private.event_subject(
                  e.action, e.model_id, e.version, e.detail::jsonb
              )
          );
        get diagnostics events = row_count;
    end if;
    if versions + events > 0 then
        perform ai_storage_private.record_event(
            p_tenant_id, 'apply retention',
            p_detail => jsonb_build_object('versions', versions, 'events', events)
        );
    end if;

    -- Once more, now that no rule can be changed before the commit.
    perform ai_storage_private.pass_gate(p_tenant_id);
    select r.* into v_rule_then
    from ai_storage_private.list_effective_rules() as r
    where r.tenant_id = p_tenant_id;
    if v_rule_then is distinct from v_rule then
        raise exception using
            errcode = '40001',
            message = 'the rule of the tenant was changed meanwhile',
            hint = 'Repeat the call.';
    end if;
end;
$fn$;
comment on function ai_storage_private.sweep_tenant(bigint, text, integer) is
    'Deletes what the rules keep no longer of one tenant, at most p_limit versions, and turns the '
    'context to it. Raises 40001 and TN501 when a rule was changed meanwhile.';

create or replace function ai_storage.apply_retention(
    p_after text    default null,
    p_limit integer default 1000
)
returns table (tenants bigint, versions bigint, events bigint, shares bigint, cursor text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set lock_timeout = '2s'
as $fn$
declare
    v_most    constant integer := 10000; -- versions
    v_context constant text := ai_storage_private.trusted_context();
    v_after   text collate "C" := coalesce(p_after, '');
    v_last    text collate "C";
    v_walked  bigint;
    v_done    boolean := true;
    v_tenant  record;
    v_swept   record;
begin
    perform ai_storage_private.refuse_old_snapshot();
    if (p_limit > 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is how many tenants lose something in one call, 1 or more.';
    end if;
    tenants := 0;
    versions := 0;
    events := 0;
    shares := 0;
    select count(*), max(w.isolation_key) into v_walked, v_last
    from (
        select t.isolation_key
        from ai_storage_private.tenant as t
        where t.isolation_key > v_after
        order by t.isolation_key
        limit 1000
    ) as w;
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.isolation_key > v_after
          and t.isolation_key <= v_last
          and t.moved_to is null -- a move compares the others with their copies
          and (
              exists (
                  select from ai_storage_private.artifact_upload as u
                  where u.tenant_id = t.tenant_id
                    and u.touched_at < clock_timestamp() - interval '1 day'
              )
              or exists (
                  select from ai_storage_private.retention_rule as r
                  where r.org_id in ('*', t.org_id)
                    and r.server_id in ('*', t.server_id)
                    and r.project_id in ('*', t.project_id)
                    and r.environment in ('*', t.environment)
                    and r.code_hash in ('*', t.code_hash)
              )
          )
        order by t.isolation_key
    loop
        -- Whoever is in the way of one tenant's turn delays no other's: its turn comes next time.
        begin
            v_swept := ai_storage_private.sweep_tenant(
                v_tenant.tenant_id, v_tenant.isolation_key, v_most
            );
            if v_swept.versions + v_swept.events > 0 then
                tenants := tenants + 1;
                versions := versions + v_swept.versions;
                events := events + v_swept.events;
            end if;
            -- The rest of a long history goes in the next call.
            v_done := v_swept.versions < v_most;
        exception
            when lock_not_available or deadlock_detected or serialization_failure
                or sqlstate 'TN501'
            then
                v_done := true;
        end;
        exit when not v_done;
        v_after := v_tenant.isolation_key;
        if tenants >= p_limit then
            v_done := false;
            exit;
        end if;
    end loop;
    -- sweep_shares() deletes grants of many tenants, so it acts for none of them.
    perform ai_storage_private.restore_context('');

    if not v_done then
        cursor := v_after;
    elsif v_walked = 1000 then
        cursor := v_last;
    else
        shares := ai_storage_private.sweep_shares();
    end if;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_event(
        0, 'apply retention',
        p_detail => jsonb_build_object(
            'tenants', tenants, 'versions', versions, 'events', events, 'shares', shares
        )
    );
    return next;
end;
$fn$;
comment on function ai_storage.apply_retention(text, integer) is
    'Deletes what the rules keep no longer: versions with their artifacts, idempotency keys and '
    'names in events; also abandoned uploads, and grants that are over. An event '
    'is kept without its names; it keeps them while what it describes exists. A call takes a '
    'part: at most p_limit tenants that lose something, 10000 versions of one, after the tenant '
    'p_after. cursor: pass it as p_after in the next transaction; null when all is done. A tenant '
    'is left for the next run when another transaction is in the way for 2 s, or its rule was just '
    'changed. Returns how many tenants lost something, and what. Raises 22023, 25000.';

-- Erasure -----------------------------------------------------------------------------------------

create or replace function ai_storage.erase_tenant(p_pattern text, p_reason text)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set lock_timeout = '10s'
as $fn$
declare
    v_context        constant text := ai_storage_private.trusted_context();
    v_certificate_id constant uuid := gen_random_uuid();
    v_now            constant timestamptz := clock_timestamp();
    v_tenant_ids     constant bigint[] := array(
        select t.tenant_id from ai_storage_private.covered_tenants(p_pattern) as t
    );
    v_model_ids      uuid[];
    v_subjects       text[];
    v_tenant         record;
    v_seal           record;
    v_counts         jsonb[] := '{}'::jsonb[];
    v_statement      text;
    v_event_id       uuid;
begin
    perform ai_storage_private.check_reason(p_reason);
    perform ai_storage_private.refuse_old_snapshot();
    if v_tenant_ids = '{}' then
        raise exception using
            errcode = '42704',
            message = 'no tenant is covered by the pattern',
            hint = 'list_tenants() shows the tenants; one is known from its first save on.';
    end if;
    -- The copy in the other cell would keep what is erased here.
    if exists (
        select from ai_storage_private.tenant as t
        join ai_storage_private.home as h on h.org_id = t.org_id
        where t.tenant_id = any (v_tenant_ids)
          and h.is_moving
    ) then
        raise exception using
            errcode = 'TN603',
            message = 'an organisation that the pattern covers is being moved to another cell',
            hint = 'When it was moved, erase in the cell that list_homes() names.';
    end if;

    -- The content, tenant by tenant. Whoever is writing is waited for before it is our turn, so
    -- that sealing goes on meanwhile. Models are held before grants, as everybody does.
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
        order by t.tenant_id
    loop
        perform ai_storage_private.check_hold(string_to_array(v_tenant.isolation_key, ':'));
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.lock_models(v_tenant.tenant_id);
        v_counts := v_counts || (
            jsonb_build_object(
                'shares', ai_storage_private.erase_shares(v_tenant.tenant_id)
            )
            || ai_storage_private.erase_content(v_tenant.tenant_id)
            || jsonb_build_object(
                'tenant_id', v_tenant.tenant_id, 'isolation_key', v_tenant.isolation_key
            )
        );
    end loop;

    -- The names in the log, also in the logs of those who used these tenants' models.
    perform ai_storage_private.take_turn();
    perform ai_storage_private.seal_events();
    -- Keep the events of what was saved after the content was erased.
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        v_subjects := v_subjects || array(
            select s
            from ai_storage_private.list_subjects(v_tenant.tenant_id) as s
        );
    end loop;
    v_model_ids := array(
        select distinct m.model_id
        from ai_storage_private.audit_event as m
        where m.tenant_id = any (v_tenant_ids)
          and m.action = 'save model'
    );
    update ai_storage_private.audit_event as e set
        salt   = null,
        detail = null
    where e.salt is not null
      and (
          e.tenant_id = any (v_tenant_ids)
          or e.model_id in (select m.model_id from unnest(v_model_ids) as m (model_id))
      )
      and not exists (
          select from unnest(v_subjects) as s (subject)
          where s.subject = ai_storage_private.event_subject(
              e.action, e.model_id, e.version, e.detail::jsonb
          )
      );

    for v_tenant in
        select
            t.tenant_id,
            t.isolation_key,
            row_number() over (order by t.tenant_id)::integer as place
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
        order by t.tenant_id
    loop
        -- The seal up to which the log has lost its names.
        select a.seal_number, a.seal_hash into v_seal
        from ai_storage_private.audit_seal as a
        where a.tenant_id = v_tenant.tenant_id
        order by a.seal_number desc
        limit 1;
        v_counts[v_tenant.place] := v_counts[v_tenant.place] || jsonb_build_object(
            'seal_number', v_seal.seal_number, 'seal_hash', encode(v_seal.seal_hash, 'hex')
        );
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.record_event(
            v_tenant.tenant_id, 'erase tenant',
            p_detail => jsonb_build_object('certificate_id', v_certificate_id)
        );
    end loop;
    perform ai_storage_private.restore_context(v_context);
    -- Whatever there was: a tenant may have had nothing left but names in its log.
    perform ai_storage_private.pass_gate(t.tenant_id)
    from unnest(v_tenant_ids) as t (tenant_id);

    v_statement := jsonb_build_object(
        'certificate_id', v_certificate_id,
        'erased_at', ai_storage_private.micros(v_now),
        'erased_by', session_user,
        'pattern', p_pattern,
        'reason', p_reason,
        'tenants', (
            select jsonb_agg(c.counts order by c.counts ->> 'isolation_key' collate "C")
            from unnest(v_counts) as c (counts)
        )
    )::text;
    v_event_id := ai_storage_private.record_event(
        0, 'erase tenant',
        p_content => v_statement,
        p_detail => jsonb_build_object(
            'certificate_id', v_certificate_id, 'pattern', p_pattern, 'reason', p_reason
        )
    );
    insert into ai_storage_private.erasure_certificate (
        certificate_id, event_id, erased_at, statement
    )
    values (v_certificate_id, v_event_id, v_now, v_statement);
    perform ai_storage_private.seal_events();
    perform ai_storage.create_checkpoint();
    return ai_storage.erasure_certificate(v_certificate_id);
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = 'a session keeps the tenant''s data locked',
            detail = 'It was waited for 10 s. Nothing was erased.',
            hint = 'pg_stat_activity shows the transactions that are open. End them with '
                'pg_terminate_backend(), and erase again.';
end;
$fn$;
comment on function ai_storage.erase_tenant(text, text) is
    'Erases all data of the registered tenants that the pattern covers: models, versions, grants '
    'they gave, idempotency keys, remembered names, and the salts and names in their events and in '
    'others'' events about their models. The events stay and verify. Returns the certificate, '
    'which pydb/verifier.py checks offline; it counts once this transaction is committed. Open '
    'saves are waited for, 10 s at most; what others save, read or pass on and commit later is new '
    'data: erase again. Dead rows go with the next VACUUM. Raises 22023, 25000, 42704, 55P03, '
    'TN501, TN603.';

create or replace function ai_storage.erasure_certificate(p_certificate_id uuid)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_certificate ai_storage_private.erasure_certificate;
    v_proof       jsonb;
begin
    perform ai_storage_private.require_owner();
    select c.* into v_certificate
    from ai_storage_private.erasure_certificate as c
    where c.certificate_id = p_certificate_id;
    if not found then
        raise exception using
            errcode = 'TN502',
            message = 'no such certificate',
            hint = 'list_erasures() shows the certificates.';
    end if;
    v_proof := ai_storage_private.prove_event(0, v_certificate.event_id);
    return jsonb_build_object(
        'kind', 'certificate',
        'statement', v_certificate.statement,
        'proof', v_proof,
        'checkpoint', (
            select ai_storage_private.render_checkpoint(c)
            from ai_storage_private.audit_checkpoint as c
            where c.checkpoint_number = (v_proof -> 'seal' ->> 'checkpoint_number')::bigint
        )
    );
end;
$fn$;
comment on function ai_storage.erasure_certificate(uuid) is
    'A certificate of an erasure: the statement, the event that holds its digest, and the path '
    'from it to a checkpoint. Verified offline by pydb/verifier.py. Raises TN502.';

create or replace function ai_storage.list_erasures()
returns table (
    certificate_id uuid,
    erased_at      timestamptz,
    erased_by      text,
    pattern        text,
    reason         text,
    tenants        integer
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        c.certificate_id,
        c.erased_at,
        s.statement ->> 'erased_by',
        s.statement ->> 'pattern',
        s.statement ->> 'reason',
        jsonb_array_length(s.statement -> 'tenants')
    from ai_storage_private.erasure_certificate as c
    cross join lateral (select c.statement::jsonb) as s (statement)
    order by c.erased_at, c.certificate_id;
end;
$fn$;
comment on function ai_storage.list_erasures() is 'The erasures, one row a certificate.';

-- Export and import -------------------------------------------------------------------------------

set local role ai_storage_owner;

create or replace function ai_storage.export_tenant(p_as text default null)
returns setof jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set extra_float_digits = '1'
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    if v_tenant.tenant_id > 0 then
        if current_setting('transaction_read_only') = 'on' then
            raise exception using
                errcode = '25006',
                message = 'an export is logged, and this transaction is read-only',
                hint = 'Use a read-write transaction on the primary server.';
        end if;
        perform ai_storage_private.record_event(v_tenant.tenant_id, 'export tenant');
    end if;

    -- One query, so that the manifest counts what the lines hold.
    return query
    with record (part, name, version, line) as materialized (
        select
            1, v.model_name, v.version, jsonb_build_object(
                'kind'::text, 'version'::text,
                'model_name'::text, v.model_name,
                'version'::text, v.version,
                'previous_version'::text, v.previous_version,
                'created_at'::text, v.created_at,
                'saved_at'::text, v.saved_at,
                'saved_by'::text, v.saved_by,
                'mse'::text, v.mse,
                'training_samples'::text, v.training_samples,
                'metrics'::text, v.metrics,
                'metadata'::text, v.metadata
            )
        from (
            select
                h.*,
                p.model_name,
                p.created_at,
                lag(h.version) over (partition by h.model_id order by h.version)
                    as previous_version
            from ai_storage_private.progress_version as h
            join ai_storage_private.ai_progress_tenant as p
                on p.tenant_id = h.tenant_id
                and p.model_id = h.model_id
            where h.tenant_id = v_tenant.tenant_id
              and p.tenant_id = v_tenant.tenant_id
        ) as v
        union all
        select
            2, d.model_name, 0, jsonb_build_object(
                'kind'::text, 'deleted model'::text,
                'model_name'::text, d.model_name,
                'last_version'::text, d.last_version,
                'deleted_at'::text, d.deleted_at
            )
        from ai_storage_private.deleted_model as d
        where d.tenant_id = v_tenant.tenant_id
        union all
        select
            3, k.idempotency_key, 0, jsonb_build_object(
                'kind'::text, 'idempotency key'::text,
                'idempotency_key'::text, k.idempotency_key,
                'version'::text, k.version,
                'created'::text, k.created,
                'saved_at'::text, k.saved_at,
                'request_digest'::text, encode(k.request_digest, 'hex')
            )
        from ai_storage_private.idempotency_key as k
        where k.tenant_id = v_tenant.tenant_id
        union all
        -- A content comes before the artifacts that name it.
        select
            4, encode(b.sha256, 'hex') || b.size_bytes, c.chunk_number, jsonb_build_object(
                'kind'::text, 'chunk'::text,
                'sha256'::text, encode(b.sha256, 'hex'),
                'size_bytes'::text, b.size_bytes,
                'chunk_number'::text, c.chunk_number,
                'content'::text, translate(encode(c.content, 'base64'), E'\n', '')
            )
        from ai_storage_private.artifact_blob as b
        join ai_storage_private.artifact_chunk as c
            on c.tenant_id = b.tenant_id
            and c.blob_id = b.blob_id
        where b.tenant_id = v_tenant.tenant_id
          and c.tenant_id = v_tenant.tenant_id
        union all
        select
            5, p.model_name || ' ' || a.artifact_name, a.version, jsonb_build_object(
                'kind'::text, 'artifact'::text,
                'model_name'::text, p.model_name,
                'artifact_name'::text, a.artifact_name,
                'version'::text, a.version,
                'media_type'::text, a.media_type,
                'sha256'::text, encode(b.sha256, 'hex'),
                'size_bytes'::text, b.size_bytes,
                'put_at'::text, a.put_at
            )
        from ai_storage_private.model_artifact as a
        join ai_storage_private.ai_progress_tenant as p
            on p.tenant_id = a.tenant_id
            and p.model_id = a.model_id
        join ai_storage_private.artifact_blob as b
            on b.tenant_id = a.tenant_id
            and b.blob_id = a.blob_id
        where a.tenant_id = v_tenant.tenant_id
          and p.tenant_id = v_tenant.tenant_id
        union all
        select
            6, s.share_id::text, 0, jsonb_build_object(
                'kind'::text, 'share'::text,
                'model_name'::text, s.model_name,
                'shared_by'::text, s.sharer_key,
                'target'::text, s.target,
                'permissions'::text, s.permissions,
                'version'::text, s.pinned_version,
                'expires_at'::text, s.expires_at
            )
        from ai_storage_private.model_share as s
        where s.tenant_id = v_tenant.tenant_id
        union all
        select
            7, d.owner_key || ' ' || d.model_name || ' ' || d.sharer_key, 0, jsonb_build_object(
                'kind'::text, 'decline'::text,
                'model_name'::text, d.model_name,
                'owner'::text, d.owner_key,
                'shared_by'::text, d.sharer_key
            )
        from ai_storage_private.share_decline as d
        where d.tenant_id = v_tenant.tenant_id
    )
    select l.line
    from (
        select
            0, ''::text collate "C", 0::bigint, jsonb_build_object(
                'kind'::text, 'manifest'::text,
                'format'::text, 1,
                'isolation_key'::text, v_tenant.isolation_key,
                'records'::text, count(*),
                'digest'::text, encode(sha256(coalesce(string_agg(
                    sha256(convert_to(r.line::text, 'UTF8')), ''
                    order by r.part, r.name, r.version
                ), '')), 'hex')
            )
        from record as r
        union all
        select r.part, r.name, r.version, r.line
        from record as r
    ) as l (part, name, version, line)
    order by l.part, l.name, l.version;
end;
$fn$;
comment on function ai_storage.export_tenant(text) is
    'All that the caller has, an object each: first a manifest, then every version of every model '
    'by name and number, remembered deletions, idempotency keys, contents by chunk, artifacts, '
    'grants and declines. The manifest''s digest '
    'is the sha256 of the sha256 of each further line, as text. import_tenant() takes the lines '
    'back; the log is export_audit()''s. Logged. Raises 25006, TN001 to TN005.';

create or replace function ai_storage_private.is_past(p_time timestamptz)
returns boolean
language sql
volatile
as $fn$
    -- A minute for clocks that differ.
    select p_time between '1970-01-01 00:00:00+00' and clock_timestamp() + interval '1 minute';
$fn$;
comment on function ai_storage_private.is_past(timestamptz) is
    'True for a time that a save may have had; false or null for one that would outlive every '
    'rule, or that clients cannot read.';

create or replace function ai_storage_private.import_version(
    p_tenant_id bigint,
    p_record    jsonb
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_name     constant text collate "C" := p_record ->> 'model_name';
    v_version  constant bigint := (p_record ->> 'version')::bigint;
    v_previous constant bigint := (p_record ->> 'previous_version')::bigint;
    v_mse      constant double precision := (p_record ->> 'mse')::double precision;
    v_samples  constant bigint := (p_record ->> 'training_samples')::bigint;
    v_metrics  constant jsonb := coalesce(p_record -> 'metrics', '{}');
    v_metadata constant jsonb := coalesce(p_record -> 'metadata', '{}');
    v_saved_at constant timestamptz := (p_record ->> 'saved_at')::timestamptz;
    v_created  constant timestamptz := (p_record ->> 'created_at')::timestamptz;
    v_model_id uuid := gen_random_uuid();
begin
    perform ai_storage_private.check_progress(
        v_name, v_mse, v_samples, v_metrics, v_metadata, v_version
    );
    if coalesce(v_version, 0) <= coalesce(v_previous, 0)
        or v_previous < 1
        or v_version > 1000000000000000 -- far from where counting on would end
        or ai_storage_private.is_past(v_saved_at) is not true
        or ai_storage_private.is_past(v_created) is not true
        or not ai_storage.is_isolation_key(coalesce(p_record ->> 'saved_by', 'o:s:p:e:c'))
    then
        raise exception using
            errcode = '22023',
            message = 'invalid version record',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;

    if v_previous is null then
        insert into ai_storage_private.ai_progress_tenant (
            tenant_id, model_id, version, mse, training_samples,
            created_at, updated_at, model_name, metrics, metadata
        )
        values (
            p_tenant_id, v_model_id, v_version, v_mse, v_samples,
            v_created, v_saved_at, v_name, v_metrics, v_metadata
        )
        on conflict do nothing;
    else
        update ai_storage_private.ai_progress_tenant as p set
            version          = v_version,
            mse              = v_mse,
            training_samples = v_samples,
            metrics          = v_metrics,
            metadata         = v_metadata,
            updated_at       = v_saved_at,
            saved_by         = null
        where p.tenant_id = p_tenant_id
          and p.model_name = v_name
          and p.version = v_previous
        returning p.model_id into v_model_id;
    end if;
    -- A name that was deleted here goes on counting, which the record does not.
    if not found or exists (
        select from ai_storage_private.deleted_model as d
        where d.tenant_id = p_tenant_id
          and d.model_name = v_name
          and d.last_version >= v_version
    ) then
        raise exception using
            errcode = '23505',
            message = 'a model of this name is or was here',
            detail = format('The model is %s.', quote_ident(v_name)),
            hint = 'Import into a tenant that never had the name, and the lines in their order.';
    end if;
    -- Without the record's author, which may be made up: it is the importer who saves this here.
    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, metrics, metadata
    )
    values (
        p_tenant_id, v_model_id, v_version, v_mse, v_samples, v_saved_at, v_metrics, v_metadata
    );
end;
$fn$;
comment on function ai_storage_private.import_version(bigint, jsonb) is
    'Restores one version of a model, on top of the version before it. Raises 22023, 23505.';

create or replace function ai_storage_private.import_deletion(
    p_tenant_id bigint,
    p_record    jsonb
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_name    constant text := p_record ->> 'model_name';
    v_version constant bigint := (p_record ->> 'last_version')::bigint;
    v_deleted constant timestamptz := (p_record ->> 'deleted_at')::timestamptz;
begin
    if (
        ai_storage_private.is_name(v_name)
        and v_version between 0 and 1000000000000000
        and ai_storage_private.is_past(v_deleted)
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of a deleted model',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    insert into ai_storage_private.deleted_model (tenant_id, last_version, deleted_at, model_name)
    select p_tenant_id, v_version, v_deleted, v_name
    where not exists (
        select from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_tenant_id
          and p.model_name = v_name collate "C"
    )
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage_private.import_deletion(bigint, jsonb) is
    'Restores the memory of a deleted model, unless there is one of its name or a model that has '
    'the name. Raises 22023.';

create or replace function ai_storage_private.import_key(p_tenant_id bigint, p_record jsonb)
returns void
language plpgsql
volatile
as $fn$
declare
    v_key     constant text := p_record ->> 'idempotency_key';
    v_version constant bigint := (p_record ->> 'version')::bigint;
    v_saved   constant timestamptz := (p_record ->> 'saved_at')::timestamptz;
    v_created constant boolean := (p_record ->> 'created')::boolean;
    v_digest  constant text := p_record ->> 'request_digest';
begin
    if (
        ai_storage_private.is_name(v_key) and v_version > 0
        and ai_storage_private.is_past(v_saved) and v_created is not null
        and v_digest ~ '^[0-9a-f]{64}$'
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of an idempotency key',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    insert into ai_storage_private.idempotency_key (
        tenant_id, version, saved_at, created, idempotency_key, request_digest
    )
    values (
        p_tenant_id, v_version, v_saved, v_created, v_key, decode(v_digest, 'hex')
    )
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage_private.import_key(bigint, jsonb) is
    'Restores the first answer to an idempotency key, unless there is one. Raises 22023.';

create or replace function ai_storage_private.import_id(p_sha256 text, p_size_bytes bigint)
returns uuid
language sql
immutable
parallel safe
as $fn$
    select left(
        encode(sha256(convert_to(p_sha256 || ' ' || p_size_bytes, 'UTF8')), 'hex'), 32
    )::uuid;
$fn$;
comment on function ai_storage_private.import_id(text, bigint) is
    'The id of a content that is being imported: the same in each call, since its chunks may come '
    'in several.';

create or replace function ai_storage_private.import_chunk(p_tenant_id bigint, p_record jsonb)
returns void
language plpgsql
volatile
as $fn$
declare
    v_sha256  constant text := p_record ->> 'sha256';
    v_size    constant bigint := (p_record ->> 'size_bytes')::bigint;
    v_number  constant integer := (p_record ->> 'chunk_number')::integer;
    v_content constant bytea := decode(p_record ->> 'content', 'base64');
    v_now     constant timestamptz := clock_timestamp();
    v_upload  constant uuid := ai_storage_private.import_id(v_sha256, v_size);
begin
    if (
        v_sha256 ~ '^[0-9a-f]{64}$' and v_size > 0
        and v_number between 0 and (v_size - 1) / 1048576
        -- One content has one splitting: only the last chunk may be short.
        and length(v_content) = least(v_size - v_number * 1048576::bigint, 1048576)
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of a chunk',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    perform ai_storage_private.check_size(v_size);
    -- An upload for no model: swept when no artifact comes to name it. Held, so that neither a
    -- sweep nor another import of the same content gets between; only then we look for the content.
    insert into ai_storage_private.artifact_upload as u (
        tenant_id, upload_id, model_id, received_bytes, began_at, touched_at,
        artifact_name, media_type
    )
    values (p_tenant_id, v_upload, v_upload, 0, v_now, v_now, '', '')
    on conflict on constraint artifact_upload_pk do update set
        touched_at = excluded.touched_at;
    if exists (
        select from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and b.sha256 = decode(v_sha256, 'hex')
          and b.size_bytes = v_size
    ) then
        -- What arrived before goes too, unless it is this content.
        delete from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_tenant_id
          and c.blob_id = v_upload
          and not exists (
              select from ai_storage_private.artifact_blob as b
              where b.tenant_id = p_tenant_id
                and b.blob_id = v_upload
          );
        perform ai_storage_private.end_upload(p_tenant_id, v_upload);
        return;
    end if;
    insert into ai_storage_private.artifact_chunk (
        tenant_id, blob_id, chunk_number, sha256, content
    )
    values (p_tenant_id, v_upload, v_number, sha256(v_content), v_content)
    on conflict do nothing;
    if found then
        update ai_storage_private.artifact_upload as u set
            received_bytes = u.received_bytes + length(v_content)
        where u.tenant_id = p_tenant_id
          and u.upload_id = v_upload;
    end if;
end;
$fn$;
comment on function ai_storage_private.import_chunk(bigint, jsonb) is
    'Restores one chunk of a content that an artifact is going to name. Raises 22023.';

create or replace function ai_storage_private.import_artifact(p_tenant_id bigint, p_record jsonb)
returns void
language plpgsql
volatile
as $fn$
declare
    v_sha256  constant text := p_record ->> 'sha256';
    v_size    constant bigint := (p_record ->> 'size_bytes')::bigint;
    v_version constant bigint := (p_record ->> 'version')::bigint;
    v_put_at  constant timestamptz := (p_record ->> 'put_at')::timestamptz;
    v_upload  constant uuid := ai_storage_private.import_id(v_sha256, v_size);
    v_now     constant timestamptz := clock_timestamp();
    v_model   record;
    v_found   record;
    v_blob_id uuid;
begin
    perform ai_storage_private.check_artifact(
        p_record ->> 'artifact_name', p_record ->> 'media_type'
    );
    v_model := ai_storage_private.hold_model(p_tenant_id, p_record ->> 'model_name');
    if (v_version between 1 and v_model.version) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid record of an artifact',
            hint = 'Pass the lines of export_tenant() as they are, in their order.';
    end if;
    -- Held, so that no chunk is added between the look at them and the end.
    perform from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = v_upload
    for update;
    -- Changed and not only locked: so a sweep with an older snapshot fails instead of deleting it.
    update ai_storage_private.artifact_blob as b set
        put_at = v_now
    where b.tenant_id = p_tenant_id
      and b.sha256 = decode(v_sha256, 'hex')
      and b.size_bytes = v_size
    returning b.blob_id into v_blob_id;
    if not found then
        select
            ai_storage_private.content_sha256(
                coalesce(array_agg(c.sha256 order by c.chunk_number), '{}')
            ) as sha256,
            coalesce(sum(length(c.content)), 0) as size_bytes
        into v_found
        from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_tenant_id
          and c.blob_id = v_upload;
        if encode(v_found.sha256, 'hex') is distinct from v_sha256
            or v_found.size_bytes is distinct from v_size
        then
            raise exception using
                errcode = '22023',
                message = 'a content does not fit its digest',
                hint = 'Pass the lines of export_tenant() as they are, in their order.';
        end if;
        perform ai_storage_private.check_size(v_found.size_bytes);
        insert into ai_storage_private.artifact_blob (
            tenant_id, blob_id, size_bytes, put_at, sha256
        )
        values (
            p_tenant_id, v_upload, v_found.size_bytes, v_put_at, decode(v_sha256, 'hex')
        );
        perform ai_storage_private.end_upload(p_tenant_id, v_upload);
        v_blob_id := v_upload;
    end if;
    insert into ai_storage_private.model_artifact (
        tenant_id, model_id, version, blob_id, put_at, artifact_name, media_type
    )
    values (
        p_tenant_id, v_model.model_id, v_version, v_blob_id, v_put_at,
        p_record ->> 'artifact_name', p_record ->> 'media_type'
    );
end;
$fn$;
comment on function ai_storage_private.import_artifact(bigint, jsonb) is
    'Restores one artifact, of a content whose chunks are there. Raises 22023, 23505, TN101.';

create or replace function ai_storage.import_tenant(p_records jsonb, p_as text default null)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_record jsonb;
    v_count  bigint := 0::bigint;
    v_hint   text;
begin
    if jsonb_typeof(p_records) is distinct from 'array' then
        raise exception using
            errcode = '22023',
            message = 'invalid records',
            hint = 'Pass an array of the lines of export_tenant().';
    end if;
    for v_record in
        select e.value from jsonb_array_elements(p_records) as e
    loop
        case v_record ->> 'kind'
            when 'version' then
                perform ai_storage_private.import_version(v_tenant.tenant_id, v_record);
            when 'deleted model' then
                perform ai_storage_private.import_deletion(v_tenant.tenant_id, v_record);
            when 'idempotency key' then
                perform ai_storage_private.import_key(v_tenant.tenant_id, v_record);
            when 'chunk' then
                perform ai_storage_private.import_chunk(v_tenant.tenant_id, v_record);
            when 'artifact' then
                perform ai_storage_private.import_artifact(v_tenant.tenant_id, v_record);
            when 'manifest', 'share', 'decline' then
                continue; -- whom to share with is decided where the models are now
            else
                raise exception using
                    errcode = '22023',
                    message = 'unknown kind of record',
                    hint = 'Pass the lines of export_tenant() as they are.';
        end case;
        v_count := v_count + 1;
    end loop;
    perform ai_storage_private.record_event(
        v_tenant.tenant_id, 'import tenant', p_detail => jsonb_build_object('records', v_count)
    );
    return v_count;
exception
    when data_exception or not_null_violation or check_violation then
        get stacked diagnostics v_hint = pg_exception_hint;
        if v_hint <> '' then
            raise; -- one of ours
        end if;
        raise exception using
            errcode = '22023',
            message = 'invalid record',
            hint = 'Pass the lines of export_tenant() as they are.';
end;
$fn$;
comment on function ai_storage.import_tenant(jsonb, text) is
    'Restores lines of export_tenant(), all or nothing, into the caller''s tenant: models with '
    'their versions, artifacts, times and numbers, remembered deletions and idempotency keys, not '
    'the grants, and not who had saved a version: all are the caller''s. Long exports go in '
    'several calls, in their order. Each version is an event. Returns how many lines. Raises '
    '22023, 23505, TN001 to TN005.';

-- Triggers ----------------------------------------------------------------------------------------

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.retention_rule
    for each row
    execute function ai_storage_private.record_change(
        'retention rule',
        'org_id,server_id,project_id,environment,code_hash,keep_versions,keep_versions_for,'
        'keep_events_for,legal_hold'
    );
comment on trigger record_change on ai_storage_private.retention_rule is
    'One event per change.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.retention_rule
    execute function ai_storage_private.record_change('retention_rule', '');
comment on trigger record_truncate on ai_storage_private.retention_rule is
    'One event per TRUNCATE.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.erasure_certificate
    for each row
    execute function ai_storage_private.record_change('erasure certificate', 'certificate_id');
comment on trigger record_change on ai_storage_private.erasure_certificate is
    'One event per change.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.erasure_certificate
    execute function ai_storage_private.record_change('erasure_certificate', '');
comment on trigger record_truncate on ai_storage_private.erasure_certificate is
    'One event per TRUNCATE.';

alter table ai_storage_private.retention_rule enable always trigger record_change;
alter table ai_storage_private.retention_rule enable always trigger record_truncate;
alter table ai_storage_private.erasure_certificate enable always trigger record_change;
alter table ai_storage_private.erasure_certificate enable always trigger record_truncate;

create or replace function ai_storage_private.keep_held()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.pass_gate(old.tenant_id);
    return null;
end;
$fn$;
comment on function ai_storage_private.keep_held() is
    'Refuses at commit what took data that a legal hold keeps, whichever function did it. Raises '
    'TN501.';

-- Deferred, so that a hold waits for nobody's open transaction. CREATE OR REPLACE knows no
-- constraint triggers.
drop trigger if exists keep_held on ai_storage_private.progress_version;
create constraint trigger keep_held
    after delete on ai_storage_private.progress_version
    deferrable initially deferred
    for each row
    execute function ai_storage_private.keep_held();
comment on trigger keep_held on ai_storage_private.progress_version is
    'A version that a hold keeps is not deleted.';
drop trigger if exists keep_held on ai_storage_private.model_artifact;
create constraint trigger keep_held
    after delete on ai_storage_private.model_artifact
    deferrable initially deferred
    for each row
    execute function ai_storage_private.keep_held();
comment on trigger keep_held on ai_storage_private.model_artifact is
    'An artifact that a hold keeps is not deleted.';
drop trigger if exists keep_replaced on ai_storage_private.model_artifact;
create constraint trigger keep_replaced
    after update on ai_storage_private.model_artifact
    deferrable initially deferred
    for each row
    when (old.blob_id <> new.blob_id or old.media_type <> new.media_type)
    execute function ai_storage_private.keep_held();
comment on trigger keep_replaced on ai_storage_private.model_artifact is
    'An artifact that a hold keeps is not replaced.';

drop trigger if exists keep_held on ai_storage_private.artifact_upload;
create constraint trigger keep_held
    after delete on ai_storage_private.artifact_upload
    deferrable initially deferred
    for each row
    when (old.received_bytes > 0)
    execute function ai_storage_private.keep_held();
comment on trigger keep_held on ai_storage_private.artifact_upload is
    'Bytes that a hold keeps are not deleted; those that became a content are no longer counted.';

alter table ai_storage_private.progress_version enable always trigger keep_held;
alter table ai_storage_private.artifact_upload enable always trigger keep_held;
alter table ai_storage_private.model_artifact enable always trigger keep_held;
alter table ai_storage_private.model_artifact enable always trigger keep_replaced;

-- Policies ----------------------------------------------------------------------------------------

drop policy if exists operator_passes_the_gate on ai_storage_private.retention_gate;
create policy operator_passes_the_gate on ai_storage_private.retention_gate
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_passes_the_gate on ai_storage_private.retention_gate is
    'The gate is one for all; it holds nothing of anybody.';

drop policy if exists operator_keeps_rules on ai_storage_private.retention_rule;
create policy operator_keeps_rules on ai_storage_private.retention_rule
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_rules on ai_storage_private.retention_rule is
    'Rules cover many tenants; administrators set and drop them, tenants do not see them.';

drop policy if exists operator_keeps_certificates on ai_storage_private.erasure_certificate;
create policy operator_keeps_certificates on ai_storage_private.erasure_certificate
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_certificates on ai_storage_private.erasure_certificate is
    'A certificate names all tenants of an erasure; erase_tenant() writes it, nothing changes it.';
