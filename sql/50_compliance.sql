-- What an auditor asks: whether the controls hold, now, and what a tenant may know of that.
--
-- A control is a row: its name, the articles it answers, and the query that is its evidence. The
-- report runs the queries and shows them, so nobody has to believe it. A query tells a status
-- (passed, warning, failed; unknown when nobody told) and a result without the time of day: while
-- nothing changes, the evidence is the same byte for byte.
--
-- References: GDPR by article; SOC 2 by criterion of the Trust Services Criteria (2017).
-- Tables: reads those of all concerns, through the operator's policies; owns none.
-- Errors: 22023, and those of 10_context.sql.

set local role ai_storage_operator;

-- The controls ------------------------------------------------------------------------------------

create or replace function ai_storage_private.list_controls()
returns table (place integer, control text, reference text, is_quick boolean, evidence text)
language sql
stable
as $fn$
    -- is_quick: costs the same however many tenants, events and grants there are.
    values
    (
        1, 'row level security is forced on every table',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when bool_and(c.relrowsecurity and c.relforcerowsecurity)
        then 'passed' else 'failed' end,
    coalesce(
        'not on ' || string_agg(c.relname, ', ' order by c.relname)
            filter (where not (c.relrowsecurity and c.relforcerowsecurity)),
        'on ' || count(*) || ' tables'
    )
from pg_class as c
where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind in ('r', 'p')
        $q$
    ),
    (
        2, 'row policies are permissive, and for the owning roles only',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where p.is_foreign) = 0 then 'passed' else 'failed' end,
    coalesce(
        'foreign: ' || string_agg(p.polname, ', ' order by p.polname) filter (where p.is_foreign),
        count(*) || ' policies'
    )
from (
    select p.polname, not p.polpermissive or not p.polroles <@ array[
        'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
        'ai_storage_operator'::regrole::oid
    ] as is_foreign
    from pg_policy as p
    join pg_class as c on c.oid = p.polrelid
    where c.relnamespace = 'ai_storage_private'::regnamespace
) as p
        $q$
    ),
    (
        3, 'nobody but the owning roles has a right on a table',
        'GDPR 25(2), 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(r.described, ', ' order by r.described), 'no such right')
from (
    select distinct
        case a.grantee when 0 then 'public' else a.grantee::regrole::text end
            || ' on ' || c.relname as described
    from pg_class as c
    left join pg_attribute as t on t.attrelid = c.oid and t.attacl is not null
    cross join unnest(c.relacl || t.attacl) as i (item)
    cross join aclexplode(array[i.item]) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and a.grantee <> all (array[
          'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
          'ai_storage_operator'::regrole::oid
      ])
) as r
        $q$
    ),
    (
        4, 'functions are open to the groups that they are for',
        'GDPR 25(2), 32(4); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(distinct f.described, ', '), 'to no other role')
from (
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end
        || ' may call ' || p.proname as described
    from pg_proc as p
    cross join aclexplode(p.proacl) as a
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
      and a.grantee <> all (array[
          'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
          'ai_storage_operator'::regrole::oid
      ])
      and (
          a.grantee <> all (array[
              'ai_storage_app'::regrole::oid, 'ai_storage_sql'::regrole::oid,
              'ai_storage_admin'::regrole::oid, 'ai_storage_auditor'::regrole::oid
          ])
          or (
              p.pronamespace = 'ai_storage_private'::regnamespace
              and p.proname <> 'report_models'
          )
          -- What is for administrators is not for applications.
          or (
              a.grantee in ('ai_storage_app'::regrole, 'ai_storage_sql'::regrole)
              and p.proname <> 'version'
              and exists (
                  select from aclexplode(p.proacl) as o
                  where o.grantee in ('ai_storage_admin'::regrole, 'ai_storage_auditor'::regrole)
              )
          )
      )
) as f
        $q$
    ),
    (
        5, 'nobody but who installed it may act as an owning role',
        'GDPR 32(1)(b), 32(4); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(r.rolname, ', ' order by r.rolname), 'nobody')
from pg_roles as r
where r.rolcanlogin
  and not r.rolsuper
  -- Of these a control of their own tells.
  and r.rolname not in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
  and not pg_has_role(
      r.oid, (select d.datdba from pg_database as d where d.datname = current_database()), 'MEMBER'
  )
  and (
      pg_has_role(r.oid, 'ai_storage_owner', 'MEMBER')
      or pg_has_role(r.oid, 'ai_storage_sharing', 'MEMBER')
      or pg_has_role(r.oid, 'ai_storage_operator', 'MEMBER')
  )
        $q$
    ),
    (
        6, 'policies of the tables'' owner name the tenant',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(*) filter (where p.is_wide) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(p.polname, ', ' order by p.polname) filter (where p.is_wide),
        'all ' || count(*)
    )
from (
    select p.polname, not (
        pg_get_expr(p.polqual, p.polrelid) like '%(tenant_id = %current_tenant_id())%'
        and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '(tenant_id = current_tenant_id())')
            like '%(tenant_id = %current_tenant_id())%'
    ) as is_wide
    from pg_policy as p
    join pg_class as c on c.oid = p.polrelid
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and 'ai_storage_owner'::regrole = any (p.polroles)
) as p
        $q$
    ),
    (
        7, 'the private schema is closed',
        'GDPR 25(2), 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(a.grantee) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
            ', '),
        'the owning roles alone'
    )
