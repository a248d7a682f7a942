-- What `pydb init` and `pydb migrate` do, for people without Python. deploy/installer.py puts the
-- schema's files into it and makes one file for psql of it, and the extension; @schema@ is pg_temp
-- there and tenant_ai_storage here.
--
-- files() has been created before: path and content of deploy/roles.sql, migrations/ and sql/.
-- Names are looked up on a path of PostgreSQL's own from the first statement of install() on. What
-- is read earlier is qualified: whoever owns the database chooses the path it begins with.

create or replace function @schema@.install()
returns setof pg_catalog.text
language plpgsql
volatile
as $install$
declare
    v_before_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
    v_before_role constant pg_catalog.text := pg_catalog.current_setting('role');
    v_release     constant pg_catalog.text := '@release@';
    -- Read before the owner's role is taken, who may not look into the schema of these functions.
    v_paths       pg_catalog.text[];
    v_contents    pg_catalog.text[];
    v_applying    pg_catalog.text;
    v_name        pg_catalog.text;
    v_first       pg_catalog.int8;
    v_file        pg_catalog.record;
    v_table       pg_catalog.regclass;
    v_until       pg_catalog.timestamptz;
    v_deadline    pg_catalog.timestamptz;
    v_state       pg_catalog.text;
    v_said        pg_catalog.text;
    v_detail      pg_catalog.text;
    v_hint        pg_catalog.text;
    v_context     pg_catalog.text;
    v_function    pg_catalog.text;
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    perform set_config('standard_conforming_strings', 'on', true);
    perform set_config('client_min_messages', 'warning', true);
    perform set_config('lock_timeout', '10s', true);

    if current_setting('server_version_num')::integer < @oldest_server@ then
        raise exception using
            errcode = '0A000',
            message = 'this server is too old',
            detail = 'It is PostgreSQL ' || current_setting('server_version') || '.',
            hint = 'Use PostgreSQL 15 to 18.';
    end if;
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception using
            errcode = '0A000',
            message = 'the database is not encoded in UTF8',
            hint = 'Create it with: create database NAME encoding ''UTF8'' template template0';
    end if;

    select array_agg(f.path order by f.place), array_agg(f.content order by f.place)
    into v_paths, v_contents
    from @schema@.files() with ordinality as f (path, content, place);

    -- The first file is deploy/roles.sql, which sets a path and a role of its own.
    v_applying := v_paths[1];
    execute v_contents[1];
    v_applying := null;
    set local role ai_storage_owner;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);

    create table if not exists ai_storage_migration.applied_file (
        path       text        not null,
        sha256     text        not null,
        release    text        not null,
        applied_at timestamptz not null default clock_timestamp(),
        constraint applied_file_pk primary key (path)
    );
    begin
        lock table ai_storage_migration.applied_file in exclusive mode nowait;
    exception when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = 'another migration of this database is running',
            hint = 'Run this again when it has ended.';
    end;
    -- As yoyo makes them, through which pydb applies the migrations.
    if to_regclass('ai_storage_migration._yoyo_version') is null then
        create table ai_storage_migration._yoyo_log (
            id             varchar(36),
            migration_hash varchar(64),
            migration_id   varchar(255),
            operation      varchar(10),
            username       varchar(255),
            hostname       varchar(255),
            comment        varchar(255),
            created_at_utc timestamp,
            primary key (id)
        );
        create table ai_storage_migration._yoyo_migration (
            migration_hash varchar(64),
            migration_id   varchar(255),
            applied_at_utc timestamp,
            primary key (migration_hash)
        );
        create table ai_storage_migration._yoyo_version (
            version          integer not null primary key,
            installed_at_utc timestamp
        );
        insert into ai_storage_migration._yoyo_version (version, installed_at_utc)
        values (2, clock_timestamp() at time zone 'UTC');
    end if;

    select a.path
    into v_name
    from ai_storage_migration.applied_file as a
    where string_to_array(a.release, '.')::integer[] > string_to_array(v_release, '.')::integer[]
       or (
           a.path like 'migrations/%'
           and a.path <> all (v_paths)
       )
    limit 1;
    if found then
        raise exception using
            errcode = '55000',
            message = 'the database is newer than this release',
            detail = 'It has ' || v_name || ' of a newer one.',
            hint = 'Use that release, or a later one.';
    end if;
    select a.path
    into v_name
    from ai_storage_migration.applied_file as a
    join unnest(v_paths, v_contents) as f (path, content) on f.path = a.path
    where a.path like 'migrations/%'
      and a.sha256 <> encode(sha256(convert_to(f.content, 'UTF8')), 'hex')
    limit 1;
    if found then
        raise exception using
            errcode = '55000',
            message = 'a migration is not the one that was applied',
            detail = 'It is ' || v_name || '.',
            hint = 'A migration is history: use the release as it was published.';
    end if;

    -- All pending migrations, then sql/: from the first changed file to the end, since later files
    -- build on earlier ones; all of it after a migration.
    select min(f.place)
    into v_first
    from unnest(v_paths, v_contents) with ordinality as f (path, content, place)
    where f.path like 'sql/%'
      and not exists (
          select from ai_storage_migration.applied_file as a
          where a.path = f.path
            and a.sha256 = encode(sha256(convert_to(f.content, 'UTF8')), 'hex')
      );
    if exists (
        select from unnest(v_paths) as p (path)
        where p.path like 'migrations/%'
          and not exists (
              select from ai_storage_migration._yoyo_migration as m
              where p.path = 'migrations/' || m.migration_id || '.sql'
          )
    ) then
        v_first := 0;
    end if;

    -- All tables at once, and given back before the server looks for a deadlock: pydb/migrate.py
    -- says more.
    v_deadline := clock_timestamp() + interval '10 s';
    while v_first is not null loop
        begin
            v_until := clock_timestamp() + interval '500 ms';
            for v_table in
                select c.oid
                from pg_class as c
                where c.relnamespace = 'ai_storage_private'::regnamespace
                  and c.relkind in ('r', 'p')
                order by
                    array_position(
                        '{signing_key,login_authorization,tenant,context_secret}'::name[],
                        c.relname
                    ),
                    c.relname
            loop
                perform set_config(
                    'lock_timeout',
                    greatest(
                        1, extract(epoch from v_until - clock_timestamp()) * 1000
                    )::integer::text,
                    true
                );
                execute format('lock table %s in access exclusive mode', v_table);
            end loop;
            perform set_config('lock_timeout', '10s', true);
            exit;
        exception when lock_not_available then
            if clock_timestamp() > v_deadline then
                raise;
            end if;
            perform pg_sleep(0.3);
        end;
    end loop;

    for v_file in
        select
            f.path,
            f.content,
            f.place,
            substr(f.path, 12, length(f.path) - 15) as migration_id
        from unnest(v_paths, v_contents) with ordinality as f (path, content, place)
        where f.place > 1
        order by f.place
    loop
        if v_file.path like 'migrations/%' then
            continue when exists (
                select from ai_storage_migration._yoyo_migration as m
                where m.migration_id = v_file.migration_id
            );
        else
            continue when v_first is null or v_file.place < v_first;
        end if;
        v_applying := v_file.path;
        execute v_file.content;
        v_applying := null;
        set local role ai_storage_owner;
        if v_file.path like 'migrations/%' then
            insert into ai_storage_migration._yoyo_migration (
                migration_hash, migration_id, applied_at_utc
            )
            select
                encode(sha256(convert_to(v_file.migration_id, 'UTF8')), 'hex'),
                v_file.migration_id,
                clock_timestamp() at time zone 'UTC';
            insert into ai_storage_migration._yoyo_log (
                id, migration_hash, migration_id, operation, username, hostname, created_at_utc
            )
            select
                gen_random_uuid(), m.migration_hash, m.migration_id, 'apply', session_user, '',
                m.applied_at_utc
            from ai_storage_migration._yoyo_migration as m
            where m.migration_id = v_file.migration_id;
        end if;
        insert into ai_storage_migration.applied_file (path, sha256, release)
        values (
            v_file.path, encode(sha256(convert_to(v_file.content, 'UTF8')), 'hex'), v_release
        )
        on conflict (path) do update set
            sha256     = excluded.sha256,
            release    = excluded.release,
            applied_at = clock_timestamp();
        return next v_file.path;
    end loop;

    perform set_config('role', v_before_role, false);
    perform set_config('search_path', v_before_path, false);
