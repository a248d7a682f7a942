-- One model for another tenant, on purpose, and back at once.
--
-- A grant names one model (by id: a later model of the same name is another), a target pattern,
-- permissions, and maybe a version and an end. Whoever holds the permission share may pass on what
-- it holds; such a grant lists its ancestors. What a grant is worth is decided when it is used, by
-- worth(): no more than each of its ancestors, and nothing when one of them is gone. So nobody has
-- to wait for anybody, and no race can leave more than was given. Ended grants are deleted.
--
-- A receiver finds its grants by its own 32 patterns: each level as it is, or *. To read what was
-- granted, a function lends the models to itself: the context then names exactly these models, and
-- the policies of ai_storage_sharing show nothing else of any tenant.
--
-- Tables: model_share, external_sharing_permit (0003_sharing). Errors: 22023, TN101, TN301 to
-- TN304.

set local role ai_storage_owner;

comment on table ai_storage_private.model_share is
    'Grants: who may reach which model of another tenant. A grant that ends is deleted.';
comment on column ai_storage_private.model_share.tenant_id is 'The tenant that owns the model.';
comment on column ai_storage_private.model_share.share_id is 'Random id of the grant.';
comment on column ai_storage_private.model_share.model_id is 'The model.';
comment on column ai_storage_private.model_share.sharer_id is
    'The tenant that gave the grant: the owner, or one that passed the model on.';
comment on column ai_storage_private.model_share.pinned_version is
    'The only version the receiver sees, or null for the current one and all before it.';
comment on column ai_storage_private.model_share.created_at is 'When the grant was given.';
comment on column ai_storage_private.model_share.expires_at is 'When it ends by itself, or null.';
comment on column ai_storage_private.model_share.model_name is
    'Name of the model; names never change.';
comment on column ai_storage_private.model_share.owner_key is 'Isolation key of the owner.';
comment on column ai_storage_private.model_share.sharer_key is 'Isolation key of the sharer.';
comment on column ai_storage_private.model_share.target is
    'Who may reach the model: five levels joined by colons, each a value or *.';
comment on column ai_storage_private.model_share.permissions is
    'read: progress and history; execute: artifacts; write: save versions; share: pass it on.';
comment on column ai_storage_private.model_share.ancestors is
    'The grants this one derives from, the owner''s first; it ends with any of them.';
comment on column ai_storage_private.model_share.sharer_ids is
    'The tenants that may end this grant: the owner and each that passed the model on.';

comment on table ai_storage_private.external_sharing_permit is
    'Organisations that may share models with other organisations.';
comment on column ai_storage_private.external_sharing_permit.org_id is 'The organisation.';
comment on column ai_storage_private.external_sharing_permit.permitted_at is 'Since when.';
comment on column ai_storage_private.external_sharing_permit.permitted_by is
    'The login that permitted it.';

-- Targets and permissions -------------------------------------------------------------------------

create or replace function ai_storage_private.target_patterns(p_level text[])
returns text[]
language plpgsql
immutable
as $fn$
begin
    return array(
        select o || ':' || s || ':' || p || ':' || e || ':' || c
        from unnest(array[p_level[1], '*']) as o,
             unnest(array[p_level[2], '*']) as s,
             unnest(array[p_level[3], '*']) as p,
             unnest(array[p_level[4], '*']) as e,
             unnest(array[p_level[5], '*']) as c
    );
end;
$fn$;
comment on function ai_storage_private.target_patterns(text[]) is
    'The 32 targets that cover a tenant: each of its levels as it is, or *.';

create or replace function ai_storage_private.render_target(p_target jsonb, p_level text[])
returns text
language plpgsql
immutable
as $fn$
declare
    v_alias  constant jsonb := '{
        "orgId": "org_id", "serverId": "server_id", "projectId": "project_id",
        "environment": "environment", "codeHash": "code_hash"
    }'::jsonb;
    v_names  constant text[] := '{org_id,server_id,project_id,environment,code_hash}'::text[];
    v_levels text[] := p_level;
    v_seen   text[] := '{}'::text[];
    v_entry  record;
    v_name   text;
begin
    if jsonb_typeof(p_target) is distinct from 'object' then
        raise exception using
            errcode = 'TN301',
            message = 'invalid target',
            hint = 'A target is an object with any of org_id, server_id, project_id, environment, '
                'code_hash; each is a value or *.';
    end if;
    for v_entry in select e.key, e.value from jsonb_each(p_target) as e loop
        v_name := coalesce(v_alias ->> v_entry.key, v_entry.key);
        if v_name <> all (v_names)
            or v_name = any (v_seen)
            or jsonb_typeof(v_entry.value) <> 'string'
        then
            raise exception using
                errcode = 'TN301',
                message = 'invalid target',
                hint = 'A target is an object with any of org_id, server_id, project_id, '
                    'environment, code_hash, each once; each is a value or *.';
        end if;
        v_seen := v_seen || v_name;
        v_levels[array_position(v_names, v_name)] := v_entry.value #>> '{}';
    end loop;
    if not ai_storage_private.is_tenant_pattern(array_to_string(v_levels, ':')) then
        raise exception using
            errcode = 'TN301',
            message = 'invalid target',
            hint = 'Each level is *, or has 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -';
    end if;
    return array_to_string(v_levels, ':');