from pg_namespace as n
left join lateral aclexplode(n.nspacl) as a on a.grantee <> all (array[
    'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
    'ai_storage_operator'::regrole::oid
])
where n.nspname = 'ai_storage_private'
        $q$
    ),
    (
        8, 'no function is open to everybody',
        'GDPR 25(2); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where f.is_open) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(f.proname, ', ' order by f.proname) filter (where f.is_open),
        count(*) || ' functions, none to public'
    )
from (
    select p.proname, p.proacl is null or exists (
        select from aclexplode(p.proacl) as a where a.grantee = 0
    ) as is_open
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
) as f
        $q$
    ),
    (
        9, 'functions with the rights of their owner pin their search path',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC6.8', true,
        $q$
select case when count(*) filter (where f.is_loose) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(f.proname, ', ' order by f.proname) filter (where f.is_loose),
        count(*) || ' functions'
    )
from (
    select p.proname,
        (p.proconfig @> array['search_path=pg_catalog, pg_temp']) is not true as is_loose
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
      and p.prosecdef
) as f
        $q$
    ),
    (
        10, 'everything belongs to the owning roles',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC8.1', true,
        $q$
select case when count(*) filter (where o.owner <> all (w.roles)) = 0
        then 'passed' else 'failed' end,
    coalesce(
        string_agg(o.name, ', ' order by o.name) filter (where o.owner <> all (w.roles)),
        count(*) || ' relations and functions'
    )
from (
    select c.relname as name, c.relowner as owner
    from pg_class as c
    where c.relnamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
    union all
    select p.proname, p.proowner
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
) as o
cross join (
    select array[
        'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
        'ai_storage_operator'::regrole::oid
    ]
) as w (roles)
        $q$
    ),
    (
        11, 'the package''s roles cannot log in and have no power',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where r.is_powerful) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(r.rolname, ', ' order by r.rolname) filter (where r.is_powerful),
        count(*) || ' roles'
    )
from (
    select r.rolname,
        r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication or r.rolcanlogin
            as is_powerful
    from pg_roles as r
    where r.rolname in (
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_app',
        'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    )
) as r
        $q$
    ),
    (
        12, 'application logins cannot walk around row level security',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where l.is_powerful) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(l.rolname, ', ' order by l.rolname) filter (where l.is_powerful),
        'none of ' || count(*)
    )
