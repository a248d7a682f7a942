-- One model for another tenant, on purpose, and back at once.
--
-- A grant is a row that never changes: one model (by id), a target pattern, permissions, maybe a
-- version and an end. Its sharer alone deletes it; to share again makes a new grant with a new id.
-- A grant that was passed on lists its ancestors and never gives more than they did, so in_force()
-- asks one thing of each: is it still there? Whoever stands above a sharer ends a grant by a row in
-- share_end, a receiver refuses it by one in share_decline. So nobody waits for anybody, and
-- nothing that ended comes back.
--
-- A receiver finds its grants by its own 32 patterns: each level as it is, or *. To read what was
-- granted, a function lends the models to itself: the policies then show these and nothing else.
--
-- Tables: model_share, share_end, share_decline, external_sharing_permit (0003_sharing). Errors:
-- 22023, 25000, 55P03, TN101, TN301 to TN306.

set local role ai_storage_owner;

comment on table ai_storage_private.model_share is
    'Grants: who may reach which model of another tenant. A row is deleted and never changed.';
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
    'The grants this one derives from, the owner''s first, 8 at most; it ends with any of them.';
comment on column ai_storage_private.model_share.sharer_ids is
    'The tenants that may end this grant: the owner and each that passed the model on.';
comment on column ai_storage_private.model_share.permit_ids is
    'The permits to share outside that this grant rests on; it ends with any of them.';

comment on table ai_storage_private.share_end is
    'Grants that a tenant above their sharer ended. apply_retention() deletes them with the grant.';
comment on column ai_storage_private.share_end.tenant_id is 'The tenant that owns the model.';
comment on column ai_storage_private.share_end.share_id is 'The grant.';
comment on column ai_storage_private.share_end.ended_by is 'The tenant that ended it.';
comment on column ai_storage_private.share_end.ended_at is 'When.';

comment on table ai_storage_private.share_decline is
    'Models that a tenant does not want from a sharer, whatever that one grants later.';
comment on column ai_storage_private.share_decline.tenant_id is 'The tenant that declined.';
comment on column ai_storage_private.share_decline.owner_id is 'The tenant that owns the model.';
comment on column ai_storage_private.share_decline.model_id is 'The model as it was then.';
comment on column ai_storage_private.share_decline.sharer_id is
    'The tenant whose grants are declined.';
comment on column ai_storage_private.share_decline.declined_at is 'Since when.';
comment on column ai_storage_private.share_decline.model_name is
    'The model, by name: a later one of that name is declined too.';
comment on column ai_storage_private.share_decline.owner_key is 'Isolation key of the owner.';
comment on column ai_storage_private.share_decline.sharer_key is 'Isolation key of the sharer.';
comment on column ai_storage_private.share_decline.receiver_key is
    'Isolation key of the tenant that declined.';

comment on table ai_storage_private.external_sharing_permit is
    'Which organisation may share models with which other.';
comment on column ai_storage_private.external_sharing_permit.permit_id is
    'Random id: a permit given again is another one.';
comment on column ai_storage_private.external_sharing_permit.org_id is
    'The organisation that shares.';
comment on column ai_storage_private.external_sharing_permit.to_org_id is
    'The organisation that receives.';
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

-- In force ----------------------------------------------------------------------------------------

set local role ai_storage_sharing;

create or replace function ai_storage_private.in_force(p_share_ids uuid[], p_receiver text)
returns setof ai_storage_private.model_share
language plpgsql
stable
rows 10
-- To plan this takes longer than to run it.
set plan_cache_mode = force_generic_plan
as $fn$
declare
    v_org constant text := split_part(p_receiver, ':', 1);
begin
    -- A grant never gives more than its ancestors did, and none of them changes. So it counts while
    -- all of them are there: one query, however long the line is.
    return query
    select s.*
    from ai_storage_private.model_share as s
    where s.share_id = any (p_share_ids)
      and (s.expires_at is null or s.expires_at > clock_timestamp())
      and (
          s.ancestors = '{}'
          or cardinality(s.ancestors) = (
              select count(*)
              from ai_storage_private.model_share as a
              where a.share_id = any (s.ancestors)
                and (a.expires_at is null or a.expires_at > clock_timestamp())
          )
      )
      and not exists (
          select from ai_storage_private.share_end as e
          where e.share_id = any (s.ancestors || s.share_id)
      )
      and (
          s.permit_ids = '{}'
          or cardinality(s.permit_ids) = (
              select count(*)
              from ai_storage_private.external_sharing_permit as p
              where p.permit_id = any (s.permit_ids)
          )
      )
      -- * as the organisation: the sharer's own, and those it may share with now.
      and (
          p_receiver is null
          or split_part(s.target, ':', 1) = v_org
          or split_part(s.sharer_key, ':', 1) = v_org
          or exists (
              select from ai_storage_private.external_sharing_permit as p
              where p.org_id = split_part(s.sharer_key, ':', 1)
                and p.to_org_id = v_org
          )
      )
      -- Nobody in the line declined what it passed on, nor does the receiver.
      and (
          s.ancestors = '{}'
          or not exists (
              select
              from unnest(s.sharer_ids[1:cardinality(s.ancestors)], s.sharer_ids[2:])
                  as h (giver_id, taker_id)
              join ai_storage_private.share_decline as d
                  on d.tenant_id = h.taker_id
                  and d.sharer_id = h.giver_id
              where d.owner_id = s.tenant_id
                and d.model_name = s.model_name
          )
      )
      and not exists (
          select from ai_storage_private.share_decline as d
          where d.owner_id = s.tenant_id
            and d.model_name = s.model_name
            and d.sharer_id = s.sharer_id
            and d.receiver_key = p_receiver
      );
