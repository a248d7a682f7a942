-- Where the tenants of a distributed database live, and how they move: shard_map(), move_tenant(),
-- rebalance(), add_node(), and what is wrong with a node.
--
-- All of them act as who calls them, who has to be a superuser: Citus moves shards for nobody else,
-- and row level security hides the rows that are counted and hashed. What of Citus they name stands
-- in dynamic SQL, since one server alone does not have it.
-- A shard that moves is read meanwhile, and who writes to it waits. Logical replication would let
-- him write, but applies nothing to tables with forced row level security, as ours are: a move of a
-- tenant that is written would never end.
-- Errors: 42501, 42704, 55000.

set local role ai_storage_owner;

create or replace function ai_storage_private.refuse_but_superuser()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
begin
    if not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
        raise exception using
            errcode = '42501',
            message = 'only a superuser sees where all tenants live, and moves them',
            hint = 'Connect as the superuser who called distribute().';
    end if;
end;
$fn$;
comment on function ai_storage_private.refuse_but_superuser() is
    'The first step of what looks at all nodes of a cluster. Raises 42501.';

create or replace function ai_storage_private.is_distributed()
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_is_distributed boolean := false;
begin
    if exists (select from pg_extension as e where e.extname = 'citus') then
        execute 'select exists (select from pg_dist_partition where logicalrelid = $1::regclass)'
        into v_is_distributed
        using 'ai_storage_private.ai_progress_tenant';
    end if;
    return v_is_distributed;
end;
$fn$;
comment on function ai_storage_private.is_distributed() is
    'Whether distribute() has spread this database over nodes.';

create or replace function ai_storage_private.check_distributed()
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
begin
    perform ai_storage_private.refuse_but_superuser();
    if not ai_storage_private.is_distributed() then
        raise exception using
            errcode = '55000',
            message = 'this database is not distributed',
            hint = 'All tenants live on this one server. pydb distribute spreads them over a Citus '
                'cluster.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_distributed() is
    'Refuses what needs a distributed database. Raises 42501, 55000.';

