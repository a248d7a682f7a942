-- What a model has learned: save it, load it, look back at it, delete it, carry it into the next
-- code version.
--
-- ai_progress_tenant holds the current state of each model and progress_version every version ever
-- saved, both written by write_progress(), or by write_batch() for many models at once. They hold a
-- model's row lock while they count its version up: versions have no gap. A deleted model leaves
-- its last version in deleted_model, so a later model of that name goes on counting.
--
-- Tables: ai_progress_tenant, progress_version, deleted_model, idempotency_key (0002_progress).
-- Every statement names tenant_id itself, although the policies would add it: the planner needs it.
-- Errors: 22023, 23505, 54000, TN101 to TN103, TN201, TN501, those of 10_context.sql.

set local role ai_storage_owner;

comment on table ai_storage_private.ai_progress_tenant is
    'The current state of each model of each tenant.';
comment on column ai_storage_private.ai_progress_tenant.tenant_id is
    'The tenant that owns the model.';
comment on column ai_storage_private.ai_progress_tenant.model_id is
    'Random id of the model; a new model of the same name gets another.';
comment on column ai_storage_private.ai_progress_tenant.version is
    'The current version; counts from 1 without a gap.';
comment on column ai_storage_private.ai_progress_tenant.mse is
    'Mean squared error, finite; null only when metrics is not empty.';
comment on column ai_storage_private.ai_progress_tenant.training_samples is
    'How many samples the model has been trained on, or null.';
comment on column ai_storage_private.ai_progress_tenant.created_at is
    'When the first version was saved.';
comment on column ai_storage_private.ai_progress_tenant.updated_at is
    'When the current version was saved.';
comment on column ai_storage_private.ai_progress_tenant.saved_by is
    'Isolation key of the tenant that saved the current version, or null for the owner.';
comment on column ai_storage_private.ai_progress_tenant.model_name is
    'Name of the model, unique in its tenant, 1 to 255 characters.';
comment on column ai_storage_private.ai_progress_tenant.metrics is
    'Further measures: a flat object of name to finite number.';
comment on column ai_storage_private.ai_progress_tenant.metadata is
    'Anything else, an object of at most 1 MiB.';

comment on table ai_storage_private.progress_version is
    'Every saved version of every model: the training curve.';
comment on column ai_storage_private.progress_version.tenant_id is
    'The tenant that owns the model.';
comment on column ai_storage_private.progress_version.model_id is 'The model.';
comment on column ai_storage_private.progress_version.version is 'The version, from 1.';
comment on column ai_storage_private.progress_version.mse is
    'Mean squared error of this version, or null.';
comment on column ai_storage_private.progress_version.training_samples is
    'Samples trained on up to this version, or null.';
comment on column ai_storage_private.progress_version.saved_at is 'When this version was saved.';
comment on column ai_storage_private.progress_version.saved_by is
    'Isolation key of the tenant that saved it, or null for the owner.';
comment on column ai_storage_private.progress_version.metrics is
    'Further measures of this version.';
comment on column ai_storage_private.progress_version.metadata is 'Metadata of this version.';

comment on table ai_storage_private.deleted_model is
    'The last version of each deleted name, so that no version is ever given twice; 0 for a name '
    'that was only claimed.';
comment on column ai_storage_private.deleted_model.tenant_id is 'The tenant that owned the model.';
comment on column ai_storage_private.deleted_model.last_version is
    'The last version that was given.';
comment on column ai_storage_private.deleted_model.deleted_at is 'When the model was deleted.';
comment on column ai_storage_private.deleted_model.model_name is 'The name that was deleted.';

comment on table ai_storage_private.idempotency_key is
    'First answers of saves that carried an idempotency key.';
comment on column ai_storage_private.idempotency_key.tenant_id is 'The tenant that saved.';
comment on column ai_storage_private.idempotency_key.version is
    'Version in the first answer; null while that save is still running.';
comment on column ai_storage_private.idempotency_key.saved_at is 'Time in the first answer.';
comment on column ai_storage_private.idempotency_key.created is
    'Whether the first save created the model.';
comment on column ai_storage_private.idempotency_key.idempotency_key is
    'The key, 1 to 255 characters, chosen by the caller.';
comment on column ai_storage_private.idempotency_key.request_digest is
    'sha256 of the first request: tells a repetition from another request.';
comment on column ai_storage_private.idempotency_key.sent_digest is
    'For a save with artifacts, sha256 of the first request with the ids of its uploads.';

-- Checks ------------------------------------------------------------------------------------------

create or replace function ai_storage_private.is_name(p_name text)
returns boolean
language sql
immutable
parallel safe
as $fn$
    select length(p_name) between 1 and 255 and p_name !~ E'[\\x01-\\x1f\\x7f-\\x9f]';
$fn$;
comment on function ai_storage_private.is_name(text) is
    'True for 1 to 255 characters without a control character; false or null for anything else.';

create or replace function ai_storage_private.is_metrics(p_metrics jsonb)
returns boolean
language plpgsql
immutable
parallel safe
as $fn$
declare
    v_text text;
begin
    if p_metrics = '{}' then
        return true;
    end if;
    -- A number beyond a double would arrive at clients as infinity, and 1e-16000 in 16,000 digits.
    if jsonb_typeof(p_metrics) <> 'object'
        or jsonb_path_exists(
            p_metrics,
            'strict $.* ? (
                @.type() != "number" || @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
                || (@ != 0 && @ < 1e-400 && @ > -1e-400)
            )'
        )
        or jsonb_array_length(jsonb_path_query_array(p_metrics, 'strict $.*')) > 256
    then
        return false;
    end if;
    -- Printed once, now that it has an end.
    v_text := p_metrics::text;
    if octet_length(v_text) > 256 * 1024 then
        return false;
    end if;
    -- The names one by one, only where the text leaves room for a bad one.
    if length(v_text) <= 255 and v_text !~ E'""|\\\\|[\\x7f-\\x9f]' then
        return true;
    end if;
    return not exists (
        select from jsonb_object_keys(p_metrics) as k (name)
        where ai_storage_private.is_name(k.name) is not true
    );
end;
$fn$;
comment on function ai_storage_private.is_metrics(jsonb) is
    'True for a flat object of at most 256 finite numbers, with names as is_name() wants them.';