from (
    select l.rolname, exists (
        select from pg_roles as r
        where (
                r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication
                or r.rolname in (
                    'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
                    'pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_monitor',
                    'pg_read_all_stats', 'pg_read_server_files', 'pg_write_server_files',
                    'pg_execute_server_program'
                )
            )
          and pg_has_role(l.oid, r.oid, 'MEMBER')
    ) as is_powerful
    from pg_roles as l
    where l.rolname in (select a.login_name from ai_storage_private.login_authorization as a)
) as l
        $q$
    ),
    (
        13, 'no login may name every organisation by key',
        'GDPR 25(2), 32(4); SOC 2 CC6.2, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct a.login_name, ', '), 'no such authorisation')
from ai_storage_private.login_authorization as a
where a.org_id = '*' and not a.token_only
        $q$
    ),
    (
        14, 'whoever audits does not administer, and applications do neither',
        'GDPR 32(4); SOC 2 CC5.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(r.rolname, ', ' order by r.rolname), 'no login is in two of the groups')
from pg_roles as r
where r.rolcanlogin
  and not r.rolsuper
  and pg_has_role(r.oid, 'ai_storage_admin', 'MEMBER')::integer
      + pg_has_role(r.oid, 'ai_storage_auditor', 'MEMBER')::integer
      + (r.rolname in (
          select a.login_name from ai_storage_private.login_authorization as a
      ))::integer > 1
        $q$
    ),
    (
        15, 'new passwords are stored as SCRAM',
        'GDPR 32(1)(a); SOC 2 CC6.1', true,
        $q$
select case when s.setting = 'scram-sha-256' and s.source not in ('session', 'client')
        then 'passed' else 'failed' end,
    'password_encryption = ' || s.setting || case when s.source in ('session', 'client')
        then ', as this session says' else '' end
from pg_settings as s
where s.name = 'password_encryption'
        $q$
    ),
    (
        16, 'the triggers that record changes are on, on every table',
        'GDPR 5(2), 30; SOC 2 CC7.2, CC7.3', true,
        $q$
select case when count(*) filter (where t.gap > 0) = 0 then 'passed' else 'failed' end,
    coalesce(
        'not on ' || string_agg(t.relname, ', ' order by t.relname) filter (where t.gap > 0),
        'on ' || count(*) || ' tables'
    )
from (
    -- Of tgtype: 4 insert, 8 delete, 16 update, 32 truncate.
    select
        c.relname,
        60 - (60 & coalesce(bit_or(g.tgtype), 0)) as gap
    from pg_class as c
    left join pg_trigger as g
        on g.tgrelid = c.oid
        and g.tgenabled = 'A'
        and g.tgqual is null
        and g.tgattr = ''
        and g.tgfoid in (
            'ai_storage_private.record_change()'::regprocedure,
            'ai_storage_private.record_changes()'::regprocedure,
            'ai_storage_private.record_version()'::regprocedure,
            'ai_storage_private.record_swept_versions()'::regprocedure,
            'ai_storage_private.record_model_change()'::regprocedure,
            'ai_storage_private.record_artifact_change()'::regprocedure
        )
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relkind in ('r', 'p')
      and c.relname not in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint', 'refusal_report',
          -- What changes of rules wait for, and sums of what is recorded elsewhere.
          'retention_gate', 'quota_use'
      )
    group by c.relname
) as t
        $q$
    ),
    (
        17, 'no session replays changes as a replica',
        'GDPR 5(2); SOC 2 CC7.2, CC8.1', true,
        $q$
select case when current_setting('session_replication_role') = 'origin' and count(s.setting) = 0
        then 'passed' else 'failed' end,
    case when count(s.setting) > 0 then 'set for a role or database'
        else 'session_replication_role = ' || current_setting('session_replication_role') end
from pg_db_role_setting as d
left join lateral unnest(d.setconfig) as s (setting)
    on s.setting like 'session_replication_role=%'
        $q$
    ),
    (
        18, 'the audit log verifies',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2, CC7.3', false,
        $q$
select case when v.verified then 'passed' else 'failed' end,
    coalesce(v.problem, 'events: ' || v.events || ', seals: ' || v.seals || ', checkpoints: '
        || v.checkpoints)
from ai_storage.verify_all_audit() as v
        $q$
    ),
    (
        19, 'models are as the audit log says they were saved',
        'GDPR 5(1)(d), 5(1)(f); SOC 2 CC7.2, PI1.5', false,
        $q$
select case when count(m.problem) = 0 then 'passed' else 'failed' end,
    coalesce(
        'not in ' || string_agg(m.isolation_key, ', ' order by m.isolation_key)
            filter (where m.problem is not null),
        'in ' || count(*) || ' tenants'
    )
from ai_storage_private.compare_models() as m
        $q$
    ),
    (
        20, 'events are sealed within a minute',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2', false,
        $q$
select case when min(p.recorded_at) > clock_timestamp() - interval '1 minute' is not false
        then 'passed'
        when min(p.recorded_at) > clock_timestamp() - interval '1 hour' then 'warning'
        else 'failed' end,
    coalesce(
        count(*) || ' wait, the first since ' || ai_storage_private.render_time(min(p.recorded_at)),
        'none waits'
    )
from ai_storage_private.audit_pending as p
        $q$
    ),
    (
        21, 'seals are under a checkpoint within a day',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2', true,
        $q$
select case when min(s.sealed_at) < clock_timestamp() - interval '1 day'
        then 'warning' else 'passed' end,
    coalesce('seals wait since ' || ai_storage_private.render_time(min(s.sealed_at)), 'none waits')
from ai_storage_private.audit_seal as s
where s.checkpoint_number > coalesce(
    (select max(c.checkpoint_number) from ai_storage_private.audit_checkpoint as c), 0
)
        $q$
    ),
    (
        22, 'the audit log is written by its own functions only',
        'GDPR 5(1)(f), 5(2); SOC 2 CC6.1, CC7.2', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(distinct r.grantee::regrole || ' may ' || lower(r.privilege) || ' ' || r.place,
            ', '),
        'sealed events: insert, and erase salt and detail'
    )
