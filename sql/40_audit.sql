-- The audit trail: what happened, sealed so that nobody changes it unseen, not even its operator.
--
-- A trigger writes one event per change, in the same transaction, into audit_pending. seal_audit()
-- moves committed events to audit_event, a batch per tenant: the leaves of a Merkle tree (RFC 6962)
-- with its root in the next seal of the tenant's chain. create_checkpoint() chains one root over
-- all seals since the last; its hash, kept outside, pins everything before it. Writers never wait
-- for each other, a late commit waits for the next seal; nothing depends on transaction ids.
--
-- An event holds digests under a salt of its own, never content. An erasure takes salt and detail
-- (names); the leaf is made of the digests, so the log still verifies. tenant_id 0 is the operator.
-- Tables: audit_pending, audit_event, audit_seal, audit_checkpoint, refusal_report (0005_audit).
-- Errors: 22023, 25000, 25006, TN401.

set local role ai_storage_owner;

comment on table ai_storage_private.audit_pending is 'Events that no seal covers yet.';
comment on column ai_storage_private.audit_pending.tenant_id is
    'Whose log it is in; 0: the operator''s.';
comment on column ai_storage_private.audit_pending.event_id is
    'Id of the event; ids are in the order of time.';
comment on column ai_storage_private.audit_pending.recorded_at is
    'When it happened, by the clock and not by the transaction.';
comment on column ai_storage_private.audit_pending.version is 'The model''s version, or null.';
comment on column ai_storage_private.audit_pending.model_id is 'The model, or null.';
comment on column ai_storage_private.audit_pending.action is 'What happened, such as save model.';
comment on column ai_storage_private.audit_pending.login is 'The login that did it.';
comment on column ai_storage_private.audit_pending.credential is
    'key, token and its kid, operator, shared for what another tenant did, or none for a change by '
    'hand.';
comment on column ai_storage_private.audit_pending.content_digest is
    'sha256 of salt and content, or null.';
comment on column ai_storage_private.audit_pending.detail_digest is 'sha256 of salt and detail.';
comment on column ai_storage_private.audit_pending.salt is
    'What keeps the digests from being guessed; null after an erasure.';
comment on column ai_storage_private.audit_pending.detail is
    'Names, as JSON; null after an erasure.';

comment on table ai_storage_private.audit_event is
    'Events under a seal. A row changes no more but for an erasure.';
comment on column ai_storage_private.audit_event.tenant_id is
    'Whose log it is in; 0: the operator''s.';
comment on column ai_storage_private.audit_event.event_id is
    'Id of the event; ids are in the order of time.';
comment on column ai_storage_private.audit_event.recorded_at is
    'When it happened, by the clock and not by the transaction.';
comment on column ai_storage_private.audit_event.version is 'The model''s version, or null.';
comment on column ai_storage_private.audit_event.seal_number is 'The seal that covers it.';
comment on column ai_storage_private.audit_event.leaf_index is 'Its place under the seal, from 0.';
comment on column ai_storage_private.audit_event.leaf_hash is 'Its leaf in the tree of the seal.';
comment on column ai_storage_private.audit_event.model_id is 'The model, or null.';
comment on column ai_storage_private.audit_event.action is 'What happened, such as save model.';
comment on column ai_storage_private.audit_event.login is 'The login that did it.';
comment on column ai_storage_private.audit_event.credential is
    'key, token and its kid, operator, shared for what another tenant did, or none for a change by '
    'hand.';
comment on column ai_storage_private.audit_event.content_digest is
    'sha256 of salt and content, or null.';
comment on column ai_storage_private.audit_event.detail_digest is 'sha256 of salt and detail.';
comment on column ai_storage_private.audit_event.salt is
    'What keeps the digests from being guessed; null after an erasure.';
comment on column ai_storage_private.audit_event.detail is
    'Names, as JSON; null after an erasure.';

comment on table ai_storage_private.audit_seal is 'Per tenant a chain of seals over its events.';
comment on column ai_storage_private.audit_seal.tenant_id is
    'Whose log it seals; 0: the operator''s.';
comment on column ai_storage_private.audit_seal.seal_number is
    'Its number in the tenant''s chain, from 1.';
comment on column ai_storage_private.audit_seal.checkpoint_number is
    'The checkpoint that covers it, or will.';
comment on column ai_storage_private.audit_seal.sealed_at is 'When it was made.';
comment on column ai_storage_private.audit_seal.event_count is 'How many events it covers.';
comment on column ai_storage_private.audit_seal.root is
    'Root of the Merkle tree of its events'' leaves.';
comment on column ai_storage_private.audit_seal.previous_hash is
    'seal_hash of the seal before it; zeros for the first.';
comment on column ai_storage_private.audit_seal.seal_hash is 'Hash of all the other columns.';

comment on table ai_storage_private.audit_checkpoint is
    'One chain of checkpoints over the seals of all tenants.';
comment on column ai_storage_private.audit_checkpoint.checkpoint_number is 'Its number, from 1.';
comment on column ai_storage_private.audit_checkpoint.created_at is 'When it was made.';
comment on column ai_storage_private.audit_checkpoint.seal_count is 'How many seals it covers.';
comment on column ai_storage_private.audit_checkpoint.root is
    'Root of the Merkle tree of their hashes.';
comment on column ai_storage_private.audit_checkpoint.previous_hash is
    'checkpoint_hash of the one before it; zeros for the first.';
comment on column ai_storage_private.audit_checkpoint.checkpoint_hash is
    'Hash of number, time, root and previous hash.';

comment on table ai_storage_private.refusal_report is
    'How many refused credentials the log has told of so far.';
comment on column ai_storage_private.refusal_report.reported is
    'The count that the last event told.';

set local role ai_storage_operator;

-- Writing -----------------------------------------------------------------------------------------

create or replace function ai_storage_private.record_event(
    p_tenant_id bigint,
    p_action    text,
    p_model_id  uuid   default null,
    p_version   bigint default null,
    p_content   text   default null,
    p_detail    jsonb  default '{}'
)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_now      constant timestamptz := clock_timestamp();
    v_salt     constant uuid := gen_random_uuid();
    -- Microseconds, then chance: ids are in the order of their time.
    v_event_id constant uuid := encode(
        int8send((extract(epoch from v_now) * 1000000)::bigint)
            || substr(uuid_send(gen_random_uuid()), 9),
        'hex'
    )::uuid;
    v_context  constant text := current_setting('app.tenant_context', true);
    -- What another tenant does is in this log too, but not as whom and with what it does it.
    v_is_other   boolean := p_tenant_id > 0
        and split_part(v_context, '|', 4) <> ''
        and split_part(v_context, '|', 3) <> p_tenant_id::text;
    v_credential text := 'none';
    v_actor      text;
    v_detail     text;
    v_durable    constant text := ai_storage_private.keep_durable();
begin
    -- A tenant that is being registered has no id in its context yet.
    if v_is_other and split_part(v_context, '|', 3) = '0' then
        v_is_other := not exists (
            select from ai_storage_private.tenant as t
            where t.tenant_id = p_tenant_id
              and t.isolation_key = split_part(v_context, '|', 4)
        );
    end if;
    if current_user <> 'ai_storage_operator' then
        perform ai_storage_private.require_owner();
    end if;
    -- Whoever may write a tenant's row has a verified context; without one it was by hand.
    if v_is_other then
        v_credential := 'shared';
    elsif p_tenant_id > 0 then
        v_credential := coalesce(nullif(split_part(v_context, '|', 6), ''), 'none');
        -- A token's: 'token', its kid, and its sub if it has one.
        if v_credential like 'token % %' then
            if split_part(v_context, '|', 3) = p_tenant_id::text then
                v_actor := convert_from(
                    ai_storage_private.decode_base64url(split_part(v_credential, ' ', 3)), 'UTF8'
                );
            end if;
            v_credential := 'token ' || split_part(v_credential, ' ', 2);
        end if;
    end if;
    v_detail := jsonb_strip_nulls(
        p_detail || jsonb_build_object(
            'application',
            case when v_is_other is not true
                then nullif(current_setting('application_name'), '')
            end,
            'actor', v_actor
        )
    )::text;
    insert into ai_storage_private.audit_pending (
        tenant_id, event_id, recorded_at, version, model_id, action, login, credential,
        content_digest, detail_digest, salt, detail
    )
    values (
        p_tenant_id, v_event_id, v_now, p_version, p_model_id, p_action,
        case when v_is_other then 'another tenant' else session_user::text end, v_credential,
        sha256(uuid_send(v_salt) || convert_to(p_content, 'UTF8')),
        sha256(uuid_send(v_salt) || convert_to(v_detail, 'UTF8')),
        v_salt, v_detail
    );
    return v_event_id;
end;
$fn$;
comment on function ai_storage_private.record_event(bigint, text, uuid, bigint, text, jsonb) is
    'Writes one event and returns its id. p_content: kept as a digest only. p_detail: names, which '
    'an erasure takes. The sub of the caller''s token is the actor, in its own log only.';

create or replace function ai_storage_private.micros(p_time timestamptz)
returns bigint
language sql
stable
parallel safe
as $fn$
    select (extract(epoch from p_time) * 1000000)::bigint;
$fn$;
comment on function ai_storage_private.micros(timestamptz) is
    'A time as microseconds since 1970, the form in which it is hashed.';

create or replace function ai_storage_private.model_content(
    p_mse              double precision,
    p_training_samples bigint,
    p_created_at       timestamptz,
    p_saved_at         timestamptz,
    p_metrics          jsonb,
    p_metadata         jsonb,
    p_saved_by         text
)
returns text
language sql
stable
parallel safe
as $fn$
    select coalesce(encode(float8send(p_mse), 'hex'), '')
        || '|' || coalesce(p_training_samples::text, '')
        || '|' || ai_storage_private.micros(p_created_at)
        || '|' || ai_storage_private.micros(p_saved_at)
        || '|' || p_metrics || '|' || p_metadata
        || coalesce('|' || p_saved_by, '');