create or replace function ai_storage_private.is_metadata(p_metadata jsonb)
returns boolean
language plpgsql
immutable
parallel safe
as $fn$
begin
    if p_metadata = '{}' then
        return true;
    end if;
    -- The size in storage comes first, since it costs nothing. Then the numbers: jsonb keeps
    -- 1e99999, or a zero with 10,000 places, in ten bytes and prints it in as many, so one small
    -- document could exhaust everybody who reads it. Only then is it printed, to be measured.
    -- One statement after the other: a caller may have each planned for its value, and planning
    -- evaluates what it can, in no order.
    if jsonb_typeof(p_metadata) <> 'object' or pg_column_size(p_metadata) > 4 * 1024 * 1024 then
        return false;
    end if;
    if jsonb_path_exists(
        p_metadata,
        'strict $.**{64 to last} ? (@.type() == "object" || @.type() == "array")'
    ) then
        return false;
    end if;
    if jsonb_path_exists(
        p_metadata,
        'strict $.** ? (@.type() == "number") ? (
            @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
            || (@ != 0 && @ < 1e-400 && @ > -1e-400)
        )'
    ) then
        return false;
    end if;
    if pg_column_size(p_metadata) >= 2048 then
        if exists (
            -- An array first: jsonb_path_query() takes time in the square of what it returns.
            select from jsonb_array_elements(
                jsonb_path_query_array(p_metadata, 'strict $.** ? (@.type() == "number")')
            ) as n (number)
            where scale(n.number::numeric) > 1000
        ) then
            return false;
        end if;
    end if;
    return octet_length(p_metadata::text) <= 1024 * 1024;
end;
$fn$;
comment on function ai_storage_private.is_metadata(jsonb) is
    'True for an object of at most 1 MiB as text and 64 levels, with numbers that a double can '
    'hold.';

create or replace function ai_storage_private.name_wrong_metric(p_metrics jsonb)
returns text
language sql
immutable
parallel safe
as $fn$
    select coalesce(
        (
            select format('Metric %s is not a finite number.', to_json(left(m.name, 255)))
            from jsonb_each(
                case jsonb_typeof(p_metrics) when 'object' then p_metrics else '{}' end
            ) as m (name, value)
            where jsonb_typeof(m.value) <> 'number'
               or not ai_storage_private.is_metrics(jsonb_build_object('m', m.value))
            order by m.name collate "C"
            limit 1
        ),
        'It is not such an object, or a name is not one.'
    );
$fn$;
comment on function ai_storage_private.name_wrong_metric(jsonb) is
    'What to tell about metrics that is_metrics() refused: the name of the first wrong one.';

create or replace function ai_storage_private.check_progress(
    p_model_name       text,
    p_mse              double precision,
    p_training_samples bigint,
    p_metrics          jsonb,
    p_metadata         jsonb,
    p_expected_version bigint
)
returns boolean
language plpgsql
immutable
as $fn$
begin
    if ai_storage_private.is_name(p_model_name) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid model name',
            hint = 'A name has 1 to 255 characters and no control character.';
    end if;
    if not ai_storage_private.is_metrics(coalesce(p_metrics, '{}')) then
        raise exception using
            errcode = '22023',
            message = 'invalid metrics',
            detail = ai_storage_private.name_wrong_metric(p_metrics),
            hint = 'Metrics are one flat object of at most 256 names, each with a finite number; a '
                'name has 1 to 255 characters and no control character.';
    end if;
    if not ai_storage_private.is_metadata(coalesce(p_metadata, '{}')) then
        raise exception using
            errcode = '22023',
            message = 'invalid metadata',
            hint = 'Metadata is one object of at most 1 MiB as text and 64 levels, with numbers '
                'that a double can hold.';
    end if;
    if p_mse in ('nan', 'infinity', '-infinity')
        or (p_mse is null and coalesce(p_metrics, '{}') = '{}')
    then
        raise exception using
            errcode = '22023',
            message = 'invalid mse',
            hint = 'mse is a finite number. It may be left out when metrics is not empty.';
    end if;
    if p_training_samples < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid training_samples',
            hint = 'training_samples is a count, 0 or more, or null when unknown.';
    end if;
    if p_expected_version < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid expected version',
            hint = '0: the model must not exist yet; another number: it must be the current '
                'version; null: any.';
    end if;
    return true;
end;
$fn$;
comment on function ai_storage_private.check_progress(
    text, double precision, bigint, jsonb, jsonb, bigint
) is
    'Refuses a model state that breaks a documented rule; true for any other. Raises 22023.';

-- Writing -----------------------------------------------------------------------------------------

create or replace function ai_storage_private.write_progress(
    p_tenant_id        bigint,
    p_model_name       text,
    p_mse              double precision,
    p_training_samples bigint,
    p_metrics          jsonb,
    p_metadata         jsonb,
    p_expected_version bigint,
    p_saved_by         text default null,
    p_model_id         uuid default null,
    out version        bigint,
    out created        boolean,
    out saved_at       timestamptz
)
returns record
language plpgsql
volatile
as $fn$
declare
    v_metrics  constant jsonb := coalesce(p_metrics, '{}');
    v_metadata constant jsonb := coalesce(p_metadata, '{}');
    v_now      constant timestamptz := clock_timestamp();
    v_valid    boolean;
    v_model_id uuid;