from (
    select a.grantee, a.privilege_type as privilege, c.relname as place
    from pg_class as c
    cross join aclexplode(c.relacl) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relname in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint'
      )
      and a.grantee <> c.relowner
      and a.privilege_type <> 'SELECT'
      and not (
          a.grantee = 'ai_storage_operator'::regrole
          and (
              a.privilege_type = 'INSERT'
              or (a.privilege_type = 'DELETE' and c.relname = 'audit_pending')
          )
      )
    union all
    select a.grantee, a.privilege_type, c.relname || '.' || t.attname
    from pg_class as c
    join pg_attribute as t on t.attrelid = c.oid
    cross join aclexplode(t.attacl) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relname in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint'
      )
      and not (
          a.grantee = 'ai_storage_operator'::regrole
          and a.privilege_type = 'UPDATE'
          and c.relname = 'audit_event'
          and t.attname in ('salt', 'detail')
      )
) as r
        $q$
    ),
    (
        23, 'refused credentials are few',
        'GDPR 32(1)(d), 33; SOC 2 CC7.2, CC7.3', false,
        $q$
select case when max(r.in_all) - coalesce(max(r.in_all) filter (where r.is_old), 0) > 1000
        then 'warning' else 'passed' end,
    coalesce(max(r.in_all) - coalesce(max(r.in_all) filter (where r.is_old), 0), 0)
        || ' in the last day'
from (
    select (e.detail::jsonb ->> 'in_all')::bigint as in_all,
        e.recorded_at < clock_timestamp() - interval '1 day' as is_old
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0 and e.action = 'refuse credentials'
) as r
        $q$
    ),
    (
        24, 'every tenant has a retention rule',
        'GDPR 5(1)(e), 25(2); SOC 2 C1.2, P4.2', false,
        $q$
select case when count(*) filter (where r.tenant_id is null) = 0
        then 'passed' else 'warning' end,
    count(*) filter (where r.tenant_id is null) || ' of ' || count(*)
        || ' tenants have none that ends anything'
from ai_storage_private.tenant as t
left join ai_storage_private.list_effective_rules() as r
    on r.tenant_id = t.tenant_id
    and (
        r.is_held or r.keep_versions is not null or r.keep_versions_for is not null
        or r.keep_events_for is not null
    )
        $q$
    ),
    (
        25, 'retention is applied',
        'GDPR 5(1)(e); SOC 2 C1.2, P4.2', false,
        $q$
select case
        when (select count(*) from ai_storage_private.retention_rule) = 0 then 'unknown'
        when max(e.recorded_at) > clock_timestamp() - interval '2 days' then 'passed'
        else 'warning' end,
    coalesce('last on ' || (max(e.recorded_at) at time zone 'UTC')::date, 'never')
from ai_storage_private.find_acts('apply retention') as e
        $q$
    ),
    (
        26, 'what was erased is gone from the log',
        'GDPR 17, 5(2); SOC 2 C1.2, P4.3', false,
        $q$
with erased as materialized (
    select (t.erased ->> 'tenant_id')::bigint as tenant_id,
        max((t.erased ->> 'seal_number')::bigint) as seal_number
    from ai_storage_private.erasure_certificate as c
    cross join jsonb_array_elements(c.statement::jsonb -> 'tenants') as t (erased)
    group by 1
),
model as materialized (
    select distinct m.model_id
    from ai_storage_private.audit_event as m
    join erased as t on t.tenant_id = m.tenant_id and m.seal_number <= t.seal_number
    where m.action = 'save model'
),
named as materialized (
    select e.tenant_id, e.event_id
    from ai_storage_private.audit_event as e
    join erased as t on t.tenant_id = e.tenant_id and e.seal_number <= t.seal_number
    where e.salt is not null
    union
    -- Also what others were doing with its models, and committed later.
    select e.tenant_id, e.event_id
    from ai_storage_private.audit_event as e
    join model as m on m.model_id = e.model_id
    where e.salt is not null
)
select case when n.events = 0 then 'passed' else 'failed' end,
    'certificates: ' || c.certificates || ', events that still have names: ' || n.events
from (select count(*) as events from named) as n
cross join (
    select count(*) as certificates from ai_storage_private.erasure_certificate
) as c
        $q$
    ),
    (
        27, 'every certificate of an erasure is proved by the log',
        'GDPR 17, 5(2); SOC 2 C1.2, P4.3', false,
        $q$
with event as materialized (
    select e.event_id, e.salt, e.content_digest
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0 and e.action = 'erase tenant'
)
select case when bool_and(p.is_proved) is not false then 'passed' else 'failed' end,
    count(*) filter (where p.is_proved) || ' of ' || count(*) || ' certificates'
from (
    select exists (
        select from event as e
        where e.event_id = c.event_id
          and e.content_digest
              = sha256(uuid_send(e.salt) || convert_to(c.statement, 'UTF8'))
    ) as is_proved
    from ai_storage_private.erasure_certificate as c
) as p
        $q$
    ),
    (
        28, 'signing keys are rotated every 90 days',
        'GDPR 32(1)(a); SOC 2 CC6.1', true,
        $q$
select case when min(k.created_at) < clock_timestamp() - interval '90 days'
        then 'warning' else 'passed' end,
    coalesce('the oldest in use is of ' || (min(k.created_at) at time zone 'UTC')::date,
        'none in use')
from ai_storage_private.signing_key as k
where k.retired_at is null
        $q$
    ),
    (
        29, 'contexts are signed with one secret',
        'GDPR 32(1)(a), 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(*) = 1 then 'passed' else 'failed' end, 'secrets: ' || count(*)
from ai_storage_private.context_secret as s
        $q$
    ),
    (
        30, 'connections from other machines are encrypted',
        'GDPR 32(1)(a); SOC 2 CC6.6, CC6.7', true,
        $q$
select case when current_setting('ssl') = 'on' or w.is_local then 'passed' else 'failed' end,
    'ssl = ' || current_setting('ssl')
        || case when w.is_local then '; no other machine connects' else '' end
from (
    select regexp_split_to_array(current_setting('listen_addresses'), ' *, *')
        <@ array['', 'localhost', '127.0.0.1', '::1']
) as w (is_local)
        $q$
    ),
    (
        31, 'the server''s log keeps no content',
        'GDPR 5(1)(c), 5(1)(f); SOC 2 C1.1', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(f.name || ' = ' || f.setting || f.place, ', ' order by f.name), 'none')