$fn$;
comment on function ai_storage_private.model_content(
    double precision, bigint, timestamptz, timestamptz, jsonb, jsonb, text
) is
    'What the digest of a saved version is made of: p_created_at is the model''s.';

create or replace function ai_storage_private.artifact_content(
    p_sha256     bytea,
    p_size_bytes bigint,
    p_put_at     timestamptz,
    p_media_type text
)
returns text
language sql
stable
parallel safe
as $fn$
    select encode(p_sha256, 'hex') || '|' || p_size_bytes
        || '|' || ai_storage_private.micros(p_put_at) || '|' || p_media_type;
$fn$;
comment on function ai_storage_private.artifact_content(bytea, bigint, timestamptz, text) is
    'What the digest of an artifact is made of.';

create or replace function ai_storage_private.event_subject(
    p_action   text,
    p_model_id uuid,
    p_version  bigint,
    p_detail   jsonb
)
returns text
language sql
immutable
parallel safe
as $fn$
    select case
        when p_action = 'save model' then concat_ws(' ', 'version', p_version, p_model_id)
        when p_action in ('put artifact', 'delete artifact') then concat_ws(
            ' ', 'artifact', p_version, p_model_id, p_detail ->> 'artifact_name'
        )
        when p_action like '% share' then 'grant ' || (p_detail ->> 'share_id')
        when p_action like '% share end' then 'end of grant ' || (p_detail ->> 'share_id')
        when p_action like '% share decline' then concat_ws(
            ' ', 'decline', p_detail ->> 'owner_key', p_detail ->> 'sharer_key',
            p_detail ->> 'model_name'
        )
        when p_action like '% deleted model' then 'deleted model ' || (p_detail ->> 'model_name')
    end;
$fn$;
comment on function ai_storage_private.event_subject(text, uuid, bigint, jsonb) is
    'What an event is about, for events that verify_audit() compares with what there is; else '
    'null.';

create or replace function ai_storage_private.record_use(
    p_action     text,
    p_tenant     ai_storage_private.acting_tenant,
    p_owner_ids  bigint[],
    p_owner_keys text[],
    p_model_ids  uuid[],
    p_versions   bigint[],
    p_names      text[]
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if current_setting('transaction_read_only') = 'on' then
        raise exception using
            errcode = '25006',
            message = 'the use of a shared model is logged, and this transaction is read-only',
            hint = 'Use a read-write transaction.';
    end if;
    -- Both sides are told: the owner who used it, the user whose it was. A user that never wrote
    -- has no log.
    return (
        select count(ai_storage_private.record_event(
            side.tenant_id, p_action, used.model_id, used.version,
            p_detail => jsonb_build_object('model_name', used.model_name, side.role, side.other_key)
        ))
        from unnest(p_owner_ids, p_owner_keys, p_model_ids, p_versions, p_names)
            as used (owner_id, owner_key, model_id, version, model_name)
        cross join lateral (
            values
                (used.owner_id, 'user', p_tenant.isolation_key),
                (p_tenant.tenant_id, 'owner', used.owner_key)
        ) as side (tenant_id, role, other_key)
        where side.tenant_id > 0
    );
end;
$fn$;
comment on function ai_storage_private.record_use(
    text, ai_storage_private.acting_tenant, bigint[], text[], uuid[], bigint[], text[]
) is
    'Writes the events of using shared models, one for each side, and returns how many. Raises '
    '25006.';

-- Sealing -----------------------------------------------------------------------------------------

create or replace function ai_storage_private.leaf_hash(
    p_tenant_id      bigint,
    p_event_id       uuid,
    p_seal_number    bigint,
    p_leaf_index     integer,
    p_recorded_at    timestamptz,
    p_action         text,
    p_model_id       uuid,
    p_version        bigint,
    p_credential     text,
    p_content_digest bytea,
    p_detail_digest  bytea,
    p_login          text
)
returns bytea
language sql
stable
parallel safe
as $fn$
    -- The only text in which a '|' may stand comes last.
    select sha256(decode('00', 'hex') || convert_to(
        p_tenant_id || '|' || p_event_id || '|' || p_seal_number || '|' || p_leaf_index
            || '|' || ai_storage_private.micros(p_recorded_at)
            || '|' || p_action
            || '|' || coalesce(p_model_id::text, '')
            || '|' || coalesce(p_version::text, '')
            || '|' || p_credential
            || '|' || coalesce(encode(p_content_digest, 'hex'), '')
            || '|' || encode(p_detail_digest, 'hex')
            || '|' || p_login,
        'UTF8'
    ));
$fn$;
comment on function ai_storage_private.leaf_hash(
    bigint, uuid, bigint, integer, timestamptz, text, uuid, bigint, text, bytea, bytea, text
) is
    'The leaf of an event in the tree of its seal: a hash of all that is never erased.';

create or replace function ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal)
returns bytea
language sql
stable
parallel safe
as $fn$
    select sha256(convert_to(
        'seal|' || p_seal.tenant_id || '|' || p_seal.seal_number
            || '|' || p_seal.checkpoint_number
            || '|' || ai_storage_private.micros(p_seal.sealed_at)
            || '|' || p_seal.event_count
            || '|' || encode(p_seal.root, 'hex') || '|' || encode(p_seal.previous_hash, 'hex'),
        'UTF8'
    ));
$fn$;
comment on function ai_storage_private.seal_hash(ai_storage_private.audit_seal) is
    'The hash of a seal, which the next seal of the tenant and a checkpoint carry on.';

create or replace function ai_storage_private.checkpoint_hash(
    p_checkpoint ai_storage_private.audit_checkpoint
)
returns bytea
language sql
stable
parallel safe
as $fn$
    select sha256(convert_to(
        'checkpoint|' || p_checkpoint.checkpoint_number
            || '|' || ai_storage_private.micros(p_checkpoint.created_at)
            || '|' || encode(p_checkpoint.root, 'hex')
            || '|' || encode(p_checkpoint.previous_hash, 'hex'),
        'UTF8'
    ));
$fn$;
comment on function ai_storage_private.checkpoint_hash(ai_storage_private.audit_checkpoint) is
    'The hash of a checkpoint: kept outside, it pins everything before it.';

create or replace function ai_storage_private.merkle_root(p_leaf bytea[])
returns bytea
language plpgsql
immutable
parallel safe
as $fn$
declare
    v_one   constant bytea := decode('01', 'hex');
    v_level bytea[] := p_leaf; -- each level replaces the one below, in place
    v_count integer := cardinality(p_leaf);
begin
    while v_count > 1 loop
        for i in 1 .. v_count / 2 loop
            v_level[i] := sha256(v_one || v_level[2 * i - 1] || v_level[2 * i]);
        end loop;
        -- A hash without a partner goes up as it is.
        if v_count % 2 = 1 then
            v_level[v_count / 2 + 1] := v_level[v_count];
        end if;
        v_count := (v_count + 1) / 2;
    end loop;
    return v_level[1];
end;
$fn$;
comment on function ai_storage_private.merkle_root(bytea[]) is
    'The root of a Merkle tree (RFC 6962, section 2.1) over leaves that are hashed already.';

create or replace function ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[])
returns jsonb
language plpgsql
immutable
parallel safe
as $fn$
declare
    v_one     constant bytea := decode('01', 'hex');
    v_level   bytea[] := p_leaf; -- each level replaces the one below, in place
    v_count   integer := cardinality(p_leaf);
    v_place   integer[] := p_indexes; -- of each leaf's node in the level
    v_path    text[] := array_fill(''::text, array[cardinality(p_indexes)]);
    v_sibling integer;
begin
    while v_count > 1 loop
        for i in 1 .. cardinality(v_place) loop
            -- The last node of an odd level has no sibling.
            v_sibling := v_place[i] # 1;
            if v_sibling < v_count then
                v_path[i] := v_path[i]
                    || case when v_sibling > v_place[i] then ',"right ' else ',"left ' end
                    || encode(v_level[v_sibling + 1], 'hex') || '"';
            end if;
            v_place[i] := v_place[i] / 2;
        end loop;
        for i in 1 .. v_count / 2 loop
            v_level[i] := sha256(v_one || v_level[2 * i - 1] || v_level[2 * i]);
        end loop;
        if v_count % 2 = 1 then
            v_level[v_count / 2 + 1] := v_level[v_count];
        end if;
        v_count := (v_count + 1) / 2;
    end loop;
    return (
        select jsonb_agg(('[' || ltrim(p.path, ',') || ']')::jsonb order by p.place)
        from unnest(v_path) with ordinality as p (path, place)
    );
end;
$fn$;
comment on function ai_storage_private.merkle_paths(bytea[], integer[]) is
    'The audit paths of some leaves (RFC 6962, section 2.1.1), an array each, from the bottom: the '
    'side of each sibling and its hash, in hexadecimal. p_indexes count from 0.';

create or replace function ai_storage_private.refuse_old_snapshot()
returns void
language plpgsql
stable
as $fn$
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = '25000',
            message = 'this works under read committed only',
            hint = 'Begin the transaction with isolation level read committed.';
    end if;
end;
$fn$;
comment on function ai_storage_private.refuse_old_snapshot() is
    'Refuses a transaction that does not see what others committed meanwhile. Raises 25000.';

create or replace function ai_storage_private.take_turn()
returns void
language plpgsql
volatile
as $fn$
begin
    perform ai_storage_private.refuse_old_snapshot();
    -- Writers do not wait for this lock.
    lock table ai_storage_private.refusal_report in share update exclusive mode;
end;
$fn$;
comment on function ai_storage_private.take_turn() is
    'Lets one of those who seal and chain work at a time, on what the others committed. Raises '
    '25000.';

create or replace function ai_storage_private.seal_events(p_limit bigint default null)
returns table (events bigint, seals bigint)
language plpgsql
volatile
as $fn$
declare
    v_now        constant timestamptz := clock_timestamp();
    v_refused    bigint;
    v_checkpoint bigint;