begin
    -- Assigned, since PERFORM would run a query.
    v_valid := ai_storage_private.check_progress(
        p_model_name, p_mse, p_training_samples, v_metrics, v_metadata, p_expected_version
    );

    -- Two writers may meet at each step, so a step that finds the model changed under it goes round
    -- again.
    loop
        if p_expected_version is distinct from 0 then
            update ai_storage_private.ai_progress_tenant as p set
                version          = p.version + 1,
                mse              = p_mse,
                training_samples = p_training_samples,
                metrics          = v_metrics,
                metadata         = v_metadata,
                updated_at       = greatest(p.updated_at, v_now),
                saved_by         = p_saved_by
            where p.tenant_id = p_tenant_id
              and p.model_name = p_model_name
              and (p_expected_version is null or p.version = p_expected_version)
              and (p_model_id is null or p.model_id = p_model_id)
            returning p.model_id, p.version, p.updated_at
            into v_model_id, version, saved_at;

            created := false;
            exit when v_model_id is not null;
        end if;

        if p_model_id is null and coalesce(p_expected_version, 0) = 0 then
            -- A transaction of these levels does not see that the name was deleted since it began.
            -- To claim the name makes PostgreSQL notice, and refuse with 40001.
            if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
                insert into ai_storage_private.deleted_model (
                    tenant_id, last_version, deleted_at, model_name
                )
                values (p_tenant_id, 0, v_now, p_model_name)
                on conflict do nothing;
            end if;
            v_model_id := gen_random_uuid();
            insert into ai_storage_private.ai_progress_tenant (
                tenant_id, model_id, version, mse, training_samples,
                created_at, updated_at, saved_by, model_name, metrics, metadata
            )
            values (
                p_tenant_id, v_model_id, 1, p_mse, p_training_samples,
                v_now, v_now, p_saved_by, p_model_name, v_metrics, v_metadata
            )
            on conflict do nothing;
            if found then
                -- Only now, when the name is ours, is it certain who had it before.
                update ai_storage_private.ai_progress_tenant as p set
                    version = d.last_version + 1
                from ai_storage_private.deleted_model as d
                where p.tenant_id = p_tenant_id
                  and p.model_id = v_model_id
                  and d.tenant_id = p_tenant_id
                  and d.model_name = p_model_name
                returning p.version
                into version;
                version := coalesce(version, 1);
                created := true;
                saved_at := v_now;
                exit;
            end if;
        end if;

        if p_expected_version is not null then
            raise exception using
                errcode = 'TN102',
                message = 'the model is not at the expected version',
                detail = coalesce(
                    (
                        select format(
                            'Expected version %s, current version %s.',
                            p_expected_version, p.version
                        )
                        from ai_storage_private.ai_progress_tenant as p
                        where p.tenant_id = p_tenant_id
                          and p.model_name = p_model_name
                    ),
                    format('Expected version %s, but there is no such model.', p_expected_version)
                ),
                hint = 'Load the model again, decide what to keep, and save with the version you '
                    'loaded.';
        end if;
        if p_model_id is not null then
            -- Deleted while we waited for it. Another model of that name is not the one we mean.
            raise exception using
                errcode = 'TN101',
                message = 'no such model',
                hint = 'Check the name and the owner; a model of another tenant has to be shared '
                    'with you.';
        end if;
    end loop;

    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, saved_by, metrics, metadata
    )
    values (
        p_tenant_id, v_model_id, version, p_mse, p_training_samples,
        saved_at, p_saved_by, v_metrics, v_metadata
    );
end;
$fn$;
comment on function ai_storage_private.write_progress(
    bigint, text, double precision, bigint, jsonb, jsonb, bigint, text, uuid
) is
    'Checks one model state and writes it as the next version. With write_batch() the only writer '
    'of ai_progress_tenant and progress_version. p_model_id: only this model, for a borrower. '
    'Raises 22023, TN101, TN102.';

create or replace function ai_storage_private.save_version(
    p_tenant           ai_storage_private.acting_tenant,
    p_model_name       text,
    p_mse              double precision,
    p_training_samples bigint,
    p_metrics          jsonb,
    p_metadata         jsonb,
    p_expected_version bigint,
    p_idempotency_key  text,
    p_owner            text,
    p_artifacts        jsonb default '{}',
    out version        bigint,
    out created        boolean,
    out saved_at       timestamptz
)
returns record
language plpgsql
volatile
as $fn$
declare
    v_saved       record;
    v_request     jsonb;
    v_digest      bytea;
    v_sent_digest bytea; -- only with artifacts
    v_first       ai_storage_private.idempotency_key;