from (
    select s.name, lower(s.setting), ''
    from pg_settings as s
    union all
    select lower(split_part(c.text, '=', 1)), lower(substr(c.text, strpos(c.text, '=') + 1)),
        ' for a role or database'
    from pg_db_role_setting as d, unnest(d.setconfig) as c (text)
) as f (name, setting, place)
where f.name = 'log_statement' and f.setting not in ('none', 'ddl')
   or f.name in ('log_min_duration_statement', 'log_min_duration_sample') and f.setting !~ '^-'
   or f.name = 'log_transaction_sample_rate' and f.setting !~ '^0*[.]?0*$'
   or f.name = 'log_parameter_max_length_on_error' and f.setting <> '0'
   or f.name = 'pgaudit.log_parameter' and f.setting ~ '^(on|1|tr?u?e?|ye?s?)$'
        $q$
    ),
    (
        32, 'a commit survives a crash',
        'GDPR 32(1)(b), 32(1)(c); SOC 2 A1.2, PI1.5', true,
        $q$
select case when bool_or(
        case s.name when 'synchronous_commit'
            then s.reset_val = 'off' or s.source in ('session', 'client')
            else s.setting <> 'on' end
    ) then 'failed' else 'passed' end,
    string_agg(s.name || ' = ' || s.setting, ', ' order by s.name)
from pg_settings as s
where s.name in ('fsync', 'full_page_writes', 'synchronous_commit')
        $q$
    ),
    (
        33, 'no table is left out of the write-ahead log',
        'GDPR 32(1)(c); SOC 2 A1.2, PI1.5', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(c.relname, ', ' order by c.relname), 'none')
from pg_class as c
where c.relnamespace = 'ai_storage_private'::regnamespace
  and c.relkind in ('r', 'p', 'i') and c.relpersistence <> 'p'
        $q$
    ),
    (
        34, 'pages have checksums',
        'GDPR 5(1)(f), 32(1)(b); SOC 2 PI1.5', true,
        $q$
select case current_setting('data_checksums') when 'on' then 'passed' else 'warning' end,
    'data_checksums = ' || current_setting('data_checksums')
        $q$
    ),
    (
        35, 'no publication carries the tables elsewhere',
        'GDPR 5(1)(f), 28; SOC 2 CC6.7', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct p.pubname, ', '), 'none')
from pg_publication_tables as p
where p.schemaname = 'ai_storage_private'
        $q$
    ),
    (
        36, 'nobody else''s trigger or rule runs on a table',
        'GDPR 32(1)(b); SOC 2 CC6.8, CC8.1', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(f.name, ', ' order by f.name), 'none')
from (
    select g.tgname as name
    from pg_trigger as g
    join pg_class as c on c.oid = g.tgrelid
    join pg_proc as p on p.oid = g.tgfoid
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and not g.tgisinternal
      and p.pronamespace <> 'ai_storage_private'::regnamespace
    union all
    select w.rulename
    from pg_rewrite as w
    join pg_class as c on c.oid = w.ev_class
    where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind in ('r', 'p')
) as f
        $q$
    ),
    (
        37, 'what is shared with another organisation has an end',
        'GDPR 5(1)(c), 28, 44; SOC 2 CC6.3, P6.1', false,
        $q$
select case when count(*) filter (where s.expires_at is null) = 0
        then 'passed' else 'warning' end,
    count(*) filter (where s.expires_at is null) || ' of ' || count(*) || ' grants have none'
from ai_storage_private.model_share as s
where split_part(s.target, ':', 1) <> split_part(s.sharer_key, ':', 1)
        $q$
    ),
    (
        38, 'there is a backup of the last two days',
        'GDPR 32(1)(c); SOC 2 A1.2', false,
        $q$
select case
        when max(b.taken_at) is null then 'unknown'
        when max(b.taken_at) > clock_timestamp() - interval '2 days' then 'passed'
        else 'failed' end,
    coalesce('last on ' || (max(b.taken_at) at time zone 'UTC')::date,
        'none was reported with report_backup()')
from (
    select (e.detail::jsonb ->> 'taken_at')::timestamptz as taken_at
    from ai_storage_private.find_acts('report backup') as e
) as b
        $q$
    ),
    (
        39, 'nobody broke the glass in the last 30 days',
        'GDPR 32(4), 33; SOC 2 CC7.3, CC7.4', false,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(count(*) || ' times, last on ' || (max(e.recorded_at) at time zone 'UTC')::date,
        'none')
from ai_storage_private.find_acts('break glass') as e
where e.recorded_at > clock_timestamp() - interval '30 days'
        $q$
    ),
    (
        40, 'no application login keeps settings for its sessions',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC7.2', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct r.rolname, ', ' order by r.rolname), 'none does')
from pg_db_role_setting as d
join pg_roles as r on r.oid = d.setrole
cross join lateral unnest(d.setconfig) as s (setting)
where r.rolname in (select a.login_name from ai_storage_private.login_authorization as a)
  -- How values look and what a session is called: nothing of ours depends on it.
  and lower(split_part(s.setting, '=', 1)) not in (
      'application_name', 'bytea_output', 'client_encoding', 'datestyle', 'extra_float_digits',
      'intervalstyle', 'jit', 'search_path', 'timezone', 'work_mem'
  )
  -- A limit is wise, unless it is so small that nothing works.
  and s.setting !~ '^[^=]*_timeout=([0-9]{4,}(ms)?|[0-9]+ ?(s|min|h|d))$'
        $q$
    );