begin
    perform ai_storage_private.keep_durable();
    select s.last_value into v_refused
    from ai_storage_private.refused_credential as s
    where s.is_called;
    update ai_storage_private.refusal_report as r set
        reported = v_refused
    where r.reported < v_refused;
    if found then
        perform ai_storage_private.record_event(
            0, 'refuse credentials', p_detail => jsonb_build_object('in_all', v_refused)
        );
    end if;
    select coalesce(max(c.checkpoint_number), 0) + 1 into v_checkpoint
    from ai_storage_private.audit_checkpoint as c;

    -- One statement reads the queue once. While somebody keeps an old snapshot open, its dead rows
    -- stay, and each read passes all of them.
    with taken as materialized (
        delete from ai_storage_private.audit_pending as p
        where p.ctid = any (array(
            select q.ctid
            from ai_storage_private.audit_pending as q
            limit p_limit
        ))
        returning p.*
    ),
    next_seal as materialized (
        select
            t.tenant_id,
            coalesce(l.seal_number, 0) + 1 as seal_number,
            coalesce(l.seal_hash, decode(repeat('00', 32), 'hex')) as previous_hash
        from (select distinct d.tenant_id from taken as d) as t
        left join lateral (
            select s.seal_number, s.seal_hash
            from ai_storage_private.audit_seal as s
            where s.tenant_id = t.tenant_id
            order by s.seal_number desc
            limit 1
        ) as l on true
    ),
    moved as (
        insert into ai_storage_private.audit_event (
            tenant_id, event_id, recorded_at, version, seal_number, leaf_index, model_id,
            action, login, credential, content_digest, detail_digest, leaf_hash, salt, detail
        )
        select
            p.tenant_id, p.event_id, p.recorded_at, p.version, p.seal_number, p.leaf_index,
            p.model_id, p.action, p.login, p.credential, p.content_digest, p.detail_digest,
            ai_storage_private.leaf_hash(
                p.tenant_id, p.event_id, p.seal_number, p.leaf_index, p.recorded_at, p.action,
                p.model_id, p.version, p.credential, p.content_digest, p.detail_digest, p.login
            ),
            p.salt, p.detail
        from (
            select
                t.*,
                n.seal_number,
                (row_number() over (partition by t.tenant_id order by t.event_id) - 1)::integer
                    as leaf_index
            from taken as t
            join next_seal as n on n.tenant_id = t.tenant_id
        ) as p
        returning tenant_id, leaf_index, leaf_hash
    ),
    sealed as (
        insert into ai_storage_private.audit_seal (
            tenant_id, seal_number, checkpoint_number, sealed_at, event_count,
            root, previous_hash, seal_hash
        )
        select
            n.tenant_id, n.seal_number, v_checkpoint, v_now, m.event_count, m.root, n.previous_hash,
            ai_storage_private.seal_hash((
                n.tenant_id, n.seal_number, v_checkpoint, v_now, m.event_count,
                m.root, n.previous_hash, null
            )::ai_storage_private.audit_seal)
        from next_seal as n
        join (
            select
                e.tenant_id,
                count(*)::integer as event_count,
                ai_storage_private.merkle_root(
                    array_agg(e.leaf_hash order by e.leaf_index)
                ) as root
            from moved as e
            group by e.tenant_id
        ) as m on m.tenant_id = n.tenant_id
        returning event_count
    )
    select coalesce(sum(s.event_count), 0), count(*) into events, seals
    from sealed as s;
    return next;
exception
    when unique_violation then
        raise exception using
            errcode = '23505',
            message = 'an event or a seal that was to be written is in the log already',
            hint = 'The log was written by hand. Run verify_all_audit() to find the place.';
end;
$fn$;
comment on function ai_storage_private.seal_events(bigint) is
    'Seals what is pending, at most p_limit events of it, for whoever has the turn. Raises 23505.';