begin
    if p_artifacts <> '{}' and p_owner <> p_tenant.isolation_key then
        raise exception using
            errcode = '22023',
            message = 'artifacts of a shared model',
            hint = 'The bytes of a model lie with its owner: only the owner saves artifacts with '
                'it. Save the state without them.';
    end if;
    if p_idempotency_key is null then
        if coalesce(p_owner, p_tenant.isolation_key) = p_tenant.isolation_key then
            v_saved := ai_storage_private.write_progress(
                p_tenant.tenant_id, p_model_name, p_mse, p_training_samples,
                p_metrics, p_metadata, p_expected_version
            );
            if p_artifacts <> '{}' then
                perform ai_storage_private.attach_artifacts(
                    p_tenant.tenant_id, p_model_name, v_saved.version, p_artifacts
                );
            end if;
        else
            v_saved := ai_storage_private.write_shared(
                p_tenant, p_owner, p_model_name, p_mse, p_training_samples,
                p_metrics, p_metadata, p_expected_version
            );
        end if;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return;
    end if;

    if ai_storage_private.is_name(p_idempotency_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid idempotency key',
            hint = 'A key has 1 to 255 characters and no control character.';
    end if;
    perform ai_storage_private.check_progress(
        p_model_name, p_mse, p_training_samples, p_metrics, p_metadata, p_expected_version
    );
    v_request := jsonb_build_array(
        p_model_name, encode(float8send(p_mse), 'hex'), p_training_samples,
        coalesce(p_metrics, '{}'), coalesce(p_metadata, '{}'), p_expected_version, p_owner
    );
    if p_artifacts <> '{}' then
        -- A repetition has the same contents in other uploads, or names those that are used up.
        v_sent_digest := sha256(convert_to((v_request || p_artifacts)::text, 'UTF8'));
        v_request := v_request
            || ai_storage_private.digest_artifacts(p_tenant.tenant_id, p_artifacts);
    end if;
    v_digest := sha256(convert_to(v_request::text, 'UTF8'));

    -- The key comes first: a twin of this request waits here until the first has committed, then
    -- repeats its answer.
    insert into ai_storage_private.idempotency_key (
        tenant_id, saved_at, idempotency_key, request_digest, sent_digest
    )
    values (
        p_tenant.tenant_id, clock_timestamp(), p_idempotency_key, v_digest, v_sent_digest
    )
    on conflict do nothing;

    if found then
        v_saved := ai_storage_private.save_version(
            p_tenant, p_model_name, p_mse, p_training_samples,
            p_metrics, p_metadata, p_expected_version, null, p_owner, p_artifacts
        );
        update ai_storage_private.idempotency_key as k set
            version  = v_saved.version,
            created  = v_saved.created,
            saved_at = v_saved.saved_at
        where k.tenant_id = p_tenant.tenant_id
          and k.idempotency_key = p_idempotency_key;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return;
    end if;

    select k.* into v_first
    from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant.tenant_id
      and k.idempotency_key = p_idempotency_key;
    if v_first.request_digest is distinct from v_digest
        and (v_first.sent_digest = v_sent_digest) is not true
    then
        raise exception using
            errcode = 'TN103',
            message = 'this idempotency key belongs to another request',
            hint = 'Repeat a request unchanged, or choose a new key for a new one.';
    end if;
    version := v_first.version;
    created := v_first.created;
    saved_at := v_first.saved_at;
end;
$fn$;
comment on function ai_storage_private.save_version(
    ai_storage_private.acting_tenant, text, double precision, bigint, jsonb, jsonb,
    bigint, text, text, jsonb
) is
    'One save, of an own model or of a shared one, with an idempotency key or without: a repeated '
    'request returns the first answer and writes nothing. Raises 22023, 54000, TN101, TN102, '
    'TN103, TN201.';

create or replace function ai_storage.save_progress(
    p_model_name       text,
    p_mse              double precision default null,
    p_training_samples bigint default null,
    p_metrics          jsonb default '{}',
    p_metadata         jsonb default '{}',
    p_expected_version bigint default null,
    p_idempotency_key  text default null,
    p_owner            text default null,
    p_artifacts        jsonb default '{}',
    p_as               text default null
)
returns table (model_name text, version bigint, created boolean, saved_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_saved  constant record := ai_storage_private.save_version(
        v_tenant, p_model_name collate "C", p_mse, p_training_samples, p_metrics, p_metadata,
        p_expected_version, p_idempotency_key collate "C", p_owner collate "C", p_artifacts
    );
begin
    model_name := p_model_name;
    version := v_saved.version;
    created := v_saved.created;
    saved_at := v_saved.saved_at;
    return next;
end;
$fn$;
comment on function ai_storage.save_progress(
    text, double precision, bigint, jsonb, jsonb, bigint, text, text, jsonb, text
) is
    'Saves the state of one model as its next version and keeps the earlier ones. p_mse: finite; '
    'null only with metrics. p_training_samples: 0 or more. p_metrics: up to 256 finite numbers by '
    'name. p_metadata: an object of up to 1 MiB and 64 levels. p_expected_version: 0 = the model '
    'must not exist yet, another number = it must be the current version, null = last writer wins. '
    'A repeated p_idempotency_key with the same content returns the first answer. p_owner: the '
    'owner''s isolation key when the model was shared for writing. p_artifacts: what is attached '
    'to exactly this version, all or nothing, not with p_owner: by name the id of an upload that '
    'stage_artifact() ended, used once, or an object with upload (such an id) or content (bytes in '
    'base64, for small ones), and media_type. Raises 22023, 54000, TN001 to TN005, TN101, TN102, '
    'TN103, TN201.';

create or replace function ai_storage_private.is_item(p_item jsonb)
returns boolean
language plpgsql
immutable
as $fn$
begin
    if jsonb_typeof(p_item) <> 'object' then
        return false;
    end if;
    -- Numbers are looked at here, since a cast would refuse them in words of its own.
    return p_item - array[
            'model_name', 'mse', 'training_samples', 'metrics', 'metadata',
            'expected_version', 'idempotency_key', 'owner', 'artifacts'
        ] = '{}'
        and jsonb_typeof(p_item -> 'model_name') = 'string'
        and coalesce(jsonb_typeof(p_item -> 'idempotency_key'), 'null') in ('string', 'null')
        and coalesce(jsonb_typeof(p_item -> 'owner'), 'null') in ('string', 'null')
        and coalesce(jsonb_typeof(p_item -> 'artifacts'), 'null') in ('object', 'null')
        and coalesce(jsonb_typeof(p_item -> 'mse'), 'null') in ('number', 'null')
        and coalesce(jsonb_typeof(p_item -> 'training_samples'), 'null') in ('number', 'null')
        and coalesce(jsonb_typeof(p_item -> 'expected_version'), 'null') in ('number', 'null')
        and not jsonb_path_exists(
            p_item,
            'lax $.mse ? (
                @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
                || (@ != 0 && @ < 5e-324 && @ > -5e-324)
            )'
        )
        and not jsonb_path_exists(
            jsonb_build_array(p_item -> 'training_samples', p_item -> 'expected_version'),
            'lax $[*] ? (
                @ > 9223372036854775807 || @ < -9223372036854775808 || @.floor() != @
            )'
        );
end;
$fn$;
comment on function ai_storage_private.is_item(jsonb) is
    'True for an object with the fields of a batch''s item, each of its type and range.';

create or replace function ai_storage_private.write_batch(p_tenant_id bigint, p_items jsonb)
returns table (model_name text, version bigint, created boolean, saved_at timestamptz)
language plpgsql
volatile
-- A plan that is kept takes any list for ten items, and for ten it would compare each with each.
-- What is called from here is planned so too; the triggers join nothing.
set enable_nestloop = off
as $fn$
declare
    v_now      constant timestamptz := clock_timestamp();
    -- The items, a column each, in the order of names.
    v_place    bigint[];
    v_name     text[];
    v_mse      double precision[];
    v_samples  bigint[];
    v_metrics  jsonb[];
    v_metadata jsonb[];
    v_expected bigint[];
    v_created  boolean[];
    v_model_id uuid[]; -- of the model there is, or a new one; null: not at the expected version
    v_updated  bigint;
    v_inserted bigint;
    v_kept     bigint;
    v_number   bigint;
    v_saved    record;