end;
$fn$;
comment on function ai_storage_private.in_force(uuid[], text) is
    'Of some grants those that count now. p_receiver: for this tenant, or with null for any.';

create or replace function ai_storage_private.reaching(
    p_receiver   text,
    p_owner      text,
    p_model_name text
)
returns setof ai_storage_private.model_share
language plpgsql
stable
rows 10
set plan_cache_mode = force_generic_plan
as $fn$
begin
    -- 32 grants for each pattern, the nearest to the owner first: whoever passes a model on to me a
    -- thousand times neither hides the others nor makes me read all of them.
    return query
    select f.*
    from ai_storage_private.in_force(
        array(
            select g.share_id
            from unnest(ai_storage_private.target_patterns(string_to_array(p_receiver, ':')))
                as t (pattern)
            cross join lateral (
                select s.share_id
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.owner_key = p_owner
                  and s.model_name = p_model_name
                order by cardinality(s.ancestors)
                limit 32
            ) as g
        ),
        p_receiver
    ) as f
    where f.owner_key <> p_receiver;
end;
$fn$;
comment on function ai_storage_private.reaching(text, text, text) is
    'The grants on one model that count for a receiver.';

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
        where not ai_storage_private.may_share_with(
            v_tenant.levels[1], split_part(t.target, ':', 1)
        )
    ) then
        raise exception using
            errcode = 'TN302',
            message = 'this organisation may not share with that one',
            hint = 'An administrator allows it: select ai_storage.allow_external_sharing(org_id, '
                'to_org_id). Within the organisation, leave org_id out.';
    end if;
    perform ai_storage_private.check_home(split_part(t.target, ':', 1))
    from unnest(v_targets) as t (target)
    where split_part(t.target, ':', 1) not in ('*', v_tenant.levels[1]);

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
    select w.share_id, w.target
    from ai_storage_private.write_shares(
        v_held, v_tenant, v_targets, v_permissions,
        coalesce(p_expires_at, v_held.expires_at), coalesce(p_version, v_held.pinned_version)
    ) as w;
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
    'Sharing again with the same target replaces what was given, and ends what was passed on from '
    'it; the same grant once more changes nothing. A sharer has up to 1,000 grants on a model, and '
    'a model is passed on up to 8 times in a row. Returns one row per target. Raises 22023, TN001 '
    'to TN005, TN101, TN301 to TN306.';

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
    v_held.permit_ids := '{}';
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
    v_context constant text := current_setting('app.tenant_context', true);
    v_held    ai_storage_private.model_share;
begin
    -- Of several grants, one has to cover all that is passed on. A grant that I gave myself, or
    -- that derives from it, is not one I hold. Nothing is locked: were the grant ended now, what
    -- derives from it would not count.
    select s.* into v_held
    from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
    where p_tenant.tenant_id <> all (s.sharer_ids)
      and s.permissions @> (p_permissions || '{share}'::text[])
      and (s.expires_at is null or p_expires_at is null or p_expires_at <= s.expires_at)
      and (s.pinned_version is null or p_version is null or p_version = s.pinned_version)
    order by
        cardinality(s.ancestors) = 8,
        s.expires_at desc nulls first,
        s.pinned_version desc nulls first,
        cardinality(s.ancestors),
        s.share_id
    limit 1;
    if cardinality(v_held.ancestors) = 8 then
        raise exception using
            errcode = 'TN306',
            message = 'the model was passed on too often',
            hint = 'A model is passed on up to 8 times in a row. Ask its owner, or a tenant nearer '
                'to the owner, to share it.';
    end if;
    if v_held.share_id is not null then
        perform ai_storage_private.lend(array[v_held.tenant_id], array[v_held.model_id]);
        perform ai_storage_private.check_version(v_held.tenant_id, v_held.model_id, p_version);
        perform ai_storage_private.restore_context(v_context);
        -- It came to me from another organisation by a *: what I pass on rests on that permit.
        v_held.permit_ids := v_held.permit_ids || array(
            select p.permit_id
            from ai_storage_private.external_sharing_permit as p
            where split_part(v_held.target, ':', 1) = '*'
              and p.org_id = split_part(v_held.sharer_key, ':', 1)
              and p.to_org_id = p_tenant.levels[1]
              and p.permit_id <> all (v_held.permit_ids)
        );
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
    'The received grant that covers what is to be passed on. Raises TN101, TN303, TN304, TN306.';