create or replace function ai_storage.seal_audit()
returns table (events bigint, seals bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    perform ai_storage_private.take_turn();
    return query
    select n.events, n.seals
    from ai_storage_private.seal_events(50000) as n;
end;
$fn$;
comment on function ai_storage.seal_audit() is
    'Seals events that are committed and not sealed yet, at most 50,000 in a call: one seal per '
    'tenant that has any. Returns how many events and seals. Call it again, in a new transaction, '
    'while it returns 50,000 events. Several sealers take turns. Raises 23505, 25000.';

create or replace function ai_storage.create_checkpoint()
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_last  ai_storage_private.audit_checkpoint;
    v_next  ai_storage_private.audit_checkpoint;
    v_seals bytea[];
begin
    perform ai_storage_private.require_owner();
    perform ai_storage_private.keep_durable();
    perform ai_storage_private.take_turn();

    select c.* into v_last
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number desc
    limit 1;
    v_next.checkpoint_number := coalesce(v_last.checkpoint_number, 0) + 1;
    v_seals := array(
        select s.seal_hash
        from ai_storage_private.audit_seal as s
        where s.checkpoint_number = v_next.checkpoint_number
        order by s.tenant_id, s.seal_number
    );
    if cardinality(v_seals) > 0 then
        v_next.created_at := clock_timestamp();
        v_next.seal_count := cardinality(v_seals);
        v_next.root := ai_storage_private.merkle_root(v_seals);
        v_next.previous_hash := coalesce(v_last.checkpoint_hash, decode(repeat('00', 32), 'hex'));
        v_next.checkpoint_hash := ai_storage_private.checkpoint_hash(v_next);
        insert into ai_storage_private.audit_checkpoint
        values (v_next.*);
        v_last := v_next;
    end if;
    return case when v_last.checkpoint_number > 0
        then ai_storage_private.render_checkpoint(v_last)
    end;
end;
$fn$;
comment on function ai_storage.create_checkpoint() is
    'Chains one root over all seals since the last checkpoint and returns the checkpoint: number, '
    'time, root, previous hash, hash. Without new seals it returns the last one, or null. '
    'Keep the hash outside the database. Raises 25000.';

create or replace function ai_storage_private.render_event(p_event ai_storage_private.audit_event)
returns jsonb
language sql
immutable
as $fn$
    select jsonb_build_object(
        'kind', 'event',
        'tenant_id', p_event.tenant_id,
        'seal_number', p_event.seal_number,
        'leaf_index', p_event.leaf_index,
        'event_id', p_event.event_id,
        'recorded_at', ai_storage_private.micros(p_event.recorded_at),
        'action', p_event.action,
        'model_id', p_event.model_id,
        'version', p_event.version,
        'login', p_event.login,
        'credential', p_event.credential,
        'content_digest', encode(p_event.content_digest, 'hex'),
        'detail_digest', encode(p_event.detail_digest, 'hex'),
        'leaf_hash', encode(p_event.leaf_hash, 'hex'),
        'salt', replace(p_event.salt::text, '-', ''),
        'detail', p_event.detail
    );
$fn$;
comment on function ai_storage_private.render_event(ai_storage_private.audit_event) is
    'An event as a line of a bundle; times in microseconds since 1970, digests in hexadecimal.';

create or replace function ai_storage_private.render_checkpoint(
    p_checkpoint ai_storage_private.audit_checkpoint
)
returns jsonb
language sql
immutable
as $fn$
    select jsonb_build_object(
        'kind', 'checkpoint',
        'checkpoint_number', p_checkpoint.checkpoint_number,
        'created_at', ai_storage_private.micros(p_checkpoint.created_at),
        'root', encode(p_checkpoint.root, 'hex'),
        'previous_hash', encode(p_checkpoint.previous_hash, 'hex'),
        'checkpoint_hash', encode(p_checkpoint.checkpoint_hash, 'hex')
    );
$fn$;
comment on function ai_storage_private.render_checkpoint(ai_storage_private.audit_checkpoint) is
    'A checkpoint as a line of a bundle. It tells nothing of a tenant.';

create or replace function ai_storage_private.render_seals(
    p_tenant_id   bigint,
    p_seal_number bigint default null
)
returns table (seal_number bigint, line jsonb)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    -- A checkpoint's tree is built once for all of the tenant's seals under it. Of other tenants'
    -- seals the paths tell hashes, and about how many there are.
    return query
    with wanted as (
        select w.*
        from ai_storage_private.audit_seal as w
        where w.tenant_id = p_tenant_id
          and w.seal_number = coalesce(p_seal_number, w.seal_number)
    ),
    tree as (
        select
            array_agg(n.seal_hash order by n.place) as hashes,
            array_agg(n.place order by n.place) filter (where n.is_wanted) as places,
            array_agg(n.seal_number order by n.place) filter (where n.is_wanted) as numbers
        from (
            select
                a.checkpoint_number,
                a.seal_number,
                a.seal_hash,
                (row_number() over (
                    partition by a.checkpoint_number order by a.tenant_id, a.seal_number
                ) - 1)::integer as place,
                a.tenant_id = p_tenant_id
                    and a.seal_number = coalesce(p_seal_number, a.seal_number) as is_wanted
            from ai_storage_private.audit_checkpoint as c
            join ai_storage_private.audit_seal as a on a.checkpoint_number = c.checkpoint_number
            where c.checkpoint_number in (select w.checkpoint_number from wanted as w)
        ) as n
        group by n.checkpoint_number
    )
    select
        w.seal_number,
        jsonb_build_object(
            'kind', 'seal',
            'tenant_id', w.tenant_id,
            'seal_number', w.seal_number,
            'checkpoint_number', w.checkpoint_number,
            'sealed_at', ai_storage_private.micros(w.sealed_at),
            'event_count', w.event_count,
            'root', encode(w.root, 'hex'),
            'previous_hash', encode(w.previous_hash, 'hex'),
            'seal_hash', encode(w.seal_hash, 'hex'),
            'path', p.path
        )
    from wanted as w
    left join (
        select u.seal_number, u.path
        from tree as t
        cross join lateral rows from (
            unnest(t.numbers),
            jsonb_array_elements(ai_storage_private.merkle_paths(t.hashes, t.places))
        ) as u (seal_number, path)
    ) as p on p.seal_number = w.seal_number;
end;
$fn$;
comment on function ai_storage_private.render_seals(bigint, bigint) is
    'One seal or all of a tenant as lines of a bundle, with their paths to their checkpoints'' '
    'roots; path is null while there is no checkpoint over it.';

create or replace function ai_storage_private.list_checkpoints()
returns setof jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return query
    select ai_storage_private.render_checkpoint(c)
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number;
end;
$fn$;
comment on function ai_storage_private.list_checkpoints() is
    'All checkpoints, as lines of a bundle. They tell nothing of a tenant.';

-- Verifying ---------------------------------------------------------------------------------------

create or replace function ai_storage_private.check_seal(
    p_seal ai_storage_private.audit_seal
)
returns text
language plpgsql
stable
parallel safe
cost 10000
as $fn$
declare
    v_leaves constant bytea[] := array(
        select e.leaf_hash
        from ai_storage_private.audit_event as e
        where e.tenant_id = p_seal.tenant_id
          and e.seal_number = p_seal.seal_number
        order by e.leaf_index
    );
begin
    return case
        when p_seal.seal_hash <> ai_storage_private.seal_hash(p_seal) then 'a changed seal'
        when cardinality(v_leaves) <> p_seal.event_count then 'a missing event, or one too many'
        when ai_storage_private.merkle_root(v_leaves) is distinct from p_seal.root
        then 'a changed event'
    end;
end;
$fn$;
comment on function ai_storage_private.check_seal(ai_storage_private.audit_seal) is
    'Recomputes a seal from the leaves of its events and tells what is wrong with it, or null.';

create or replace function ai_storage_private.check_events(p_tenant_id bigint)
returns table (
    events      bigint,
    tenant_id   bigint,
    seal_number bigint,
    leaf_index  integer,
    problem     text
)
language plpgsql
stable
-- By several processes, however few pages the events fill, and without the start of a compiler.
set min_parallel_table_scan_size = 0
set jit = off
as $fn$
begin
    -- PostgreSQL runs RETURN QUERY in parallel, SELECT INTO never. The place as text of a fixed
    -- width, so that each process finds the smallest.
    return query
    select
        n.event_count,
        substr(n.place, 1, 20)::bigint,
        substr(n.place, 21, 20)::bigint,
        substr(n.place, 41, 20)::integer,
        case when n.place is not null then 'a changed event' end
    from (
        select
            count(*) as event_count,
            min(
                to_char(e.tenant_id, 'S0000000000000000000')
                    || to_char(e.seal_number, 'S0000000000000000000')
                    || to_char(e.leaf_index, 'S0000000000000000000')
            ) filter (
                where e.leaf_hash <> ai_storage_private.leaf_hash(
                        e.tenant_id, e.event_id, e.seal_number, e.leaf_index, e.recorded_at,
                        e.action, e.model_id, e.version, e.credential, e.content_digest,
                        e.detail_digest, e.login
                    )
                   -- Two rows could share such a leaf: only the login, the last, may hold a bar.
                   or strpos(e.action || e.credential, '|') > 0
                   or e.content_digest = ''
                   -- No erasure and no retention takes a name from the operator's own log.
                   or (e.tenant_id = 0 and e.salt is null)
                   or (e.detail is null) <> (e.salt is null)
                   or e.detail_digest
                       <> sha256(uuid_send(e.salt) || convert_to(e.detail, 'UTF8'))
            ) as place
        from ai_storage_private.audit_event as e
        where p_tenant_id is null or e.tenant_id = p_tenant_id
    ) as n;
    return query
    select 0::bigint, e.tenant_id, e.seal_number, e.leaf_index, 'events without their seal'
    from ai_storage_private.audit_event as e
    where (p_tenant_id is null or e.tenant_id = p_tenant_id)
      and not exists (
          select from ai_storage_private.audit_seal as s
          where s.tenant_id = e.tenant_id
            and s.seal_number = e.seal_number
      )
    order by e.tenant_id, e.seal_number, e.leaf_index
    limit 1;
end;
$fn$;
comment on function ai_storage_private.check_events(bigint) is
    'Recomputes the leaves of one tenant''s log, or with null of all: how many, and the first that '
    'is wrong or under no seal.';

create or replace function ai_storage_private.check_seals(p_tenant_id bigint)
returns table (
    tenant_id     bigint,
    seal_number   bigint,
    previous_hash bytea,
    seal_hash     bytea,
    problem       text
)
language plpgsql
stable
set min_parallel_table_scan_size = 0
set jit = off
as $fn$
begin
    -- A correlated subquery would keep PostgreSQL to one process, a function does not.
    return query
    select
        s.tenant_id, s.seal_number, s.previous_hash, s.seal_hash,
        ai_storage_private.check_seal(s)
    from ai_storage_private.audit_seal as s
    where p_tenant_id is null or s.tenant_id = p_tenant_id;
end;
$fn$;
comment on function ai_storage_private.check_seals(bigint) is
    'The seals of one tenant, or with null of all, and what is wrong with each by itself.';

create or replace function ai_storage_private.check_log(p_tenant_id bigint)
returns table (
    events      bigint,
    seals       bigint,
    tenant_id   bigint,
    seal_number bigint,
    leaf_index  integer,
    problem     text
)
language plpgsql
stable
as $fn$
begin
    return query
    with event as materialized (
        select n.* from ai_storage_private.check_events(p_tenant_id) as n
    ),
    seal as materialized (
        select
            s.*,
            s.seal_number = 1 + coalesce(lag(s.seal_number) over chain, 0)
                and s.previous_hash = coalesce(
                    lag(s.seal_hash) over chain, decode(repeat('00', 32), 'hex')
                ) as follows
        from ai_storage_private.check_seals(p_tenant_id) as s
        window chain as (partition by s.tenant_id order by s.seal_number)
    ),
    wrong as (
        select n.tenant_id, n.seal_number, n.leaf_index, n.problem
        from event as n
        where n.problem is not null
        union all
        select
            c.tenant_id,
            c.seal_number,
            null,
            case when c.follows then c.problem
                else 'a seal that does not follow the one before' end
        from seal as c
        where c.problem is not null
           or not c.follows
    )
    select
        (select sum(n.events)::bigint from event as n),
        (select count(*) from seal),
        w.tenant_id, w.seal_number, w.leaf_index, w.problem
    from (values (1)) as one (row)
    left join lateral (
        select r.*
        from wrong as r
        order by r.tenant_id, r.seal_number, r.leaf_index
        limit 1
    ) as w on true;
end;
$fn$;
comment on function ai_storage_private.check_log(bigint) is
    'Recomputes the leaves and seals of one tenant''s log, or with null of all, and tells what is '
    'wrong first. Under row level security it sees what its caller''s policies show.';

create or replace function ai_storage.verify_all_audit()
returns table (
    verified      boolean,
    events        bigint,
    seals         bigint,
    checkpoints   bigint,
    pending       bigint,
    isolation_key text,
    event_id      uuid,
    problem       text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_log     record;
    v_chain   record;
    v_numbers bigint[];
    v_counts  bigint[];
    v_roots   bytea[];
    v_highest bigint;
begin
    perform ai_storage_private.require_owner();
    select l.* into v_log
    from ai_storage_private.check_log(null) as l;

    -- The last seals may be under no checkpoint yet; every checkpoint has all of its own.
    select
        array_agg(s.checkpoint_number), array_agg(s.seal_count), array_agg(s.root),
        max(s.checkpoint_number) filter (where s.sealed_at < now())
    into v_numbers, v_counts, v_roots, v_highest
    from (
        select
            a.checkpoint_number,
            min(a.sealed_at) as sealed_at,
            count(*) as seal_count,
            ai_storage_private.merkle_root(
                array_agg(a.seal_hash order by a.tenant_id, a.seal_number)
            ) as root
        from ai_storage_private.audit_seal as a
        group by a.checkpoint_number
    ) as s;
    select
        count(*) as checkpoints,
        min(c.checkpoint_number) filter (where not c.is_good) as bad_number
    into v_chain
    from (
        select
            c.checkpoint_number,
            c.checkpoint_number = 1 + coalesce(lag(c.checkpoint_number) over chain, 0)
                and c.previous_hash = coalesce(
                    lag(c.checkpoint_hash) over chain, decode(repeat('00', 32), 'hex')
                )
                and c.checkpoint_hash = ai_storage_private.checkpoint_hash(c)
                and c.root is not distinct from s.root
                and c.seal_count = s.seal_count
                as is_good
        from ai_storage_private.audit_checkpoint as c
        left join unnest(v_numbers, v_counts, v_roots) as s (checkpoint_number, seal_count, root)
            on s.checkpoint_number = c.checkpoint_number
        window chain as (order by c.checkpoint_number)
    ) as c;

    events := coalesce(v_log.events, 0);
    seals := v_log.seals;
    checkpoints := v_chain.checkpoints;
    select count(*) into pending from ai_storage_private.audit_pending as p;
    if v_log.problem is not null then
        problem := format('seal %s: %s', v_log.seal_number, v_log.problem);
        select t.isolation_key into isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = v_log.tenant_id;
        select e.event_id into event_id
        from ai_storage_private.audit_event as e
        where e.tenant_id = v_log.tenant_id
          and e.seal_number = v_log.seal_number
          and e.leaf_index = v_log.leaf_index;
    elsif v_chain.bad_number is not null then
        problem := format('checkpoint %s: changed, or its seals were', v_chain.bad_number);
    elsif v_highest > v_chain.checkpoints + 1 then
        problem := format('checkpoint %s: missing', v_chain.checkpoints + 1);
    end if;
    verified := problem is null;
    return next;
end;
$fn$;
comment on function ai_storage.verify_all_audit() is
    'Recomputes every leaf, seal and checkpoint of all tenants. pending: events that no seal '
    'covers yet. verified false: problem says what is wrong first, event_id and isolation_key '
    'where, as far as they are known.';

set local role ai_storage_owner;

create or replace function ai_storage_private.record_model_change()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_detail   jsonb;
    v_event_id uuid;
begin
    if tg_op = 'DELETE' then
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete model', old.model_id, old.version,
            p_detail => jsonb_build_object('model_name', old.model_name)
        );
        return null;
    end if;
    if tg_op = 'UPDATE' and (new.model_id <> old.model_id or new.tenant_id <> old.tenant_id) then
        -- By hand: the model that was there is gone.
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete model', old.model_id, old.version,
            p_detail => jsonb_build_object('model_name', old.model_name)
        );
    end if;
    v_detail := jsonb_build_object('model_name', new.model_name);
    -- write_progress() inserts a new model as version 1 and renumbers it at once when its name was
    -- deleted before. The first number never had a version; 'gone' tells verify_audit(). In an IF
    -- of its own, since an expression with a subquery runs as a query, in every save.
    if tg_op = 'UPDATE' and new.updated_at = old.updated_at then
        if not exists (
            select from ai_storage_private.progress_version as v
            where v.tenant_id = old.tenant_id
              and v.model_id = old.model_id
              and v.version = old.version
        ) then
            v_detail := v_detail || jsonb_build_object(
                'gone', int8multirange(int8range(old.version, old.version, '[]'))
            );
        end if;
    end if;
    v_event_id := ai_storage_private.record_event(
        new.tenant_id, 'save model', new.model_id, new.version,
        ai_storage_private.model_content(
            new.mse, new.training_samples, new.created_at, new.updated_at,
            new.metrics, new.metadata, new.saved_by
        ),
        v_detail
    );
    return null;
