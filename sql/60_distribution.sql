-- One database on many servers, by Citus: every tenant's rows lie together on one node.
--
-- Tables of tenants are distributed by tenant_id and colocated, so a call reaches one shard. Small
-- tables stay on the coordinator, where every call begins, so to check a credential costs no more
-- than without a cluster. Every node has the secret that signs contexts: row level security holds
-- there too, with the context that send_context() in 10_context.sql sends along.
--
-- Nodes get no function but those that policies and triggers run, and nobody may call these. Citus
-- connects to nodes as the owning roles, so on a cluster these may log in: pg_hba.conf has to let
-- the coordinator alone do so. Errors: 0A000, 42501, 55000.

set local role ai_storage_owner;

create or replace function ai_storage.distribution_plan()
returns table (place integer, table_name text, kind text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $fn$
    select
        p.place,
        p.table_name,
        p.kind
    from (
        values
            (1, 'ai_progress_tenant', 'distributed'),
            (2, 'progress_version', 'distributed'),
            (3, 'deleted_model', 'distributed'),
            (4, 'idempotency_key', 'distributed'),
            (5, 'model_artifact', 'distributed'),
            (6, 'artifact_blob', 'distributed'),
            (7, 'artifact_chunk', 'distributed'),
            (8, 'artifact_upload', 'distributed'),
            (9, 'tenant_cache_key', 'distributed'),
            (10, 'node_event', 'distributed'),
            (11, 'audit_event', 'distributed'),
            (12, 'audit_seal', 'distributed'),
            (13, 'context_secret', 'every node'),
            (14, 'tenant', 'coordinator'),
            (15, 'login_authorization', 'coordinator'),
            (16, 'signing_key', 'coordinator'),
            (17, 'model_share', 'coordinator'),
            (18, 'external_sharing_permit', 'coordinator'),
            (19, 'artifact_limit', 'coordinator'),
            (20, 'audit_pending', 'coordinator'),
            (21, 'audit_checkpoint', 'coordinator'),
            (22, 'refusal_report', 'coordinator'),
            (23, 'retention_rule', 'coordinator'),
            (24, 'erasure_certificate', 'coordinator')
    ) as p (place, table_name, kind);
$fn$;
comment on function ai_storage.distribution_plan() is
    'What distribute() makes of each private table, in its order. kind: distributed, by tenant_id; '
    'every node, a copy of its own; coordinator, where it is now. Needs no cluster.';

create or replace function ai_storage_private.run_on_nodes(p_command text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_failure text;
begin
    execute 'select r.nodename || '':'' || r.nodeport || '': '' || r.result '
        'from run_command_on_workers($1) as r where not r.success limit 1'
    into v_failure
    using p_command;
    if v_failure is not null then
        raise exception using
            errcode = '55000',
            message = 'a node refused what it needs',
            detail = v_failure,
            hint = 'Mend the node, then call distribute() again.';
    end if;
end;
$fn$;
comment on function ai_storage_private.run_on_nodes(text) is
    'Runs a statement on every node but the coordinator, at once and for good. Raises 55000.';

create or replace function ai_storage_private.check_cluster()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_version text;
    v_workers bigint;
begin
    select e.extversion into v_version
    from pg_extension as e
    where e.extname = 'citus';
    if v_version is null then
        raise exception using
            errcode = '55000',
            message = 'citus is not installed in this database',
            hint = 'Install Citus on every server, and in this database: create extension citus, '
                'citus_set_coordinator_host(), citus_add_node().';
    end if;
    if split_part(v_version, '.', 1)::integer < 13 then
        raise exception using
            errcode = '0A000',
            message = 'this version of citus is too old',
            hint = 'Use Citus 13 or later.';
    end if;
    if current_setting('wal_level') <> 'logical' then
        raise exception using
            errcode = '55000',
            message = 'wal_level is not logical',
            hint = 'Set wal_level = logical on every server and restart them: a tenant moves '
                'between nodes by logical replication.';
    end if;
    execute 'select count(*) from pg_dist_node where isactive and groupid > 0' into v_workers;
    if v_workers = 0 then
        raise exception using
            errcode = '55000',
            message = 'the cluster has no worker',
            hint = 'Add one: select citus_add_node(host, port).';
    end if;
    -- The first statement that reaches every node: one that is down, or open to nobody, shows here.
    perform ai_storage_private.run_on_nodes('select 1');
end;
$fn$;
comment on function ai_storage_private.check_cluster() is
    'Refuses to distribute where something is missing. Raises 0A000, 55000.';

create or replace function ai_storage_private.prepare_nodes()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_role   text;
    v_name   text;
    v_secret record;
begin
    perform ai_storage_private.run_on_nodes(format(
        'do $node$ begin set local citus.enable_ddl_propagation = off; '
        'alter database %I set citus.enable_unsafe_triggers = on; end $node$',
        current_database()
    ));
    foreach v_role in array array[
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
        'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    ] loop
        perform ai_storage_private.run_on_nodes(format(
            'do $node$ begin set local citus.enable_ddl_propagation = off; '
            'if not exists (select from pg_roles where rolname = %1$L) then '
            'create role %1$I; alter role %1$I %2$s; end if; end $node$',
            v_role,
            case when v_role in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
                then 'login' else 'nologin'
            end
        ));
    end loop;
    foreach v_name in array array['ai_storage', 'ai_storage_private'] loop
        perform ai_storage_private.run_on_nodes(format(
            'do $node$ begin set local citus.enable_ddl_propagation = off; '
            'create schema if not exists %1$I authorization ai_storage_owner; '
            'grant usage, create on schema %1$I to ai_storage_sharing, ai_storage_operator; '
            'alter default privileges for role '
            'ai_storage_owner, ai_storage_sharing, ai_storage_operator '
            'revoke execute on functions from public; end $node$',
            v_name
        ));
    end loop;

    -- A node without the secret believes nobody.
    select s.inner_key, s.outer_key into v_secret
    from ai_storage_private.context_secret as s;
    -- Calls are under way on a node that has the table: no lock that they wait for.
    perform ai_storage_private.run_on_nodes(format(
        'do $node$ begin set local citus.enable_ddl_propagation = off; '
        'if to_regclass(''ai_storage_private.context_secret'') is null then '
        'create table ai_storage_private.context_secret ('
        'inner_key bytea not null, outer_key bytea not null, '
        'is_distributed boolean not null default false); '
        'alter table ai_storage_private.context_secret owner to ai_storage_owner; '
        'alter table ai_storage_private.context_secret enable row level security; '
        'alter table ai_storage_private.context_secret force row level security; '
        'create policy operator_signs_contexts on ai_storage_private.context_secret '
        'to ai_storage_operator using (true) with check (true); '
        'grant select, insert, delete on ai_storage_private.context_secret '
        'to ai_storage_operator; end if; '
        'delete from ai_storage_private.context_secret where inner_key <> %1$L; '
        'if not exists (select from ai_storage_private.context_secret) then '
        'insert into ai_storage_private.context_secret values (%1$L, %2$L); end if; end $node$',
        v_secret.inner_key, v_secret.outer_key
    ));
end;
$fn$;
comment on function ai_storage_private.prepare_nodes() is
    'Gives every node the roles, the schemas and the secret. Can be repeated. Raises 55000.';

create or replace function ai_storage_private.rest_triggers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
begin
    set local citus.propagate_set_commands = 'local';
    execute 'set local session_replication_role = replica';
    set local citus.propagate_set_commands = 'none';
end;
$fn$;
comment on function ai_storage_private.rest_triggers() is
    'Stops the triggers on nodes until the transaction ends. To be called by PERFORM, as '
    'send_context().';

create or replace function ai_storage_private.send_function(p_function regprocedure)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_is_there boolean;
begin
    execute 'select exists (select from pg_catalog.pg_dist_object '
        'where classid = ''pg_proc''::regclass and objid = $1)'
    into v_is_there
    using p_function;
    if v_is_there then
        -- A migration changed it here alone.
        perform ai_storage_private.run_on_nodes(format(
            'do $node$ begin set local citus.enable_ddl_propagation = off; '
            'set local check_function_bodies = off; execute %L; end $node$',
            pg_get_functiondef(p_function)
        ));
    else
        execute 'select create_distributed_function($1)'
        using p_function;
    end if;
end;
$fn$;
comment on function ai_storage_private.send_function(regprocedure) is
    'Gives every node a function as it is here. Raises 55000.';

create or replace function ai_storage.distribute()
returns table (table_name text, kind text, rows bigint)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_table  record;
    v_name   text;
    v_before bigint;
    v_done   boolean;
begin
    if not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
        raise exception using
            errcode = '42501',
            message = 'only a superuser distributes a database',
            hint = 'Row level security hides the rows that have to move from anybody else.';
    end if;
    perform ai_storage_private.check_cluster();
    -- Also here, since Citus makes roles on nodes as they are on the coordinator.
    foreach v_name in array array[
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
    ] loop
        if not (select r.rolcanlogin from pg_roles as r where r.rolname = v_name) then
            execute format('alter role %I login', v_name);
        end if;
    end loop;
    perform ai_storage_private.prepare_nodes();

    set local citus.multi_shard_modify_mode = 'sequential';
    set local citus.enable_unsafe_triggers = on;
    -- To move a row is no change of it: triggers on the nodes rest meanwhile.
    perform ai_storage_private.rest_triggers();
    execute format(
        'alter database %I set citus.enable_unsafe_triggers = on', current_database()
    );
    -- What policies and triggers run on a node.
    foreach v_name in array array[
        'context_mac(bytea, bytea, text)',
        'verified_context()',
        'current_tenant_id()',
        'current_credential()',
        'lent_tenant_ids()',
        'lent_ids()',
        'model_content(double precision, bigint, jsonb, jsonb)',
        'record_event(bigint, text, uuid, bigint, text, jsonb)',
        'record_model_change()',
        'record_artifact_change()',
        'record_change()',
        'sweep_blobs(bigint, uuid[])',
        'forget_artifacts(bigint, uuid)',
        'forget_model()',
        'content_sha256(bytea[])',
        'micros(timestamptz)',
        'leaf_hash(bigint, uuid, bigint, integer, timestamptz, text, uuid, bigint, text, bytea, '
            'bytea, text)',
        'merkle_root(bytea[])'
    ] loop
        perform ai_storage_private.send_function(('ai_storage_private.' || v_name)::regprocedure);
    end loop;

    for v_table in
        select p.*
        from ai_storage.distribution_plan() as p
        order by p.place
    loop
        table_name := v_table.table_name;
        kind := v_table.kind;
        execute format('select count(*) from ai_storage_private.%I', table_name) into v_before;
        rows := v_before;
        if kind = 'distributed' then
            execute 'select exists (select from pg_dist_partition '
                'where logicalrelid = $1::regclass)'
            into v_done
            using 'ai_storage_private.' || table_name;
            if not v_done then
                execute 'select create_distributed_table($1::regclass, ''tenant_id'', '
                    'colocate_with => $2)'
                using
                    'ai_storage_private.' || table_name,
                    case table_name
                        when 'ai_progress_tenant' then 'none'
                        when 'audit_event' then 'none'
                        when 'audit_seal' then 'ai_storage_private.audit_event'
                        else 'ai_storage_private.ai_progress_tenant'
                    end;
                execute format('select count(*) from ai_storage_private.%I', table_name)
                into rows;
                if rows <> v_before then
                    raise exception using
                        errcode = '55000',
                        message = 'rows were lost on the way to the nodes',
                        hint = 'Nothing was changed. Row level security hides rows from this role.';
                end if;
                -- What moved is still there, too, and nobody sees it.
                execute 'select truncate_local_data_after_distributing_table($1::regclass)'
                using 'ai_storage_private.' || table_name;
            end if;
        end if;
        return next;
    end loop;

    -- These take a row of a table, so they come after it.
    foreach v_name in array array[
        'seal_hash(ai_storage_private.audit_seal)',
        'check_seal(ai_storage_private.audit_seal, bytea[])',
        'render_event(ai_storage_private.audit_event)'
    ] loop
        perform ai_storage_private.send_function(('ai_storage_private.' || v_name)::regprocedure);
    end loop;

    -- Sent to the nodes, on which functions are born open.
    for v_name in
        select p.oid::regprocedure::text
        from pg_proc as p
        where p.pronamespace in (
            'ai_storage'::regnamespace, 'ai_storage_private'::regnamespace
        )
        order by 1
    loop
        execute format('revoke all on function %s from public', v_name);
    end loop;
    execute 'set local session_replication_role = origin';
    update ai_storage_private.context_secret as s set
        is_distributed = true
    where not s.is_distributed;
end;
$fn$;
comment on function ai_storage.distribute() is
    'Distributes the tenants'' tables over the nodes of this Citus cluster, and returns what '
    'became of each table. To be called by a superuser, also again: after a migration, and when a '
    'node was added, which needs the secret and closed functions before it gets a shard. Raises '
    '0A000, 42501, 55000.';