create or replace function ai_storage_private.write_shares(
    p_held        ai_storage_private.model_share,
    p_sharer      ai_storage_private.acting_tenant,
    p_targets     text[],
    p_permissions text[],
    p_expires_at  timestamptz,
    p_version     bigint
)
returns table (share_id uuid, target text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_org       constant text := p_sharer.levels[1];
    v_ancestors constant uuid[] := array_remove(p_held.ancestors || p_held.share_id, null);
    v_given     uuid[] := '{}'::uuid[];
    v_given_to  text[] := '{}'::text[];
    v_before    uuid[];
    v_kept      uuid[];
    v_kept_to   text[];
    v_left      text[];
begin
    -- Around again when my other sessions give the same.
    loop
        v_before := array(
            select s.share_id
            from ai_storage_private.model_share as s
            where s.tenant_id = p_held.tenant_id
              and s.model_id = p_held.model_id
              and s.sharer_id = p_sharer.tenant_id
              and s.share_id <> all (v_given)
        );
        -- What is the same already stays, with all that was passed on from it.
        select v_given || array_agg(f.share_id), v_given_to || array_agg(f.target)
        into v_kept, v_kept_to
        from ai_storage_private.in_force(v_before, null) as f
        where f.target <> all (p_targets)
           or (
               f.permissions = p_permissions
               and f.expires_at is not distinct from p_expires_at
               and f.pinned_version is not distinct from p_version
               and f.ancestors = v_ancestors
           );
        -- In one order, so that two sessions of mine do not wait for each other.
        v_left := array(
            select t.target
            from unnest(p_targets) as t (target)
            where t.target <> all (v_kept_to)
            order by t.target
        );
        exit when v_left = '{}';
        if cardinality(v_kept) + cardinality(v_left) > 1000 then
            raise exception using
                errcode = 'TN305',
                message = 'too many grants on one model',
                hint = 'A sharer has up to 1,000 grants on a model. End some, or name a wider '
                    'target with *.';
        end if;
        delete from ai_storage_private.model_share as s
        where s.share_id = any (v_before)
          and s.share_id <> all (v_kept);
        with given as (
            insert into ai_storage_private.model_share as s (
                tenant_id, share_id, model_id, sharer_id, pinned_version, created_at, expires_at,
                model_name, owner_key, sharer_key, target, permissions, ancestors, sharer_ids,
                permit_ids
            )
            select
                p_held.tenant_id, gen_random_uuid(), p_held.model_id, p_sharer.tenant_id,
                p_version, clock_timestamp(), p_expires_at, p_held.model_name, p_held.owner_key,
                p_sharer.isolation_key, t.target, p_permissions, v_ancestors,
                p_held.sharer_ids || p_sharer.tenant_id,
                p_held.permit_ids || array(
                    select p.permit_id
                    from ai_storage_private.external_sharing_permit as p
                    where p.org_id = v_org
                      and p.to_org_id = split_part(t.target, ':', 1)
                      and p.permit_id <> all (p_held.permit_ids)
                )
            from unnest(v_left) as t (target)
            on conflict on constraint model_share_once_unique do nothing
            returning s.share_id, s.target
        )
        select v_given || array_agg(g.share_id), v_given_to || array_agg(g.target)
        into v_given, v_given_to
        from given as g;
    end loop;
    -- Not read again from the table: another session of mine may have ended one meanwhile.
    return query
    select v_kept[array_position(v_kept_to, t.target)], t.target
    from unnest(p_targets) with ordinality as t (target, place)
    order by t.place;
end;
$fn$;
comment on function ai_storage_private.write_shares(
    ai_storage_private.model_share, ai_storage_private.acting_tenant,
    text[], text[], timestamptz, bigint
) is
    'Writes the grants of one call, in place of those that the same sharer gave to the same '
    'targets, and deletes those of its grants on the model that count no more. Raises TN305.';

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
begin
    delete from ai_storage_private.model_share as s
    where s.share_id = p_share_id
      and s.sharer_id = v_tenant.tenant_id;
    if found then
        return true;
    end if;
    -- A row of somebody else's, who may hold it: it stays, and counts no more.
    insert into ai_storage_private.share_end (tenant_id, share_id, ended_by, ended_at)
    select f.tenant_id, f.share_id, v_tenant.tenant_id, clock_timestamp()
    from ai_storage_private.in_force(array[p_share_id], null) as f
    where v_tenant.tenant_id = any (f.sharer_ids)
    on conflict do nothing;
    return found;
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
    v_given   uuid[];
    v_count   integer;
begin
    if p_targets is not null then
        v_targets := ai_storage_private.check_targets(p_targets, v_tenant.levels);
    end if;
    v_given := array(
        select s.share_id
        from ai_storage_private.model_share as s
        where s.sharer_id = v_tenant.tenant_id
          and s.model_name = p_model_name collate "C"
          and s.owner_key = coalesce(p_owner, v_tenant.isolation_key) collate "C"
          and (v_targets is null or s.target = any (v_targets))
    );
    v_count := ai_storage_private.count_line(v_given);
    delete from ai_storage_private.model_share as s
    where s.share_id = any (v_given);
    return v_count;
end;
$fn$;
comment on function ai_storage.unshare_model(text, jsonb, text, text) is
    'Ends what the caller gave on one model: to the targets named as in share_model, or to all, '
    'with all that derives from it. p_owner: the owner of a model that was passed on. Returns how '
    'many grants ended. Raises TN001 to TN005, TN301.';

create or replace function ai_storage_private.count_line(p_share_ids uuid[])
returns integer
language plpgsql
stable
as $fn$
begin
    return (
        select count(*)::integer
        from ai_storage_private.in_force(
            array(
                select distinct s.share_id
                from ai_storage_private.model_share as g
                join ai_storage_private.model_share as s
                    on s.tenant_id = g.tenant_id
                    and s.model_id = g.model_id
                where g.share_id = any (p_share_ids)
                  and (s.share_id = any (p_share_ids) or s.ancestors && p_share_ids)
            ),
            null
        )
    );
end;
$fn$;
comment on function ai_storage_private.count_line(uuid[]) is
    'How many grants count now out of some and of all that derive from them.';

create or replace function ai_storage.decline_share(p_share_id uuid, p_as text default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_share  ai_storage_private.model_share;
begin
    select f.* into v_share
    from ai_storage_private.in_force(array[p_share_id], v_tenant.isolation_key) as f
    where f.target = any (ai_storage_private.target_patterns(v_tenant.levels))
      and v_tenant.tenant_id <> all (f.sharer_ids);
    if not found then
        return false;
    end if;
    v_tenant := ai_storage_private.enter(p_as, p_register => true);
    insert into ai_storage_private.share_decline (
        tenant_id, owner_id, model_id, sharer_id, declined_at, model_name, owner_key, sharer_key,
        receiver_key
    )
    values (
        v_tenant.tenant_id, v_share.tenant_id, v_share.model_id, v_share.sharer_id,
        clock_timestamp(), v_share.model_name, v_share.owner_key, v_share.sharer_key,
        v_tenant.isolation_key
    )
    on conflict do nothing;
    return true;
end;
$fn$;
comment on function ai_storage.decline_share(uuid, text) is
    'Ends a grant for the caller, which receives it, and for good: nothing that the same sharer '
    'grants on the model of that name and owner reaches the caller again. What the caller passed '
    'on from it ends too. A target with * goes on for others. Returns false when no such grant '
    'reaches the caller. Raises TN001 to TN005.';

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
    created_at  timestamptz,
    state       text,
    parent_id   uuid
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set plan_cache_mode = force_generic_plan
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    -- What derives from my grants lies on the models that I gave.
    return query
    select
        f.share_id,
        f.model_name,
        f.owner_key,
        f.sharer_key,
        f.target,
        f.permissions,
        f.pinned_version,
        f.expires_at,
        f.created_at,
        coalesce(
            (
                -- Who declined a target with * is not told: it would name those it covers.
                select case when bool_or(d.receiver_key = f.target)
                    then 'declined' else 'partly declined' end
                from ai_storage_private.share_decline as d
                where d.owner_id = f.tenant_id
                  and d.model_name = f.model_name
                  and d.sharer_id = f.sharer_id
                  and f.target = any (ai_storage_private.target_patterns(
                      string_to_array(d.receiver_key, ':')
                  ))
                having count(*) > 0
            ),
            'active'
        ),
        f.ancestors[cardinality(f.ancestors)]
    from ai_storage_private.in_force(
        array(
            select distinct s.share_id
            from ai_storage_private.model_share as g
            join ai_storage_private.model_share as s
                on s.tenant_id = g.tenant_id
                and s.model_id = g.model_id
            where g.sharer_id = v_tenant.tenant_id
              and v_tenant.tenant_id = any (s.sharer_ids)
              and (p_model_name is null or s.model_name = p_model_name collate "C")
        ),
        null
    ) as f
    order by f.model_name, f.owner_key, f.target, f.share_id;
end;
$fn$;
comment on function ai_storage.list_shares(text, text) is
    'The grants that the caller may end: those on its own models, whoever gave them, and those it '
    'passed on, with all that derive from them. version: the pinned one, or null. state: active, '
    'declined by the tenant it names, or partly declined by some that its * covers. parent_id: the '
    'grant it was passed on from, or null. Raises TN001 to TN005.';

create or replace function ai_storage.list_received_shares(
    p_owner text default null,
    p_as    text default null
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
    created_at  timestamptz,
    state       text,
    parent_id   uuid
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set plan_cache_mode = force_generic_plan
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_patterns constant text[] := ai_storage_private.used_patterns(v_tenant.levels);
    v_owner    text := '';
    v_name     text := '';
    v_owners   text[];
    v_names    text[];
begin
    for i in 1 .. 10 loop
        select p.owners, p.names into v_owners, v_names
        from ai_storage_private.page_received(v_patterns, p_owner, null, v_owner, v_name) as p;
        exit when v_names is null;
        v_owner := v_owners[cardinality(v_owners)];
        v_name := v_names[cardinality(v_names)];
        return query
        select
            f.share_id,
            f.model_name,
            f.owner_key,
            f.sharer_key,
            f.target,
            f.permissions,
            f.pinned_version,
            f.expires_at,
            f.created_at,
            case when exists (
                select from ai_storage_private.share_decline as d
                where d.tenant_id = v_tenant.tenant_id
                  and d.owner_id = f.tenant_id
                  and d.model_name = f.model_name
                  and d.sharer_id = f.sharer_id
            ) then 'declined' else 'active' end,
            null::uuid
        from ai_storage_private.in_force(
            ai_storage_private.grants_on(v_patterns, v_owners, v_names), null
        ) as f
        where ai_storage_private.may_share_with(
            split_part(f.sharer_key, ':', 1), v_tenant.levels[1]
        )
          and f.owner_key <> v_tenant.isolation_key
        order by f.owner_key, f.model_name, f.target, f.share_id;
    end loop;
end;
$fn$;
comment on function ai_storage.list_received_shares(text, text) is
    'The grants that reach the caller, on up to 1,000 models: of each owner on its first 100, or '
    'with p_owner of that one alone. version: the only one to be seen, or null. state: active, or '
    'declined. Raises TN001 to TN005.';

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
begin
    return exists (
        select
        from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
        where p_permission is null
           or s.permissions @> array[p_permission]
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
    v_share ai_storage_private.model_share;
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
    select s.* into v_share
    from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
    where s.permissions @> array[p_permission]
    order by s.pinned_version desc nulls first, s.share_id
    limit 1;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
    -- What is saved into an organisation while it is moved would be lost.
    if split_part(v_share.owner_key, ':', 1) <> p_tenant.levels[1] then
        perform ai_storage_private.check_home(split_part(v_share.owner_key, ':', 1));
    end if;
    perform ai_storage_private.lend(array[v_share.tenant_id], array[v_share.model_id]);
    return v_share;
end;
$fn$;
comment on function ai_storage_private.borrow(
    ai_storage_private.acting_tenant, text, text, text
) is
    'Finds the grant for one use of one model and lends the model to this transaction; the caller '
    'puts the context back. Raises TN101, TN602, TN603.';

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

create or replace function ai_storage_private.used_patterns(p_level text[])
returns text[]
language plpgsql
stable
as $fn$
begin
    return array(
        select t.pattern
        from unnest(ai_storage_private.target_patterns(p_level)) as t (pattern)
        where exists (
            select from ai_storage_private.model_share as s
            where s.target = t.pattern
        )
    );
end;
$fn$;
comment on function ai_storage_private.used_patterns(text[]) is
    'Those of a tenant''s 32 targets that any grant has.';

create or replace function ai_storage_private.next_owner(p_patterns text[], p_from text)
returns text
language plpgsql
stable
as $fn$
begin
    return (
        select min(o.owner_key)
        from unnest(p_patterns) as t (pattern)
        cross join lateral (
            select s.owner_key
            from ai_storage_private.model_share as s
            where s.target = t.pattern
              and s.owner_key >= p_from
            order by s.owner_key
            limit 1
        ) as o
    );
end;
$fn$;
comment on function ai_storage_private.next_owner(text[], text) is
    'The first owner, from a key on, with a grant to any of the patterns.';

create or replace function ai_storage_private.page_received(
    p_patterns    text[],
    p_owner       text,
    p_model_name  text,
    p_after_owner text,
    p_after_name  text,
    out owners    text[],
    out names     text[]
)
returns record
language plpgsql
stable
as $fn$
begin
    if p_model_name is not null then
        select array_agg(m.owner_key order by m.owner_key), array_agg(p_model_name)
        into owners, names
        from (
            select distinct f.owner_key
            from unnest(p_patterns) as t (pattern)
            cross join lateral (
                select s.owner_key
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.model_name = p_model_name
                  and s.owner_key > p_after_owner
                order by s.owner_key
                limit 100
            ) as f
            order by f.owner_key
            limit 100
        ) as m;
    elsif p_owner is not null then
        select array_agg(p_owner), array_agg(m.model_name order by m.model_name)
        into owners, names
        from (
            select distinct f.model_name
            from unnest(p_patterns) as t (pattern)
            cross join lateral (
                select s.model_name
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.owner_key = p_owner
                  and s.model_name > p_after_name
                order by s.model_name
                limit 100
            ) as f
            order by f.model_name
            limit 100
        ) as m;
    else
        -- Of each owner the first 100 models, found from its first 1,000 grants to a pattern: what
        -- one owner shares unasked neither slows nor hides the others.
        select array_agg(m.owner_key), array_agg(m.model_name)
        into owners, names
        from (
            with recursive owner (owner_key) as (
                select ai_storage_private.next_owner(p_patterns, p_after_owner)
                union all
                -- No key holds a blank, so this is what follows it.
                select ai_storage_private.next_owner(p_patterns, o.owner_key || ' ')
                from owner as o
                where o.owner_key is not null
            )
            select o.owner_key, f.model_name
            from owner as o
            cross join lateral (
                select distinct g.model_name
                from unnest(p_patterns) as t (pattern)
                cross join lateral (
                    select n.model_name
                    from (
                        select s.model_name, s.expires_at
                        from ai_storage_private.model_share as s
                        where s.target = t.pattern
                          and s.owner_key = o.owner_key
                        order by s.model_name
                        limit 1000
                    ) as n
                    where n.expires_at is null
                       or n.expires_at > clock_timestamp()
                    limit 100
                ) as g
                order by g.model_name
                limit 100
            ) as f
            where (o.owner_key, f.model_name) > (p_after_owner, p_after_name)
            limit 100
        ) as m;
    end if;
end;
$fn$;
comment on function ai_storage_private.page_received(text[], text, text, text, text) is
    'Up to 100 models behind a cursor, by owner and name, on which grants to any of the patterns '
    'may be in force: all of a name, all of an owner, or some of each owner.';

create or replace function ai_storage_private.grants_on(
    p_patterns text[],
    p_owners   text[],
    p_names    text[]
)
returns uuid[]
language plpgsql
stable
as $fn$
begin
    return array(
        select g.share_id
        from unnest(p_owners, p_names) as m (owner_key, model_name)
        cross join unnest(p_patterns) as t (pattern)
        cross join lateral (
            select s.share_id
            from ai_storage_private.model_share as s
            where s.target = t.pattern
              and s.owner_key = m.owner_key
              and s.model_name = m.model_name
            order by cardinality(s.ancestors)
            limit 32
        ) as g
    );
end;
$fn$;
comment on function ai_storage_private.grants_on(text[], text[], text[]) is
    'The grants on some models, an owner and a name each, to any of the patterns: as reaching().';

create or replace function ai_storage_private.load_shared(
    p_tenant      ai_storage_private.acting_tenant,
    p_owner       text,
    p_model_name  text,
    p_after_owner text,
    p_after_name  text,
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
    v_context  constant text := current_setting('app.tenant_context', true);
    -- Whoever names model and owner uses it. All else is a list, which shows less and is no use.
    v_is_use   constant boolean := p_owner is not null and p_model_name is not null;
    v_patterns constant text[] := case when not v_is_use
            then ai_storage_private.used_patterns(p_tenant.levels)
        end;
    v_owner    text := p_after_owner;
    v_name     text := p_after_name;
    v_left     integer := least(p_limit, 1000);
    v_rows     integer;
    v_owners   text[];
    v_names    text[];
    v_granted  ai_storage_private.model_share[];
begin
    -- In pages, since a context names the models of one page, and naming all would cost the square.
    while v_left > 0 loop
        if v_is_use then
            exit when v_owner <> ''; -- the one row was there
            v_owner := p_owner;
            v_granted := array(
                select f
                from ai_storage_private.reaching(
                    p_tenant.isolation_key, p_owner, p_model_name
                ) as f
            );
        else
            select p.owners, p.names into v_owners, v_names
            from ai_storage_private.page_received(
                v_patterns, p_owner, p_model_name, v_owner, v_name
            ) as p;
            exit when v_names is null;
            v_owner := v_owners[cardinality(v_owners)];
            v_name := v_names[cardinality(v_names)];
            v_granted := array(
                select f
                from ai_storage_private.in_force(
                    ai_storage_private.grants_on(v_patterns, v_owners, v_names),
                    p_tenant.isolation_key
                ) as f
                where f.owner_key <> p_tenant.isolation_key
            );
        end if;
        continue when cardinality(v_granted) = 0;

        perform ai_storage_private.lend(
            array(select distinct g.tenant_id from unnest(v_granted) as g),
            array(select distinct g.model_id from unnest(v_granted) as g)
        );
        return query
        with granted as materialized (
            -- Several grants on one model add up; one that shows the current version wins over
            -- a pin.
            select
                g.tenant_id,
                g.model_id,
                min(g.owner_key) as owner_key,
                min(g.model_name) as model_name,
                array_agg(distinct e.permission order by e.permission) as permissions,
                case
                    when not bool_or(g.pinned_version is null and g.permissions @> '{read}')
                    then max(g.pinned_version) filter (where g.permissions @> '{read}')
                end as pinned_version
            from unnest(v_granted) as g
            cross join unnest(g.permissions) as e (permission)
            group by g.tenant_id, g.model_id
            having bool_or(g.permissions @> '{read}')
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
            case
                when v_is_use and g.pinned_version is null then p.metrics
                when v_is_use then v.metrics
            end,
            case
                when v_is_use and g.pinned_version is null then p.metadata
                when v_is_use then v.metadata
            end,
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
        where g.pinned_version is null
           or v.version is not null
        order by g.owner_key, p.model_name
        limit v_left;
        get diagnostics v_rows = row_count;
        perform ai_storage_private.restore_context(v_context);
        if v_is_use and v_rows > 0 then
            perform ai_storage_private.record_use(
                'read model', p_tenant, array[v_granted[1].tenant_id], array[p_owner],
                array[v_granted[1].model_id], null, array[p_model_name]
            );
        end if;
        v_left := v_left - v_rows;
    end loop;
end;
$fn$;
comment on function ai_storage_private.load_shared(
    ai_storage_private.acting_tenant, text, text, text, text, integer
) is
    'The second half of load_progress: models shared with the caller, by owner and name, behind a '
    'cursor. Raises 25006 for a use.';

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
-- Whoever borrows waits for the owner so long, and no longer.
set lock_timeout = '2s'
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
    perform ai_storage_private.hurry();
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'write model', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[version], array[p_model_name]
    );
end;
$fn$;
comment on function ai_storage_private.write_shared(
    ai_storage_private.acting_tenant, text, text, double precision, bigint, jsonb, jsonb, bigint
) is
    'write_progress for a model of another tenant, which has to be shared for writing, also when '
    'the transaction commits. Raises 22023, 55P03, TN101, TN102.';

create or replace function ai_storage_private.hurry()
returns void
language plpgsql
volatile
as $fn$
begin
    -- A borrower holds the model's row until it commits, and the owner waits for it: not for long.
    perform set_config(s.name, '2s', true)
    from unnest(array['idle_in_transaction_session_timeout', 'transaction_timeout']) as s (name)
    where current_setting(s.name, true)::interval = '0'
       or current_setting(s.name, true)::interval > '2 s';
end;
$fn$;
comment on function ai_storage_private.hurry() is
    'Ends this transaction when it is still open in 2 s: idle, or from PostgreSQL 17 on at all.';

create or replace function ai_storage_private.may_write(
    p_owner_id bigint,
    p_model_id uuid,
    p_receiver text
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return exists (
        select
        from ai_storage_private.in_force(
            array(
                select s.share_id
                from ai_storage_private.model_share as s
                where s.tenant_id = p_owner_id
                  and s.model_id = p_model_id
                  and s.target = any (ai_storage_private.target_patterns(
                      string_to_array(p_receiver, ':')
                  ))
            ),
            p_receiver
        ) as f
        where f.permissions @> '{write}'
    );
end;
$fn$;
comment on function ai_storage_private.may_write(bigint, uuid, text) is
    'Whether a receiver may write a model of another tenant now: this model, and not a later one '
    'of its name.';

-- Sharing outside the organisation ----------------------------------------------------------------

create or replace function ai_storage_private.may_share_with(p_org_id text, p_to_org_id text)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return p_org_id = p_to_org_id or exists (
        select from ai_storage_private.external_sharing_permit as e
        where e.org_id = p_org_id
          and (e.to_org_id = p_to_org_id or p_to_org_id = '*')
    );
end;
$fn$;
comment on function ai_storage_private.may_share_with(text, text) is
    'Whether an organisation may share with another; *: with any other.';

set local role ai_storage_operator;

create or replace function ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if ai_storage.is_isolation_key(p_org_id || ':s:p:e:c') is not true
        or ai_storage.is_isolation_key(p_to_org_id || ':s:p:e:c') is not true
        or p_org_id = p_to_org_id
    then
        raise exception using
            errcode = '22023',
            message = 'invalid organisation',
            hint = 'Name two organisations. Each is level 1 of a tenant: 1 to 63 characters out of '
                'A-Z a-z 0-9 . _ + @ ~ = / -';
    end if;
    insert into ai_storage_private.external_sharing_permit (org_id, to_org_id)
    values (p_org_id, p_to_org_id)
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage.allow_external_sharing(text, text) is
    'Lets the tenants of one organisation share models with those of another. Raises 22023.';

create or replace function ai_storage.forbid_external_sharing(
    p_org_id    text,
    p_to_org_id text default null
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_permit_ids constant uuid[] := array(
        select e.permit_id
        from ai_storage_private.external_sharing_permit as e
        where e.org_id = p_org_id collate "C"
          and e.to_org_id = coalesce(p_to_org_id, e.to_org_id) collate "C"
    );
    v_count      constant integer := ai_storage_private.count_permitted(v_permit_ids);
begin
    delete from ai_storage_private.external_sharing_permit as e
    where e.permit_id = any (v_permit_ids);
    return v_count;
end;
$fn$;
comment on function ai_storage.forbid_external_sharing(text, text) is
    'Ends allow_external_sharing for one organisation, or with null for all that p_org_id may '
    'share with, and with it every grant that names such an organisation and all that derives from '
    'it, for good. A target with * reaches it no more. Returns how many grants ended.';

create or replace function ai_storage.list_external_sharing()
returns table (org_id text, to_org_id text, permitted_at timestamptz, permitted_by text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select e.org_id, e.to_org_id, e.permitted_at, e.permitted_by::text
    from ai_storage_private.external_sharing_permit as e
    order by e.org_id, e.to_org_id;
end;
$fn$;
comment on function ai_storage.list_external_sharing() is
    'Which organisation may share with which other.';

set local role ai_storage_sharing;

create or replace function ai_storage_private.count_permitted(p_permit_ids uuid[])
returns integer
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return (
        select count(*)::integer
        from ai_storage_private.in_force(
            array(
                select s.share_id
                from ai_storage_private.model_share as s
                where s.permit_ids && p_permit_ids
            ),
            null
        )
    );
end;
$fn$;
comment on function ai_storage_private.count_permitted(uuid[]) is
    'How many grants count now that rest on some permits.';

-- Policies ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

create or replace function ai_storage_private.check_shared_write()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if not ai_storage_private.may_write(new.tenant_id, new.model_id, new.saved_by) then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you, also when the transaction commits.';
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.check_shared_write() is
    'Trigger: refuses what a borrower saved unless it may still write. Raises TN101.';

drop trigger if exists check_shared_write on ai_storage_private.progress_version;
create constraint trigger check_shared_write
    after insert on ai_storage_private.progress_version
    deferrable initially deferred
    for each row
    when (new.saved_by is not null and current_user = 'ai_storage_sharing')
    execute function ai_storage_private.check_shared_write();
comment on trigger check_shared_write on ai_storage_private.progress_version is
    'What a borrower saved is checked again when it commits.';

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

drop policy if exists operator_counts_external_shares on ai_storage_private.model_share;
create policy operator_counts_external_shares on ai_storage_private.model_share
    for select
    to ai_storage_operator
    using (split_part(target, ':', 1) <> split_part(sharer_key, ':', 1) or permit_ids <> '{}');
comment on policy operator_counts_external_shares on ai_storage_private.model_share is
    'Reports tell administrators which grants leave an organisation.';

drop policy if exists sharing_ends_grants on ai_storage_private.share_end;
create policy sharing_ends_grants on ai_storage_private.share_end
    to ai_storage_sharing
    using (true)
    with check (true);
comment on policy sharing_ends_grants on ai_storage_private.share_end is
    'The sharing functions end grants of others, and see which have ended.';

drop policy if exists tenant_sees_its_ends on ai_storage_private.share_end;
create policy tenant_sees_its_ends on ai_storage_private.share_end
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_sees_its_ends on ai_storage_private.share_end is
    'verify_audit() compares them with the log, and a move copies them.';

drop policy if exists tenant_keeps_its_declines on ai_storage_private.share_decline;
create policy tenant_keeps_its_declines on ai_storage_private.share_decline
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_declines on ai_storage_private.share_decline is
    'A tenant exports what it declined, and a move copies it.';

drop policy if exists sharing_matches_declines on ai_storage_private.share_decline;
create policy sharing_matches_declines on ai_storage_private.share_decline
    to ai_storage_sharing
    using (true)
    with check (true);
comment on policy sharing_matches_declines on ai_storage_private.share_decline is
    'The sharing functions match declines from both ends: as sharer and as receiver.';

drop policy if exists operator_permits_sharing on ai_storage_private.external_sharing_permit;
create policy operator_permits_sharing on ai_storage_private.external_sharing_permit
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_permits_sharing on ai_storage_private.external_sharing_permit is
    'Permits are given and taken back by administrators only.';

drop policy if exists sharing_reads_permits on ai_storage_private.external_sharing_permit;
create policy sharing_reads_permits on ai_storage_private.external_sharing_permit
    for select
    to ai_storage_sharing
    using (true);
comment on policy sharing_reads_permits on ai_storage_private.external_sharing_permit is
    'The sharing functions ask whether a grant may leave its organisation.';

drop policy if exists sharing_sees_lent_models on ai_storage_private.ai_progress_tenant;
-- In a subquery, so that lent_ids() runs once in a statement and not for each row.
create policy sharing_sees_lent_models on ai_storage_private.ai_progress_tenant
    to ai_storage_sharing
    using (model_id = any ((select ai_storage_private.lent_ids())::uuid[]))
    with check (
        tenant_id = any (ai_storage_private.lent_tenant_ids())
        and model_id = any (ai_storage_private.lent_ids())
    );
comment on policy sharing_sees_lent_models on ai_storage_private.ai_progress_tenant is
    'The sharing functions see the models just lent to this transaction, and no others of anybody.';

drop policy if exists sharing_sees_lent_versions on ai_storage_private.progress_version;
create policy sharing_sees_lent_versions on ai_storage_private.progress_version
    to ai_storage_sharing
    using (model_id = any ((select ai_storage_private.lent_ids())::uuid[]))
    with check (
        tenant_id = any (ai_storage_private.lent_tenant_ids())
        and model_id = any (ai_storage_private.lent_ids())
    );
comment on policy sharing_sees_lent_versions on ai_storage_private.progress_version is
    'The sharing functions see the versions of the models just lent, and no others of anybody.';