end;
$fn$;
comment on function ai_storage_private.record_model_change() is
    'Trigger: one event per change of a model, whoever made it.';

create or replace function ai_storage_private.record_version()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_model ai_storage_private.ai_progress_tenant;
begin
    select p.* into v_model
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = new.tenant_id
      and p.model_id = new.model_id;
    if not found then
        perform ai_storage_private.record_event(
            new.tenant_id, 'insert version', new.model_id, new.version
        );
    -- The model's event covers a version that equals its current state. An older one is a copy of
    -- write_rows(), and is logged as the save that it was.
    elsif row(
            v_model.tenant_id, v_model.model_id, v_model.version, v_model.mse,
            v_model.training_samples, v_model.updated_at, v_model.saved_by, v_model.metrics,
            v_model.metadata
        )::ai_storage_private.progress_version <> new
    then
        perform ai_storage_private.record_event(
            new.tenant_id, 'save model', new.model_id, new.version,
            ai_storage_private.model_content(
                new.mse, new.training_samples, v_model.created_at, new.saved_at,
                new.metrics, new.metadata, new.saved_by
            ),
            jsonb_build_object('model_name', v_model.model_name)
        );
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.record_version() is
    'Trigger: an event for a version that is not what its model is now.';

create or replace function ai_storage_private.record_swept_versions()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_model    record;
begin
    for v_model in
        select
            v.tenant_id, v.model_id, range_agg(int8range(v.version, v.version, '[]')) as versions
        from gone as v
        group by v.tenant_id, v.model_id
    loop
        -- What goes with its model has the event of the model.
        if exists (
            select from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = v_model.tenant_id
              and p.model_id = v_model.model_id
        ) then
            perform ai_storage_private.record_event(
                v_model.tenant_id, 'delete version', v_model.model_id,
                p_detail => jsonb_build_object('gone', v_model.versions)
            );
        end if;
    end loop;
    return null;
end;
$fn$;
comment on function ai_storage_private.record_swept_versions() is
    'Trigger: one event for each model that lost versions and is still there.';

create or replace function ai_storage_private.record_artifact_change()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_event_id uuid;
begin
    if tg_op = 'DELETE' or (
        tg_op = 'UPDATE'
        and (new.tenant_id, new.model_id, new.version, new.artifact_name)
            <> (old.tenant_id, old.model_id, old.version, old.artifact_name)
    ) then
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete artifact', old.model_id, old.version,
            p_detail => jsonb_build_object('artifact_name', old.artifact_name)
        );
    end if;
    if tg_op <> 'DELETE' then
        v_event_id := ai_storage_private.record_event(
            new.tenant_id, 'put artifact', new.model_id, new.version,
            (
                select ai_storage_private.artifact_content(
                    b.sha256, b.size_bytes, new.put_at, new.media_type
                )
                from ai_storage_private.artifact_blob as b
                where b.tenant_id = new.tenant_id
                  and b.blob_id = new.blob_id
            ),
            jsonb_build_object('artifact_name', new.artifact_name)
        );
    end if;
    return null;
end;
$fn$;
comment on function ai_storage_private.record_artifact_change() is
    'Trigger: one event per change of an artifact, whoever made it, with a digest of its sha256, '
    'size and media type.';

create or replace function ai_storage_private.record_change()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
set extra_float_digits = '1'
as $fn$
declare
    v_filled constant text[] := string_to_array(tg_argv[2], ',');
    v_old    jsonb;
    v_new    jsonb;
    v_row    jsonb;
begin
    if tg_op in ('UPDATE', 'DELETE') then
        v_old := to_jsonb(old);
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        v_new := to_jsonb(new);
    end if;
    -- Filling these columns for the first time has no event: that of the insert covers it.
    if v_old -> v_filled[1] = 'null' and v_new -> v_filled[1] <> 'null'
        and v_old - v_filled = v_new - v_filled
    then
        return null;
    end if;
    -- A row that somebody gave to another tenant has an event in both logs.
    for v_row in
        select coalesce(v_new, v_old, '{}')
        union all
        select v_old
        where v_old -> 'tenant_id' <> v_new -> 'tenant_id'
    loop
        perform ai_storage_private.record_event(
            coalesce((v_row ->> 'tenant_id')::bigint, 0), lower(tg_op) || ' ' || tg_argv[0],
            (v_row ->> 'model_id')::uuid, (v_row ->> 'version')::bigint,
            v_row::text,
            -- The trigger names the columns that may be told.
            (
                select coalesce(jsonb_object_agg(c.name, v_row -> c.name), '{}')
                from unnest(string_to_array(tg_argv[1], ',')) as c (name)
                where v_row ? c.name
            )
        );
    end loop;
    return null;
end;
$fn$;
comment on function ai_storage_private.record_change() is
    'Trigger: one event per changed row, or per TRUNCATE, with a digest of the whole row. Its '
    'arguments: what the row is, the columns that go into the event, and those that are filled '
    'once without another event, the first of them from null. A row without tenant_id goes to the '
    'operator''s log.';

create or replace function ai_storage_private.record_changes()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
begin
    perform ai_storage_private.record_event(
        c.tenant_id, lower(tg_op) || ' ' || tg_argv[0],
        p_detail => jsonb_build_object('rows', c.rows)
    )
    from (
        select r.tenant_id, count(*) as rows
        from changed as r
        group by r.tenant_id
    ) as c;
    return null;
end;
$fn$;
comment on function ai_storage_private.record_changes() is
    'Trigger: one event per statement and tenant, with the number of rows. Its argument: what the '
    'rows are.';

create or replace function ai_storage_private.list_events(p_tenant_id bigint, p_actions text)
returns table (
    event_id       uuid,
    seal_number    bigint,
    action         text,
    model_id       uuid,
    version        bigint,
    content_digest bytea,
    salt           uuid,
    detail         jsonb
)
language sql
stable
as $fn$
    select
        p.event_id, null, p.action, p.model_id, p.version, p.content_digest, p.salt,
        p.detail::jsonb
    from ai_storage_private.audit_pending as p
    where p.tenant_id = p_tenant_id
      and p.action ~ p_actions
    union all
    select
        e.event_id, e.seal_number, e.action, e.model_id, e.version, e.content_digest, e.salt,
        e.detail::jsonb
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      and e.action ~ p_actions;
$fn$;
comment on function ai_storage_private.list_events(bigint, text) is
    'The events of a tenant, sealed or not (seal_number null). p_actions: a regular expression.';

create or replace function ai_storage_private.list_last_events(
    p_tenant_id bigint,
    p_actions   text
)
returns table (
    subject        text,
    action         text,
    model_id       uuid,
    version        bigint,
    content_digest bytea,
    salt           uuid,
    detail         jsonb
)
language sql
stable
as $fn$
    -- By seal first: ids follow the clock, which may be set back.
    select distinct on (l.subject)
        l.subject, l.action, l.model_id, l.version, l.content_digest, l.salt, l.detail
    from (
        select
            e.*,
            ai_storage_private.event_subject(
                e.action, e.model_id, e.version, e.detail
            ) as subject
        from ai_storage_private.list_events(p_tenant_id, p_actions) as e
    ) as l
    where l.subject is not null
    order by l.subject, l.seal_number desc nulls first, l.event_id desc;
$fn$;
comment on function ai_storage_private.list_last_events(bigint, text) is
    'The last event of each subject of a tenant: see event_subject(). p_actions: a regular '
    'expression.';

create or replace function ai_storage_private.list_logged_rows(p_tenant_id bigint)
returns table (subject text, content text)
language sql
stable
as $fn$
    select
        ai_storage_private.event_subject('insert share', null, null, to_jsonb(s)),
        to_jsonb(s)::text
    from ai_storage_private.model_share as s
    where s.tenant_id = p_tenant_id
    union all
    (
        -- Of several ends of a grant the last, as of its events.
        select distinct on (e.share_id)
            ai_storage_private.event_subject('insert share end', null, null, to_jsonb(e)),
            to_jsonb(e)::text
        from ai_storage_private.share_end as e
        where e.tenant_id = p_tenant_id
        order by e.share_id, e.ended_at desc
    )
    union all
    select
        ai_storage_private.event_subject('insert share decline', null, null, to_jsonb(d)),
        to_jsonb(d)::text
    from ai_storage_private.share_decline as d
    where d.tenant_id = p_tenant_id
    union all
    select
        ai_storage_private.event_subject('insert deleted model', null, null, to_jsonb(m)),
        to_jsonb(m)::text
    from ai_storage_private.deleted_model as m
    where m.tenant_id = p_tenant_id;
