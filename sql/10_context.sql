-- Who is calling: isolation keys, login authorisations, and the verified context of a transaction.
--
-- Anybody may write any custom setting, so a setting proves nothing. enter() checks the caller's
-- credential, then writes app.tenant_context = MAC | scope | tenant_id | isolation key | expiry |
-- credential | backend | transaction. The MAC is made with a secret only the operator's functions
-- can read. Policies and functions believe a context whose MAC fits, in the backend and transaction
-- it was made for; anything else counts as no context at all.
-- scope: 'transaction' after set_tenant, 'call' after an argument p_as, 'cleared' after
-- clear_tenant, 'lent' while a function reads models that were shared with the caller.
--
-- Tables: tenant, login_authorization, context_secret (0001_tenant). These functions belong to the
-- operator because they act before a tenant is known.
-- Errors: 22023, 42704, 55000, TN001 to TN006.

set local role ai_storage_owner;

comment on type ai_storage_private.acting_tenant is
    'The tenant a call acts for, as enter() returns it. tenant_id is 0 for a tenant that never '
    'wrote anything.';

comment on table ai_storage_private.tenant is
    'The registry of tenants: five levels and the id that every tenant table carries. A tenant is '
    'registered by its first write.';
comment on column ai_storage_private.tenant.tenant_id is
    'The id in every tenant table, random.';
comment on column ai_storage_private.tenant.org_id is 'Level 1: the organisation.';
comment on column ai_storage_private.tenant.server_id is 'Level 2: the MCP server or application.';
comment on column ai_storage_private.tenant.project_id is 'Level 3: the project.';
comment on column ai_storage_private.tenant.environment is
    'Level 4: the environment, such as production.';
comment on column ai_storage_private.tenant.code_hash is 'Level 5: the version of the code.';
comment on column ai_storage_private.tenant.isolation_key is 'The five levels joined by colons.';
comment on column ai_storage_private.tenant.moved_to is
    'The cell that its organisation was moved to or is moving to; null: it lives here.';
comment on column ai_storage_private.tenant.registered_at is 'When the tenant first wrote.';

comment on table ai_storage_private.login_authorization is
    'Which login may name which tenants. Each level is a value or *, which stands for any.';
comment on column ai_storage_private.login_authorization.login_name is
    'The login role, as session_user shows it.';
comment on column ai_storage_private.login_authorization.org_id is 'An organisation, or *.';
comment on column ai_storage_private.login_authorization.server_id is 'A server, or *.';
comment on column ai_storage_private.login_authorization.project_id is 'A project, or *.';
comment on column ai_storage_private.login_authorization.environment is 'An environment, or *.';
comment on column ai_storage_private.login_authorization.code_hash is 'A code version, or *.';
comment on column ai_storage_private.login_authorization.token_only is
    'True: an isolation key is not enough, the login has to present a signed token.';
comment on column ai_storage_private.login_authorization.authorized_at is
    'When the authorisation was given.';
comment on column ai_storage_private.login_authorization.authorized_by is 'The login that gave it.';

comment on table ai_storage_private.context_secret is
    'The one secret that signs transaction contexts. Never leaves the database except in a dump.';
comment on column ai_storage_private.context_secret.inner_key is
    'Key of the inner hash, 64 random bytes.';
comment on column ai_storage_private.context_secret.outer_key is
    'Key of the outer hash, 64 random bytes.';

-- Keys --------------------------------------------------------------------------------------------

create or replace function ai_storage.is_isolation_key(p_key text)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $fn$
    -- A level of more than 63 characters is looked for only where there is room for one: with a
    -- bound within the first pattern the whole took 9 to 25 times as long.
    select p_key ~ '^([A-Za-z0-9._+@~=/-]+:){4}[A-Za-z0-9._+@~=/-]+$'
        and (length(p_key) < 64 + length(':s:p:e:c') or p_key !~ '[^:]{64}');
$fn$;
comment on function ai_storage.is_isolation_key(text) is
    'True for five levels joined by colons; false or null for anything else.';

create or replace function ai_storage_private.is_tenant_pattern(p_pattern text)
returns boolean
language sql
immutable
parallel safe
as $fn$
    select p_pattern ~ '^(([*]|[A-Za-z0-9._+@~=/-]{1,63}):){4}([*]|[A-Za-z0-9._+@~=/-]{1,63})$';