exception when others then
    -- What it raised itself, or what a file's statement did. The context would be the whole file.
    get stacked diagnostics
        v_state = returned_sqlstate,
        v_said = message_text,
        v_detail = pg_exception_detail,
        v_hint = pg_exception_hint,
        v_context = pg_exception_context;
    -- The innermost one: an event trigger's, when it is not ours.
    v_function := (regexp_match(v_context, '^PL/pgSQL function (.*) line [0-9]+ at ', 'n'))[1];
    if v_function !~ '^(inline_code_block|install[(]|ai_storage[a-z_]*[.]|@schema@[.]|pg_temp_[0-9]+[.])' then
        v_said := v_said || ', in function ' || v_function;
        v_hint := coalesce(
            nullif(v_hint, ''), 'An event trigger may have run that function. Disable it.'
        );
    elsif v_hint = '' and v_state = '42501' then
        v_hint := 'Use a superuser, or a login that has CREATEROLE, owns the database and first '
            'created the roles.';
    end if;
    raise exception using
        errcode = v_state,
        message = coalesce(v_applying || ': ', '') || v_said,
        detail = case v_detail when '' then 'Nothing was changed.' else v_detail end,
        hint = case v_hint when '' then 'Mend that, and run this again.' else v_hint end;
end;
$install$;