$fn$;
comment on function ai_storage_private.list_controls() is
    'The controls: name, references, and the query that tells status and result.';

create or replace function ai_storage_private.find_acts(p_action text)
returns table (recorded_at timestamptz, detail text)
language plpgsql
stable
as $fn$
begin
    return query
    select e.recorded_at, e.detail
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0
      and e.action = p_action
    union all
    select p.recorded_at, p.detail
    from ai_storage_private.audit_pending as p
    where p.tenant_id = 0
      and p.action = p_action;
end;
$fn$;
comment on function ai_storage_private.find_acts(text) is
    'What the operator''s log has of one action, sealed or not.';

create or replace function ai_storage_private.render_time(p_time timestamptz)
returns text
language sql
stable
as $fn$
    select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
$fn$;
comment on function ai_storage_private.render_time(timestamptz) is
    'A time as text, whatever the session''s time zone.';

create or replace function ai_storage_private.compare_models()
returns table (isolation_key text, problem text)
language plpgsql
volatile
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  record;
begin
    for v_tenant in
        select t.tenant_id, t.isolation_key from ai_storage_private.tenant as t
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        isolation_key := v_tenant.isolation_key;
        problem := ai_storage_private.find_unlogged(v_tenant.tenant_id);
        return next;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage_private.compare_models() is
    'Each tenant, and what of its data is not as the log says, or null.';

create or replace function ai_storage_private.check_controls(p_only_quick boolean)
returns table (
    control    text,
    reference  text,
    status     text,
    result     text,
    evidence   text,
    checked_at timestamptz
)
language plpgsql
volatile
as $fn$
declare
    v_control record;
begin
    for v_control in
        select c.*
        from ai_storage_private.list_controls() as c
        where c.is_quick or not p_only_quick
        order by c.place
    loop
        control := v_control.control;
        reference := v_control.reference;
        evidence := btrim(v_control.evidence, E' \n');
        checked_at := clock_timestamp();
        begin
            execute evidence into status, result;
        -- What cannot be checked does not hold, and the other controls are checked all the same.
        exception when others then
            status := 'failed';
            result := 'not to be checked: ' || sqlerrm;
        end;
        return next;
    end loop;
end;
$fn$;
comment on function ai_storage_private.check_controls(boolean) is
    'Runs the evidence of the controls, of all or of the quick ones.';