$fn$;
comment on function ai_storage_private.is_tenant_pattern(text) is
    'True for five levels joined by colons in which any level may be *; false or null for anything '
    'else.';

create or replace function ai_storage.isolation_key(
    p_org_id      text,
    p_server_id   text,
    p_project_id  text,
    p_environment text,
    p_code_hash   text
)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $fn$
declare
    -- A colon inside a level makes more than five, a null level makes the whole null: both are
    -- refused below.
    v_key constant text := p_org_id || ':' || p_server_id || ':' || p_project_id
        || ':' || p_environment || ':' || p_code_hash;
begin
    if ai_storage.is_isolation_key(v_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant level',
            hint = 'Each of the five levels has 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = '
                '/ -';
    end if;
    return v_key;
end;
$fn$;
comment on function ai_storage.isolation_key(text, text, text, text, text) is
    'Renders five tenant levels as an isolation key. Two different tenants never render alike. '
    'Raises 22023.';

create or replace function ai_storage.parse_isolation_key(p_key text)
returns table (org_id text, server_id text, project_id text, environment text, code_hash text)
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_levels constant text[] := string_to_array(p_key, ':');
begin
    if ai_storage.is_isolation_key(p_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid isolation key',
            hint = 'A key has five levels joined by colons, each of 1 to 63 characters out of A-Z '
                'a-z 0-9 . _ + @ ~ = / -';
    end if;
    return query select v_levels[1], v_levels[2], v_levels[3], v_levels[4], v_levels[5];
end;
$fn$;
comment on function ai_storage.parse_isolation_key(text) is
    'Splits an isolation key into its five levels. The inverse of isolation_key. Raises 22023.';

-- The verified context ----------------------------------------------------------------------------

set local role ai_storage_operator;

create or replace function ai_storage_private.context_mac(
    p_inner_key bytea,
    p_outer_key bytea,
    p_payload   text
)
returns text
language sql
stable
parallel safe
as $fn$
    select encode(
        sha256(p_outer_key || sha256(p_inner_key || convert_to(p_payload, 'UTF8'))), 'hex'
    );
$fn$;
comment on function ai_storage_private.context_mac(bytea, bytea, text) is
    'The MAC of a context under this database''s secret, 64 hexadecimal digits. Nested hashing '
    'under two keys, as in HMAC.';

create or replace function ai_storage_private.sign_context(
    p_inner_key bytea,
    p_outer_key bytea,
    p_payload   text
)
returns text
language sql
stable
parallel safe
as $fn$
    select ai_storage_private.context_mac(p_inner_key, p_outer_key, p_payload) || '|' || p_payload;
$fn$;
comment on function ai_storage_private.sign_context(bytea, bytea, text) is
    'p_payload behind its MAC and |. Null without keys, which are those of context_secret.';

create or replace function ai_storage_private.context_payload(
    p_scope         text,
    p_tenant_id     bigint,
    p_isolation_key text,
    p_expires_at    text,
    p_credential    text,
    p_lent          text
)
returns text
language sql
stable
parallel restricted
as $fn$
    select concat_ws(
        '|', p_scope, p_tenant_id, p_isolation_key, p_expires_at, p_credential,
        pg_backend_pid(), extract(epoch from now()), p_lent
    );
$fn$;
comment on function ai_storage_private.context_payload(text, bigint, text, text, text, text) is
    'The payload of a context, valid for this transaction of this backend: scope, tenant id, '
    'isolation key, expiry, credential, backend and transaction, joined by |. p_lent: further '
    'fields joined by |, or null.';

create or replace function ai_storage.renew_context_secret()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_key bytea[] := '{}'::bytea[];
begin
    -- 256 bits each, of two random UUIDs with 122.
    for i in 1 .. 4 loop
        v_key := v_key || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    end loop;
    -- Not DELETE: an older snapshot, even an imported one, would still see the row. Others wait for
    -- the lock that this takes, so it is not waited for long.
    perform set_config('lock_timeout', '2s', true);
    truncate ai_storage_private.context_secret;
    insert into ai_storage_private.context_secret (inner_key, outer_key)
    values (v_key[1] || v_key[2], v_key[3] || v_key[4]);
    perform ai_storage_private.record_event(0, 'renew context secret');
end;
$fn$;
comment on function ai_storage.renew_context_secret() is
    'Makes a new secret to sign contexts with: after a restore that left it out, or when somebody '
    'may have read it. Transactions that are open lose their tenant. Data, grants and tokens stay '
    'as they are. Waits 2 s for calls that are under way (55P03).';

create or replace function ai_storage_private.verified_context()
returns text[]
language plpgsql
stable
parallel restricted
as $fn$
declare
    v_context   constant text := current_setting('app.tenant_context', true);
    v_inner_key bytea;
    v_outer_key bytea;
    v_field     text[];
begin
    -- After a transaction that set it, the setting reads '' and not null. Both mean: no tenant.
    if coalesce(v_context, '') = '' then
        return null;
    end if;
    select s.inner_key, s.outer_key into v_inner_key, v_outer_key
    from ai_storage_private.context_secret as s;
    v_field := string_to_array(substr(v_context, 66), '|');
    -- The MAC is computed outside the query, whose expressions PostgreSQL prepares anew in each
    -- statement. A context is valid in one transaction of one backend, and until its token expires.
    -- CASE keeps the order: no field is read before it is verified.
    return case
        when ai_storage_private.sign_context(v_inner_key, v_outer_key, substr(v_context, 66))
            is distinct from v_context then null
        when v_field[6] <> pg_backend_pid()::text
            or v_field[7] <> extract(epoch from now())::text then null
        when v_field[4] = '' or extract(epoch from clock_timestamp()) < v_field[4]::numeric
            then v_field
    end;
end;
$fn$;
comment on function ai_storage_private.verified_context() is
    'The fields of this transaction''s context (scope, tenant_id, isolation key, expiry, '
    'credential, backend, transaction), or null when there is none that can be believed.';

create or replace function ai_storage_private.set_context(
    p_scope  text,
    p_tenant ai_storage_private.acting_tenant,
    p_lent   text default null
)
returns text
language plpgsql
volatile
as $fn$
declare
    v_payload constant text := ai_storage_private.context_payload(
        p_scope, p_tenant.tenant_id, p_tenant.isolation_key,
        p_tenant.expires_at, p_tenant.credential, p_lent
    );
    v_context text;
begin
    select ai_storage_private.sign_context(s.inner_key, s.outer_key, v_payload) into v_context
    from ai_storage_private.context_secret as s;
    if not found then
        raise exception using
            errcode = '55000',
            message = 'this database has no secret to sign contexts with',
            hint = 'It was restored without one. An administrator makes a new one: select '
                'ai_storage.renew_context_secret().';
    end if;
    return set_config('app.tenant_context', v_context, true);
end;
$fn$;
comment on function ai_storage_private.set_context(
    text, ai_storage_private.acting_tenant, text
) is
    'Signs a context and sets it for the rest of this transaction. Raises 55000.';

create or replace function ai_storage_private.restore_context(p_context text)
returns text
language plpgsql
volatile
as $fn$
begin
    return set_config('app.tenant_context', p_context, true);
end;
$fn$;
comment on function ai_storage_private.restore_context(text) is
    'Puts back the context that there was before a function lent models or acted for another '
    'tenant.';

create or replace function ai_storage_private.trusted_context()
returns text
language plpgsql
volatile
as $fn$
begin
    if ai_storage_private.verified_context() is null then
        return set_config('app.tenant_context', '', true);
    end if;
    return current_setting('app.tenant_context', true);
end;
$fn$;
comment on function ai_storage_private.trusted_context() is
    'The current context, for a function that acts for other tenants and restores it. Clears one '
    'whose signature is not valid, since record_event() reads its fields without checking.';

create or replace function ai_storage_private.current_tenant_id()
returns bigint
language plpgsql
stable
security definer
parallel restricted
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    if v_field[1] in ('transaction', 'call') then
        return v_field[2]::bigint;
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.current_tenant_id() is
    'The tenant this transaction acts for, or null. The only thing that row policies trust.';

create or replace function ai_storage_private.current_credential()
returns text
language plpgsql
stable
security definer
parallel restricted
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return v_field[5];
end;
$fn$;
comment on function ai_storage_private.current_credential() is
    'What this transaction''s context was signed for: key, token and its kid, operator; or null.';

create or replace function ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[])
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return ai_storage_private.set_context(
        'lent',
        (v_field[2]::bigint, v_field[3], null, v_field[5], v_field[4]),
        array_to_string(p_tenant_ids, ',') || '|' || array_to_string(p_model_ids, ',')
    );
end;
$fn$;
comment on function ai_storage_private.lend(bigint[], uuid[]) is
    'Turns the context to some models of other tenants: the policies then show these and nothing '
    'else, not even the caller''s own. The function that lends puts the context back.';

create or replace function ai_storage_private.lent_tenant_ids()
returns bigint[]
language plpgsql
stable
security definer
parallel restricted
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'lent' then string_to_array(v_field[8], ',')::bigint[] end;
end;
$fn$;
comment on function ai_storage_private.lent_tenant_ids() is
    'The owners of the models that are lent to this transaction, or null.';

create or replace function ai_storage_private.lent_ids()
returns uuid[]
language plpgsql
stable
security definer
parallel restricted
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'lent' then string_to_array(v_field[9], ',')::uuid[] end;
end;
$fn$;
comment on function ai_storage_private.lent_ids() is
    'The models that are lent to this transaction, or null.';

create or replace function ai_storage_private.keep_durable()
returns text
language plpgsql
volatile
as $fn$
begin
    -- Any login may set less, for a session or for itself, and a setting of a function's own ends
    -- before the commit. remote_apply is more than on.
    if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
        return set_config('synchronous_commit', 'on', true);
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.keep_durable() is
    'Makes the commit of this transaction wait until it survives a crash, whatever the session has '
    'set. Every function that writes calls it, most of them in record_event().';

create or replace function ai_storage_private.require_owner()
returns void
language plpgsql
stable
as $fn$
begin
    -- A restore without owners and rights leaves every function to whoever restored, often a
    -- superuser, and open to PUBLIC.
    if current_user <> 'ai_storage_operator' then
        raise exception using
            errcode = '55000',
            message = 'this database was restored without its owners',
            hint = 'An administrator restores it again, roles first, without --no-owner and '
                '--no-acl.';
    end if;
end;
$fn$;
comment on function ai_storage_private.require_owner() is
    'Refuses to go on as anybody but ai_storage_operator. Every function that reads or writes more '
    'than one tenant calls it, those for tenants in enter(), those that write in record_event(). '
    'Raises 55000.';

-- Credentials -------------------------------------------------------------------------------------

create or replace function ai_storage_private.count_refusal()
returns bigint
language plpgsql
volatile
as $fn$
begin
    -- A sequence keeps its count when the refusal rolls everything else back. A standby has none.
    if current_setting('transaction_read_only') = 'off' then
        return nextval('ai_storage_private.refused_credential');
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.count_refusal() is
    'Counts a refused credential; seal_audit() puts the count into the log.';

create or replace function ai_storage_private.check_credential(p_credential text, p_scope text)
returns ai_storage_private.acting_tenant
language plpgsql
volatile
as $fn$
declare
    -- A key has colons, a token has none.
    v_is_token   constant boolean := strpos(p_credential, ':') = 0;
    v_key        text collate "C" := p_credential;
    v_credential text := 'key';
    v_expires_at text := '';
    v_level      text[];
    v_authorized boolean;
    v_tenant_id  bigint;
    v_inner_key  bytea;
    v_outer_key  bytea;
    v_payload    text;
    v_set        text;
begin
    if v_is_token then
        select t.isolation_key, t.credential, t.expires_at
        into v_key, v_credential, v_expires_at
        from ai_storage_private.verify_token(p_credential) as t;
    end if;
    v_level := string_to_array(v_key, ':');

    -- One query, since each takes its time to begin. For whoever is not authorised it looks at
    -- nothing of the tenant: not even counters of the registry, or the time, tell whether it
    -- exists.
    select
        true,
        t.tenant_id,
        s.inner_key,
        s.outer_key
    into v_authorized, v_tenant_id, v_inner_key, v_outer_key
    from ai_storage_private.login_authorization as a
    left join ai_storage_private.tenant as t
        on t.isolation_key = v_key
        and t.moved_to is null
    left join ai_storage_private.context_secret as s on true
    where a.login_name = session_user
      and a.org_id in ('*', v_level[1])
      and a.server_id in ('*', v_level[2])
      and a.project_id in ('*', v_level[3])
      and a.environment in ('*', v_level[4])
      and a.code_hash in ('*', v_level[5])
      and (v_is_token or not a.token_only)
    limit 1;

    if v_tenant_id is not null and v_inner_key is not null then
        v_payload := ai_storage_private.context_payload(
            p_scope, v_tenant_id, v_key, v_expires_at, v_credential, null
        );
        v_set := set_config(
            'app.tenant_context',
            ai_storage_private.sign_context(v_inner_key, v_outer_key, v_payload),
            true
        );
    else
        -- A key in the registry is well formed, so the hot path is spared the regular expression.
        if v_tenant_id is null and ai_storage.is_isolation_key(v_key) is not true then
            perform ai_storage_private.count_refusal();
            raise exception using
                errcode = 'TN002',
                message = 'malformed credential',
                hint = 'A credential is an isolation key, five levels joined by colons as '
                    'isolation_key() renders it, or a signed token that names one tenant.';
        end if;
        if v_authorized is null then
            perform ai_storage_private.count_refusal();
            raise exception using
                errcode = 'TN003',
                message = 'this login is not authorised for the tenant',
                hint = 'An administrator authorises it: select ai_storage.authorize_login(login, '
                    'pattern). A login that is authorised by token only presents a signed token.';
        end if;
        perform ai_storage_private.check_home(v_level[1]);
        -- Not registered, or no secret to sign with, which set_context() refuses.
        v_set := ai_storage_private.set_context(
            p_scope, (coalesce(v_tenant_id, 0), v_key, v_level, v_credential, v_expires_at)
        );
    end if;
    return (coalesce(v_tenant_id, 0), v_key, v_level, v_credential, v_expires_at);
end;
$fn$;
comment on function ai_storage_private.check_credential(text, text) is
    'Checks what a caller presents, makes the transaction act for the tenant it stands for, and '
    'returns it. p_scope: as set_context() takes it. Raises 55000, TN002, TN003, TN005, TN602, '
    'TN603.';

create or replace function ai_storage_private.enter(
    p_as       text,
    p_register boolean default false,
    p_scope    text    default 'call'
)
returns ai_storage_private.acting_tenant
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    -- A caller's own collation would be at odds with the tables'.
    v_as     constant text collate "C" := p_as;
    v_field  constant text[] := ai_storage_private.verified_context();
    v_bound  ai_storage_private.acting_tenant; -- whom this transaction acts for already
    v_tenant ai_storage_private.acting_tenant;
    v_scope  text := p_scope;
    v_before text; -- the context there was
    v_set    text;
    -- By itself, so that no plan that a server logs holds the credential.
    v_collation constant text := collation for (p_as);
begin
    if current_user <> 'ai_storage_operator' then
        perform ai_storage_private.require_owner();
    end if;
    if v_field is not null then
        v_bound := (
            v_field[2]::bigint, v_field[3], string_to_array(v_field[3], ':'), v_field[5], v_field[4]
        );
        v_before := current_setting('app.tenant_context', true);
        if v_field[1] = 'transaction' then
            v_scope := 'transaction';
        end if;
    end if;

    -- Under such a collation other texts would be equal to the ones we mean.
    if v_collation not in ('"default"', '"C"') then
        if exists (
            select from pg_collation as c
            where c.oid = v_collation::regcollation
              and not c.collisdeterministic
        ) then
            raise exception using
                errcode = '22023',
                message = 'nondeterministic collation',
                hint = 'Pass the arguments with collate "C".';
        end if;
    end if;

    if v_as is null then
        if v_field[1] is distinct from 'transaction' then
            raise exception using
                errcode = 'TN001',
                message = 'no tenant is set',
                hint = 'Pass a credential in p_as, or call set_tenant(credential) first in the '
                    'same transaction.';
        end if;
        v_tenant := v_bound;
    elsif v_as = v_bound.isolation_key and v_bound.credential = 'key' then
        -- The same key was checked in this transaction already.
        v_tenant := v_bound;
        if v_scope <> v_field[1] then
            v_set := ai_storage_private.set_context(v_scope, v_tenant);
        end if;
    else
        v_tenant := ai_storage_private.check_credential(v_as, v_scope);
        if v_tenant.isolation_key <> v_bound.isolation_key then
            raise exception using
                errcode = 'TN004',
                message = 'this transaction already acts for another tenant',
                hint = 'One transaction serves one tenant: commit or roll back before you name the '
                    'next.';
        end if;
        if v_field[1] = 'transaction' and v_tenant.tenant_id = v_bound.tenant_id then
            -- What is bound stays bound, with the credential and the end that it has.
            v_set := ai_storage_private.restore_context(v_before);
        end if;
    end if;

    if v_tenant.tenant_id = 0 then
        v_tenant.tenant_id := ai_storage_private.find_tenant(v_tenant.levels, p_register);
        if v_tenant.tenant_id > 0 then
            v_set := ai_storage_private.set_context(v_scope, v_tenant);
        end if;
    end if;
    return v_tenant;
end;
$fn$;
comment on function ai_storage_private.enter(text, boolean, text) is
    'The first step of every tenant function: checks the credential, or without one the context of '
    'set_tenant, and makes the transaction act for that tenant. p_register: register a new tenant, '
    'as writes do. Raises TN001 to TN005, TN602, TN603.';

create or replace function ai_storage_private.covers_version(
    p_levels    text[],
    p_code_hash text,
    p_sources   text[]
)
returns boolean
language sql
stable
as $fn$
    select exists (
        select from ai_storage_private.login_authorization as a
        where a.login_name = session_user
          and a.org_id in ('*', p_levels[1])
          and a.server_id in ('*', p_levels[2])
          and a.project_id in ('*', p_levels[3])
          and a.environment in ('*', p_levels[4])
          and a.code_hash in ('*', p_code_hash)
          and (p_code_hash = any (p_sources) or not a.token_only)
    );
$fn$;
comment on function ai_storage_private.covers_version(text[], text, text[]) is
    'Whether this login may read another code version for a promotion: by key, or since its token '
    'names the version.';

create or replace function ai_storage_private.enter_code_version(p_code_hash text, p_as text)
returns ai_storage_private.acting_tenant
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field  constant text[] := ai_storage_private.verified_context();
    v_level  text[] := string_to_array(v_field[3], ':');
    v_key    constant text := ai_storage.isolation_key(
        v_level[1], v_level[2], v_level[3], v_level[4], p_code_hash
    );
    v_tenant ai_storage_private.acting_tenant;
begin
    if not ai_storage_private.covers_version(
        v_level, p_code_hash, ai_storage_private.promotion_sources(p_as, v_field[3])
    ) then
        perform ai_storage_private.count_refusal();
        raise exception using
            errcode = 'TN003',
            message = 'this credential does not cover the other code version',
            hint = 'A token names the code versions that it may promote from in its claim from, '
                'and is passed in p_as; a login that presents keys has to be authorised for the '
                'other code version too.';
    end if;
    v_level[5] := p_code_hash;
    v_tenant := (
        ai_storage_private.find_tenant(v_level, false), v_key, v_level, v_field[5], v_field[4]
    );
    perform ai_storage_private.set_context(v_field[1], v_tenant);
    return v_tenant;
end;
$fn$;
comment on function ai_storage_private.enter_code_version(text, text) is
    'Turns the context to another code version of the same four levels, which the credential must '
    'cover too. For promote_progress and list_code_versions, which turn it back. Raises 22023, '
    'TN003.';

create or replace function ai_storage_private.list_covered_versions(p_as text)
returns text[]
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field   constant text[] := ai_storage_private.verified_context();
    v_level   constant text[] := string_to_array(v_field[3], ':');
    v_prefix  constant text collate "C" := array_to_string(v_level[1:4], ':');
    v_sources constant text[] := ai_storage_private.promotion_sources(p_as, v_field[3]);
begin
    -- ';' is what follows ':' in the order of the index.
    return array(
        select t.code_hash
        from ai_storage_private.tenant as t
        where t.isolation_key between v_prefix || ':' and v_prefix || ';'
          and (
              t.code_hash = v_level[5]
              or ai_storage_private.covers_version(v_level, t.code_hash, v_sources)
          )
        order by t.registered_at desc, t.code_hash
    );
end;
$fn$;
comment on function ai_storage_private.list_covered_versions(text) is
    'The registered code versions of the caller''s other four levels that its credential covers.';

create or replace function ai_storage_private.find_tenant(p_levels text[], p_register boolean)
returns bigint
language plpgsql
volatile
as $fn$
declare
    -- A random id tells nobody how many tenants there are: 15 hexadecimal digits of a UUID.
    v_random_id constant bigint
        := ('x' || left(replace(gen_random_uuid()::text, '-', ''), 15))::bit(60)::bigint;
    v_tenant_id bigint;
begin
    if p_register then
        insert into ai_storage_private.tenant as t (
            tenant_id, org_id, server_id, project_id, environment, code_hash
        )
        values (v_random_id, p_levels[1], p_levels[2], p_levels[3], p_levels[4], p_levels[5])
        on conflict on constraint tenant_isolation_key_unique do nothing
        returning t.tenant_id into v_tenant_id;
    end if;
    -- Not inserted: not asked to, or it is there already, perhaps closed.
    if v_tenant_id is null then
        select t.tenant_id into v_tenant_id
        from ai_storage_private.tenant as t
        where t.isolation_key = array_to_string(p_levels, ':')
          and t.moved_to is null;
    end if;
    if p_register and v_tenant_id is null then
        -- Its organisation was closed after the credential was checked.
        perform ai_storage_private.check_home(p_levels[1]);
    end if;
    return coalesce(v_tenant_id, 0);
end;
$fn$;
comment on function ai_storage_private.find_tenant(text[], boolean) is
    'The id of a tenant, or 0 when it is not registered and not to be. Safe when several writers '
    'register it at once. Raises TN602, TN603.';

create or replace function ai_storage.set_tenant(p_credential text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    -- Null would stand for the context there is; here it is a malformed credential.
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(coalesce(p_credential, ''), p_scope => 'transaction');
begin
    -- For people to read; nothing trusts it.
    return set_config('app.current_tenant', v_tenant.isolation_key, true);
end;
$fn$;
comment on function ai_storage.set_tenant(text) is
    'Makes the rest of this transaction act for one tenant and returns its isolation key. Nothing '
    'outlives the transaction. Raises TN002 to TN005, TN602, TN603, as every tenant function does.';

create or replace function ai_storage.clear_tenant()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    if v_field is not null then
        -- Still bound: the transaction may be given to the same tenant again, not to another one.
        perform ai_storage_private.set_context(
            'cleared', (v_field[2]::bigint, v_field[3], null, v_field[5], v_field[4])
        );
    end if;
    perform set_config('app.current_tenant', '', true);
end;
$fn$;
comment on function ai_storage.clear_tenant() is
    'Ends what set_tenant began: until the next credential, this transaction acts for nobody.';

create or replace function ai_storage.current_tenant()
returns text
language plpgsql
stable
security definer
parallel restricted
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'transaction' then v_field[3] end;
end;
$fn$;
comment on function ai_storage.current_tenant() is
    'The isolation key that set_tenant set for this transaction, or null when there is none.';

-- Authorisations ----------------------------------------------------------------------------------

create or replace function ai_storage.authorize_login(
    p_login      text,
    p_pattern    text,
    p_token_only boolean default false
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_level constant text[] := string_to_array(p_pattern collate "C", ':');
    -- A login with NOINHERIT has no right of its groups, unless the grant says so.
    v_inherits text := '';
begin
    if ai_storage_private.is_tenant_pattern(p_pattern) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'A pattern has five levels joined by colons; each is a value or *, for example '
                'acme:*:*:*:*';
    end if;
    if not exists (
        select from pg_roles as r
        where r.rolname = p_login collate "C" and r.rolcanlogin
    ) then
        raise exception using
            errcode = '42704',
            message = 'no such login role',
            hint = 'Create it first: create role NAME login password ...; pydb init --app-login '
                'NAME does both.';
    end if;
    -- Such a login walks around row level security, so an authorisation would only pretend to limit
    -- it. With CREATEROLE it makes itself a member of what it likes on PostgreSQL 15.
    if exists (
        select from pg_roles as l
        join pg_roles as r on pg_has_role(l.oid, r.oid, 'MEMBER')
        where l.rolname = p_login collate "C"
          and (
              r.rolsuper
              or r.rolbypassrls
              or r.rolcreaterole
              or r.rolreplication
              or r.rolname in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
          )
    ) then
        raise exception using
            errcode = 'TN006',
            message = 'this login is too powerful to serve tenants',
            hint = 'Use a login that neither is nor may become a superuser, a role with '
                'BYPASSRLS, CREATEROLE or REPLICATION, or one of the owning roles.';
    end if;

    insert into ai_storage_private.login_authorization (
        login_name, org_id, server_id, project_id, environment, code_hash, token_only
    )
    values (
        p_login, v_level[1], v_level[2], v_level[3], v_level[4], v_level[5],
        coalesce(p_token_only, false)
    )
    on conflict on constraint login_authorization_pk do update set
        token_only    = excluded.token_only,
        authorized_at = excluded.authorized_at,
        authorized_by = excluded.authorized_by;
    if not pg_has_role(p_login, 'ai_storage_app', 'USAGE') then
        if current_setting('server_version_num')::integer >= 160000 then
            v_inherits := ' with inherit true';
        end if;
        execute format('grant ai_storage_app to %I', p_login) || v_inherits;
        if not pg_has_role(p_login, 'ai_storage_app', 'USAGE') then
            raise exception using
                errcode = '22023',
                message = 'this login does not inherit the rights of its groups',
                hint = 'Let it: alter role NAME inherit. From PostgreSQL 16 on that is not needed.';
        end if;
    end if;
end;
$fn$;
comment on function ai_storage.authorize_login(text, text, boolean) is
    'Lets a login role act for every tenant the pattern covers, and grants it the application '
    'role. p_token_only: only with a signed token. Repeating it replaces p_token_only. Raises '
    '22023, 42704, TN006.';

create or replace function ai_storage.deauthorize_login(p_login text, p_pattern text default null)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_level constant text[] := string_to_array(p_pattern collate "C", ':');
    v_count integer;
begin
    if p_pattern is not null and not ai_storage_private.is_tenant_pattern(p_pattern) then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'Name the pattern as list_authorizations() shows it, or none to remove all of '
                'the login''s.';
    end if;

    delete from ai_storage_private.login_authorization as a
    where a.login_name = p_login collate "C"
      and (
          p_pattern is null
          or (a.org_id, a.server_id, a.project_id, a.environment, a.code_hash)
              = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5])
      );
    get diagnostics v_count = row_count;
    -- The login stays in ai_storage_app, which is one for all databases of the server: others may
    -- authorise it. Without an authorisation the group names no tenant.
    return v_count;
end;
$fn$;
comment on function ai_storage.deauthorize_login(text, text) is
    'Takes back one authorisation of a login, or without a pattern all of them, and returns how '
    'many. It stays in ai_storage_app, which other databases may need. Holds from the next '
    'transaction on. Raises 22023.';

create or replace function ai_storage.list_authorizations()
returns table (
    login_name    text,
    pattern       text,
    token_only    boolean,
    authorized_at timestamptz,
    authorized_by text
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
        a.login_name::text,
        concat_ws(':', a.org_id, a.server_id, a.project_id, a.environment, a.code_hash),
        a.token_only,
        a.authorized_at,
        a.authorized_by::text
    from ai_storage_private.login_authorization as a
    order by 1, 2;
end;
$fn$;
comment on function ai_storage.list_authorizations() is
    'Who may name which tenants: one row per login and pattern.';

-- Policies ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

drop policy if exists tenant_sees_itself on ai_storage_private.tenant;
create policy tenant_sees_itself on ai_storage_private.tenant
    for select
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_sees_itself on ai_storage_private.tenant is
    'A tenant sees its own entry in the registry and no other.';

drop policy if exists operator_registers_tenants on ai_storage_private.tenant;
create policy operator_registers_tenants on ai_storage_private.tenant
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_registers_tenants on ai_storage_private.tenant is
    'enter() finds or registers a tenant before there is a context to compare with.';

drop policy if exists operator_keeps_authorizations on ai_storage_private.login_authorization;
create policy operator_keeps_authorizations on ai_storage_private.login_authorization
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_authorizations on ai_storage_private.login_authorization is
    'Authorisations are checked by enter() and changed by authorize_login() and '
    'deauthorize_login() only.';

drop policy if exists operator_signs_contexts on ai_storage_private.context_secret;
create policy operator_signs_contexts on ai_storage_private.context_secret
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_signs_contexts on ai_storage_private.context_secret is
    'Only the functions that sign and verify a context read the secret, and one renews it; the '
    'tables'' owner cannot.';
