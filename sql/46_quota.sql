-- How much the tenants of an organisation may keep: models, and bytes of artifacts and uploads.
--
-- A quota limits the total of the tenants that its pattern covers, in each organisation: * as level
-- 1 stands for each organisation by itself, and gives way to a quota that names the organisation
-- and is otherwise the same. Each quota that covers a tenant counts. quota_use has the totals, one
-- row an organisation and pattern, for the quotas that there are. Triggers on the tables count,
-- whichever function writes. They lock the row until the commit, so no total passes its quota; a
-- save of an existing model adds nothing, and neither counts nor waits.
--
-- Tables: quota, quota_use (0006_retention). Errors: 22023, 25000, 55P03, TN601.

set local role ai_storage_owner;

comment on table ai_storage_private.quota is
    'How much the tenants of a pattern may keep in an organisation.';
comment on column ai_storage_private.quota.org_id is
    'Level 1 of the pattern, or *: each organisation by itself.';
comment on column ai_storage_private.quota.server_id is 'Level 2 of the pattern, or *.';
comment on column ai_storage_private.quota.project_id is 'Level 3 of the pattern, or *.';
comment on column ai_storage_private.quota.environment is 'Level 4 of the pattern, or *.';
comment on column ai_storage_private.quota.code_hash is 'Level 5 of the pattern, or *.';
comment on column ai_storage_private.quota.max_models is 'The most models; null: no limit.';
comment on column ai_storage_private.quota.max_bytes is
    'The most bytes of artifacts and uploads; null: no limit.';
comment on column ai_storage_private.quota.set_at is 'When the quota was set.';
comment on column ai_storage_private.quota.set_by is 'The login that set it.';

comment on table ai_storage_private.quota_use is
    'What an organisation''s tenants of a pattern keep, for the patterns of quotas. The row of no '
    'organisation is changed with each quota, so that an older snapshot is noticed.';
comment on column ai_storage_private.quota_use.org_id is 'The organisation.';
comment on column ai_storage_private.quota_use.server_id is 'Level 2 of the pattern, or *.';
comment on column ai_storage_private.quota_use.project_id is 'Level 3 of the pattern, or *.';
comment on column ai_storage_private.quota_use.environment is 'Level 4 of the pattern, or *.';
comment on column ai_storage_private.quota_use.code_hash is 'Level 5 of the pattern, or *.';
comment on column ai_storage_private.quota_use.models is 'How many models there are.';
comment on column ai_storage_private.quota_use.bytes is
    'How many bytes artifacts and uploads have; a content that a tenant has twice counts once.';

-- Counting ----------------------------------------------------------------------------------------

create or replace function ai_storage_private.measure_tenant(
    p_tenant_id bigint,
    out models  bigint,
    out bytes   bigint
)
returns record
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    select count(*) into models
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id;
    select coalesce(sum(length(c.content)), 0)::bigint into bytes
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id;
end;
$fn$;
comment on function ai_storage_private.measure_tenant(bigint) is
    'How much the tenant that the context names keeps.';

set local role ai_storage_operator;

create or replace function ai_storage_private.list_tenant_quotas(p_tenant_id bigint)
returns table (
    org_id      text,
    server_id   text,
    project_id  text,
    environment text,
    code_hash   text,
    max_models  bigint,
    max_bytes   bigint
)
language sql
stable
as $fn$
    select distinct on (q.server_id, q.project_id, q.environment, q.code_hash)
        t.org_id,
        q.server_id,
        q.project_id,
        q.environment,
        q.code_hash,
        q.max_models,
        q.max_bytes
    from ai_storage_private.tenant as t
    join ai_storage_private.quota as q
        on q.org_id in ('*', t.org_id)
        and q.server_id in ('*', t.server_id)
        and q.project_id in ('*', t.project_id)
        and q.environment in ('*', t.environment)
        and q.code_hash in ('*', t.code_hash)
    where t.tenant_id = p_tenant_id
    order by q.server_id, q.project_id, q.environment, q.code_hash, q.org_id = '*';
$fn$;
comment on function ai_storage_private.list_tenant_quotas(bigint) is
    'The quotas that count for a tenant, in the order in which everybody locks their totals.';

