-- Creates the roles and the empty schemas of tenant-ai-storage. Safe to repeat.
--
-- Run it once in each database, connected as the login that will also migrate: a superuser, or a
-- login that has CREATEROLE and owns the database. `pydb init` runs this file for you. It is not a
-- migration because roles belong to the whole server and outlive the database.
--
-- Roles that own something can never log in. They are neither superuser nor BYPASSRLS, so row level
-- security binds them too: a function with a wrong WHERE still cannot leave its tenant.

-- The default path is the choice of whoever owns the database, and on it may lie types, functions
-- and operators of his, which would run with the rights of whoever runs this.
set search_path = pg_catalog, pg_temp;

do $roles$
declare
    v_role text;
begin
    foreach v_role in array array[
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
        'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    ] loop
        if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
            execute pg_catalog.format('create role %I nologin', v_role);
        end if;
    end loop;

    -- authorize_login() and deauthorize_login() grant and revoke the application role, and run as
    -- the operator.
    if not exists (
        select from pg_catalog.pg_auth_members m
        where m.roleid = 'ai_storage_app'::pg_catalog.regrole
          and m.member = 'ai_storage_operator'::pg_catalog.regrole
          and m.admin_option
    ) then
        grant ai_storage_app to ai_storage_operator with admin option;
    end if;

    -- The migrating login acts as the three owners. A superuser may do so anyway.
    if not (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
        foreach v_role in array array[
            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_admin'
        ] loop
            if not pg_catalog.pg_has_role(current_user, v_role, 'USAGE') then
                execute pg_catalog.format('grant %I to current_user', v_role);
            end if;
        end loop;
    end if;
end;
$roles$;

comment on role ai_storage_owner is
    'Owns the schemas, tables and tenant functions; sees one tenant at a time.';
comment on role ai_storage_sharing is 'Owns the functions that read a row another tenant shared.';
comment on role ai_storage_operator is
    'Owns the functions that act before a tenant is known or across tenants.';
comment on role ai_storage_app is
    'Group of application logins: may call the tenant functions, owns and reads no table.';
comment on role ai_storage_admin is 'Group of people: may call the operator functions.';
comment on role ai_storage_auditor is
    'Group of people: may call the read-only audit and compliance functions.';
comment on role ai_storage_sql is
    'Opt-in group for reporting: may select from the view ai_storage.ai_progress_tenant.';

create schema if not exists ai_storage authorization ai_storage_owner;
create schema if not exists ai_storage_private authorization ai_storage_owner;
create schema if not exists ai_storage_migration authorization ai_storage_owner;

do $owned$
begin
    if exists (
        select from pg_namespace as n
        where n.nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration')
          and n.nspowner <> 'ai_storage_owner'::regrole
    ) then
        raise exception using
            errcode = '42501',
            message = 'a schema of this package belongs to somebody else',
            hint = 'Find out who made ai_storage, ai_storage_private or ai_storage_migration, and '
                'drop it.';
    end if;
end;
$owned$;

-- Not even the schemas' owner may name what another owner made there, unless 90_grants.sql says so.
set role ai_storage_owner;
revoke all on schema ai_storage, ai_storage_private, ai_storage_migration from public;
grant usage, create on schema ai_storage, ai_storage_private
to ai_storage_sharing, ai_storage_operator;
reset role;

-- Functions are born closed: what 90_grants.sql does not open stays shut.
alter default privileges for role ai_storage_owner revoke execute on functions from public;
alter default privileges for role ai_storage_sharing revoke execute on functions from public;
alter default privileges for role ai_storage_operator revoke execute on functions from public;