begin
    -- The models there are get locked in the order of names, and new ones are inserted in it, so
    -- two batches with the same names do not wait for each other crosswise.
    with item as materialized (
        select i.*
        from rows from (
            jsonb_to_recordset(p_items) as (
                model_name       text,
                mse              double precision,
                training_samples numeric,
                metrics          jsonb,
                metadata         jsonb,
                expected_version numeric
            )
        ) with ordinality as i
    ),
    present as materialized (
        select p.model_name, p.model_id, p.version
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_tenant_id
          and p.model_name = any (array(select i.model_name from item as i))
        order by p.model_name
        for update
    )
    select
        array_agg(i.ordinality),
        array_agg(i.model_name),
        array_agg(i.mse),
        array_agg(i.training_samples::bigint),
        array_agg(coalesce(i.metrics, '{}')),
        array_agg(coalesce(i.metadata, '{}')),
        array_agg(i.expected_version::bigint),
        array_agg(i.model_id is null),
        array_agg(case
            when i.expected_version <> coalesce(i.version, 0) then null
            else coalesce(i.model_id, gen_random_uuid())
        end)
    into
        v_place, v_name, v_mse, v_samples, v_metrics, v_metadata, v_expected, v_created, v_model_id
    from (
        select i.*, p.model_id, p.version
        from item as i
        left join present as p on p.model_name = i.model_name
        order by i.model_name collate "C"
    ) as i;

    perform ai_storage_private.check_progress(
        i.model_name, i.mse, i.training_samples, i.metrics, i.metadata, i.expected_version
    )
    from unnest(v_name, v_mse, v_samples, v_metrics, v_metadata, v_expected)
        as i (model_name, mse, training_samples, metrics, metadata, expected_version);

    update ai_storage_private.ai_progress_tenant as p set
        version          = p.version + 1,
        mse              = i.mse,
        training_samples = i.training_samples,
        metrics          = i.metrics,
        metadata         = i.metadata,
        updated_at       = greatest(p.updated_at, v_now),
        saved_by         = null
    from unnest(v_model_id, v_mse, v_samples, v_metrics, v_metadata)
        as i (model_id, mse, training_samples, metrics, metadata)
    where p.tenant_id = p_tenant_id
      and p.model_id = any (v_model_id)
      and p.model_id = i.model_id;
    get diagnostics v_updated = row_count;

    insert into ai_storage_private.ai_progress_tenant (
        tenant_id, model_id, version, mse, training_samples,
        created_at, updated_at, model_name, metrics, metadata
    )
    select
        p_tenant_id, i.model_id, 1, i.mse, i.training_samples,
        v_now, v_now, i.model_name, i.metrics, i.metadata
    from unnest(v_model_id, v_mse, v_samples, v_name, v_metrics, v_metadata, v_created)
        as i (model_id, mse, training_samples, model_name, metrics, metadata, created)
    where i.created
      and i.model_id is not null
    order by i.model_name collate "C"
    on conflict do nothing;
    get diagnostics v_inserted = row_count;

    -- Only now, when the names are ours, is it certain who had them before.
    if v_inserted > 0 then
        update ai_storage_private.ai_progress_tenant as p set
            version = d.last_version + 1
        from unnest(v_model_id, v_created) as i (model_id, created)
        cross join ai_storage_private.deleted_model as d
        where p.tenant_id = p_tenant_id
          and p.model_id = any (v_model_id)
          and p.model_id = i.model_id
          and i.created
          and d.tenant_id = p_tenant_id
          and d.model_name = any (v_name)
          and d.model_name = p.model_name;
    end if;

    -- All of them are locked: what they hold is what was saved.
    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, metrics, metadata
    )
    select
        p.tenant_id, p.model_id, p.version, p.mse, p.training_samples,
        p.updated_at, p.metrics, p.metadata
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_id = any (v_model_id)
    on conflict do nothing;
    get diagnostics v_kept = row_count;
    if v_kept <> v_updated + v_inserted then
        raise exception using
            errcode = '23505',
            message = 'a version that was to be saved is in the history already',
            hint = 'Somebody wrote into progress_version by hand; the audit trail tells who.';
    end if;

    -- Left over: what is not at the expected version, and names that somebody took meanwhile.
    if v_kept < cardinality(v_name) then
        for v_number in
            select i.number
            from unnest(v_model_id) with ordinality as i (model_id, number)
            where not exists (
                select from ai_storage_private.ai_progress_tenant as p
                where p.tenant_id = p_tenant_id
                  and p.model_id = any (v_model_id)
                  and p.model_id = i.model_id
            )
            order by i.number
        loop
            v_saved := ai_storage_private.write_progress(
                p_tenant_id, v_name[v_number], v_mse[v_number], v_samples[v_number],
                v_metrics[v_number], v_metadata[v_number], v_expected[v_number]
            );
            v_created[v_number] := v_saved.created;
        end loop;
    end if;

    return query
    select i.model_name, p.version, i.created, p.updated_at
    from unnest(v_place, v_name, v_created) as i (place, model_name, created)
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = p_tenant_id
        and p.model_name = any (v_name)
        and p.model_name = i.model_name
    order by i.place;
end;
$fn$;
comment on function ai_storage_private.write_batch(bigint, jsonb) is
    'write_progress() for many models at once, each named once, in a few statements. p_items: as '
    'is_item() wants them; the fields idempotency_key and owner are not looked at. READ COMMITTED '
    'only. Raises 22023, 23505, TN102.';

create or replace function ai_storage.save_progress_batch(p_items jsonb, p_as text default null)
returns table (model_name text, version bigint, created boolean, saved_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_item   record;
    v_saved  record;
begin
    if p_items is null or jsonb_typeof(p_items) <> 'array'
        or exists (
            select from jsonb_array_elements(p_items) as i (item)
            where ai_storage_private.is_item(i.item) is not true
        )
    then
        raise exception using
            errcode = '22023',
            message = 'invalid batch',
            hint = 'A batch is an array of objects with model_name and any of mse, '
                'training_samples, metrics, metadata, expected_version, idempotency_key, owner and '
                'artifacts.';
    end if;

    -- In a few statements where no item has to come after another. Under an older snapshot only
    -- write_progress() notices what was deleted meanwhile.
    if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') and (
        select
            count(distinct i.model_name collate "C") = count(*)
                and count(i.idempotency_key) = 0 and count(i.owner) = 0
                and count(i.artifacts) = 0
        from jsonb_to_recordset(p_items) as i (
            model_name text, idempotency_key text, owner text, artifacts jsonb
        )
    )
    then
        return query
        select b.model_name, b.version, b.created, b.saved_at
        from ai_storage_private.write_batch(v_tenant.tenant_id, p_items) as b;
        return;
    end if;

    for v_item in
        select i.*
        from rows from (
            jsonb_to_recordset(p_items) as (
                model_name       text,
                mse              double precision,
                training_samples numeric,
                metrics          jsonb,
                metadata         jsonb,
                expected_version numeric,
                idempotency_key  text,
                owner            text,
                artifacts        jsonb
            )
        ) with ordinality as i
        order by i.ordinality
    loop
        v_saved := ai_storage_private.save_version(
            v_tenant, v_item.model_name, v_item.mse, v_item.training_samples::bigint,
            v_item.metrics, v_item.metadata, v_item.expected_version::bigint,
            v_item.idempotency_key, v_item.owner, coalesce(v_item.artifacts, '{}')
        );
        model_name := v_item.model_name;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return next;
    end loop;