create or replace function ai_storage_private.count_use(
    p_tenant_id bigint,
    p_models    bigint,
    p_bytes     bigint
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set lock_timeout = '10s'
as $fn$
declare
    v_quota record;
    v_use   ai_storage_private.quota_use;
begin
    -- A snapshot from before a quota was set would not show it: refused with 40001.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform from ai_storage_private.quota_use as u
        where u.org_id = ''
        for share;
    end if;
    -- That it was read is a lock, too: set_quota() waits for whoever found none.
    if not exists (select from ai_storage_private.quota) then
        return;
    end if;
    for v_quota in
        select q.* from ai_storage_private.list_tenant_quotas(p_tenant_id) as q
    loop
        insert into ai_storage_private.quota_use as u (
            org_id, server_id, project_id, environment, code_hash, models, bytes
        )
        values (
            v_quota.org_id, v_quota.server_id, v_quota.project_id, v_quota.environment,
            v_quota.code_hash, greatest(p_models, 0), greatest(p_bytes, 0)
        )
        on conflict on constraint quota_use_pk do update set
            models = greatest(u.models + p_models, 0),
            bytes  = greatest(u.bytes + p_bytes, 0)
        returning u.* into v_use;
        if (p_models > 0 and v_use.models > v_quota.max_models)
            or (p_bytes > 0 and v_use.bytes > v_quota.max_bytes)
        then
            raise exception using
                errcode = 'TN601',
                message = 'the quota is used up',
                detail = case
                    when p_models > 0 then format('Models allowed: %s.', v_quota.max_models)
                    else format('Bytes of artifacts allowed: %s.', v_quota.max_bytes)
                end,
                hint = 'Delete what is no longer needed, or have an administrator raise the quota '
                    'with set_quota().';
        end if;
    end loop;
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = 'another transaction adds to the same quota',
            hint = 'Repeat the call. Whoever adds models or artifacts under a quota commits soon.';
end;
$fn$;
comment on function ai_storage_private.count_use(bigint, bigint, bigint) is
    'Adds to the totals of the quotas that count for a tenant, and holds them until the commit. '
    'Raises 55P03, TN601.';

-- Quotas ------------------------------------------------------------------------------------------

create or replace function ai_storage_private.lock_quotas()
returns void
language plpgsql
volatile
as $fn$
declare
    v_sessions text;
begin
    perform ai_storage_private.refuse_old_snapshot();
    begin
        lock table ai_storage_private.quota in access exclusive mode;
    exception
        when lock_not_available then
            select string_agg(distinct l.pid::text, ', ') into v_sessions
            from pg_locks as l
            where l.relation = 'ai_storage_private.quota'::regclass
              and l.database = (
                  select d.oid from pg_database as d where d.datname = current_database()
              )
              and l.granted;
            raise exception using
                errcode = '55P03',
                message = 'a transaction that adds models or artifacts is open',
                detail = format('Backends: %s.', coalesce(v_sessions, 'they are gone now')),
                hint = 'Nothing was changed. Try again, or end these sessions with '
                    'pg_terminate_backend().';
    end;
    update ai_storage_private.quota_use as u set
        models = u.models
    where u.org_id = '';
end;
$fn$;
comment on function ai_storage_private.lock_quotas() is
    'Lets nobody count before this transaction ends. Raises 25000, 55P03.';

create or replace function ai_storage.set_quota(
    p_pattern    text,
    p_max_models bigint default null,
    p_max_bytes  bigint default null
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
    v_context constant text := ai_storage_private.trusted_context();
    v_level   constant text[] := ai_storage_private.check_pattern(p_pattern);
    v_tenant  record;
    v_use     record;
begin
    if p_max_models < 0 or p_max_bytes < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid quota',
            hint = 'A quota is a number of models and one of bytes, each 0 or more; null is no '
                'limit.';
    end if;
    perform ai_storage_private.lock_quotas();
    insert into ai_storage_private.quota (
        org_id, server_id, project_id, environment, code_hash, max_models, max_bytes
    )
    values (
        v_level[1], v_level[2], v_level[3], v_level[4], v_level[5], p_max_models, p_max_bytes
    )
    on conflict on constraint quota_pk do update set
        max_models = excluded.max_models,
        max_bytes  = excluded.max_bytes,
        set_at     = excluded.set_at,
        set_by     = excluded.set_by;
    -- Counted anew: whoever had no quota of these levels was not counted.
    delete from ai_storage_private.quota_use as u
    where (u.server_id, u.project_id, u.environment, u.code_hash)
            = (v_level[2], v_level[3], v_level[4], v_level[5])
      and v_level[1] in ('*', u.org_id)
      and u.org_id <> '';
    for v_tenant in
        select c.tenant_id, c.isolation_key, split_part(c.isolation_key, ':', 1) as org_id
        from ai_storage_private.covered_tenants(p_pattern) as c
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        v_use := ai_storage_private.measure_tenant(v_tenant.tenant_id);
        insert into ai_storage_private.quota_use as u (
            org_id, server_id, project_id, environment, code_hash, models, bytes
        )
        values (
            v_tenant.org_id, v_level[2], v_level[3], v_level[4], v_level[5],
            v_use.models, v_use.bytes
        )
        on conflict on constraint quota_use_pk do update set
            models = u.models + excluded.models,
            bytes  = u.bytes + excluded.bytes;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.set_quota(text, bigint, bigint) is
    'Limits what the tenants of a pattern may keep in total, and replaces the quota that the same '
    'pattern had. Level 1 as * stands for each organisation by itself, unless it has a quota of '
    'its own with the same other levels. Each quota that covers a tenant counts. p_max_models: '
    'models. p_max_bytes: bytes of artifacts and uploads; states and their versions do not count. '
    'Null: no limit. What is there already stays. Beyond a quota, TN601 refuses new models and '
    'bytes. Raises 22023, 25000, and 55P03 after 5 s when a transaction that adds some is open.';

create or replace function ai_storage.drop_quota(p_pattern text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set lock_timeout = '5s'
as $fn$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
    v_found boolean;
begin
    perform ai_storage_private.lock_quotas();
    delete from ai_storage_private.quota as q
    where (q.org_id, q.server_id, q.project_id, q.environment, q.code_hash)
        = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5]);
    v_found := found;
    -- A total that nobody counts any more would be wrong.
    delete from ai_storage_private.quota_use as u
    where u.org_id <> ''
      and not exists (
          select from ai_storage_private.quota as q
          where (q.server_id, q.project_id, q.environment, q.code_hash)
                  = (u.server_id, u.project_id, u.environment, u.code_hash)
            and q.org_id in ('*', u.org_id)
      );
    return v_found;
end;
$fn$;
comment on function ai_storage.drop_quota(text) is
    'Removes the quota of exactly this pattern. Returns false when there is none. Raises 22023, '
    '25000, 55P03.';

create or replace function ai_storage.list_quotas()
returns table (
    pattern    text,
    max_models bigint,
    max_bytes  bigint,
    models     bigint,
    bytes      bigint,
    set_at     timestamptz,
    set_by     text
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
        concat_ws(':', q.org_id, q.server_id, q.project_id, q.environment, q.code_hash),
        q.max_models,
        q.max_bytes,
        coalesce(max(u.models), 0),
        coalesce(max(u.bytes), 0),
        q.set_at,
        q.set_by::text
    from ai_storage_private.quota as q
    left join ai_storage_private.quota_use as u
        on (u.server_id, u.project_id, u.environment, u.code_hash)
            = (q.server_id, q.project_id, q.environment, q.code_hash)
        and q.org_id in ('*', u.org_id)
    group by q.org_id, q.server_id, q.project_id, q.environment, q.code_hash
    order by 1;
end;
$fn$;
comment on function ai_storage.list_quotas() is
    'The quotas, one row a pattern. models and bytes: what its tenants keep; for a pattern of all '
    'organisations, in the one that keeps most.';

-- Triggers ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

create or replace function ai_storage_private.count_models()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.count_use(
        c.tenant_id, case when tg_op = 'INSERT' then c.models else -c.models end, 0
    )
    from (
        select m.tenant_id, count(*) as models
        from model as m
        group by m.tenant_id
        order by m.tenant_id
    ) as c;
    return null;
end;
$fn$;
comment on function ai_storage_private.count_models() is
    'Counts models that come or go for the quotas. Raises 55P03, TN601.';

create or replace function ai_storage_private.count_bytes()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if tg_op = 'INSERT' then
        perform ai_storage_private.count_use(new.tenant_id, 0, length(new.content));
    else
        perform ai_storage_private.count_use(old.tenant_id, 0, -length(old.content));
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.count_bytes() is
    'Counts bytes that come or go for the quotas. Raises 55P03, TN601.';

create or replace trigger count_new_models
    after insert on ai_storage_private.ai_progress_tenant
    referencing new table as model
    for each statement
    execute function ai_storage_private.count_models();
comment on trigger count_new_models on ai_storage_private.ai_progress_tenant is
    'New models count for the quotas; a new version of one does not.';
create or replace trigger count_deleted_models
    after delete on ai_storage_private.ai_progress_tenant
    referencing old table as model
    for each statement
    execute function ai_storage_private.count_models();
comment on trigger count_deleted_models on ai_storage_private.ai_progress_tenant is
    'Deleted models count for the quotas no longer.';
create or replace trigger count_bytes
    after insert or delete on ai_storage_private.artifact_chunk
    for each row
    execute function ai_storage_private.count_bytes();
comment on trigger count_bytes on ai_storage_private.artifact_chunk is
    'Bytes of artifacts and uploads count for the quotas.';

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.quota
    for each row
    execute function ai_storage_private.record_change(
        'quota', 'org_id,server_id,project_id,environment,code_hash,max_models,max_bytes'
    );
comment on trigger record_change on ai_storage_private.quota is 'One event per change.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.quota
    execute function ai_storage_private.record_change('quota', '');
comment on trigger record_truncate on ai_storage_private.quota is 'One event per TRUNCATE.';

alter table ai_storage_private.ai_progress_tenant enable always trigger count_new_models;
alter table ai_storage_private.ai_progress_tenant enable always trigger count_deleted_models;
alter table ai_storage_private.artifact_chunk enable always trigger count_bytes;
alter table ai_storage_private.quota enable always trigger record_change;
alter table ai_storage_private.quota enable always trigger record_truncate;

-- Policies ----------------------------------------------------------------------------------------

drop policy if exists operator_keeps_quotas on ai_storage_private.quota;
create policy operator_keeps_quotas on ai_storage_private.quota
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_quotas on ai_storage_private.quota is
    'Quotas cover many tenants; administrators set and drop them, tenants do not see them.';

drop policy if exists operator_counts_use on ai_storage_private.quota_use;
create policy operator_counts_use on ai_storage_private.quota_use
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_counts_use on ai_storage_private.quota_use is
    'A total is of many tenants, none of whom sees it.';