$fn$;
comment on function ai_storage_private.list_logged_rows(bigint) is
    'The rows of a tenant of whose events record_change() keeps a digest: grants, their ends, '
    'declines and deleted models, as it writes them in the time zone UTC.';

create or replace function ai_storage_private.list_subjects(p_tenant_id bigint)
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return query
    select ai_storage_private.event_subject('save model', v.model_id, v.version, null)
    from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id
    union all
    select ai_storage_private.event_subject('put artifact', a.model_id, a.version, to_jsonb(a))
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
    union all
    select r.subject
    from ai_storage_private.list_logged_rows(p_tenant_id) as r;
end;
$fn$;
comment on function ai_storage_private.list_subjects(bigint) is
    'What there is of the tenant that the context names, as event_subject() writes it: the log '
    'keeps salts and names for it.';

create or replace function ai_storage_private.find_unlogged_model(p_tenant_id bigint)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return (
        with model as materialized (
            select p.*
            from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = p_tenant_id
        ),
        history as materialized (
            select v.*
            from ai_storage_private.progress_version as v
            where v.tenant_id = p_tenant_id
        ),
        saved as materialized (
            select l.*
            from ai_storage_private.list_last_events(p_tenant_id, '^save model$') as l
        ),
        -- The last save or deletion of each model.
        latest as materialized (
            select distinct on (l.model_id)
                l.model_id, l.action, l.version, l.detail ->> 'model_name' as model_name
            from ai_storage_private.list_events(p_tenant_id, '^(save|delete) model$') as l
            order by
                l.model_id, l.version desc, l.seal_number desc nulls first, l.event_id desc
        ),
        gone as materialized (
            select l.model_id, range_agg((l.detail ->> 'gone')::int8multirange) as versions
            from ai_storage_private.list_events(p_tenant_id, '^(save model|delete version)$') as l
            where l.detail ? 'gone'
            group by l.model_id
        )
        select min(coalesce(quote_ident(f.model_name), '?'))
        from (
            -- A model that was not saved as this version, or whose version is another state; and
            -- one that was saved, was never deleted, and is not there.
            select coalesce(p.model_name, l.model_name) as model_name
            from model as p
            full join latest as l
                on l.model_id = p.model_id
            left join history as v
                on v.model_id = p.model_id
                and v.version = p.version
            where case
                when p.model_id is null then l.action = 'save model'
                else (
                    l.action = 'save model'
                    and l.version = p.version
                    and coalesce(l.model_name, p.model_name) = p.model_name
                    and v.mse is not distinct from p.mse
                    and v.training_samples is not distinct from p.training_samples
                    and v.saved_at = p.updated_at
                    and v.saved_by is not distinct from p.saved_by
                    and v.metrics = p.metrics
                    and v.metadata = p.metadata
                ) is not true
            end
            union all
            -- A version that is not as it was saved last, or was deleted.
            select p.model_name
            from history as v
            left join model as p
                on p.model_id = v.model_id
            left join saved as l
                on l.model_id = v.model_id
                and l.version = v.version
            left join gone as g
                on g.model_id = v.model_id
            where p.model_id is null
               or g.versions @> v.version
               or (l.content_digest = sha256(uuid_send(l.salt) || convert_to(
                   ai_storage_private.model_content(
                       v.mse, v.training_samples, p.created_at, v.saved_at,
                       v.metrics, v.metadata, v.saved_by
                   ),
                   'UTF8'
               ))) is not true
            union all
            -- A version that was saved, was never deleted, and is not there. Its event has its salt
            -- until a retention rule finds that the version is gone.
            select p.model_name
            from saved as l
            join model as p
                on p.model_id = l.model_id
            left join history as v
                on v.model_id = l.model_id
                and v.version = l.version
            left join gone as g
                on g.model_id = l.model_id
            where l.salt is not null
              and v.model_id is null
              and (g.versions @> l.version) is not true
        ) as f
    );
end;
$fn$;
comment on function ai_storage_private.find_unlogged_model(bigint) is
    'The name of a model of the tenant that the context names that is not as the log says it '
    'became: its state, its author and times, or a version of its history; quoted; ? when it has '
    'no name; null when there is no such model. So a change while the triggers were off shows.';

create or replace function ai_storage_private.find_unlogged_artifact(p_tenant_id bigint)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return (
        with content as materialized (
            select
                b.blob_id,
                b.sha256,
                b.size_bytes,
                b.sha256 = ai_storage_private.content_sha256(coalesce(k.digests, '{}'))
                    and b.size_bytes = coalesce(k.size_bytes, 0)
                    and coalesce(k.is_whole, true) as is_whole
            from ai_storage_private.artifact_blob as b
            left join lateral (
                select
                    array_agg(sha256(c.content) order by c.chunk_number) as digests,
                    sum(length(c.content)) as size_bytes,
                    bool_and(c.sha256 = sha256(c.content))
                        and max(c.chunk_number) + 1 = count(*) as is_whole
                from ai_storage_private.artifact_chunk as c
                where c.tenant_id = p_tenant_id
                  and c.blob_id = b.blob_id
            ) as k on true
            where b.tenant_id = p_tenant_id
        ),
        artifact as materialized (
            select
                a.artifact_name, a.version, a.put_at, a.media_type, b.sha256, b.size_bytes,
                b.is_whole,
                ai_storage_private.event_subject(
                    'put artifact', a.model_id, a.version, to_jsonb(a)
                ) as subject
            from ai_storage_private.model_artifact as a
            left join content as b
                on b.blob_id = a.blob_id
            where a.tenant_id = p_tenant_id
        )
        select min(format(
            '%I at version %s',
            coalesce(a.artifact_name, l.detail ->> 'artifact_name'),
            coalesce(a.version, l.version)
        ))
        from artifact as a
        full join ai_storage_private.list_last_events(
            p_tenant_id, '^(put|delete) artifact$'
        ) as l on l.subject = a.subject
        where case
            when a.subject is null then l.action = 'put artifact' and l.detail is not null
            else (
                l.action = 'put artifact'
                and a.is_whole
                and l.content_digest = sha256(uuid_send(l.salt) || convert_to(
                    ai_storage_private.artifact_content(
                        a.sha256, a.size_bytes, a.put_at, a.media_type
                    ),
                    'UTF8'
                ))
            ) is not true
        end
    );
end;
$fn$;
comment on function ai_storage_private.find_unlogged_artifact(bigint) is
    'An artifact of the tenant that the context names that is not as it was put last: its bytes, '
    'read again, its size, media type, time, name or version; or one that is gone. Null when there '
    'is none.';

create or replace function ai_storage_private.find_unlogged_row(p_tenant_id bigint)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
as $fn$
begin
    return (
        select min(coalesce(r.subject, l.subject))
        from ai_storage_private.list_logged_rows(p_tenant_id) as r
        full join ai_storage_private.list_last_events(
            p_tenant_id, ' (share|share end|share decline|deleted model)$'
        ) as l on l.subject = r.subject
        where case
            when r.subject is null then l.action not like 'delete %'
            else (
                l.action not like 'delete %'
                and l.content_digest
                    = sha256(uuid_send(l.salt) || convert_to(r.content, 'UTF8'))
            ) is not true
        end
    );
end;
$fn$;
comment on function ai_storage_private.find_unlogged_row(bigint) is
    'A grant, the end of one, a decline or the memory of a deleted model, of the tenant that the '
    'context names, that is not as it was written last, or is gone without an event. Null when '
    'there is none.';

create or replace function ai_storage_private.find_unlogged(p_tenant_id bigint)
returns text
language plpgsql
stable
as $fn$
begin
    return coalesce(
        'model ' || ai_storage_private.find_unlogged_model(p_tenant_id) || ': not as it was saved',
        'artifact ' || ai_storage_private.find_unlogged_artifact(p_tenant_id)
            || ': not as it was put',
        ai_storage_private.find_unlogged_row(p_tenant_id) || ': not as it was written'
    );
end;
$fn$;
comment on function ai_storage_private.find_unlogged(bigint) is
    'What is not as the log says of the tenant that the context names, in words, or null.';