end;
$fn$;
comment on function ai_storage_private.render_target(jsonb, text[]) is
    'Renders a target as a pattern. A level it does not name is the sharer''s own. Raises TN301.';

create or replace function ai_storage_private.check_permission(p_permission text)
returns void
language plpgsql
immutable
as $fn$
begin
    if p_permission is null or p_permission not in ('read', 'execute', 'write', 'share') then
        raise exception using
            errcode = '22023',
            message = 'invalid permission',
            hint = 'A permission is read, execute, write or share.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_permission(text) is
    'Refuses what is not a permission. Raises 22023.';

-- Worth -------------------------------------------------------------------------------------------

set local role ai_storage_sharing;

create or replace function ai_storage_private.worth(p_share ai_storage_private.model_share)
returns ai_storage_private.model_share
language plpgsql
stable
as $fn$
declare
    v_share    ai_storage_private.model_share := p_share;
    v_ancestor ai_storage_private.model_share;
    v_count    integer := 0;
begin
    -- Outside its giver's organisation a grant is worth something only while that is permitted.
    if p_share.expires_at <= clock_timestamp()
        or (
            split_part(p_share.target, ':', 1) <> split_part(p_share.sharer_key, ':', 1)
            and not ai_storage_private.may_share_outside(split_part(p_share.sharer_key, ':', 1))
        )
    then
        return null;
    end if;
    if p_share.ancestors = '{}' then
        return p_share;
    end if;

    for v_ancestor in
        select s.*
        from ai_storage_private.model_share as s
        where s.share_id = any (p_share.ancestors)
    loop
        if not v_ancestor.ancestors <@ p_share.ancestors then
            return null; -- given anew since, from another line
        end if;
        v_ancestor.ancestors := '{}'; -- the others are in this loop
        v_ancestor := ai_storage_private.worth(v_ancestor);
        if v_ancestor.share_id is null
            or not v_ancestor.permissions @> '{share}'
            or v_share.pinned_version <> v_ancestor.pinned_version
        then
            return null;
        end if;
        v_count := v_count + 1;
        v_share.pinned_version := coalesce(v_share.pinned_version, v_ancestor.pinned_version);
        v_share.expires_at := least(v_share.expires_at, v_ancestor.expires_at);
        v_share.permissions := array(
            select p.permission
            from unnest(v_share.permissions) as p (permission)
            where p.permission = any (v_ancestor.permissions)
              and not (p.permission = 'write' and v_share.pinned_version is not null)
            order by p.permission
        );
    end loop;
    if v_count < cardinality(p_share.ancestors) or v_share.permissions = '{}' then
        return null;
    end if;
    return v_share;
end;
$fn$;
comment on function ai_storage_private.worth(ai_storage_private.model_share) is
    'A grant as it counts now: with the permissions, version and end that it and all its ancestors '
    'give, or null when it, an ancestor or the permit to share outside is gone or over.';

set local role ai_storage_owner;

-- Giving ------------------------------------------------------------------------------------------