end;
$fn$;
comment on function ai_storage.save_progress_batch(jsonb, text) is
    'Saves many model states, all or none, in the order given. p_items: an array of objects with '
    'model_name and any of mse, training_samples, metrics, metadata, expected_version, '
    'idempotency_key, owner, artifacts, each as in save_progress. Several times as fast where each '
    'model is named once and no item has a key, an owner or artifacts. Raises 22023, 54000, TN001 '
    'to TN005, TN101, TN102, TN103, TN201.';

create or replace function ai_storage.delete_progress(
    p_model_name       text,
    p_expected_version bigint default null,
    p_as               text default null
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
    v_version bigint;
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    loop
        delete from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
          and (p_expected_version is null or p.version = p_expected_version);
        if found then
            return true;
        end if;

        select p.version into v_version
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C";
        if not found then
            return false;
        end if;
        if v_version <> p_expected_version then
            raise exception using
                errcode = 'TN102',
                message = 'the model is not at the expected version',
                detail = format(
                    'Expected version %s, current version %s.', p_expected_version, v_version
                ),
                hint = 'Load the model again and decide whether it still has to go.';
        end if;
        -- It was replaced by another of its name while we waited for the old one: around again.
    end loop;
end;
$fn$;
comment on function ai_storage.delete_progress(text, bigint, text) is
    'Deletes a model with all its versions. Returns false when there is none of that name. '
    'p_expected_version: only if it is the current one. Raises TN001 to TN005, TN102, TN501.';

create or replace function ai_storage_private.forget_shares(p_tenant_id bigint, p_model_id uuid)
returns void
language plpgsql
volatile
as $fn$
begin
    -- What derives from the owner's grants counts no more; their sharers may hold those rows.
    delete from ai_storage_private.model_share as s
    where s.tenant_id = p_tenant_id
      and s.model_id = p_model_id
      and s.sharer_id = p_tenant_id;
end;
$fn$;
comment on function ai_storage_private.forget_shares(bigint, uuid) is
    'Ends the grants on a model that is being deleted.';

create or replace function ai_storage_private.forget_model()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
begin
    delete from ai_storage_private.progress_version as v
    where v.tenant_id = old.tenant_id
      and v.model_id = old.model_id;

    perform ai_storage_private.forget_shares(old.tenant_id, old.model_id);

    perform ai_storage_private.forget_artifacts(old.tenant_id, old.model_id);

    insert into ai_storage_private.deleted_model as d (
        tenant_id, last_version, deleted_at, model_name
    )
    values (old.tenant_id, old.version, clock_timestamp(), old.model_name)
    on conflict on constraint deleted_model_pk do update set
        last_version = greatest(d.last_version, excluded.last_version),
        deleted_at   = excluded.deleted_at;
    return null;
end;
$fn$;
comment on function ai_storage_private.forget_model() is
    'Clears the versions, shares and artifacts of a deleted model and remembers its last version. '
    'A trigger, so that it holds for a deletion by hand too.';

create or replace trigger forget_model
    after delete on ai_storage_private.ai_progress_tenant
    for each row
    execute function ai_storage_private.forget_model();
comment on trigger forget_model on ai_storage_private.ai_progress_tenant is
    'Clears what belongs to a deleted model and remembers its last version.';

-- Reading -----------------------------------------------------------------------------------------

create or replace function ai_storage.load_progress(
    p_model_name text    default null,
    p_scope      text    default null,
    p_after      text    default null,
    p_limit      integer default 1000,
    p_owner      text    default null,
    p_as         text    default null
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
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    -- Who names a model means its own, and the one of another only together with the owner.
    v_scope  constant text := case
            when p_owner = v_tenant.isolation_key then 'own'
            when p_owner is not null then 'shared'
            when p_model_name is not null then coalesce(p_scope, 'own')
            else coalesce(p_scope, 'all')
        end;
    -- One name is the range from itself to itself; all names end at the largest there can be.
    v_first  constant text collate "C" := coalesce(p_model_name, '');
    v_last   constant text collate "C" := coalesce(p_model_name, repeat(chr(1114111), 255));
    -- A cursor is the owner's key (none for my own models), a blank, and the name.
    v_after_owner constant text collate "C" := coalesce(split_part(p_after, ' ', 1), '');
    v_after_name  constant text collate "C"
        := coalesce(substr(p_after, strpos(p_after, ' ') + 1), '');
    v_count  integer := 0;
begin
    if p_scope not in ('all', 'own', 'shared') then
        raise exception using
            errcode = '22023',
            message = 'invalid scope',
            hint = 'The scope is all, own or shared.';
    end if;
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if strpos(p_after, ' ') = 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;

    if v_scope <> 'shared' and v_after_owner = '' then
        return query
        select
            p.model_name,
            v_tenant.isolation_key,
            false,
            '{read,execute,write,share}'::text[],
            p.mse,
            p.training_samples,
            p.metrics,
            p.metadata,
            p.version,
            p.created_at,
            p.updated_at,
            ' ' || p.model_name
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name between v_first and v_last
          and p.model_name > v_after_name
        order by p.model_name
        limit p_limit;
        get diagnostics v_count = row_count;
    end if;

    if v_scope = 'own'
        or v_count >= p_limit
        or (v_scope = 'all' and p_model_name is not null and v_count > 0)
        or (p_owner is null and not ai_storage_private.may_receive(v_tenant.levels[1]))
    then
        return;
    end if;
    -- A standby does not know yet what was revoked, and a use could not be logged.
    if current_setting('transaction_read_only') = 'on'
        and (p_owner is null or p_model_name is null)
    then
        if exists (
            select from ai_storage_private.load_shared(
                v_tenant, p_owner, p_model_name, '', '', 1
            )
        ) then
            raise warning using
                message = 'shared models are left out in a read-only transaction',
                hint = 'Use a read-write transaction to see them, or p_scope => ''own''.';
        end if;
        return;
    end if;
    return query
    select s.*
    from ai_storage_private.load_shared(
        v_tenant, p_owner collate "C", p_model_name collate "C",
        v_after_owner, case when v_after_owner = '' then '' else v_after_name end,
        p_limit - v_count
    ) as s;
end;
$fn$;
comment on function ai_storage.load_progress(text, text, text, integer, text, text) is
    'Returns the current state of the caller''s models, by name, then of those shared with it, by '
    'owner and name. With a name alone: the caller''s own model; p_scope all: another''s where it '
    'has none; shared: others'' alone. p_owner: that tenant''s models. A shared model comes with '
    'metrics and metadata, and its use is logged, only by name and owner together; a list leaves '
    'both null, and has up to 1,000 shared models, of each owner the first 100. A read-only '
    'transaction lists the caller''s own and warns. permissions: what the caller may do. p_after: '
    'the cursor of the last row already had; p_limit null: no limit for the caller''s own. No row '
    'when there is no such model. Raises 22023, 25006, TN001 to TN005.';

create or replace function ai_storage.load_history(
    p_model_name     text,
    p_owner          text    default null,
    p_before_version bigint  default null,
    p_limit          integer default 1000,
    p_as             text    default null
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
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model_id uuid;
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;

    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.*
        from ai_storage_private.load_shared_history(
            v_tenant, p_owner collate "C", p_model_name collate "C", p_before_version, p_limit
        ) as s;
        return;
    end if;

    select p.model_id into v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id
      and p.model_name = p_model_name collate "C";
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;

    return query
    select
        v.version,
        v.mse,
        v.training_samples,
        v.metrics,
        v.metadata,
        v.saved_at,
        coalesce(v.saved_by, v_tenant.isolation_key)
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_tenant.tenant_id
      and v.model_id = v_model_id
      and v.version < coalesce(p_before_version, 9223372036854775807)
    order by v.version desc
    limit p_limit;
end;
$fn$;
comment on function ai_storage.load_history(text, text, bigint, integer, text) is
    'Returns the saved versions of one model, the newest first. p_before_version: only versions '
    'below it, for the next page; p_limit null: no limit. saved_by: the tenant that saved it; null '
    'in another tenant''s model for a third one. Raises 22023, TN001 to TN005, TN101.';

-- Promotion ---------------------------------------------------------------------------------------

create or replace function ai_storage.promote_progress(
    p_from_code_hash text,
    p_model_name     text    default null,
    p_with_history   boolean default false,
    p_as             text    default null
)
returns table (model_name text, version bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_target constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    -- Even here the policies show one tenant at a time: read as the source, write as the target.
    v_to     constant text := current_setting('app.tenant_context', true);
    v_from   text;
    v_first  constant text collate "C" := coalesce(p_model_name, '');
    v_last   constant text collate "C" := coalesce(p_model_name, repeat(chr(1114111), 255));
    v_name   text collate "C" := '';
    v_source ai_storage_private.acting_tenant;
    v_model  ai_storage_private.ai_progress_tenant;
    v_found  boolean := false;
begin
    if p_from_code_hash is null or p_from_code_hash = v_target.levels[5] then
        raise exception using
            errcode = '22023',
            message = 'invalid code hash',
            hint = 'Name the code version to promote from; it is another one than your own.';
    end if;
    v_source := ai_storage_private.enter_code_version(p_from_code_hash collate "C", p_as);
    v_from := current_setting('app.tenant_context', true);

    loop
        perform ai_storage_private.restore_context(v_from);
        select p.* into v_model
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_source.tenant_id
          and p.model_name between v_first and v_last
          and p.model_name > v_name
        order by p.model_name
        limit 1
        for key share;
        v_name := v_model.model_name;
        perform ai_storage_private.restore_context(v_to);
        exit when v_name is null;
        v_found := true;
        continue when exists (
            select from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = v_target.tenant_id
              and p.model_name = v_name
        );
        model_name := v_name;
        version := ai_storage_private.copy_model(
            v_from, v_source, v_model, v_to, v_target, coalesce(p_with_history, false)
        );
        return next;
    end loop;
    if not v_found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model in the other code version',
            hint = 'list_code_versions() shows the code versions that have models.';
    end if;
end;
$fn$;
comment on function ai_storage.promote_progress(text, text, boolean, text) is
    'Copies the current state of the models of another code version, with the same four other '
    'levels, into the caller''s tenant: one model, or all, each with the artifacts of its current '
    'version. p_with_history: all versions instead, under their numbers, with the artifacts of '
    'each. Names that exist already are left alone and not returned. The credential must cover the '
    'other code version too: a key by the login''s authorisation, a token by its claim from. '
    'Raises 22023, TN001 to TN005, TN101 when there is nothing to copy, and TN102 or 23505 when '
    'another session creates the same name meanwhile.';

create or replace function ai_storage_private.copy_model(
    p_from_context text,
    p_source       ai_storage_private.acting_tenant,
    p_model        ai_storage_private.ai_progress_tenant,
    p_to_context   text,
    p_target       ai_storage_private.acting_tenant,
    p_with_history boolean
)
returns bigint
language plpgsql
volatile
as $fn$
declare
    v_saved    record;
    v_model_id uuid;
    v_deleted  bigint; -- a name that was deleted here goes on counting
    v_last     bigint; -- the version copied last
    v_version  ai_storage_private.progress_version;
    v_swept    bigint[];
    v_number   bigint;
begin
    if not p_with_history then
        v_saved := ai_storage_private.write_progress(
            p_target.tenant_id, p_model.model_name, p_model.mse, p_model.training_samples,
            p_model.metrics, p_model.metadata, 0
        );
        select p.model_id into v_model_id
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_target.tenant_id
          and p.model_name = p_model.model_name;
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, p_model.version,
            p_to_context, p_target.tenant_id, v_model_id, v_saved.version
        );
        return v_saved.version;
    end if;

    v_deleted := coalesce((
        select d.last_version
        from ai_storage_private.deleted_model as d
        where d.tenant_id = p_target.tenant_id
          and d.model_name = p_model.model_name
    ), 0);
    loop
        perform ai_storage_private.restore_context(p_from_context);
        select v.* into v_version
        from ai_storage_private.progress_version as v
        where v.tenant_id = p_source.tenant_id
          and v.model_id = p_model.model_id
          and v.version > coalesce(v_last, 0)
          and v.version <= p_model.version
        order by v.version
        limit 1;
        perform ai_storage_private.restore_context(p_to_context);
        exit when v_version.version is null;

        perform ai_storage_private.import_version(p_target.tenant_id, jsonb_build_object(
            'model_name', p_model.model_name,
            'version', v_deleted + v_version.version,
            'previous_version', v_deleted + v_last,
            'mse', v_version.mse,
            'training_samples', v_version.training_samples,
            'metrics', v_version.metrics,
            'metadata', v_version.metadata,
            'created_at', p_model.created_at,
            'saved_at', v_version.saved_at
        ));
        select p.model_id into v_model_id
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_target.tenant_id
          and p.model_name = p_model.model_name;
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, v_version.version,
            p_to_context, p_target.tenant_id, v_model_id, v_deleted + v_version.version
        );
        v_last := v_version.version;
    end loop;
    -- Artifacts that hold on though their version was deleted.
    perform ai_storage_private.restore_context(p_from_context);
    v_swept := array(
        select distinct a.version
        from ai_storage_private.model_artifact as a
        left join ai_storage_private.progress_version as v
            on v.tenant_id = a.tenant_id
            and v.model_id = a.model_id
            and v.version = a.version
        where a.tenant_id = p_source.tenant_id
          and a.model_id = p_model.model_id
          and a.version < p_model.version
          and v.version is null
    );
    foreach v_number in array v_swept loop
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, v_number,
            p_to_context, p_target.tenant_id, v_model_id, v_deleted + v_number
        );
    end loop;
    perform ai_storage_private.restore_context(p_to_context);
    return v_deleted + v_last;
end;
$fn$;
comment on function ai_storage_private.copy_model(
    text, ai_storage_private.acting_tenant, ai_storage_private.ai_progress_tenant,
    text, ai_storage_private.acting_tenant, boolean
) is
    'Copies one model into another tenant of the caller''s that has none of its name, each side '
    'under its own context. Returns the version it has there. Raises 23505, TN102.';

create or replace function ai_storage.list_code_versions(p_as text default null)
returns table (
    code_hash     text,
    is_own        boolean,
    models        bigint,
    last_saved_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_own    constant text := current_setting('app.tenant_context', true);
    v_source ai_storage_private.acting_tenant;
begin
    foreach code_hash in array ai_storage_private.list_covered_versions(p_as) loop
        is_own := code_hash = v_tenant.levels[5];
        v_source := v_tenant;
        if not is_own then
            v_source := ai_storage_private.enter_code_version(code_hash collate "C", p_as);
        end if;
        select count(*), max(p.updated_at) into models, last_saved_at
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_source.tenant_id;
        perform ai_storage_private.restore_context(v_own);
        return next;
    end loop;
end;
$fn$;
comment on function ai_storage.list_code_versions(text) is
    'The code versions of the caller''s other four levels that ever wrote and that its credential '
    'covers, the newest first: what promote_progress() takes, and the caller''s own. Raises TN001 '
    'to TN005.';

-- Policies ----------------------------------------------------------------------------------------

drop policy if exists tenant_keeps_its_models on ai_storage_private.ai_progress_tenant;
create policy tenant_keeps_its_models on ai_storage_private.ai_progress_tenant
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_models on ai_storage_private.ai_progress_tenant is
    'A tenant sees and changes its own models and no others.';

drop policy if exists tenant_keeps_its_versions on ai_storage_private.progress_version;
create policy tenant_keeps_its_versions on ai_storage_private.progress_version
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_versions on ai_storage_private.progress_version is
    'A tenant sees and changes the versions of its own models and no others.';

drop policy if exists tenant_keeps_its_deletions on ai_storage_private.deleted_model;
create policy tenant_keeps_its_deletions on ai_storage_private.deleted_model
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_deletions on ai_storage_private.deleted_model is
    'A tenant sees which of its own names were deleted and no others.';

drop policy if exists tenant_keeps_its_idempotency_keys on ai_storage_private.idempotency_key;
create policy tenant_keeps_its_idempotency_keys on ai_storage_private.idempotency_key
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_idempotency_keys on ai_storage_private.idempotency_key is
    'A tenant sees and changes its own idempotency keys and no others.';

-- The door for ad-hoc SQL -------------------------------------------------------------------------

-- A view over the tables would let its readers' conditions, EXPLAIN and statistics near everybody's
-- rows (CVE-2026-116327 showed them whole). So the rows come out of a function: what a reader adds
-- meets only what the policies let through.
create or replace function ai_storage_private.report_models()
returns table (
    id                 uuid,
    model_name         text,
    isolation_key      text,
    tenant_context     jsonb,
    access_permissions text[],
    mse                double precision,
    training_samples   bigint,
    metadata           jsonb,
    created_at         timestamptz
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant ai_storage_private.tenant;
begin
    select t.* into v_tenant
    from ai_storage_private.tenant as t
    where t.tenant_id = ai_storage_private.current_tenant_id()
      -- A credential in p_as opens one call; only set_tenant opens the view.
      and t.isolation_key = ai_storage.current_tenant();
    return query
    select
        p.model_id,
        p.model_name,
        v_tenant.isolation_key,
        jsonb_build_object(
            'orgId', v_tenant.org_id,
            'serverId', v_tenant.server_id,
            'projectId', v_tenant.project_id,
            'environment', v_tenant.environment,
            'codeHash', v_tenant.code_hash
        ),
        '{read,execute,write,share}'::text[],
        p.mse,
        p.training_samples,
        p.metadata,
        p.created_at
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id;
end;
$fn$;
comment on function ai_storage_private.report_models() is
    'The rows of the view ai_storage.ai_progress_tenant.';

create or replace view ai_storage.ai_progress_tenant
with (security_barrier = true)
as
select
    r.id,
    r.model_name,
    r.isolation_key,
    r.tenant_context,
    r.access_permissions,
    r.mse,
    r.training_samples,
    r.metadata,
    r.created_at
from ai_storage_private.report_models() as r;
comment on view ai_storage.ai_progress_tenant is
    'The models of the tenant that set_tenant set for this transaction; empty without one. For '
    'reporting, by members of ai_storage_sql.';
comment on column ai_storage.ai_progress_tenant.id is 'Random id of the model.';
comment on column ai_storage.ai_progress_tenant.model_name is 'Name of the model.';
comment on column ai_storage.ai_progress_tenant.isolation_key is 'The tenant''s isolation key.';
comment on column ai_storage.ai_progress_tenant.tenant_context is
    'The five levels as an object: orgId, serverId, projectId, environment, codeHash.';
comment on column ai_storage.ai_progress_tenant.access_permissions is
    'What the tenant may do with the model.';
comment on column ai_storage.ai_progress_tenant.mse is 'Mean squared error, or null.';
comment on column ai_storage.ai_progress_tenant.training_samples is 'Samples trained on, or null.';
comment on column ai_storage.ai_progress_tenant.metadata is 'Anything else that was saved.';
comment on column ai_storage.ai_progress_tenant.created_at is 'When the model was first saved.';