create or replace function ai_storage.verify_audit(p_as text default null)
returns table (
    verified boolean,
    events   bigint,
    seals    bigint,
    pending  bigint,
    event_id uuid,
    problem  text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_log    record;
begin
    select l.* into v_log
    from ai_storage_private.check_log(v_tenant.tenant_id) as l;
    events := coalesce(v_log.events, 0);
    seals := v_log.seals;
    select count(*) into pending
    from ai_storage_private.audit_pending as p
    where p.tenant_id = v_tenant.tenant_id;

    if v_log.problem is not null then
        problem := format('seal %s: %s', v_log.seal_number, v_log.problem);
        select e.event_id into event_id
        from ai_storage_private.audit_event as e
        where e.tenant_id = v_tenant.tenant_id
          and e.seal_number = v_log.seal_number
          and e.leaf_index = v_log.leaf_index;
    else
        problem := ai_storage_private.find_unlogged(v_tenant.tenant_id);
    end if;
    verified := problem is null;
    return next;
end;
$fn$;
comment on function ai_storage.verify_audit(text) is
    'Recomputes every leaf and seal of the caller''s own log and compares the tenant''s data with '
    'it: models and versions with authors and times, artifacts, whose bytes it reads again, '
    'grants, their ends, declines and deleted names. Finds what was changed, added or removed '
    'without an event. pending: events that no seal covers yet. verified false: problem says what '
    'is wrong first, event_id where, when it is known. Raises TN001 to TN005.';

create or replace function ai_storage.audit_trail(
    p_since  timestamptz default null,
    p_until  timestamptz default null,
    p_action text        default null,
    p_after  text        default null,
    p_limit  integer     default 1000,
    p_as     text        default null
)
returns table (
    event_id    uuid,
    recorded_at timestamptz,
    action      text,
    model_id    uuid,
    version     bigint,
    login       text,
    credential  text,
    actor       text,
    detail      jsonb,
    sealed      boolean,
    cursor      text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_after  uuid;
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if p_after !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;
    v_after := coalesce(p_after, '00000000-0000-0000-0000-000000000000')::uuid;

    -- The sealed ones last: what is sealed meanwhile there may be in two parts, of which one is
    -- taken, and now and then in none.
    return query
    select distinct on (e.event_id)
        e.event_id,
        e.recorded_at,
        e.action,
        e.model_id,
        e.version,
        e.login,
        e.credential,
        e.detail::jsonb ->> 'actor',
        e.detail::jsonb,
        e.is_sealed,
        e.event_id::text
    from (
        (
            select
                p.event_id, p.recorded_at, p.action, p.model_id, p.version, p.login,
                p.credential, p.detail, false as is_sealed
            from ai_storage_private.audit_pending as p
            where p.tenant_id = v_tenant.tenant_id
              and p.event_id > v_after
              and p.recorded_at >= coalesce(p_since, '-infinity')
              and p.recorded_at < coalesce(p_until, 'infinity')
              and p.action = coalesce(p_action collate "C", p.action)
            order by p.event_id
            limit p_limit
        )
        union all
        (
            select
                a.event_id, a.recorded_at, a.action, a.model_id, a.version, a.login,
                a.credential, a.detail, true as is_sealed
            from ai_storage_private.audit_event as a
            where a.tenant_id = v_tenant.tenant_id
              and a.event_id > v_after
              and a.recorded_at >= coalesce(p_since, '-infinity')
              and a.recorded_at < coalesce(p_until, 'infinity')
              and a.action = coalesce(p_action collate "C", a.action)
            order by a.event_id
            limit p_limit
        )
    ) as e
    order by e.event_id
    limit p_limit;
end;
$fn$;
comment on function ai_storage.audit_trail(
    timestamptz, timestamptz, text, text, integer, text
) is
    'Returns the events of the caller''s own log in the order of their time. p_since, p_until: '
    'from and before. p_action: such as save model. p_after: the cursor of the last row you have. '
    'actor: the sub of the token, if it had one. detail: names. Both are null after an erasure. '
    'sealed: whether a seal covers it. For paging through what is there: a transaction that '
    'commits late adds events with an earlier time, so a follower calls changes(). Raises 22023, '
    'TN001 to TN005.';

create or replace function ai_storage.changes(
    p_after text    default null,
    p_limit integer default 1000,
    p_as    text    default null
)
returns table (
    event_id    uuid,
    recorded_at timestamptz,
    action      text,
    model_id    uuid,
    version     bigint,
    login       text,
    credential  text,
    actor       text,
    detail      jsonb,
    sealed      boolean,
    cursor      text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_after  bigint[];
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if p_after !~ '^[0-9]{1,18}[.][0-9]{1,9}$' then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;
    v_after := string_to_array(coalesce(p_after, '0.0'), '.')::bigint[];

    return query
    select
        e.event_id,
        e.recorded_at,
        e.action,
        e.model_id,
        e.version,
        e.login,
        e.credential,
        e.detail::jsonb ->> 'actor',
        e.detail::jsonb,
        true,
        e.seal_number || '.' || e.leaf_index
    from ai_storage_private.audit_event as e
    where e.tenant_id = v_tenant.tenant_id
      and (e.seal_number, e.leaf_index) > (v_after[1], v_after[2])
    order by e.seal_number, e.leaf_index
    limit p_limit;
end;
$fn$;
comment on function ai_storage.changes(text, integer, text) is
    'Returns the sealed events of the caller''s own log in the order of their seals, for a '
    'follower: none is lost and none comes twice, since what commits late is sealed later. Rows '
    'are as those of audit_trail(). p_after: the cursor of the last row you have (seal and '
    'place), null for the beginning. Raises 22023, TN001 to TN005.';

create or replace function ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid)
returns jsonb
language plpgsql
stable
as $fn$
declare
    v_event  ai_storage_private.audit_event;
    v_leaves bytea[];
begin
    select e.* into v_event
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      and e.event_id = p_event_id;
    if not found then
        raise exception using
            errcode = 'TN401',
            message = 'no such sealed event',
            hint = 'Take the event_id of a sealed event from audit_trail().';
    end if;
    v_leaves := array(
        select e.leaf_hash
        from ai_storage_private.audit_event as e
        where e.tenant_id = p_tenant_id
          and e.seal_number = v_event.seal_number
        order by e.leaf_index
    );
    return ai_storage_private.render_event(v_event)
        || jsonb_build_object(
            'path', ai_storage_private.merkle_paths(v_leaves, array[v_event.leaf_index]) -> 0,
            'seal', (
                select s.line
                from ai_storage_private.render_seals(p_tenant_id, v_event.seal_number) as s
            )
        );
end;
$fn$;
comment on function ai_storage_private.prove_event(bigint, uuid) is
    'One sealed event with its path to the root of its seal, the seal, and the seal''s path to its '
    'checkpoint. Under row level security it sees what its caller''s policies show. Raises TN401.';

create or replace function ai_storage.audit_proof(p_event_id uuid, p_as text default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    return ai_storage_private.prove_event(v_tenant.tenant_id, p_event_id);
end;
$fn$;
comment on function ai_storage.audit_proof(uuid, text) is
    'Proves one sealed event of the caller: the event, its path to the root of its seal, the seal, '
    'and the seal''s path to its checkpoint. Verified offline by pydb/verifier.py. Raises TN001 to '
    'TN005, TN401.';

create or replace function ai_storage_private.list_bundle(p_tenant_id bigint)
returns setof jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_last bigint;
begin
    -- Up to here seals and their events change no more, however many queries read them.
    select max(s.seal_number) into v_last
    from ai_storage_private.audit_seal as s
    where s.tenant_id = p_tenant_id;
    return query
    select ai_storage_private.render_event(e)
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      -- An event whose seal is gone is told of.
      and (
          e.seal_number <= v_last
          or not exists (
              select from ai_storage_private.audit_seal as s
              where s.tenant_id = p_tenant_id
                and s.seal_number = e.seal_number
          )
      )
    order by e.seal_number, e.leaf_index;
    -- One query: the paths of the seals lead to the checkpoints that are listed.
    return query
    select b.line
    from (
        -- The policy on seals had its say: a tenant that never wrote has none.
        select 1, r.seal_number, r.line
        from ai_storage_private.render_seals(p_tenant_id) as r
        where r.seal_number <= v_last
        union all
        select 2, c.place, c.line
        from ai_storage_private.list_checkpoints() with ordinality as c (line, place)
    ) as b (part, place, line)
    order by b.part, b.place;
end;
$fn$;
comment on function ai_storage_private.list_bundle(bigint) is
    'The bundle of the sealed log of the tenant that the context names.';

create or replace function ai_storage.export_audit(p_as text default null)
returns setof jsonb
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
    select b.line
    from ai_storage_private.list_bundle(v_tenant.tenant_id) as b (line);
end;
$fn$;
comment on function ai_storage.export_audit(text) is
    'The bundle of the caller''s sealed log: its events, its seals with their paths, and all '
    'checkpoints, an object each. Verified offline by pydb/verifier.py. Raises TN001 to TN005.';

-- Triggers ----------------------------------------------------------------------------------------

create or replace trigger record_model_change
    after insert or update or delete on ai_storage_private.ai_progress_tenant
    for each row
    execute function ai_storage_private.record_model_change();
comment on trigger record_model_change on ai_storage_private.ai_progress_tenant is
    'One event per change of a model.';

create or replace trigger record_version
    after insert on ai_storage_private.progress_version
    for each row
    execute function ai_storage_private.record_version();
comment on trigger record_version on ai_storage_private.progress_version is
    'One event per version that is not what its model is now.';
create or replace trigger record_change
    after update on ai_storage_private.progress_version
    for each row
    execute function ai_storage_private.record_change('version', '');
comment on trigger record_change on ai_storage_private.progress_version is
    'One event per change: a version is never rewritten.';
create or replace trigger record_swept_versions
    after delete on ai_storage_private.progress_version
    referencing old table as gone
    for each statement
    execute function ai_storage_private.record_swept_versions();
comment on trigger record_swept_versions on ai_storage_private.progress_version is
    'One event for each model that lost versions and is still there.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.deleted_model
    for each row
    execute function ai_storage_private.record_change(
        'deleted model', 'model_name,last_version,deleted_at'
    );
comment on trigger record_change on ai_storage_private.deleted_model is
    'One event per change.';
create or replace trigger record_change
    after insert or update on ai_storage_private.idempotency_key
    for each row
    execute function ai_storage_private.record_change(
        'idempotency key', '', 'version,created,saved_at'
    );
comment on trigger record_change on ai_storage_private.idempotency_key is
    'One event per key, before its save, and per change of its answer.';
create or replace trigger record_changes
    after delete on ai_storage_private.idempotency_key
    referencing old table as changed
    for each statement
    execute function ai_storage_private.record_changes('idempotency key');
comment on trigger record_changes on ai_storage_private.idempotency_key is
    'One event per statement.';

create or replace trigger record_artifact_change
    after insert or update or delete on ai_storage_private.model_artifact
    for each row
    execute function ai_storage_private.record_artifact_change();
comment on trigger record_artifact_change on ai_storage_private.model_artifact is
    'One event per change of an artifact.';

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.artifact_blob
    for each row
    execute function ai_storage_private.record_change('content', 'size_bytes');
comment on trigger record_change on ai_storage_private.artifact_blob is
    'One event per change.';
create or replace trigger record_inserts
    after insert on ai_storage_private.artifact_chunk
    referencing new table as changed
    for each statement
    execute function ai_storage_private.record_changes('chunk');
comment on trigger record_inserts on ai_storage_private.artifact_chunk is
    'One event per statement.';
create or replace trigger record_deletes
    after delete on ai_storage_private.artifact_chunk
    referencing old table as changed
    for each statement
    execute function ai_storage_private.record_changes('chunk');
comment on trigger record_deletes on ai_storage_private.artifact_chunk is
    'One event per statement.';
create or replace trigger record_change
    after update on ai_storage_private.artifact_chunk
    for each row
    execute function ai_storage_private.record_change('chunk', '');
comment on trigger record_change on ai_storage_private.artifact_chunk is
    'One event per change: a chunk is never rewritten.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.artifact_upload
    for each row
    execute function ai_storage_private.record_change('upload', 'artifact_name');
comment on trigger record_change on ai_storage_private.artifact_upload is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.tenant_cache_key
    for each row
    execute function ai_storage_private.record_change('cache key', '');
comment on trigger record_change on ai_storage_private.tenant_cache_key is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.artifact_limit
    for each row
    execute function ai_storage_private.record_change('artifact limit', 'max_bytes');
comment on trigger record_change on ai_storage_private.artifact_limit is
    'One event per change.';

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.tenant
    for each row
    execute function ai_storage_private.record_change('tenant', '');
comment on trigger record_change on ai_storage_private.tenant is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.model_share
    for each row
    execute function ai_storage_private.record_change(
        'share',
        'share_id,model_name,sharer_key,target,permissions,pinned_version,expires_at'
    );
comment on trigger record_change on ai_storage_private.model_share is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.share_end
    for each row
    execute function ai_storage_private.record_change('share end', 'share_id');
comment on trigger record_change on ai_storage_private.share_end is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.share_decline
    for each row
    execute function ai_storage_private.record_change(
        'share decline', 'model_name,owner_key,sharer_key'
    );
comment on trigger record_change on ai_storage_private.share_decline is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.external_sharing_permit
    for each row
    execute function ai_storage_private.record_change(
        'external sharing permit', 'org_id,to_org_id'
    );
comment on trigger record_change on ai_storage_private.external_sharing_permit is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.login_authorization
    for each row
    execute function ai_storage_private.record_change(
        'authorization',
        'login_name,org_id,server_id,project_id,environment,code_hash,token_only'
    );
comment on trigger record_change on ai_storage_private.login_authorization is
    'One event per change.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.signing_key
    for each row
    execute function ai_storage_private.record_change('signing key', 'kid,audience,retired_at');
comment on trigger record_change on ai_storage_private.signing_key is
    'One event per change.';

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.context_secret
    for each row
    execute function ai_storage_private.record_change('context secret', '');
comment on trigger record_change on ai_storage_private.context_secret is
    'One event per change.';

create or replace trigger record_truncate
    after truncate on ai_storage_private.ai_progress_tenant
    execute function ai_storage_private.record_change('ai_progress_tenant', '');
comment on trigger record_truncate on ai_storage_private.ai_progress_tenant is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.progress_version
    execute function ai_storage_private.record_change('progress_version', '');
comment on trigger record_truncate on ai_storage_private.progress_version is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.deleted_model
    execute function ai_storage_private.record_change('deleted_model', '');
comment on trigger record_truncate on ai_storage_private.deleted_model is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.idempotency_key
    execute function ai_storage_private.record_change('idempotency_key', '');
comment on trigger record_truncate on ai_storage_private.idempotency_key is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.tenant
    execute function ai_storage_private.record_change('tenant', '');
comment on trigger record_truncate on ai_storage_private.tenant is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.model_share
    execute function ai_storage_private.record_change('model_share', '');
comment on trigger record_truncate on ai_storage_private.model_share is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.share_end
    execute function ai_storage_private.record_change('share_end', '');
comment on trigger record_truncate on ai_storage_private.share_end is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.share_decline
    execute function ai_storage_private.record_change('share_decline', '');
comment on trigger record_truncate on ai_storage_private.share_decline is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.external_sharing_permit
    execute function ai_storage_private.record_change('external_sharing_permit', '');
comment on trigger record_truncate on ai_storage_private.external_sharing_permit is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.login_authorization
    execute function ai_storage_private.record_change('login_authorization', '');
comment on trigger record_truncate on ai_storage_private.login_authorization is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.signing_key
    execute function ai_storage_private.record_change('signing_key', '');
comment on trigger record_truncate on ai_storage_private.signing_key is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.context_secret
    execute function ai_storage_private.record_change('context_secret', '');
comment on trigger record_truncate on ai_storage_private.context_secret is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.model_artifact
    execute function ai_storage_private.record_change('model_artifact', '');
comment on trigger record_truncate on ai_storage_private.model_artifact is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.artifact_blob
    execute function ai_storage_private.record_change('artifact_blob', '');
comment on trigger record_truncate on ai_storage_private.artifact_blob is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.artifact_chunk
    execute function ai_storage_private.record_change('artifact_chunk', '');
comment on trigger record_truncate on ai_storage_private.artifact_chunk is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.artifact_upload
    execute function ai_storage_private.record_change('artifact_upload', '');
comment on trigger record_truncate on ai_storage_private.artifact_upload is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.tenant_cache_key
    execute function ai_storage_private.record_change('tenant_cache_key', '');
comment on trigger record_truncate on ai_storage_private.tenant_cache_key is
    'One event per TRUNCATE.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.artifact_limit
    execute function ai_storage_private.record_change('artifact_limit', '');
comment on trigger record_truncate on ai_storage_private.artifact_limit is
    'One event per TRUNCATE.';

-- Always: also in a session that claims to replay the changes of another server.
alter table ai_storage_private.ai_progress_tenant enable always trigger record_model_change;
alter table ai_storage_private.ai_progress_tenant enable always trigger record_truncate;
alter table ai_storage_private.progress_version enable always trigger record_version;
alter table ai_storage_private.progress_version enable always trigger record_change;
alter table ai_storage_private.progress_version enable always trigger record_swept_versions;
alter table ai_storage_private.progress_version enable always trigger record_truncate;
alter table ai_storage_private.deleted_model enable always trigger record_change;
alter table ai_storage_private.deleted_model enable always trigger record_truncate;
alter table ai_storage_private.idempotency_key enable always trigger record_change;
alter table ai_storage_private.idempotency_key enable always trigger record_changes;
alter table ai_storage_private.idempotency_key enable always trigger record_truncate;
alter table ai_storage_private.tenant enable always trigger record_change;
alter table ai_storage_private.tenant enable always trigger record_truncate;
alter table ai_storage_private.model_share enable always trigger record_change;
alter table ai_storage_private.model_share enable always trigger record_truncate;
alter table ai_storage_private.share_end enable always trigger record_change;
alter table ai_storage_private.share_end enable always trigger record_truncate;
alter table ai_storage_private.share_decline enable always trigger record_change;
alter table ai_storage_private.share_decline enable always trigger record_truncate;
alter table ai_storage_private.external_sharing_permit enable always trigger record_change;
alter table ai_storage_private.external_sharing_permit enable always trigger record_truncate;
alter table ai_storage_private.login_authorization enable always trigger record_change;
alter table ai_storage_private.login_authorization enable always trigger record_truncate;
alter table ai_storage_private.signing_key enable always trigger record_change;
alter table ai_storage_private.signing_key enable always trigger record_truncate;
alter table ai_storage_private.model_artifact enable always trigger record_artifact_change;
alter table ai_storage_private.model_artifact enable always trigger record_truncate;
alter table ai_storage_private.artifact_blob enable always trigger record_change;
alter table ai_storage_private.artifact_blob enable always trigger record_truncate;
alter table ai_storage_private.artifact_chunk enable always trigger record_inserts;
alter table ai_storage_private.artifact_chunk enable always trigger record_deletes;
alter table ai_storage_private.artifact_chunk enable always trigger record_change;
alter table ai_storage_private.artifact_chunk enable always trigger record_truncate;
alter table ai_storage_private.artifact_upload enable always trigger record_change;
alter table ai_storage_private.artifact_upload enable always trigger record_truncate;
alter table ai_storage_private.tenant_cache_key enable always trigger record_change;
alter table ai_storage_private.tenant_cache_key enable always trigger record_truncate;
alter table ai_storage_private.artifact_limit enable always trigger record_change;
alter table ai_storage_private.artifact_limit enable always trigger record_truncate;
alter table ai_storage_private.context_secret enable always trigger record_change;
alter table ai_storage_private.context_secret enable always trigger record_truncate;

-- Policies ----------------------------------------------------------------------------------------

drop policy if exists tenant_sees_its_pending_events on ai_storage_private.audit_pending;
create policy tenant_sees_its_pending_events on ai_storage_private.audit_pending
    for select
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id() and tenant_id > 0);
comment on policy tenant_sees_its_pending_events on ai_storage_private.audit_pending is
    'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of '
    'the operator''s log, and see none.';

drop policy if exists tenant_sees_its_events on ai_storage_private.audit_event;
create policy tenant_sees_its_events on ai_storage_private.audit_event
    for select
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id() and tenant_id > 0);
comment on policy tenant_sees_its_events on ai_storage_private.audit_event is
    'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of '
    'the operator''s log, and see none.';

drop policy if exists tenant_sees_its_seals on ai_storage_private.audit_seal;
create policy tenant_sees_its_seals on ai_storage_private.audit_seal
    for select
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id() and tenant_id > 0);
comment on policy tenant_sees_its_seals on ai_storage_private.audit_seal is
    'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of '
    'the operator''s log, and see none.';

drop policy if exists operator_records_events on ai_storage_private.audit_pending;
create policy operator_records_events on ai_storage_private.audit_pending
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_records_events on ai_storage_private.audit_pending is
    'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

drop policy if exists operator_seals_events on ai_storage_private.audit_event;
create policy operator_seals_events on ai_storage_private.audit_event
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_seals_events on ai_storage_private.audit_event is
    'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

drop policy if exists operator_keeps_seals on ai_storage_private.audit_seal;
create policy operator_keeps_seals on ai_storage_private.audit_seal
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_seals on ai_storage_private.audit_seal is
    'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

drop policy if exists operator_keeps_checkpoints on ai_storage_private.audit_checkpoint;
create policy operator_keeps_checkpoints on ai_storage_private.audit_checkpoint
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_checkpoints on ai_storage_private.audit_checkpoint is
    'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

drop policy if exists operator_reports_refusals on ai_storage_private.refusal_report;
create policy operator_reports_refusals on ai_storage_private.refusal_report
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_reports_refusals on ai_storage_private.refusal_report is
    'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';
