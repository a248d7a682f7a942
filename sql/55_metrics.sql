-- What an operator watches: figures of the whole database, for Prometheus or any other monitor.
--
-- No label and no value tells of a tenant, an organisation, a model or a login. Every figure costs
-- the same however many tenants there are: sizes are the file system's, counts of whole tables are
-- PostgreSQL's estimates, and what is counted is counted up to 10000.
--
-- Tables: reads those of 12, 25 and 40 through the operator's policies; owns none.
-- Errors: none of its own.

set local role ai_storage_operator;

create or replace function ai_storage.metrics()
returns table (metric text, kind text, help text, labels jsonb, value double precision)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_now           constant timestamptz := clock_timestamp();
    v_most          constant integer := 10000;
    v_count         bigint;
    v_oldest        timestamptz;
    v_checkpoint    bigint;
    v_chained_at    timestamptz;
    v_tail          tid;
    v_unchained     bigint;
    v_abandoned     bigint;
begin
    perform ai_storage_private.require_owner();
    return query
    select
        'ai_storage_info', 'gauge', 'The release, as a label; always 1.',
        jsonb_build_object('version', ai_storage.version()), 1::double precision;

    -- As the planner estimates: rows per page when it was last analyzed, times the pages now.
    -- It outlives a crash and a failover. Of a table that never was, what the statistics counted.
    return query
    select
        m.metric, 'gauge', m.help, '{}'::jsonb,
        case when c.reltuples > 0 and c.relpages > 0
            then round(
                c.reltuples::double precision / c.relpages
                * (pg_relation_size(c.oid) / current_setting('block_size')::bigint)
            )
            else pg_stat_get_live_tuples(c.oid)::double precision
        end
    from (
        values
        ('tenant', 'ai_storage_tenants', 'Registered tenants, an estimate.'),
        ('ai_progress_tenant', 'ai_storage_models', 'Models, an estimate.'),
        ('progress_version', 'ai_storage_versions', 'Versions of models, an estimate.'),
        ('model_share', 'ai_storage_grants', 'Grants on models, an estimate.'),
        ('model_artifact', 'ai_storage_artifacts', 'Artifacts of models, an estimate.'),
        ('audit_event', 'ai_storage_sealed_events', 'Events under a seal, an estimate.'),
        ('idempotency_key', 'ai_storage_idempotency_keys',
            'Idempotency keys that are kept, an estimate. Rules of retention let them go.')
    ) as m (table_name, metric, help)
    join pg_class as c
        on c.relname = m.table_name
        and c.relnamespace = 'ai_storage_private'::regnamespace
    order by m.metric;

    return query
    select
        'ai_storage_table_bytes', 'gauge',
        'Size of a table with its indexes and large values, in bytes.',
        jsonb_build_object('table', c.relname), pg_total_relation_size(c.oid)::double precision
    from pg_class as c
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relkind = 'r'
    order by c.relname;

    -- Sealing reads these tables whole every time, so they stay short, or that is what is wrong.
    select count(*), min(p.recorded_at) into v_count, v_oldest
    from (
        select d.recorded_at
        from ai_storage_private.audit_pending as d
        limit v_most
    ) as p;
    select c.checkpoint_number, c.created_at into v_checkpoint, v_chained_at
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number desc
    limit 1;
    select count(*) into v_unchained
    from (
        select s.seal_number
        from ai_storage_private.audit_seal as s
        where s.checkpoint_number > coalesce(v_checkpoint, 0)
        limit v_most
    ) as s;
    select count(*) into v_abandoned
    from (
        select a.touched_at
        from ai_storage_private.artifact_upload as a
        limit v_most
    ) as u
    where u.touched_at < v_now - interval '1 day';
    return query
    values
    (
        'ai_storage_unsealed_events', 'gauge',
        'Events that wait to be sealed, counted up to 10000.',
        '{}'::jsonb, v_count::double precision
    ),
    (
        'ai_storage_oldest_unsealed_event_age_seconds', 'gauge',
        'How long the oldest of these events waits, in seconds; 0 when none does.',
        '{}',
        coalesce(extract(epoch from v_now - v_oldest), 0)::double precision
    ),
    (
        'ai_storage_unchained_seals', 'gauge',
        'Seals that no checkpoint covers yet, counted up to 10000.',
        '{}', v_unchained::double precision
    ),
    (
        'ai_storage_abandoned_uploads', 'gauge',
        'Uploads that stood still for a day and wait to be swept, out of 10000 that are looked '
        'at.',
        '{}', v_abandoned::double precision
    );

    -- Seals are only ever added, so the newest are at the table's end.
    v_tail := format(
        '(%s,0)',
        greatest(0, pg_relation_size('ai_storage_private.audit_seal')
            / current_setting('block_size')::bigint - 8)
    )::tid;
    return query
    select
        'ai_storage_last_seal_age_seconds', 'gauge',
        'Since when no event was sealed, in seconds. No seal is made when no event waits.',
        '{}'::jsonb, extract(epoch from v_now - max(s.sealed_at))::double precision
    from ai_storage_private.audit_seal as s
    where s.ctid >= v_tail
    having count(*) > 0;

    if v_checkpoint is not null then
        return query
        values
        (
            'ai_storage_last_checkpoint_age_seconds', 'gauge',
            'How old the last checkpoint is, in seconds.',
            '{}'::jsonb, extract(epoch from v_now - v_chained_at)::double precision
        );
    end if;

    return query
    select
        'ai_storage_refused_credentials_total', 'counter',
        'Credentials that were refused since the installation. A crash may add up to 32.',
        '{}'::jsonb, case when r.is_called then r.last_value else 0 end::double precision
    from ai_storage_private.refused_credential as r;

    select count(*), min(k.created_at) into v_count, v_oldest
    from ai_storage_private.signing_key as k
    where k.retired_at is null;
    return query
    values
    (
        'ai_storage_signing_keys', 'gauge', 'Keys in use that sign tokens.',
        '{}'::jsonb, v_count::double precision
    ),
    (
        'ai_storage_oldest_signing_key_age_seconds', 'gauge',
        'How old the oldest of these keys is, in seconds; 0 without any. Rotate after 90 days.',
        '{}', coalesce(extract(epoch from v_now - v_oldest), 0)::double precision
    );

    return query
    select m.metric, 'gauge', m.help, '{}'::jsonb, m.value
    from pg_database as d
    cross join lateral (
        values
        (
            'ai_storage_database_age_transactions',
            'Transactions since the database''s oldest unfrozen row; writes end at 2 billion.',
            age(d.datfrozenxid)::double precision
        ),
        (
            'ai_storage_database_age_multixacts',
            'The same of row locks that transactions share.',
            mxid_age(d.datminmxid)::double precision
        )
    ) as m (metric, help, value)
    where d.datname = current_database();
end;
$fn$;
comment on function ai_storage.metrics() is
    'Figures of the whole database for a monitor, in the terms of Prometheus: kind is gauge or '
    'counter. None tells of a tenant, and each costs the same however many there are. pydb metrics '
    'prints them as text.';