create or replace function ai_storage.compliance_report()
returns table (
    control    text,
    reference  text,
    status     text,
    result     text,
    evidence   text,
    checked_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set intervalstyle = 'postgres'
set datestyle = 'ISO'
set quote_all_identifiers = off
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select c.*
    from ai_storage_private.check_controls(false) as c;
end;
$fn$;
comment on function ai_storage.compliance_report() is
    'Checks every control now. reference: GDPR articles and SOC 2 criteria. status: passed, '
    'warning, failed, or unknown when nobody told. result: what the query found. evidence: the '
    'query, which a superuser may run as it stands. It recomputes the whole audit log, so it takes '
    'as long as verify_all_audit().';

create or replace function ai_storage_private.compliance_status()
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    -- Of all systems together: it tells of no tenant.
    return (
        select case
            when bool_or(c.status = 'failed') then 'failed'
            when bool_or(c.status = 'warning') then 'warning'
            else 'passed'
        end
        from ai_storage_private.check_controls(true) as c
    );
end;
$fn$;
comment on function ai_storage_private.compliance_status() is
    'The worst status of the quick controls, which take no longer the more tenants there are.';

-- What administrators tell ------------------------------------------------------------------------

create or replace function ai_storage.report_backup(
    p_taken_at timestamptz,
    p_location text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if (p_taken_at <= clock_timestamp() and isfinite(p_taken_at)) is not true
        or not ai_storage_private.is_name(coalesce(p_location, '-'))
    then
        raise exception using
            errcode = '22023',
            message = 'invalid backup',
            hint = 'A backup was taken at a time that is past; its location has 1 to 255 '
                'characters and no control character.';
    end if;
    perform ai_storage_private.record_event(
        0, 'report backup',
        p_detail => jsonb_build_object('taken_at', p_taken_at, 'location', p_location)
    );
end;
$fn$;
comment on function ai_storage.report_backup(timestamptz, text) is
    'Tells the log that a backup was taken, for the compliance report. Call it when a backup is '
    'done, or better when one was restored on trial. Raises 22023.';

create or replace function ai_storage.break_glass(p_pattern text, p_reason text)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  record;
    v_count   integer := 0;
    v_detail  jsonb;
begin
    perform ai_storage_private.check_reason(p_reason);
    v_detail := jsonb_build_object('pattern', p_pattern, 'reason', p_reason);
    for v_tenant in
        select t.* from ai_storage_private.covered_tenants(p_pattern) as t
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.record_event(
            v_tenant.tenant_id, 'break glass', p_detail => v_detail - 'pattern'
        );
        v_count := v_count + 1;
    end loop;
    perform ai_storage_private.restore_context(v_context);
    if v_count = 0 then
        raise exception using
            errcode = '42704',
            message = 'no tenant is covered by the pattern',
            hint = 'list_tenants() shows the tenants; compare the five levels.';
    end if;
    perform ai_storage_private.record_event(0, 'break glass', p_detail => v_detail);
    return v_count;
end;
$fn$;
comment on function ai_storage.break_glass(text, text) is
    'Announces that somebody is going to look at tenants'' data by hand: an event in the log of '
    'each tenant of the pattern and in the operator''s. It grants nothing; call it before a '
    'superuser looks. Returns how many tenants are told. Raises 22023, 42704.';

-- What an auditor takes along ---------------------------------------------------------------------

create or replace function ai_storage.collect_evidence()
returns table (section text, content jsonb)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set intervalstyle = 'postgres'
set datestyle = 'ISO'
set quote_all_identifiers = off
as $fn$
begin
    perform ai_storage_private.require_owner();
    section := 'release';
    content := jsonb_build_object(
        'database', current_database(),
        'version', ai_storage.version(),
        'server_version', current_setting('server_version')
    );
    return next;

    section := 'controls';
    content := (
        select jsonb_agg(to_jsonb(c) - array['checked_at', 'place'] order by c.place)
        from ai_storage_private.check_controls(false)
            with ordinality as c (
                control, reference, status, result, evidence, checked_at, place
            )
    );
    return next;

    section := 'roles';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'role', r.rolname,
                'can_login', r.rolcanlogin,
                'superuser', r.rolsuper,
                'bypassrls', r.rolbypassrls,
                'createrole', r.rolcreaterole,
                'replication', r.rolreplication,
                'member_of', array(
                    select distinct m.roleid::regrole::text
                    from pg_auth_members as m
                    where m.member = r.oid
                    order by 1
                )
            )
            order by r.rolname
        )
        from pg_roles as r
        where r.rolsuper
           or r.rolbypassrls
           or r.rolcreaterole
           or r.rolname in (
               'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_app',
               'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
           )
           or exists (
               select from pg_roles as g
               where g.rolname like 'ai_storage_%'
                 and pg_has_role(r.oid, g.oid, 'MEMBER')
           )
    );
    return next;

    section := 'rights';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'object', g.object, 'grantee', g.grantee, 'privileges', g.privileges
            )
            order by g.object, g.grantee
        )
        from (
            select
                o.object,
                case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee,
                array_agg(distinct lower(a.privilege_type) order by lower(a.privilege_type))
                    as privileges
            from (
                select 'schema ' || n.nspname as object, n.nspacl as acl, n.nspowner as owner
                from pg_namespace as n
                where n.nspname in ('ai_storage', 'ai_storage_private')
                union all
                select 'function ' || p.oid::regprocedure, p.proacl, p.proowner
                from pg_proc as p
                where p.pronamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
                union all
                select 'relation ' || c.oid::regclass, c.relacl, c.relowner
                from pg_class as c
                where c.relnamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
                union all
                select
                    'column ' || c.oid::regclass || '.' || t.attname, t.attacl, c.relowner
                from pg_class as c
                join pg_attribute as t on t.attrelid = c.oid
                where c.relnamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
            ) as o
            cross join aclexplode(o.acl) as a
            where a.grantee <> o.owner
            group by o.object, a.grantee
        ) as g
    );
    return next;

    section := 'policies';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'table', c.relname,
                'policy', p.polname,
                'roles', array(
                    select r.oid::regrole::text
                    from unnest(p.polroles) as r (oid)
                    order by 1
                ),
                'command', p.polcmd,
                'using', pg_get_expr(p.polqual, p.polrelid),
                'check', pg_get_expr(p.polwithcheck, p.polrelid),
                'comment', obj_description(p.oid, 'pg_policy')
            )
            order by c.relname, p.polname
        )
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        where c.relnamespace = 'ai_storage_private'::regnamespace
    );
    return next;

    section := 'triggers';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'table', c.relname,
                'trigger', g.tgname,
                'enabled', g.tgenabled,
                'definition', pg_get_triggerdef(g.oid)
            )
            order by c.relname, g.tgname
        )
        from pg_trigger as g
        join pg_class as c on c.oid = g.tgrelid
        where c.relnamespace = 'ai_storage_private'::regnamespace
          and not g.tgisinternal
    );
    return next;

    section := 'functions';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'function', p.oid::regprocedure,
                'owner', p.proowner::regrole,
                'security_definer', p.prosecdef,
                'settings', coalesce(p.proconfig, '{}'),
                'sha256', encode(sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8')), 'hex')
            )
            order by p.oid::regprocedure::text
        )
        from pg_proc as p
        where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
    );
    return next;

    section := 'settings';
    content := (
        select jsonb_object_agg(s.name, current_setting(s.name))
        from unnest(array[
            'data_checksums', 'fsync', 'full_page_writes', 'listen_addresses',
            'log_min_duration_statement', 'log_parameter_max_length_on_error', 'log_statement',
            'password_encryption', 'row_security', 'session_replication_role', 'ssl',
            'synchronous_commit', 'wal_level'
        ]) as s (name)
    );
    return next;

    section := 'authorizations';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'login', a.login_name, 'pattern', a.pattern, 'token_only', a.token_only
            )
        ), '[]')
        from ai_storage.list_authorizations() as a
    );
    return next;

    section := 'signing_keys';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'kid', k.kid,
                'audience', k.audience,
                'created_at', ai_storage_private.render_time(k.created_at),
                'retired_at', ai_storage_private.render_time(k.retired_at)
            )
            order by k.kid
        ), '[]')
        from ai_storage_private.signing_key as k
    );
    return next;

    section := 'audit';
    content := (select to_jsonb(v) from ai_storage.verify_all_audit() as v);
    return next;

    section := 'checkpoints';
    content := (
        select coalesce(jsonb_agg(c.line order by c.place), '[]')
        from ai_storage_private.list_checkpoints() with ordinality as c (line, place)
    );
    return next;

    section := 'events';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object('day', d.day, 'action', d.action, 'events', d.events)
            order by d.day, d.action
        ), '[]')
        from (
            select e.day, e.action, sum(e.events)::bigint as events
            from (
                select (s.recorded_at at time zone 'UTC')::date as day, s.action, count(*) as events
                from ai_storage_private.audit_event as s
                group by 1, 2
                union all
                select (p.recorded_at at time zone 'UTC')::date, p.action, count(*)
                from ai_storage_private.audit_pending as p
                group by 1, 2
            ) as e
            group by 1, 2
        ) as d
    );
    return next;

    section := 'shares';
    content := (
        select coalesce(jsonb_agg(s.grant_line order by s.grant_line), '[]')
        from ai_storage_private.summarize_shares() as s (grant_line)
    );
    return next;

    section := 'retention';
    content := (
        select coalesce(jsonb_agg(
            to_jsonb(r)
                || jsonb_build_object('set_at', ai_storage_private.render_time(r.set_at))
        ), '[]')
        from ai_storage.list_retention() as r
    );
    return next;

    section := 'erasures';
    content := (
        select coalesce(jsonb_agg(
            to_jsonb(c)
                || jsonb_build_object('erased_at', ai_storage_private.render_time(c.erased_at))
        ), '[]')
        from ai_storage.list_erasures() as c
    );
    return next;
