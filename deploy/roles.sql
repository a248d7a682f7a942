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

-- Roles belong to the server. Whoever made one of these names first may log in as it, or become it,
-- and would own what is installed here. So none is taken over that has more than this file gives.
-- Where the schema is in place, its administrators are members, and groups are used as people like.
do $prepared$
declare
    v_installed constant boolean := exists (
        select from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'ai_storage_migration' and c.relname = 'applied_file'
    );
    v_owning    constant name[] := '{ai_storage_owner,ai_storage_sharing,ai_storage_operator}';
    v_role      record;
begin
    -- Settings and a password of a group are its members' to make (set role, alter role), and do
    -- nothing, since it cannot log in: they are no reason to refuse.
    for v_role in
        select r.rolname, w.what, w.mend
        from pg_roles as r
        cross join lateral (
            select 'it may log in', format('alter role %I nologin', r.rolname)
            where r.rolcanlogin
            union all
            select 'it has powers on the server', format(
                'alter role %I nosuperuser nobypassrls nocreaterole nocreatedb noreplication',
                r.rolname
            )
            where r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb
               or r.rolreplication
            union all
            select 'it has settings', format('alter role %I reset all', r.rolname)
            from pg_db_role_setting as s
            where s.setrole = r.oid and s.setdatabase = 0 and r.rolname = any (v_owning)
            union all
            select
                'it has settings in database ' || d.datname,
                format('alter role %I in database %I reset all', r.rolname, d.datname)
            from pg_db_role_setting as s
            join pg_database as d on d.oid = s.setdatabase
            where s.setrole = r.oid and r.rolname = any (v_owning)
            union all
            select
                'it is a member of ' || g.rolname, format('revoke %I from %I', g.rolname, r.rolname)
            from pg_auth_members as m
            join pg_roles as g on g.oid = m.roleid
            where m.member = r.oid
              and (g.rolname, r.rolname) <> ('ai_storage_app', 'ai_storage_operator')
              and (r.rolname = any (v_owning) or not v_installed)
            union all
            select
                l.rolname || ' is a member of it',
                format('revoke %I from %I', r.rolname, l.rolname)
                    || '. Or, if that login is to administer this database, run this as it'
            from pg_auth_members as m
            join pg_roles as l on l.oid = m.member
            where m.roleid = r.oid
              and not v_installed
              and not l.rolsuper
              and l.rolname not in (current_user, session_user)
              and (r.rolname, l.rolname) <> ('ai_storage_app', 'ai_storage_operator')
              -- Whoever calls tenants' functions still needs an authorisation in each database.
              and (m.admin_option or r.rolname not in ('ai_storage_app', 'ai_storage_sql'))
            union all
            select
                'it owns ' || pg_describe_object(d.classid, d.objid, d.objsubid),
                format('drop it, or give it away: reassign owned by %I to another role', r.rolname)
            from pg_shdepend as d
            where d.dbid = (select c.oid from pg_database as c where c.datname = current_database())
              and d.refclassid = 'pg_authid'::regclass
              and d.refobjid = r.oid
              and d.deptype = 'o'
              and not v_installed
              -- What this file itself makes, when what comes after it failed.
              and d.objid not in (
                  select n.oid from pg_namespace as n
                  where n.nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration')
                  union all
                  select a.oid from pg_default_acl as a
                  where not exists (
                      select from aclexplode(a.defaclacl) as e where e.grantee <> a.defaclrole
                  )
              )
        ) as w (what, mend)
        where r.rolname in (
            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
            'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
        )
        order by r.rolname, w.what
        limit 1
    loop
        raise exception using
            errcode = '42501',
            message = format('role %I was made or changed by somebody else', v_role.rolname),
            detail = format('As it is, %s.', v_role.what),
            hint = format(
                'Find out who did it. Then, as a superuser or whoever made the role: %s.',
                v_role.mend
            );
    end loop;

    -- Not a plain query, since others than superusers may not name that table.
    if has_table_privilege('pg_authid', 'select') then
        for v_role in
            execute $q$select rolname from pg_authid where rolpassword is not null and rolname in (
                'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
            )$q$
        loop
            raise exception using
                errcode = '42501',
                message = format('role %I was made or changed by somebody else', v_role.rolname),
                detail = 'It has a password.',
                hint = format(
                    'Find out who did it. Then, as a superuser or whoever made the role: '
                    'alter role %I password null.',
                    v_role.rolname
                );
        end loop;
    end if;
end;
$prepared$;

do $roles$
declare
    v_role     name;
    v_language name;
begin
    foreach v_role in array array[
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
        'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    ] loop
        if not exists (select from pg_roles as r where r.rolname = v_role) then
            execute format('create role %I nologin', v_role);
        end if;
    end loop;

    -- authorize_login() grants the application role, and runs as the operator.
    if not exists (
        select from pg_auth_members as m
        where m.roleid = 'ai_storage_app'::regrole
          and m.member = 'ai_storage_operator'::regrole
          and m.admin_option
    ) then
        grant ai_storage_app to ai_storage_operator with admin option;
    end if;

    -- The migrating login acts as the three owners. A superuser may do so anyway.
    if not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
        foreach v_role in array array[
            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_admin'
        ] loop
            if not pg_has_role(current_user, v_role, 'USAGE') then
                execute format('grant %I to current_user', v_role);
            end if;
        end loop;
    end if;

    -- PUBLIC may use them, unless somebody hardened the server.
    foreach v_role in array array[
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
    ] loop
        foreach v_language in array array['plpgsql', 'sql'] loop
            if not has_language_privilege(v_role, v_language, 'USAGE') then
                execute format('grant usage on language %I to %I', v_language, v_role);
            end if;
        end loop;
    end loop;
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
declare
    v_schema record;
begin
    select n.nspname, n.nspowner::regrole as owner
    into v_schema
    from pg_namespace as n
    where n.nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration')
      and n.nspowner <> 'ai_storage_owner'::regrole
    order by n.nspname
    limit 1;
    if found then
        raise exception using
            errcode = '42501',
            message = format('schema %I belongs to somebody else', v_schema.nspname),
            detail = format('Its owner is %s.', v_schema.owner),
            hint = 'If this database was restored, its owners and rights were left out: restore it '
                'again, roles first, without --no-owner and --no-acl. Else find out whose the '
                'schema is; it may hold data.';
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