create or replace function ai_storage.share_model(
    p_model_name  text,
    p_targets     jsonb,
    p_permissions text[]      default '{read}',
    p_expires_at  timestamptz default null,
    p_version     bigint      default null,
    p_owner       text        default null,
    p_as          text        default null
)
returns table (share_id uuid, target text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant      constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_targets     constant text[] := ai_storage_private.check_targets(p_targets, v_tenant.levels);
    v_permissions text[];
    v_held        ai_storage_private.model_share;
begin
    perform ai_storage_private.check_permission(p.permission)
    from unnest(p_permissions) as p (permission);
    v_permissions := array(
        select distinct p.permission
        from unnest(p_permissions) as p (permission)
        order by p.permission
    );
    if v_permissions = '{}' then
        raise exception using
            errcode = '22023',
            message = 'no permission to share',
            hint = 'Name at least one of read, execute, write and share.';
    end if;
    if p_version is not null and v_permissions @> '{write}' then
        raise exception using
            errcode = '22023',
            message = 'a pinned version cannot be written',
            hint = 'Share one version without write, or the model without a version.';
    end if;
    if p_expires_at <= clock_timestamp() or p_expires_at >= '10000-01-01 00:00:00+00' then
        raise exception using
            errcode = '22023',
            message = 'invalid end of a share',
            hint = 'p_expires_at lies in the future and before the year 10000, or is null for no '
                'end.';
    end if;
    if v_targets && array[v_tenant.isolation_key, p_owner] then
        raise exception using
            errcode = 'TN301',
            message = 'a model is not shared with its owner or its sharer',
            hint = 'Name another tenant, or a wider target with *.';
    end if;
    if exists (
        select from unnest(v_targets) as t (target)
        where split_part(t.target, ':', 1) <> v_tenant.levels[1]
    ) and not ai_storage_private.may_share_outside(v_tenant.levels[1]) then
        raise exception using
            errcode = 'TN302',
            message = 'this organisation may not share outside',
            hint = 'An administrator allows it: select ai_storage.allow_external_sharing(org_id). '
                'Within the organisation, leave org_id out.';
    end if;

    if coalesce(p_owner, v_tenant.isolation_key) = v_tenant.isolation_key then
        v_held := ai_storage_private.hold_own(
            v_tenant, p_model_name collate "C", p_version
        );
    else
        v_held := ai_storage_private.hold_grant(
            v_tenant, p_owner collate "C", p_model_name collate "C",
            v_permissions, p_expires_at, p_version
        );
    end if;
    return query
    select ai_storage_private.write_share(
        v_held, v_tenant, t.target, v_permissions,
        coalesce(p_expires_at, v_held.expires_at), coalesce(p_version, v_held.pinned_version)
    ), t.target
    from unnest(v_targets) with ordinality as t (target, place)
    order by t.place;
end;
$fn$;
comment on function ai_storage.share_model(
    text, jsonb, text[], timestamptz, bigint, text, text
) is
    'Lets other tenants reach one model. p_targets: an array of objects with any of org_id, '
    'server_id, project_id, environment, code_hash (or orgId ...); a level left out is the '
    'sharer''s own, * is any. p_permissions: read, execute, write, share. p_expires_at: null for '
    'no end. p_version: the only version to be seen. p_owner: the owner''s isolation key, to pass '
    'on a model that was shared with the permission share, never wider or longer than it is held. '
    'Sharing again with the same target replaces what was given. Returns one row per target. '
    'Raises 22023, TN001 to TN005, TN101, TN301 to TN304.';

create or replace function ai_storage_private.check_targets(p_targets jsonb, p_level text[])
returns text[]
language plpgsql
immutable
as $fn$
declare
    v_targets text[];
begin
    if p_targets is null or jsonb_typeof(p_targets) <> 'array' or p_targets = '[]' then
        raise exception using
            errcode = 'TN301',
            message = 'no targets',
            hint = 'Targets are an array of at least one object, such as [{"server_id": "mcp-2"}].';
    end if;
    v_targets := array(
        select ai_storage_private.render_target(t.value, p_level)
        from jsonb_array_elements(p_targets) with ordinality as t (value, place)
        order by t.place
    );
    if cardinality(v_targets) > (select count(distinct t) from unnest(v_targets) as t) then
        raise exception using
            errcode = 'TN301',
            message = 'a target is named twice',
            hint = 'Name each target once. A level left out is your own.';
    end if;
    return v_targets;
end;
$fn$;
comment on function ai_storage_private.check_targets(jsonb, text[]) is
    'Renders an array of targets as patterns, in its order. Raises TN301.';

create or replace function ai_storage_private.hold_own(
    p_tenant     ai_storage_private.acting_tenant,
    p_model_name text,
    p_version    bigint
)
returns ai_storage_private.model_share
language plpgsql
volatile
as $fn$
declare
    v_held ai_storage_private.model_share;
begin
    -- The lock keeps the model from being deleted until the grant is committed.
    select p.model_id into v_held.model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant.tenant_id
      and p.model_name = p_model_name
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
    perform ai_storage_private.check_version(p_tenant.tenant_id, v_held.model_id, p_version);
    -- Until the grant is there, nobody sweeps the version.
    perform from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant.tenant_id
      and v.model_id = v_held.model_id
      and v.version = p_version
    for key share;

    v_held.tenant_id := p_tenant.tenant_id;
    v_held.model_name := p_model_name;
    v_held.owner_key := p_tenant.isolation_key;
    v_held.ancestors := '{}';
    v_held.sharer_ids := '{}';
    return v_held;
end;
$fn$;
comment on function ai_storage_private.hold_own(
    ai_storage_private.acting_tenant, text, bigint
) is
    'What a tenant holds of its own model: everything. Locks the model. Raises TN101, TN304.';

create or replace function ai_storage_private.check_version(
    p_tenant_id bigint,
    p_model_id  uuid,
    p_version   bigint
)
returns void
language plpgsql
stable
as $fn$
begin
    if p_version is not null and not exists (
        select from ai_storage_private.progress_version as v
        where v.tenant_id = p_tenant_id
          and v.model_id = p_model_id
          and v.version = p_version
    ) then
        raise exception using
            errcode = 'TN304',
            message = 'no such version',
            hint = 'load_history lists the versions of the model.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_version(bigint, uuid, bigint) is
    'Refuses a version that the model does not have; null is fine. Raises TN304.';

set local role ai_storage_sharing;

create or replace function ai_storage_private.hold_grant(
    p_tenant      ai_storage_private.acting_tenant,
    p_owner       text,
    p_model_name  text,
    p_permissions text[],
    p_expires_at  timestamptz,
    p_version     bigint
)
returns ai_storage_private.model_share
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_patterns constant text[] := ai_storage_private.target_patterns(p_tenant.levels);
    v_held     ai_storage_private.model_share;
begin
    -- Of several grants, one has to cover all that is passed on. A grant that I gave myself, or
    -- that derives from it, is not one I hold. Nothing is locked: were the grant ended now, what
    -- derives from it would be worth nothing.
    select w.* into v_held
    from ai_storage_private.model_share as s
    cross join lateral ai_storage_private.worth(s) as w
    where s.target = any (v_patterns)
      and s.model_name = p_model_name
      and s.owner_key = p_owner
      and p_tenant.tenant_id <> all (s.sharer_ids)
      and w.permissions @> (p_permissions || '{share}'::text[])
      and (w.expires_at is null or p_expires_at is null or p_expires_at <= w.expires_at)
      and (w.pinned_version is null or p_version is null or p_version = w.pinned_version)
    order by w.expires_at desc nulls first, w.pinned_version desc nulls first, w.share_id
    limit 1;
    if found then
        perform ai_storage_private.lend(array[v_held.tenant_id], array[v_held.model_id]);
        perform ai_storage_private.check_version(v_held.tenant_id, v_held.model_id, p_version);
        perform ai_storage_private.restore_context(v_context);
        return v_held;
    end if;

    if ai_storage_private.has_grant(p_tenant, p_owner, p_model_name, null) then
        raise exception using
            errcode = 'TN303',
            message = 'more than you hold',
            hint = 'Pass on only permissions, versions and a time that one grant with share gives '
                'you; see list_received_shares.';
    end if;
    raise exception using
        errcode = 'TN101',
        message = 'no such model',
        hint = 'Check the name and the owner; a model of another tenant has to be shared with you.';
end;
$fn$;
comment on function ai_storage_private.hold_grant(
    ai_storage_private.acting_tenant, text, text, text[], timestamptz, bigint
) is
    'The received grant that covers what is to be passed on. Raises TN101, TN303, TN304.';

create or replace function ai_storage_private.write_share(
    p_held        ai_storage_private.model_share,
    p_sharer      ai_storage_private.acting_tenant,
    p_target      text,
    p_permissions text[],
    p_expires_at  timestamptz,
    p_version     bigint
)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_now       constant timestamptz := clock_timestamp();
    v_new_id    constant uuid := gen_random_uuid();
    v_ancestors constant uuid[] := array_remove(p_held.ancestors || p_held.share_id, null);
    v_sharers   constant bigint[] := p_held.sharer_ids || p_sharer.tenant_id;
    v_share_id  uuid;
    v_line      uuid[];
    v_ended     uuid[];
begin
    insert into ai_storage_private.model_share as s (
        tenant_id, share_id, model_id, sharer_id, pinned_version, created_at, expires_at,
        model_name, owner_key, sharer_key, target, permissions, ancestors, sharer_ids
    )
    values (
        p_held.tenant_id, v_new_id, p_held.model_id, p_sharer.tenant_id,
        p_version, v_now, p_expires_at, p_held.model_name, p_held.owner_key,
        p_sharer.isolation_key, p_target, p_permissions, v_ancestors, v_sharers
    )
    on conflict on constraint model_share_once_unique do update set
        pinned_version = excluded.pinned_version,
        created_at     = excluded.created_at,
        expires_at     = excluded.expires_at,
        permissions    = excluded.permissions,
        ancestors      = excluded.ancestors,
        sharer_ids     = excluded.sharer_ids
    returning s.share_id into v_share_id;

    if v_share_id <> v_new_id then
        -- It replaced an earlier grant: what was passed on beyond the new one ends.
        v_line := v_ancestors || v_share_id;
        v_ended := array(
            select s.share_id
            from ai_storage_private.model_share as s
            where s.tenant_id = p_held.tenant_id
              and s.model_id = p_held.model_id
              and s.ancestors @> array[v_share_id]
              and (
                  s.ancestors[1:cardinality(v_line)] <> v_line
                  or not p_permissions @> (s.permissions || '{share}'::text[])
                  or coalesce(s.expires_at, 'infinity') > coalesce(p_expires_at, 'infinity')
                  or (p_version is not null and s.pinned_version is distinct from p_version)
              )
        );
        if v_ended <> '{}' then
            perform ai_storage_private.end_shares(p_held.tenant_id, p_held.model_id, v_ended);
        end if;
    end if;
    return v_share_id;
end;
$fn$;
comment on function ai_storage_private.write_share(
    ai_storage_private.model_share, ai_storage_private.acting_tenant,
    text, text[], timestamptz, bigint
) is
    'Writes one grant, or replaces the one that the same sharer gave to the same target, and ends '
    'what was passed on beyond it. Returns its id.';

create or replace function ai_storage_private.end_shares(
    p_tenant_id bigint,
    p_model_id  uuid,
    p_share_ids uuid[]
)
returns integer
language plpgsql
volatile
as $fn$
declare
    v_tidied uuid[];
begin
    -- Tidying, not ending: without its ancestor a grant is worth nothing. So whoever holds a row in
    -- an open transaction keeps that row and nobody waiting.
    v_tidied := array(
        select s.share_id
        from ai_storage_private.model_share as s
        where s.tenant_id = p_tenant_id
          and s.model_id = p_model_id
          and (s.share_id = any (p_share_ids) or s.ancestors && p_share_ids)
        for update skip locked
    );
    delete from ai_storage_private.model_share as s
    where s.share_id = any (v_tidied);
    return cardinality(v_tidied);
end;
$fn$;
comment on function ai_storage_private.end_shares(bigint, uuid, uuid[]) is
    'Deletes grants on one model and all that derive from them, except rows that another '
    'transaction '
    'holds. Returns how many';

-- Taking back -------------------------------------------------------------------------------------

create or replace function ai_storage.revoke_share(p_share_id uuid, p_as text default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_share  ai_storage_private.model_share;
begin
    delete from ai_storage_private.model_share as s
    where s.share_id = p_share_id
      and s.sharer_ids @> array[v_tenant.tenant_id]
    returning s.* into v_share;
    if not found then
        return false;
    end if;
    perform ai_storage_private.end_shares(v_share.tenant_id, v_share.model_id, array[p_share_id]);
    return true;
end;
$fn$;
comment on function ai_storage.revoke_share(uuid, text) is
    'Ends one grant that the caller gave, or that derives from one it gave, and all that derive '
    'from it. Holds from the next statement on. Returns false when there is no such grant. Raises '
    'TN001 to TN005.';

create or replace function ai_storage.unshare_model(
    p_model_name text,
    p_targets    jsonb default null,
    p_owner      text  default null,
    p_as         text  default null
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant  constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_targets text[];
    v_share   record;
    v_count   integer := 0;
begin
    if p_targets is not null then
        v_targets := ai_storage_private.check_targets(p_targets, v_tenant.levels);
    end if;
    for v_share in
        delete from ai_storage_private.model_share as s
        where s.sharer_ids @> array[v_tenant.tenant_id]
          and s.sharer_id = v_tenant.tenant_id
          and s.model_name = p_model_name collate "C"
          and s.owner_key = coalesce(p_owner, v_tenant.isolation_key) collate "C"
          and (v_targets is null or s.target = any (v_targets))
        returning s.tenant_id, s.model_id, s.share_id
    loop
        v_count := v_count + 1 + ai_storage_private.end_shares(
            v_share.tenant_id, v_share.model_id, array[v_share.share_id]
        );
    end loop;
    return v_count;
end;
$fn$;
comment on function ai_storage.unshare_model(text, jsonb, text, text) is
    'Ends what the caller gave on one model: to the targets named as in share_model, or to all, '
    'with all that derives from it. p_owner: the owner of a model that was passed on. Returns how '
    'many grants ended. Raises TN001 to TN005, TN301.';

-- Looking -----------------------------------------------------------------------------------------

create or replace function ai_storage.list_shares(
    p_model_name text default null,
    p_as         text default null
)
returns table (
    share_id    uuid,
    model_name  text,
    owner_key   text,
    shared_by   text,
    target      text,
    permissions text[],
    version     bigint,
    expires_at  timestamptz,
    created_at  timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    return query
    select
        s.share_id,
        s.model_name,
        s.owner_key,
        s.sharer_key,
        s.target,
        w.permissions,
        w.pinned_version,
        w.expires_at,
        s.created_at
    from ai_storage_private.model_share as s
    cross join lateral ai_storage_private.worth(s) as w
    where s.sharer_ids @> array[v_tenant.tenant_id]
      and (p_model_name is null or s.model_name = p_model_name collate "C")
      and w.share_id is not null
    order by s.model_name, s.owner_key, s.target, s.share_id;
end;
$fn$;
comment on function ai_storage.list_shares(text, text) is
    'The grants that the caller may end: those on its own models, whoever gave them, and those it '
    'passed on, with all that derive from them. version: the pinned one, or null. Raises TN001 to '
    'TN005.';

create or replace function ai_storage.list_received_shares(p_as text default null)
returns table (
    share_id    uuid,
    model_name  text,
    owner_key   text,
    shared_by   text,
    target      text,
    permissions text[],
    version     bigint,
    expires_at  timestamptz,
    created_at  timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_patterns constant text[] := ai_storage_private.target_patterns(v_tenant.levels);
begin
    return query
    select
        s.share_id,
        s.model_name,
        s.owner_key,
        s.sharer_key,
        s.target,
        w.permissions,
        w.pinned_version,
        w.expires_at,
        s.created_at
    from ai_storage_private.model_share as s
    cross join lateral ai_storage_private.worth(s) as w
    where s.target = any (v_patterns)
      and s.owner_key <> v_tenant.isolation_key
      and w.share_id is not null
    order by s.model_name, s.owner_key, s.target, s.share_id;
end;
$fn$;
comment on function ai_storage.list_received_shares(text) is
    'The grants that reach the caller. version: the only one to be seen, or null. Raises TN001 to '
    'TN005.';

create or replace function ai_storage_private.has_grant(
    p_tenant     ai_storage_private.acting_tenant,
    p_owner      text,
    p_model_name text,
    p_permission text
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_patterns constant text[] := ai_storage_private.target_patterns(p_tenant.levels);
begin
    return exists (
        select from ai_storage_private.model_share as s
        cross join lateral ai_storage_private.worth(s) as w
        where s.target = any (v_patterns)
          and s.model_name = p_model_name
          and s.owner_key = p_owner
          and w.share_id is not null
          and (p_permission is null or w.permissions @> array[p_permission])
    );
end;
$fn$;
comment on function ai_storage_private.has_grant(
    ai_storage_private.acting_tenant, text, text, text
) is
    'Whether a tenant was granted a permission, or with null anything, on a model of another.';

set local role ai_storage_owner;

create or replace function ai_storage.has_permission(
    p_owner      text,
    p_model_name text,
    p_permission text,
    p_as         text default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    perform ai_storage_private.check_permission(p_permission);
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return ai_storage_private.has_grant(
            v_tenant, p_owner collate "C", p_model_name collate "C", p_permission
        );
    end if;
    return exists (
        select from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
    );
end;
$fn$;
comment on function ai_storage.has_permission(text, text, text, text) is
    'Whether the caller may read, execute, write or share a model. p_owner: the owner''s isolation '
    'key, or null for the caller''s own models, which it may do everything with. False when there '
    'is no such model. Raises 22023, TN001 to TN005.';

-- Using what was granted --------------------------------------------------------------------------

set local role ai_storage_sharing;

create or replace function ai_storage_private.borrow(
    p_tenant     ai_storage_private.acting_tenant,
    p_owner      text,
    p_model_name text,
    p_permission text
)
returns ai_storage_private.model_share
language plpgsql
volatile
as $fn$
declare
    v_patterns constant text[] := ai_storage_private.target_patterns(p_tenant.levels);
    v_share    ai_storage_private.model_share;
begin
    -- An older snapshot would still find a grant that has ended since: good for reading what was,
    -- not for writing now.
    if p_permission = 'write'
        and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    then
        raise exception using
            errcode = '25000',
            message = 'a shared model is written under read committed only',
            hint = 'Begin the transaction with isolation level read committed.';
    end if;
    -- Of several grants, one without a pinned version shows the most.
    select w.* into v_share
    from ai_storage_private.model_share as s
    cross join lateral ai_storage_private.worth(s) as w
    where s.target = any (v_patterns)
      and s.model_name = p_model_name
      and s.owner_key = p_owner
      and w.permissions @> array[p_permission]
    order by w.pinned_version desc nulls first, w.share_id
    limit 1;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
    perform ai_storage_private.lend(array[v_share.tenant_id], array[v_share.model_id]);
    return v_share;
end;
$fn$;
comment on function ai_storage_private.borrow(
    ai_storage_private.acting_tenant, text, text, text
) is
    'Finds the grant for one use of one model and lends the model to this transaction; the caller '
    'puts the context back. Raises TN101.';

create or replace function ai_storage_private.may_receive(p_org_id text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    -- ';' is what follows ':' in the order of the index.
    return exists (
        select from ai_storage_private.model_share as s
        where s.target between p_org_id || ':' and p_org_id || ';'
    ) or exists (
        select from ai_storage_private.model_share as s
        where s.target between '*:' and '*;'
    );
end;
$fn$;
comment on function ai_storage_private.may_receive(text) is
    'Whether there is any grant to somebody in an organisation, or to any. Spares all others the '
    'search for their 32 patterns.';

create or replace function ai_storage_private.load_shared(
    p_tenant      ai_storage_private.acting_tenant,
    p_first       text,
    p_last        text,
    p_after_name  text,
    p_after_owner text,
    p_limit       integer
)
returns table (
    model_name       text,
    owner_key        text,
    is_shared        boolean,
    permissions      text[],
    mse              double precision,
    training_samples bigint,
    metrics          jsonb,
    metadata         jsonb,
    version          bigint,
    created_at       timestamptz,
    updated_at       timestamptz,
    cursor           text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
-- The queries are large and touch little: to plan them takes longer than to run them.
set plan_cache_mode = force_generic_plan
as $fn$
declare
    v_context    constant text := current_setting('app.tenant_context', true);
    v_patterns   constant text[] := ai_storage_private.target_patterns(p_tenant.levels);
    v_left       integer := p_limit;
    v_page       integer;
    v_rows       integer;
    v_name       text collate "C" := p_after_name;
    v_owner      text collate "C" := p_after_owner;
    v_model_ids  uuid[];
    v_tenant_ids bigint[];
    v_names      text[];
    v_owners     text[];
    v_count      bigint;
begin
    -- In pages, since a context names the models of one page, and naming all would cost the square.
    loop
        v_page := least(v_left, 100); -- a null limit is none
        -- Each pattern is read in the order of the index, no further than a page.
        select
            array_agg(page.tenant_id),
            array_agg(page.model_id),
            array_agg(page.model_name),
            array_agg(page.owner_key),
            count(*),
            (array_agg(page.model_name order by page.model_name desc, page.owner_key desc))[1],
            (array_agg(page.owner_key order by page.model_name desc, page.owner_key desc))[1]
        into v_tenant_ids, v_model_ids, v_names, v_owners, v_count, v_name, v_owner
        from (
            select distinct on (f.model_name, f.owner_key)
                f.model_name, f.owner_key, f.tenant_id, f.model_id
            from unnest(v_patterns) as t (pattern)
            cross join lateral (
                select distinct on (s.model_name, s.owner_key)
                    s.model_name, s.owner_key, s.tenant_id, s.model_id
                from ai_storage_private.model_share as s
                cross join lateral ai_storage_private.worth(s) as w
                where s.target = t.pattern
                  and s.model_name between p_first and p_last
                  and (s.model_name, s.owner_key) > (v_name, v_owner)
                  and s.owner_key <> p_tenant.isolation_key
                  and w.permissions @> '{read}'
                order by s.model_name, s.owner_key
                limit v_page
            ) as f
            order by f.model_name, f.owner_key
            limit v_page
        ) as page;
        exit when v_count = 0;

        perform ai_storage_private.lend(v_tenant_ids, v_model_ids);
        return query
        with granted as materialized (
            -- Several grants on one model add up; one that shows the current version wins over
            -- a pin.
            select
                s.tenant_id,
                s.model_id,
                min(s.owner_key) as owner_key,
                min(s.model_name) as model_name,
                array_agg(distinct e.permission order by e.permission) as permissions,
                case
                    when not bool_or(w.pinned_version is null and w.permissions @> '{read}')
                    then max(w.pinned_version) filter (where w.permissions @> '{read}')
                end as pinned_version
            from ai_storage_private.model_share as s
            cross join lateral ai_storage_private.worth(s) as w
            cross join unnest(w.permissions) as e (permission)
            where s.tenant_id = any (v_tenant_ids)
              and s.model_id = any (v_model_ids)
              and s.model_name = any (v_names)
              and s.target = any (v_patterns)
            group by s.tenant_id, s.model_id
            -- read may have ended since the page was made
            having bool_or(w.permissions @> '{read}')
        )
        select
            p.model_name,
            g.owner_key,
            true,
            g.permissions,
            case when g.pinned_version is null then p.mse else v.mse end,
            case
                when g.pinned_version is null then p.training_samples else v.training_samples
            end,
            case when g.pinned_version is null then p.metrics else v.metrics end,
            case when g.pinned_version is null then p.metadata else v.metadata end,
            coalesce(g.pinned_version, p.version),
            p.created_at,
            case when g.pinned_version is null then p.updated_at else v.saved_at end,
            g.owner_key || ' ' || p.model_name
        from granted as g
        join ai_storage_private.ai_progress_tenant as p
            on p.tenant_id = g.tenant_id
            and p.model_id = g.model_id
            -- By name too, or a plan may read all models of the owner to find the one.
            and p.model_name = g.model_name
        left join ai_storage_private.progress_version as v
            on v.tenant_id = g.tenant_id
            and v.model_id = g.model_id
            and v.version = g.pinned_version
        where p.tenant_id = any (v_tenant_ids)
          and (g.pinned_version is null or v.version is not null)
        order by p.model_name, g.owner_key;
        get diagnostics v_rows = row_count;
        perform ai_storage_private.restore_context(v_context);
        perform ai_storage_private.record_use(
            'read model', p_tenant, v_tenant_ids, v_owners, v_model_ids, null, v_names
        );

        v_left := v_left - v_rows;
        exit when v_left = 0 or v_count < v_page;
    end loop;
end;
$fn$;
comment on function ai_storage_private.load_shared(
    ai_storage_private.acting_tenant, text, text, text, text, integer
) is
    'The second half of load_progress: models shared with the caller, by name and owner, within a '
    'range of names and behind a cursor.';

create or replace function ai_storage_private.load_shared_history(
    p_tenant         ai_storage_private.acting_tenant,
    p_owner          text,
    p_model_name     text,
    p_before_version bigint,
    p_limit          integer
)
returns table (
    version          bigint,
    mse              double precision,
    training_samples bigint,
    metrics          jsonb,
    metadata         jsonb,
    saved_at         timestamptz,
    saved_by         text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := current_setting('app.tenant_context', true);
    v_share   constant ai_storage_private.model_share
        := ai_storage_private.borrow(p_tenant, p_owner, p_model_name, 'read');
begin
    return query
    select
        v.version,
        v.mse,
        v.training_samples,
        v.metrics,
        v.metadata,
        v.saved_at,
        -- Who else writes is between the owner and them.
        case when coalesce(v.saved_by, p_owner) in (p_owner, p_tenant.isolation_key)
            then coalesce(v.saved_by, p_owner)
        end
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_share.tenant_id
      and v.model_id = v_share.model_id
      and v.version = coalesce(v_share.pinned_version, v.version)
      and v.version < coalesce(p_before_version, 9223372036854775807)
    order by v.version desc
    limit p_limit;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read history', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_share.pinned_version], array[p_model_name]
    );
end;
$fn$;
comment on function ai_storage_private.load_shared_history(
    ai_storage_private.acting_tenant, text, text, bigint, integer
) is
    'load_history for a model of another tenant, which has to be shared for reading. Raises TN101.';

create or replace function ai_storage_private.write_shared(
    p_tenant           ai_storage_private.acting_tenant,
    p_owner            text,
    p_model_name       text,
    p_mse              double precision,
    p_training_samples bigint,
    p_metrics          jsonb,
    p_metadata         jsonb,
    p_expected_version bigint,
    out version        bigint,
    out created        boolean,
    out saved_at       timestamptz
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := current_setting('app.tenant_context', true);
    v_share   constant ai_storage_private.model_share
        := ai_storage_private.borrow(p_tenant, p_owner, p_model_name, 'write');
begin
    select w.version, w.created, w.saved_at
    into version, created, saved_at
    from ai_storage_private.write_progress(
        v_share.tenant_id, p_model_name, p_mse, p_training_samples, p_metrics, p_metadata,
        p_expected_version, p_tenant.isolation_key, v_share.model_id
    ) as w;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'write model', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[version], array[p_model_name]
    );

    -- We may have waited for the model longer than the grant lasted.
    if not ai_storage_private.has_grant(p_tenant, p_owner, p_model_name, 'write') then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
end;
$fn$;
comment on function ai_storage_private.write_shared(
    ai_storage_private.acting_tenant, text, text, double precision, bigint, jsonb, jsonb, bigint
) is
    'write_progress for a model of another tenant, which has to be shared for writing. Raises '
    '22023, TN101, TN102.';

-- Sharing outside the organisation ----------------------------------------------------------------

set local role ai_storage_operator;

create or replace function ai_storage_private.may_share_outside(p_org_id text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return exists (
        select from ai_storage_private.external_sharing_permit as e
        where e.org_id = p_org_id
    );
end;
$fn$;
comment on function ai_storage_private.may_share_outside(text) is
    'Whether an organisation may share with others.';

create or replace function ai_storage.allow_external_sharing(p_org_id text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if ai_storage.is_isolation_key(p_org_id || ':s:p:e:c') is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid organisation',
            hint = 'An organisation is level 1 of a tenant: 1 to 63 characters out of A-Z a-z 0-9 '
                '. _ + @ ~ = / -';
    end if;
    insert into ai_storage_private.external_sharing_permit (org_id)
    values (p_org_id)
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage.allow_external_sharing(text) is
    'Lets the tenants of an organisation share models with other organisations. Raises 22023.';

create or replace function ai_storage.forbid_external_sharing(p_org_id text)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_ended uuid[];
    v_count integer;
begin
    delete from ai_storage_private.external_sharing_permit as e
    where e.org_id = p_org_id collate "C";

    -- Without the permit they are worth nothing; what another transaction holds is left to it.
    v_ended := array(
        select s.share_id
        from ai_storage_private.model_share as s
        where split_part(s.sharer_key, ':', 1) = p_org_id collate "C"
          and split_part(s.target, ':', 1) <> p_org_id collate "C"
    );
    v_ended := array(
        select s.share_id
        from ai_storage_private.model_share as s
        where s.share_id = any (v_ended)
           or s.ancestors && v_ended
        for update skip locked
    );
    delete from ai_storage_private.model_share as s
    where s.share_id = any (v_ended);
    get diagnostics v_count = row_count;
    return v_count;
end;
$fn$;
comment on function ai_storage.forbid_external_sharing(text) is
    'Takes allow_external_sharing back and ends what the organisation''s tenants gave to others, '
    'with all that derives from it. Returns how many grants ended.';

create or replace function ai_storage.list_external_sharing()
returns table (org_id text, permitted_at timestamptz, permitted_by text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return query
    select e.org_id, e.permitted_at, e.permitted_by::text
    from ai_storage_private.external_sharing_permit as e
    order by e.org_id;
end;
$fn$;
comment on function ai_storage.list_external_sharing() is
    'The organisations that may share with others.';

-- Policies ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

drop policy if exists tenant_rules_its_shares on ai_storage_private.model_share;
create policy tenant_rules_its_shares on ai_storage_private.model_share
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_rules_its_shares on ai_storage_private.model_share is
    'A tenant sees and ends the grants on its own models.';

drop policy if exists sharing_matches_grants on ai_storage_private.model_share;
create policy sharing_matches_grants on ai_storage_private.model_share
    to ai_storage_sharing
    using (true)
    with check (true);
comment on policy sharing_matches_grants on ai_storage_private.model_share is
    'The sharing functions match grants with a caller from both ends: as sharer and as receiver.';

drop policy if exists operator_ends_external_shares on ai_storage_private.model_share;
create policy operator_ends_external_shares on ai_storage_private.model_share
    to ai_storage_operator
    using (split_part(target, ':', 1) <> split_part(sharer_key, ':', 1) or ancestors <> '{}')
    with check (false);
comment on policy operator_ends_external_shares on ai_storage_private.model_share is
    'forbid_external_sharing ends grants that leave an organisation and what derives from them, '
    'and gives none.';

drop policy if exists operator_permits_sharing on ai_storage_private.external_sharing_permit;
create policy operator_permits_sharing on ai_storage_private.external_sharing_permit
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_permits_sharing on ai_storage_private.external_sharing_permit is
    'Permits are given and taken back by administrators only.';

drop policy if exists sharing_sees_lent_models on ai_storage_private.ai_progress_tenant;
create policy sharing_sees_lent_models on ai_storage_private.ai_progress_tenant
    to ai_storage_sharing
    using (model_id = any (ai_storage_private.lent_ids()))
    with check (
        tenant_id = any (ai_storage_private.lent_tenant_ids())
        and model_id = any (ai_storage_private.lent_ids())
    );
comment on policy sharing_sees_lent_models on ai_storage_private.ai_progress_tenant is
    'The sharing functions see the models just lent to this transaction, and no others of anybody.';

drop policy if exists sharing_sees_lent_versions on ai_storage_private.progress_version;
create policy sharing_sees_lent_versions on ai_storage_private.progress_version
    to ai_storage_sharing
    using (model_id = any (ai_storage_private.lent_ids()))
    with check (
        tenant_id = any (ai_storage_private.lent_tenant_ids())
        and model_id = any (ai_storage_private.lent_ids())
    );
comment on policy sharing_sees_lent_versions on ai_storage_private.progress_version is
    'The sharing functions see the versions of the models just lent, and no others of anybody.';