end;
$fn$;
comment on function ai_storage.collect_evidence() is
    'What an auditor takes along, a section each: controls, roles, rights, policies, triggers, '
    'functions, settings, and what the log says of all tenants together, by counts. Times are UTC. '
    'The same twice while nothing changes. pydb evidence writes it as files.';

set local role ai_storage_sharing;

create or replace function ai_storage_private.summarize_shares()
returns setof jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return query
    select jsonb_build_object(
        'owner', s.owner_key,
        'target', s.target,
        'permissions', s.permissions,
        'models', count(distinct (s.tenant_id, s.model_id)),
        'expires_at', case when bool_and(s.expires_at is not null) then
            ai_storage_private.render_time(max(s.expires_at))
        end
    )
    from ai_storage_private.model_share as s
    group by s.owner_key, s.target, s.permissions;
end;
$fn$;
comment on function ai_storage_private.summarize_shares() is
    'Who shares with whom, without the models'' names: one line per owner, target and permissions. '
    'expires_at: when the last of them ends, or null.';

create or replace function ai_storage_private.count_received(
    p_tenant ai_storage_private.acting_tenant
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return (
        select count(*)
        from ai_storage_private.load_shared(p_tenant, null, null, '', '', null)
    );
end;
$fn$;
comment on function ai_storage_private.count_received(ai_storage_private.acting_tenant) is
    'How many models of others load_progress() lists for a tenant.';

-- What a tenant may know --------------------------------------------------------------------------

set local role ai_storage_owner;

create or replace function ai_storage.tenant_stats(p_as text default null)
returns table (
    isolation_key     text,
    own_models        bigint,
    shared_models     bigint,
    total_models      bigint,
    versions          bigint,
    artifact_bytes    bigint,
    last_saved_at     timestamptz,
    compliance_status text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set intervalstyle = 'postgres'
set datestyle = 'ISO'
set quote_all_identifiers = off
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    isolation_key := v_tenant.isolation_key;
    select count(*), max(p.updated_at)
    into own_models, last_saved_at
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id;
    select count(*) into versions
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_tenant.tenant_id;
    shared_models := case when ai_storage_private.may_receive(v_tenant.levels[1])
        then ai_storage_private.count_received(v_tenant)
        else 0
    end;
    total_models := own_models + shared_models;
    select coalesce(sum(b.size_bytes), 0)::bigint into artifact_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = v_tenant.tenant_id;
    compliance_status := ai_storage_private.compliance_status();
    return next;
end;
$fn$;
comment on function ai_storage.tenant_stats(text) is
    'How much the caller has: own_models, shared_models that load_progress() lists, both together, '
    'versions, artifact_bytes, when it last saved. compliance_status: the worst status of the '
    'controls that are quick to check, passed, warning or failed; verify_audit() checks the log. '
    'Raises TN001 to TN005.';