create or replace function ai_storage_private.tenant_shards(p_tenant_id bigint)
returns table (
    place integer, table_name text, colocation integer, shard_id bigint, is_alone boolean, node text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
begin
    return query execute
        'select p.place, p.table_name, d.colocationid, s.shardid, '
        's.shardminvalue = s.shardmaxvalue, n.nodename || '':'' || n.nodeport '
        'from ai_storage.distribution_plan() as p '
        'join pg_dist_partition as d '
        'on d.logicalrelid = to_regclass(''ai_storage_private.'' || p.table_name) '
        'join pg_dist_shard as s on s.logicalrelid = d.logicalrelid '
        'and worker_hash($1) between s.shardminvalue::integer and s.shardmaxvalue::integer '
        'join pg_dist_placement as l on l.shardid = s.shardid '
        'join pg_dist_node as n on n.groupid = l.groupid and n.noderole = ''primary'' '
        'where p.kind = ''distributed'' order by p.place'
    using p_tenant_id;
end;
$fn$;
comment on function ai_storage_private.tenant_shards(bigint) is
    'The shards that hold a tenant, by table. colocation: tables of one number move together. '
    'is_alone: no other tenant is in the shard.';

create or replace function ai_storage_private.shard_digests(p_shards text[], p_nodes text[])
returns text[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_command text;
    v_failure text;
    v_digests text[];
begin
    -- p_shards: table and shard id, as table_102008. A row is hashed as it is sent in binary, which
    -- no setting of a node changes.
    select
        'select encode(sha256(string_agg(d.digest, '''' order by d.place)), ''hex'') from (' ||
        string_agg(
            format(
                'select %s as place, sha256(coalesce(string_agg('
                'sha256(record_send(t)), ''''::bytea order by %s), '''')) as digest '
                'from ai_storage_private.%I as t',
                s.place,
                (
                    select string_agg(format('t.%I', a.attname), ', ' order by k.place)
                    from pg_index as i
                    cross join unnest(i.indkey::smallint[]) with ordinality as k (number, place)
                    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
                    where i.indisprimary
                      and i.indrelid = (
                          'ai_storage_private.' || regexp_replace(s.name, '_[0-9]+$', '')
                      )::regclass
                ),
                s.name
            ),
            ' union all ' order by s.place
        ) || ') as d'
    into v_command
    from unnest(p_shards) with ordinality as s (name, place);

    execute
        'select array_agg(r.result order by array_position($1, r.node)), '
        'min(r.node || '': '' || r.result) filter (where not r.success) '
        'from (select m.node_name || '':'' || m.node_port as node, m.success, m.result '
        'from master_run_on_worker('
        '(select array_agg(split_part(n.name, '':'', 1) order by n.place) '
        'from unnest($1) with ordinality as n (name, place)), '
        '(select array_agg(split_part(n.name, '':'', 2)::integer order by n.place) '
        'from unnest($1) with ordinality as n (name, place)), '
        'array_fill($2, array[cardinality($1)]), true) as m) as r'
    into v_digests, v_failure
    using p_nodes, v_command;
    if v_failure is not null then
        raise exception using
            errcode = '55000',
            message = 'a node could not hash its rows',
            detail = v_failure,
            hint = 'Nothing was moved. Mend the node, then try again.';
    end if;
    return v_digests;
end;
$fn$;
comment on function ai_storage_private.shard_digests(text[], text[]) is
    'SHA-256 over all rows of some shards in the order of their keys, as each of some nodes has '
    'them. Raises 55000.';

create or replace function ai_storage.check_nodes()
returns table (node text, problem text, detail text)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_secret text;
begin
    if not exists (select from pg_extension as e where e.extname = 'citus') then
        return;
    end if;
    if not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
        raise exception using
            errcode = '42501',
            message = 'only a superuser looks at all nodes',
            hint = 'Connect as the superuser who called distribute().';
    end if;
    -- pydb doctor calls this and nothing else, so all of it stands here.
    select encode(sha256(s.inner_key || s.outer_key), 'hex') into v_secret
    from ai_storage_private.context_secret as s;
    return query execute
        $query$
            select r.nodename || ':' || r.nodeport, 'secret', case when r.success
                then 'another secret than the coordinator''s, or none'
                else 'no secret'
            end
            from run_command_on_workers(
                'select encode(sha256(inner_key || outer_key), ''hex'') '
                'from ai_storage_private.context_secret'
            ) as r
            where not r.success or r.result is distinct from $1
        $query$
    using v_secret;
    return query execute
        $query$
            select r.nodename || ':' || r.nodeport, coalesce(f.problem, 'unreachable'),
                coalesce(f.detail, r.result)
            from run_command_on_workers(
                $node$
                    select coalesce(jsonb_agg(jsonb_build_array(f.problem, f.detail)), '[]')
                    from (
                        select 'function', p.oid::regprocedure::text
                        from pg_proc as p
                        cross join aclexplode(
                            coalesce(p.proacl, acldefault('f', p.proowner))
                        ) as a
                        where p.pronamespace in (
                            to_regnamespace('ai_storage'), to_regnamespace('ai_storage_private')
                        ) and a.grantee = 0
                        union all
                        select 'role', i.name || case when r.rolname is null
                            then ' does not exist' else ' may not log in'
                        end
                        from unnest(array[
                            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
                        ]) as i (name)
                        left join pg_roles as r on r.rolname = i.name
                        where r.rolcanlogin is not true
                        union all
                        select 'role', r.rolname || ' is superuser or bypasses row level security'
                        from pg_roles as r
                        where r.rolname in (
                            'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
                        ) and (r.rolsuper or r.rolbypassrls)
                        union all
                        select 'policy', p.polname || ' on ' || p.polrelid::regclass
                        from pg_policy as p
                        join pg_class as c on c.oid = p.polrelid
                        where c.relnamespace = to_regnamespace('ai_storage_private')
                          and not p.polpermissive
                        union all
                        select 'policy', 'no row level security on ' || c.oid::regclass
                        from pg_class as c
                        where c.relnamespace = to_regnamespace('ai_storage_private')
                          and c.relkind in ('r', 'p')
                          and not (c.relrowsecurity and c.relforcerowsecurity)
                        union all
                        select 'setting', s.name || ' = ' || s.setting
                        from pg_settings as s
                        where s.name = 'citus.enable_unsafe_triggers' and s.setting <> 'on'
                           or s.name = 'wal_level' and s.setting <> 'logical'
                        union all
                        select 'unsafe', s.name || ' = off'
                        from pg_settings as s
                        where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
                        union all
                        select 'hba', concat_ws(' ',
                            'line', h.line_number || ':', h.type, h.database, h.user_name,
                            h.address, h.netmask, h.auth_method
                        )
                        from pg_hba_file_rules as h
                        where h.auth_method = 'trust'
                          and h.user_name && array[
                              'all', 'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator'
                          ]
                          and not ('replication' = all (h.database))
                          and not (
                              h.address in (select n.nodename from pg_dist_node as n)
                              and h.netmask is not distinct from case
                                  when h.netmask like '%:%'
                                      then 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
                                  when h.netmask is not null then '255.255.255.255'
                              end
                          )
                    ) as f (problem, detail)
                $node$
            ) as r
            left join lateral (
                select j.value ->> 0, j.value ->> 1
                from jsonb_array_elements(
                    case when r.success then r.result::jsonb else '[null]' end
                ) as j
            ) as f (problem, detail) on true
            where not r.success or f.problem is not null
        $query$;
end;
$fn$;
comment on function ai_storage.check_nodes() is
    'What is wrong with the nodes of a cluster, one row each: secret, function, role, policy, '
    'setting, unsafe, hba, unreachable. No row where all is well, and on one server alone. For '
    'superusers; pydb doctor shows it. Raises 42501.';

create or replace function ai_storage_private.check_node(p_node text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_problem text;
begin
    select n.node || ': ' || n.problem || ': ' || n.detail into v_problem
    from ai_storage.check_nodes() as n
    where (p_node is null or n.node = p_node)
      and n.problem not in ('unsafe', 'hba')
    limit 1;
    if v_problem is not null then
        raise exception using
            errcode = '55000',
            message = 'a node is not ready for tenants',
            detail = v_problem,
            hint = 'pydb doctor shows all that is wrong with nodes. pydb distribute gives them the '
                'secret and closes their functions.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_node(text) is
    'Refuses a node that lacks what keeps tenants apart; null stands for every node. Raises '
    '42501, 55000.';

create or replace function ai_storage.shard_map()
returns table (
    isolation_key text,
    node          text,
    log_node      text,
    shard_id      bigint,
    tenants       bigint,
    models        bigint,
    bytes         bigint,
    queries       bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_tenant_ids bigint[];
    v_models     bigint[];
begin
    perform ai_storage_private.refuse_but_superuser();
    select array_agg(t.tenant_id) into v_tenant_ids
    from ai_storage_private.tenant as t;
    -- By itself, since Citus does not join its own catalog with a distributed table.
    select array_agg(m.tenant_id), array_agg(m.models) into v_tenant_ids, v_models
    from (
        select p.tenant_id, count(*) as models
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = any (v_tenant_ids)
        group by p.tenant_id
    ) as m;
    if not ai_storage_private.is_distributed() then
        return query
        select
            t.isolation_key,
            coalesce(host(inet_server_addr()), 'localhost') || ':' || current_setting('port'),
            coalesce(host(inet_server_addr()), 'localhost') || ':' || current_setting('port'),
            null::bigint,
            count(*) over (),
            coalesce(m.models, 0),
            (
                select sum(pg_total_relation_size(
                    ('ai_storage_private.' || p.table_name)::regclass
                ))
                from ai_storage.distribution_plan() as p
                where p.kind = 'distributed'
            )::bigint,
            null::bigint
        from ai_storage_private.tenant as t
        left join unnest(v_tenant_ids, v_models) as m (tenant_id, models)
            on m.tenant_id = t.tenant_id
        order by 1;
        return;
    end if;
    return query execute
        $query$
            with piece as materialized (
                select
                    s.shardminvalue::integer as first,
                    s.shardmaxvalue::integer as last,
                    min(s.shardid) filter (where c.table_name = $3::regclass) as shard_id,
                    min(c.nodename || ':' || c.nodeport)
                        filter (where c.table_name = $3::regclass) as node,
                    min(c.nodename || ':' || c.nodeport)
                        filter (where c.table_name = $4::regclass) as log_node,
                    sum(c.shard_size)::bigint as bytes
                from citus_shards as c
                join pg_dist_shard as s on s.shardid = c.shardid
                join pg_class as r on r.oid = c.table_name::oid
                where r.relnamespace = 'ai_storage_private'::regnamespace
                group by c.colocation_id, 1, 2
            ),
            asked as (
                select q.tenant_attribute, sum(
                    q.read_count_in_this_period + q.read_count_in_last_period
                    + q.query_count_in_this_period + q.query_count_in_last_period
                )::bigint as queries
                from citus_stat_tenants(true) as q
                group by 1
            ),
            housed as (
                select
                    t.tenant_id, t.isolation_key,
                    min(p.node) as node, min(p.log_node) as log_node, min(p.shard_id) as shard_id,
                    sum(p.bytes)::bigint as bytes
                from ai_storage_private.tenant as t
                join piece as p on worker_hash(t.tenant_id) between p.first and p.last
                group by 1, 2
            )
            select
                h.isolation_key, h.node, h.log_node, h.shard_id,
                count(*) over (partition by h.shard_id), coalesce(m.models, 0), h.bytes, a.queries
            from housed as h
            left join unnest($1, $2) as m (tenant_id, models) on m.tenant_id = h.tenant_id
            left join asked as a on a.tenant_attribute = h.tenant_id::text
            order by 1
        $query$
    using
        v_tenant_ids, v_models,
        'ai_storage_private.ai_progress_tenant', 'ai_storage_private.audit_event';
end;
$fn$;
comment on function ai_storage.shard_map() is
    'Which tenant lives where, one row each. node: host:port of its models; log_node: of its '
    'sealed log; tenants: how many share the shard; bytes: the size of the shards that hold it, '
    'with all who share them; queries: in this period and the last, where citus.stat_tenants_track '
    'is on. On one server alone every tenant lives there, and shard_id is null. Raises 42501.';

create or replace function ai_storage.move_tenant(p_isolation_key text, p_node text)
returns table (
    step text, table_names text[], shard_id bigint, from_node text, digest text, is_done boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_tenant_id bigint;
    v_is_known  boolean;
    v_group     record;
    v_shards    text[];
    v_digests   text[];
begin
    perform ai_storage_private.check_distributed();
    select t.tenant_id into v_tenant_id
    from ai_storage_private.tenant as t
    where t.isolation_key = p_isolation_key;
    if v_tenant_id is null then
        raise exception using
            errcode = '42704',
            message = 'no such tenant',
            hint = 'pydb shards lists the tenants. One that never wrote anything has no place yet.';
    end if;
    execute 'select exists (select from pg_dist_node as n where n.isactive and n.shouldhaveshards '
        'and n.noderole = ''primary'' and n.nodename || '':'' || n.nodeport = $1)'
    into v_is_known
    using p_node;
    if v_is_known is not true then
        raise exception using
            errcode = '42704',
            message = 'no such node that takes tenants',
            hint = 'Name it as host:port, as pydb shards shows nodes. pydb add-node adds one.';
    end if;
    perform ai_storage_private.check_node(p_node);

    -- The first tables that are not there yet, with those that move along.
    select
        s.colocation, s.shard_id, s.is_alone, s.node, s.table_name,
        array_agg(s.table_name::text) over w as names,
        array_agg(s.table_name || '_' || s.shard_id) over w as shards
    into v_group
    from ai_storage_private.tenant_shards(v_tenant_id) as s
    where s.node <> p_node
    window w as (partition by s.colocation order by s.place
        rows between unbounded preceding and unbounded following)
    order by s.place
    limit 1;
    if not found then
        raise exception using
            errcode = '55000',
            message = 'this tenant lives on that node already',
            hint = 'Name another node. pydb shards shows who lives where.';
    end if;

    table_names := v_group.names;
    from_node := v_group.node;
    is_done := false;
    if not v_group.is_alone then
        step := 'isolated';
        execute 'select isolate_tenant_to_new_shard('
            '$1::regclass, $2, ''CASCADE'', shard_transfer_mode => ''block_writes'')'
        into shard_id
        using 'ai_storage_private.' || v_group.table_name, v_tenant_id;
        return next;
        return;
    end if;

    step := 'moved';
    shard_id := v_group.shard_id;
    v_shards := v_group.shards;
    execute 'select citus_move_shard_placement($1, split_part($2, '':'', 1), '
        'split_part($2, '':'', 2)::integer, split_part($3, '':'', 1), '
        'split_part($3, '':'', 2)::integer, ''block_writes'')'
    using shard_id, from_node, p_node;
    -- Up to the commit nobody writes to this tenant, and the old copy is still there.
    v_digests := ai_storage_private.shard_digests(v_shards, array[from_node, p_node]);
    if v_digests[1] is distinct from v_digests[2] or v_digests[1] is null then
        raise exception using
            errcode = '55000',
            message = 'the moved rows are not those that were there',
            hint = 'Nothing was moved. Try again, and look into the logs of both nodes.';
    end if;
    digest := v_digests[1];
    is_done := not exists (
        select from ai_storage_private.tenant_shards(v_tenant_id) as s where s.node <> p_node
    );
    perform ai_storage_private.record_event(0, 'move tenant', p_detail => jsonb_build_object(
        'isolation_key', p_isolation_key, 'tables', table_names, 'from', from_node, 'to', p_node,
        'digest', digest
    ));
    return next;
end;
$fn$;
comment on function ai_storage.move_tenant(text, text) is
    'Does the next step of moving a tenant to a node, host:port: gives it a shard of its own, or '
    'moves that. It is read meanwhile, and writers wait for the step to end. To be called in a '
    'transaction of its own until is_done, as pydb move-tenant does; what was done stays done. '
    'digest: SHA-256 over all rows that moved, alike on both nodes, else nothing moves. Raises '
    '42501, 42704, 55000.';

create or replace function ai_storage.rebalance()
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_job bigint;
begin
    perform ai_storage_private.check_distributed();
    perform ai_storage_private.check_node(null);
    execute 'select citus_rebalance_start(shard_transfer_mode => ''block_writes'')' into v_job;
    perform ai_storage_private.record_event(
        0, 'rebalance', p_detail => jsonb_strip_nulls(jsonb_build_object('job', v_job))
    );
    return v_job;
end;
$fn$;
comment on function ai_storage.rebalance() is
    'Begins to spread shards over all nodes by their size, in the background, and returns the '
    'job''s id, or null when nothing has to move. citus_rebalance_status() shows how far it is, '
    'citus_rebalance_wait() waits. Raises 42501, 55000.';

create or replace function ai_storage.add_node(p_host text, p_port integer default 5432)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    -- Citus makes the logins there and grants them ai_storage_app as its operator did, before it
    -- makes the operator.
    v_command constant text := $node$
        do $do$
        declare
            v_role text;
        begin
            set local citus.enable_ddl_propagation = off;
            foreach v_role in array array[
                'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
                'ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
            ] loop
                if to_regrole(v_role) is null then
                    execute format('create role %I', v_role);
                end if;
            end loop;
        end;
        $do$
    $node$;
    v_failure text;
begin
    perform ai_storage_private.check_distributed();
    execute
        'select r.result from master_run_on_worker('
        'array[$1], array[$2], array[$3], false) as r where not r.success'
    into v_failure
    using p_host, p_port, v_command;
    if v_failure is not null then
        raise exception using
            errcode = '55000',
            message = 'the new node refused what it needs',
            detail = v_failure,
            hint = 'It needs the same database with Citus in it, and lets the coordinator connect.';
    end if;
    execute 'select citus_add_node($1, $2)' using p_host, p_port;
    perform ai_storage_private.record_event(
        0, 'add node', p_detail => jsonb_build_object('node', p_host || ':' || p_port)
    );
end;
$fn$;
comment on function ai_storage.add_node(text, integer) is
    'Adds a server to the cluster, which has the same database with Citus in it. Then, in the next '
    'transaction, distribute() gives it the secret and closes its functions; pydb add-node does '
    'both. It gets no shard before rebalance() or move_tenant(). Raises 42501, 55000.';
