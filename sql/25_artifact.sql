-- The bytes of a model: put them, get them back, in one piece or in parts.
--
-- A content lies in artifact_chunk, in chunks of 1 MiB, and once in its tenant however many
-- artifacts name it; no key spans tenants. Its sha256 is that of its bytes up to 1 MiB; above, that
-- of the sha256s of its chunks, so both ends can check a stream in constant memory; what is small
-- may be such a list, so a content is told by sha256 and size. An artifact is a name for a content
-- at a version of a model, and holds for later versions until it is put again. A content that
-- nothing names any more is deleted.
--
-- An upload is a content in the making: nothing of it is visible before finish_artifact(), which
-- checks size and sha256. Reading another tenant's artifact takes the permission execute.
--
-- Tables: model_artifact, artifact_blob, artifact_upload, artifact_chunk, artifact_limit,
-- tenant_cache_key (0007_artifact). Errors: 22023, 54000, TN101, TN201 to TN204, TN501.

set local role ai_storage_owner;

comment on table ai_storage_private.model_artifact is
    'Names for contents: which bytes belong to a model from a version on.';
comment on column ai_storage_private.model_artifact.tenant_id is 'The tenant that owns the model.';
comment on column ai_storage_private.model_artifact.model_id is 'The model.';
comment on column ai_storage_private.model_artifact.version is
    'The model''s version when it was put.';
comment on column ai_storage_private.model_artifact.blob_id is 'The content.';
comment on column ai_storage_private.model_artifact.put_at is 'When it was put.';
comment on column ai_storage_private.model_artifact.artifact_name is
    'Its name in the model, 1 to 255 characters.';
comment on column ai_storage_private.model_artifact.media_type is 'What the bytes are.';

comment on table ai_storage_private.artifact_blob is 'Contents, once each in a tenant.';
comment on column ai_storage_private.artifact_blob.tenant_id is 'The tenant that has it.';
comment on column ai_storage_private.artifact_blob.blob_id is 'Random id of the content.';
comment on column ai_storage_private.artifact_blob.size_bytes is 'How many bytes it is.';
comment on column ai_storage_private.artifact_blob.put_at is 'When it was last put.';
comment on column ai_storage_private.artifact_blob.sha256 is
    'Of the bytes; above 1 MiB of the sha256s of the chunks.';

comment on table ai_storage_private.artifact_upload is 'Contents that are still arriving.';
comment on column ai_storage_private.artifact_upload.tenant_id is 'The tenant that uploads.';
comment on column ai_storage_private.artifact_upload.upload_id is
    'Random id of the upload, and of the content that comes of it.';
comment on column ai_storage_private.artifact_upload.model_id is 'The model it is for.';
comment on column ai_storage_private.artifact_upload.received_bytes is
    'How many bytes have arrived.';
comment on column ai_storage_private.artifact_upload.began_at is 'When it began.';
comment on column ai_storage_private.artifact_upload.touched_at is 'When bytes last arrived.';
comment on column ai_storage_private.artifact_upload.artifact_name is
    'The name it is going to have.';
comment on column ai_storage_private.artifact_upload.media_type is 'What the bytes are.';

comment on table ai_storage_private.artifact_chunk is
    'The bytes: chunks of 1 MiB, the last of a content smaller.';
comment on column ai_storage_private.artifact_chunk.tenant_id is 'The tenant that has them.';
comment on column ai_storage_private.artifact_chunk.blob_id is 'The content or upload.';
comment on column ai_storage_private.artifact_chunk.chunk_number is 'Its number, from 0.';
comment on column ai_storage_private.artifact_chunk.sha256 is 'Of these bytes.';
comment on column ai_storage_private.artifact_chunk.content is 'The bytes.';

comment on table ai_storage_private.artifact_limit is 'How large one artifact may be: one row.';
comment on column ai_storage_private.artifact_limit.max_bytes is 'The most bytes.';

comment on table ai_storage_private.tenant_cache_key is
    'Keys that seal what a cache outside the database keeps for a tenant.';
comment on column ai_storage_private.tenant_cache_key.tenant_id is 'The tenant.';
comment on column ai_storage_private.tenant_cache_key.cache_key is
    '32 random bytes; an erasure destroys them.';

-- Checks ------------------------------------------------------------------------------------------

create or replace function ai_storage_private.check_artifact(
    p_artifact_name text,
    p_media_type    text
)
returns void
language plpgsql
immutable
as $fn$
begin
    if ai_storage_private.is_name(p_artifact_name) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid artifact name',
            hint = 'A name has 1 to 255 characters and no control character.';
    end if;
    if (
        p_media_type ~ '^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$'
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid media type',
            hint = 'A media type is a type and a subtype in lower case, such as '
                'application/octet-stream.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_artifact(text, text) is
    'Refuses a name or media type that breaks a documented rule. Raises 22023.';

create or replace function ai_storage_private.check_size(p_size_bytes bigint)
returns void
language plpgsql
stable
as $fn$
declare
    v_max_bytes constant bigint := ai_storage_private.artifact_limit();
begin
    if p_size_bytes > v_max_bytes then
        raise exception using
            errcode = '54000',
            message = 'the artifact is too large',
            detail = format('An artifact has at most %s bytes.', v_max_bytes),
            hint = 'An administrator changes the limit with set_artifact_limit().';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_size(bigint) is
    'Refuses more bytes than an artifact may have. Raises 54000.';

create or replace function ai_storage_private.content_sha256(p_chunks bytea[])
returns bytea
language sql
immutable
parallel safe
as $fn$
    select case
        when cardinality(p_chunks) = 1 then p_chunks[1]
        else sha256(
            coalesce((
                select string_agg(c.sha256, '' order by c.place)
                from unnest(p_chunks) with ordinality as c (sha256, place)
            ), '')
        )
    end;
$fn$;
comment on function ai_storage_private.content_sha256(bytea[]) is
    'The sha256 of a content, from those of its chunks.';

create or replace function ai_storage_private.hold_model(
    p_tenant_id      bigint,
    p_model_name     text,
    out model_id     uuid,
    out version      bigint
)
returns record
language plpgsql
volatile
as $fn$
begin
    -- Until the end of the transaction nobody deletes it; others may go on saving.
    select p.model_id, p.version into model_id, version
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_name = p_model_name collate "C"
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Save the model first; an artifact belongs to a version of a model.';
    end if;
end;
$fn$;
comment on function ai_storage_private.hold_model(bigint, text) is
    'An own model and its version, kept from being deleted. Raises TN101.';

-- Contents ----------------------------------------------------------------------------------------

create or replace function ai_storage_private.write_chunks(
    p_tenant_id bigint,
    p_blob_id   uuid,
    p_first     integer,
    p_content   bytea
)
returns void
language plpgsql
volatile
as $fn$
begin
    insert into ai_storage_private.artifact_chunk (
        tenant_id, blob_id, chunk_number, sha256, content
    )
    select p_tenant_id, p_blob_id, p_first + c.place, sha256(c.content), c.content
    from (
        select n.place, substr(p_content, n.place * 1048576 + 1, 1048576) as content
        from generate_series(0, (length(p_content) - 1) / 1048576) as n (place)
        offset 0 -- cut each chunk once
    ) as c
    where length(c.content) > 0
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage_private.write_chunks(bigint, uuid, integer, bytea) is
    'Writes bytes as chunks, from the number p_first on.';

create or replace function ai_storage_private.sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[])
returns bigint
language plpgsql
volatile
as $fn$
declare
    v_blob_ids uuid[];
begin
    -- Lock first, look then: whoever puts the same content meanwhile updates its row.
    v_blob_ids := array(
        select b.blob_id
        from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and b.blob_id = any (p_blob_ids)
        order by b.blob_id
        for update
    );
    v_blob_ids := array(
        select b.blob_id
        from unnest(v_blob_ids) as b (blob_id)
        where not exists (
            select from ai_storage_private.model_artifact as a
            where a.tenant_id = p_tenant_id
              and a.blob_id = b.blob_id
        )
    );
    delete from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id
      and b.blob_id = any (v_blob_ids);
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_blob_ids);
    return cardinality(v_blob_ids)::bigint;
end;
$fn$;
comment on function ai_storage_private.sweep_blobs(bigint, uuid[]) is
    'Deletes those of some contents that no artifact names. Returns how many.';

create or replace function ai_storage_private.attach_blob(
    p_tenant_id     bigint,
    p_model_id      uuid,
    p_version       bigint,
    p_artifact_name text,
    p_media_type    text,
    p_blob_id       uuid
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_now     constant timestamptz := clock_timestamp();
    v_blob_id uuid;
begin
    select a.blob_id into v_blob_id
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
      and a.model_id = p_model_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version = p_version
    for update;
    insert into ai_storage_private.model_artifact (
        tenant_id, model_id, version, blob_id, put_at, artifact_name, media_type
    )
    values (p_tenant_id, p_model_id, p_version, p_blob_id, v_now, p_artifact_name, p_media_type)
    on conflict on constraint model_artifact_pk do update set
        blob_id    = excluded.blob_id,
        put_at     = excluded.put_at,
        media_type = excluded.media_type;
    if v_blob_id <> p_blob_id then
        perform ai_storage_private.sweep_blobs(p_tenant_id, array[v_blob_id]);
    end if;
end;
$fn$;
comment on function ai_storage_private.attach_blob(bigint, uuid, bigint, text, text, uuid) is
    'Names a content as an artifact at a version of a model, in place of another.';

create or replace function ai_storage_private.join_chunks(
    p_tenant_id bigint,
    p_blob_id   uuid,
    p_offset    bigint,
    p_length    bigint
)
returns bytea
language plpgsql
stable
as $fn$
declare
    v_content bytea;
begin
    -- Sorted before anything reads the bytes.
    select coalesce(
        string_agg(
            case
                when c.chunk_number in (p_offset / 1048576, (p_offset + p_length - 1) / 1048576)
                    then substr(
                        c.content,
                        (greatest(p_offset - c.chunk_number * 1048576::bigint, 0) + 1)::integer,
                        least(
                            p_offset + p_length
                                - greatest(p_offset, c.chunk_number * 1048576::bigint),
                            1048576
                        )::integer
                    )
                else c.content
            end,
            ''
        ),
        ''
    )
    into v_content
    from (
        select k.chunk_number, k.content
        from ai_storage_private.artifact_chunk as k
        where k.tenant_id = p_tenant_id
          and k.blob_id = p_blob_id
          and k.chunk_number between p_offset / 1048576 and (p_offset + p_length - 1) / 1048576
          and p_length > 0
        order by k.chunk_number
    ) as c;
    return v_content;
end;
$fn$;
comment on function ai_storage_private.join_chunks(bigint, uuid, bigint, bigint) is
    'Part of a content. Under row level security it sees what its caller''s policies show.';

-- Putting -----------------------------------------------------------------------------------------

create or replace function ai_storage.put_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_content       bytea,
    p_media_type    text default 'application/octet-stream',
    p_as            text default null
)
returns table (sha256 text, size_bytes bigint, is_new boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant  constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_now     constant timestamptz := clock_timestamp();
    v_new_id  constant uuid := gen_random_uuid();
    v_model   record;
    v_sha256  bytea;
    v_blob_id uuid;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    if p_content is null then
        raise exception using
            errcode = '22023',
            message = 'no content',
            hint = 'Pass the bytes; an empty artifact is an empty bytea.';
    end if;
    perform ai_storage_private.check_size(length(p_content));
    v_model := ai_storage_private.hold_model(v_tenant.tenant_id, p_model_name);
    v_sha256 := ai_storage_private.content_sha256(array(
        select pg_catalog.sha256(substr(p_content, n.place * 1048576 + 1, 1048576))
        from generate_series(0, (length(p_content) - 1) / 1048576) as n (place)
        where length(p_content) > 0
        order by n.place
    ));

    insert into ai_storage_private.artifact_blob as b (
        tenant_id, blob_id, size_bytes, put_at, sha256
    )
    values (v_tenant.tenant_id, v_new_id, length(p_content), v_now, v_sha256)
    on conflict on constraint artifact_blob_content_unique do update set
        put_at = excluded.put_at
    returning b.blob_id into v_blob_id;
    is_new := v_blob_id = v_new_id;
    if is_new then
        perform ai_storage_private.write_chunks(v_tenant.tenant_id, v_blob_id, 0, p_content);
    end if;
    perform ai_storage_private.attach_blob(
        v_tenant.tenant_id, v_model.model_id, v_model.version,
        p_artifact_name, p_media_type, v_blob_id
    );
    sha256 := encode(v_sha256, 'hex');
    size_bytes := length(p_content)::bigint;
    return next;
end;
$fn$;
comment on function ai_storage.put_artifact(text, text, bytea, text, text) is
    'Keeps bytes as an artifact of the current version of an own model, in place of what the '
    'version had under the name. Returns the sha256 (hexadecimal; above 1 MiB that of the sha256s '
    'of the chunks of 1 MiB), the size, and whether the tenant did not have these bytes before. '
    'For more than some 100 MiB use begin_artifact(). Raises 22023, 54000, TN001 to TN005, TN101.';

create or replace function ai_storage.begin_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_media_type    text default 'application/octet-stream',
    p_as            text default null
)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant    constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_now       constant timestamptz := clock_timestamp();
    v_upload_id constant uuid := gen_random_uuid();
    v_model     record;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    perform ai_storage_private.sweep_uploads(v_tenant.tenant_id);
    v_model := ai_storage_private.hold_model(v_tenant.tenant_id, p_model_name);
    insert into ai_storage_private.artifact_upload (
        tenant_id, upload_id, model_id, received_bytes, began_at, touched_at,
        artifact_name, media_type
    )
    values (
        v_tenant.tenant_id, v_upload_id, v_model.model_id, 0, v_now, v_now,
        p_artifact_name, p_media_type
    );
    return v_upload_id;
end;
$fn$;
comment on function ai_storage.begin_artifact(text, text, text, text) is
    'Begins an upload in parts and returns its id. Nothing is visible before finish_artifact(). '
    'An upload that stands still for a day is abandoned, and swept. Raises 22023, TN001 to TN005, '
    'TN101.';

create or replace function ai_storage_private.hold_upload(p_tenant_id bigint, p_upload_id uuid)
returns ai_storage_private.artifact_upload
language plpgsql
volatile
as $fn$
declare
    v_upload ai_storage_private.artifact_upload;
begin
    select u.* into v_upload
    from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id
      and u.artifact_name <> '' -- an import's, of which nobody knows what is still to come
    for update;
    if not found then
        raise exception using
            errcode = 'TN201',
            message = 'no such upload',
            hint = 'list_uploads() shows the uploads that go on; it was finished, aborted or '
                'abandoned.';
    end if;
    return v_upload;
end;
$fn$;
comment on function ai_storage_private.hold_upload(bigint, uuid) is
    'An own upload, locked. Raises TN201.';

create or replace function ai_storage.append_artifact(
    p_upload_id uuid,
    p_offset    bigint,
    p_content   bytea,
    p_as        text default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_now    constant timestamptz := clock_timestamp();
    v_upload ai_storage_private.artifact_upload;
begin
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    if p_offset is distinct from v_upload.received_bytes then
        raise exception using
            errcode = 'TN202',
            message = 'the upload goes on at another offset',
            detail = format('%s bytes have arrived.', v_upload.received_bytes),
            hint = 'Go on with the byte after those that list_uploads() shows as received.';
    end if;
    if coalesce(length(p_content), 0) = 0 or v_upload.received_bytes % 1048576 <> 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid part',
            hint = 'A part is not empty, and all parts but the last are multiples of 1 MiB.';
    end if;
    perform ai_storage_private.check_size(v_upload.received_bytes + length(p_content));
    perform ai_storage_private.write_chunks(
        v_tenant.tenant_id, p_upload_id, (v_upload.received_bytes / 1048576)::integer, p_content
    );
    update ai_storage_private.artifact_upload as u set
        received_bytes = v_upload.received_bytes + length(p_content),
        touched_at     = v_now
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
    return v_upload.received_bytes + length(p_content);
end;
$fn$;
comment on function ai_storage.append_artifact(uuid, bigint, bytea, text) is
    'Adds the next part to an upload and returns how many bytes have arrived. p_offset: how many '
    'arrived before; so a part that is sent twice is noticed. All parts but the last are multiples '
    'of 1 MiB. Raises 22023, 54000, TN001 to TN005, TN201, TN202.';

create or replace function ai_storage.finish_artifact(
    p_upload_id  uuid,
    p_size_bytes bigint,
    p_sha256     text,
    p_as         text default null
)
returns table (sha256 text, size_bytes bigint, is_new boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant  constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_now     constant timestamptz := clock_timestamp();
    v_upload  ai_storage_private.artifact_upload;
    v_version bigint;
    v_sha256  bytea;
    v_blob_id uuid;
begin
    -- The model first: whoever deletes it goes on to its uploads.
    select p.version into v_version
    from ai_storage_private.artifact_upload as u
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = u.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
      and p.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id
    for key share of p;
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    v_sha256 := ai_storage_private.content_sha256(array(
        select c.sha256
        from ai_storage_private.artifact_chunk as c
        where c.tenant_id = v_tenant.tenant_id
          and c.blob_id = p_upload_id
        order by c.chunk_number
    ));
    if p_size_bytes is distinct from v_upload.received_bytes
        or p_sha256 is distinct from encode(v_sha256, 'hex')
    then
        raise exception using
            errcode = 'TN203',
            message = 'the upload is not what was announced',
            detail = format(
                '%s bytes have arrived, with sha256 %s.',
                v_upload.received_bytes, encode(v_sha256, 'hex')
            ),
            hint = 'Compare size and sha256; above 1 MiB it is the sha256 of the sha256s of the '
                'chunks of 1 MiB. Send the rest, or abort the upload and begin again.';
    end if;

    insert into ai_storage_private.artifact_blob as b (
        tenant_id, blob_id, size_bytes, put_at, sha256
    )
    values (v_tenant.tenant_id, p_upload_id, p_size_bytes, v_now, v_sha256)
    on conflict on constraint artifact_blob_content_unique do update set
        put_at = excluded.put_at
    returning b.blob_id into v_blob_id;
    is_new := v_blob_id = p_upload_id;
    if not is_new then
        delete from ai_storage_private.artifact_chunk as c
        where c.tenant_id = v_tenant.tenant_id
          and c.blob_id = p_upload_id;
    end if;
    perform ai_storage_private.attach_blob(
        v_tenant.tenant_id, v_upload.model_id, v_version,
        v_upload.artifact_name, v_upload.media_type, v_blob_id
    );
    perform ai_storage_private.end_upload(v_tenant.tenant_id, p_upload_id);
    sha256 := p_sha256;
    size_bytes := p_size_bytes;
    return next;
end;
$fn$;
comment on function ai_storage.finish_artifact(uuid, bigint, text, text) is
    'Makes an upload an artifact of the current version of its model, if its size and sha256 are '
    'those announced. Returns as put_artifact(). Raises TN001 to TN005, TN201, TN203.';

create or replace function ai_storage.abort_artifact(p_upload_id uuid, p_as text default null)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
    if not found then
        return false;
    end if;
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_tenant.tenant_id
      and c.blob_id = p_upload_id;
    return true;
end;
$fn$;
comment on function ai_storage.abort_artifact(uuid, text) is
    'Ends an upload and deletes what arrived. Returns false when there is none. Raises TN001 to '
    'TN005, TN501.';

create or replace function ai_storage.list_uploads(p_as text default null)
returns table (
    upload_id      uuid,
    model_name     text,
    artifact_name  text,
    received_bytes bigint,
    sha256         text,
    media_type     text,
    began_at       timestamptz,
    touched_at     timestamptz
)
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
    select
        u.upload_id,
        p.model_name,
        u.artifact_name,
        u.received_bytes,
        encode(ai_storage_private.content_sha256(array(
            select c.sha256
            from ai_storage_private.artifact_chunk as c
            where c.tenant_id = v_tenant.tenant_id
              and c.blob_id = u.upload_id
            order by c.chunk_number
        )), 'hex'),
        u.media_type,
        u.began_at,
        u.touched_at
    from ai_storage_private.artifact_upload as u
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = u.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
    order by u.began_at, u.upload_id;
end;
$fn$;
comment on function ai_storage.list_uploads(text) is
    'The caller''s uploads that are not finished, the oldest first: an interrupted one goes on '
    'after received_bytes, if these bytes have this sha256. Raises TN001 to TN005.';

create or replace function ai_storage_private.end_upload(p_tenant_id bigint, p_upload_id uuid)
returns void
language plpgsql
volatile
as $fn$
begin
    -- Without bytes first, so that a legal hold does not take this for a loss.
    update ai_storage_private.artifact_upload as u set
        received_bytes = 0
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id;
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id;
end;
$fn$;
comment on function ai_storage_private.end_upload(bigint, uuid) is
    'Ends an upload whose bytes the tenant has as a content.';

create or replace function ai_storage_private.sweep_uploads(p_tenant_id bigint)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_upload_ids uuid[];
begin
    if ai_storage_private.is_held(p_tenant_id) then
        return 0::bigint;
    end if;
    v_upload_ids := array(
        select u.upload_id
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.touched_at < clock_timestamp() - interval '1 day'
        for update skip locked
    );
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_upload_ids);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = any (v_upload_ids);
    return cardinality(v_upload_ids)::bigint;
end;
$fn$;
comment on function ai_storage_private.sweep_uploads(bigint) is
    'Deletes the abandoned uploads of the tenant that the context names. Returns how many.';

create or replace function ai_storage_private.forget_artifacts(
    p_tenant_id bigint,
    p_model_id  uuid
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_blob_ids   uuid[];
    v_upload_ids uuid[];
begin
    v_blob_ids := array(
        select distinct a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = p_tenant_id
          and a.model_id = p_model_id
    );
    v_upload_ids := array(
        select u.upload_id
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.model_id = p_model_id
        for update
    );
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
      and a.model_id = p_model_id;
    perform ai_storage_private.sweep_blobs(p_tenant_id, v_blob_ids);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = any (v_upload_ids);
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_upload_ids);
end;
$fn$;
comment on function ai_storage_private.forget_artifacts(bigint, uuid) is
    'Deletes the artifacts and uploads of a model that is being deleted.';

create or replace function ai_storage.delete_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint default null,
    p_as            text   default null
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model_id uuid;
    v_blob_ids uuid[];
    v_count    integer;
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    select p.model_id into v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id
      and p.model_name = p_model_name collate "C";
    v_blob_ids := array(
        select a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = v_tenant.tenant_id
          and a.model_id = v_model_id
          and a.artifact_name = p_artifact_name collate "C"
        for update
    );
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = v_tenant.tenant_id
      and a.model_id = v_model_id
      and a.artifact_name = p_artifact_name collate "C"
      and (p_version is null or a.version = p_version);
    get diagnostics v_count = row_count;
    perform ai_storage_private.sweep_blobs(v_tenant.tenant_id, v_blob_ids);
    return v_count;
end;
$fn$;
comment on function ai_storage.delete_artifact(text, text, bigint, text) is
    'Deletes an artifact of an own model: what was put at one version, or without p_version at '
    'any. Returns at how many versions. Raises TN001 to TN005, TN501.';

-- Getting -----------------------------------------------------------------------------------------

create or replace function ai_storage_private.find_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    out version     bigint,
    out blob_id     uuid,
    out sha256      bytea,
    out size_bytes  bigint,
    out media_type  text,
    out put_at      timestamptz
)
returns record
language plpgsql
stable
as $fn$
begin
    select a.version, a.blob_id, b.sha256, b.size_bytes, a.media_type, a.put_at
    into version, blob_id, sha256, size_bytes, media_type, put_at
    from ai_storage_private.ai_progress_tenant as p
    join ai_storage_private.model_artifact as a
        on a.tenant_id = p.tenant_id
        and a.model_id = p.model_id
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where p.tenant_id = p_tenant.tenant_id
      and p.model_name = p_model_name collate "C"
      and a.tenant_id = p_tenant.tenant_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version <= coalesce(p_version, 9223372036854775807)
    order by a.version desc
    limit 1;
    if not found then
        raise exception using
            errcode = 'TN204',
            message = 'no such artifact',
            hint = 'list_artifacts() shows those there are; one of another tenant has to be shared '
                'with you for execute.';
    end if;
end;
$fn$;
comment on function ai_storage_private.find_artifact(
    ai_storage_private.acting_tenant, text, text, bigint
) is
    'An artifact of an own model as it was at a version, or as it is. Raises TN204.';

create or replace function ai_storage_private.cache_key(p_tenant_id bigint)
returns bytea
language plpgsql
volatile
as $fn$
declare
    v_random    constant bytea := sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    );
    v_cache_key bytea;
begin
    select k.cache_key into v_cache_key
    from ai_storage_private.tenant_cache_key as k
    where k.tenant_id = p_tenant_id;
    if not found and p_tenant_id > 0 and current_setting('transaction_read_only') = 'off' then
        insert into ai_storage_private.tenant_cache_key as k (tenant_id, cache_key)
        values (p_tenant_id, v_random)
        on conflict on constraint tenant_cache_key_pk do update set
            tenant_id = excluded.tenant_id -- returns the row that somebody else was faster with
        returning k.cache_key into v_cache_key;
    end if;
    return v_cache_key;
end;
$fn$;
comment on function ai_storage_private.cache_key(bigint) is
    'The key that seals what a cache keeps for a tenant, made when it is first asked for; null for '
    'a tenant that never wrote.';

create or replace function ai_storage.open_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text   default null,
    p_version       bigint default null,
    p_as            text   default null
)
returns table (
    version    bigint,
    sha256     text,
    size_bytes bigint,
    media_type text,
    put_at     timestamptz,
    cache_key  bytea
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if coalesce(p_owner, v_tenant.isolation_key) = v_tenant.isolation_key then
        v_artifact := ai_storage_private.find_artifact(
            v_tenant, p_model_name, p_artifact_name, p_version
        );
    else
        v_artifact := ai_storage_private.open_shared_artifact(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version
        );
    end if;
    version := v_artifact.version;
    sha256 := encode(v_artifact.sha256, 'hex');
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
    cache_key := ai_storage_private.cache_key(v_tenant.tenant_id);
    return next;
end;
$fn$;
comment on function ai_storage.open_artifact(text, text, text, bigint, text) is
    'Says what an artifact is, without its bytes: of an own model, or with p_owner of one that is '
    'shared for execute, as it was at p_version or as it is. version: at which it was put; pass it '
    'to read_artifact() to read one content to its end. cache_key: 32 bytes that seal what a cache '
    'outside keeps for the caller, or null; only who holds a verified credential gets them. Each '
    'use of another tenant''s artifact is logged for both. Raises 25006, TN001 to TN005, TN101, '
    'TN204.';

create or replace function ai_storage.read_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text    default null,
    p_version       bigint  default null,
    p_offset        bigint  default 0,
    p_length        integer default null,
    p_as            text    default null
)
returns bytea
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if (p_offset >= 0) is not true or p_length < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid range',
            hint = 'Offset and length are counts of bytes; a null length reads to the end.';
    end if;
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return ai_storage_private.read_shared_artifact(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_offset, p_length
        );
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version
    );
    return ai_storage_private.join_chunks(
        v_tenant.tenant_id, v_artifact.blob_id, p_offset,
        least(coalesce(p_length, v_artifact.size_bytes), v_artifact.size_bytes - p_offset)
    );
end;
$fn$;
comment on function ai_storage.read_artifact(text, text, text, bigint, bigint, integer, text) is
    'Part of an artifact, less than p_length bytes only at its end, none behind it. Otherwise as '
    'get_artifact(). Read large artifacts so, 1 to 16 MiB at a time. Raises 22023, 25006, TN001 to '
    'TN005, TN101, TN204.';

create or replace function ai_storage.read_chunks(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text    default null,
    p_version       bigint  default null,
    p_first         integer default 0,
    p_count         integer default 4,
    p_as            text    default null
)
returns setof bytea
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if (p_first >= 0 and p_count >= 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid range',
            hint = 'Chunks are counted from 0.';
    end if;
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.content
        from ai_storage_private.read_shared_chunks(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_first, p_count
        ) as s (content);
        return;
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version
    );
    -- What is returned are references to the bytes, which are read only where they are sent.
    return query
    select c.content
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_tenant.tenant_id
      and c.blob_id = v_artifact.blob_id
      and c.chunk_number >= p_first
      and c.chunk_number < p_first::bigint + p_count
    order by c.chunk_number;
end;
$fn$;
comment on function ai_storage.read_chunks(text, text, text, bigint, integer, integer, text) is
    'Chunks of an artifact, a row each, in their order: 1 MiB of its bytes, less only in the last, '
    'none behind it. The fastest way to read a large one. p_first: a chunk''s number, from 0. '
    'Otherwise as get_artifact(). Raises 22023, 25006, TN001 to TN005, TN101, TN204.';

create or replace function ai_storage.get_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text   default null,
    p_version       bigint default null,
    p_as            text   default null
)
returns bytea
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return ai_storage.read_artifact(
        p_model_name, p_artifact_name, p_owner, p_version, p_as => p_as
    );
end;
$fn$;
comment on function ai_storage.get_artifact(text, text, text, bigint, text) is
    'All bytes of an artifact: of an own model, or with p_owner of one that is shared for execute, '
    'as it was at p_version or as it is. Above some MiB read_chunks() is faster. Each use '
    'of another tenant''s artifact is logged for both. Raises 25006, TN001 to TN005, TN101, TN204.';

create or replace function ai_storage.list_artifacts(
    p_model_name text default null,
    p_owner      text default null,
    p_as         text default null
)
returns table (
    model_name    text,
    owner_key     text,
    artifact_name text,
    version       bigint,
    sha256        text,
    size_bytes    bigint,
    media_type    text,
    put_at        timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.*
        from ai_storage_private.list_shared_artifacts(v_tenant, p_owner, p_model_name) as s;
        return;
    end if;
    return query
    select
        p.model_name,
        v_tenant.isolation_key,
        a.artifact_name,
        a.version,
        encode(b.sha256, 'hex'),
        b.size_bytes,
        a.media_type,
        a.put_at
    from ai_storage_private.ai_progress_tenant as p
    join ai_storage_private.model_artifact as a
        on a.tenant_id = p.tenant_id
        and a.model_id = p.model_id
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where p.tenant_id = v_tenant.tenant_id
      and a.tenant_id = v_tenant.tenant_id
      and (p_model_name is null or p.model_name = p_model_name collate "C")
    order by p.model_name, a.artifact_name, a.version desc;
end;
$fn$;
comment on function ai_storage.list_artifacts(text, text, text) is
    'The artifacts of one own model or of all, or with p_owner of one model that is shared for '
    'execute, at every version at which one was put, the newest first. Raises TN001 to TN005, '
    'TN101.';

-- Getting another tenant's ------------------------------------------------------------------------

set local role ai_storage_sharing;

create or replace function ai_storage_private.find_shared_artifact(
    p_share         ai_storage_private.model_share,
    p_artifact_name text,
    p_version       bigint,
    out version     bigint,
    out blob_id     uuid,
    out sha256      bytea,
    out size_bytes  bigint,
    out media_type  text,
    out put_at      timestamptz
)
returns record
language plpgsql
volatile
as $fn$
begin
    -- The model is lent: its artifacts show. Then the content is.
    select a.version, a.blob_id, a.media_type, a.put_at
    into version, blob_id, media_type, put_at
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_share.tenant_id
      and a.model_id = p_share.model_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version <= least(p_version, coalesce(p_share.pinned_version, 9223372036854775807))
    order by a.version desc
    limit 1;
    if not found then
        raise exception using
            errcode = 'TN204',
            message = 'no such artifact',
            hint = 'list_artifacts() shows those there are; one of another tenant has to be shared '
                'with you for execute.';
    end if;
    perform ai_storage_private.lend(array[p_share.tenant_id], array[blob_id]);
    select b.sha256, b.size_bytes
    into sha256, size_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_share.tenant_id
      and b.blob_id = find_shared_artifact.blob_id;
end;
$fn$;
comment on function ai_storage_private.find_shared_artifact(
    ai_storage_private.model_share, text, bigint
) is
    'An artifact of a model that is lent to this transaction; lends its content in place of it. '
    'Raises TN204.';

create or replace function ai_storage_private.open_shared_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    out version     bigint,
    out blob_id     uuid,
    out sha256      bytea,
    out size_bytes  bigint,
    out media_type  text,
    out put_at      timestamptz
)
returns record
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version
    );
begin
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
    version := v_artifact.version;
    blob_id := v_artifact.blob_id;
    sha256 := v_artifact.sha256;
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
end;
$fn$;
comment on function ai_storage_private.open_shared_artifact(
    ai_storage_private.acting_tenant, text, text, text, bigint
) is
    'open_artifact for a model of another tenant, which has to be shared for execute. Raises '
    '25006, TN101, TN204.';

create or replace function ai_storage_private.read_shared_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_offset        bigint,
    p_length        integer
)
returns bytea
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version
    );
    v_content  bytea;
begin
    v_content := ai_storage_private.join_chunks(
        v_share.tenant_id, v_artifact.blob_id, p_offset,
        least(coalesce(p_length, v_artifact.size_bytes), v_artifact.size_bytes - p_offset)
    );
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
    return v_content;
end;
$fn$;
comment on function ai_storage_private.read_shared_artifact(
    ai_storage_private.acting_tenant, text, text, text, bigint, bigint, integer
) is
    'read_artifact for a model of another tenant, which has to be shared for execute. Raises '
    '25006, TN101, TN204.';

create or replace function ai_storage_private.read_shared_chunks(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_first         integer,
    p_count         integer
)
returns setof bytea
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version
    );
begin
    return query
    select c.content
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_share.tenant_id
      and c.blob_id = v_artifact.blob_id
      and c.chunk_number >= p_first
      and c.chunk_number < p_first::bigint + p_count
    order by c.chunk_number;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
end;
$fn$;
comment on function ai_storage_private.read_shared_chunks(
    ai_storage_private.acting_tenant, text, text, text, bigint, integer, integer
) is
    'read_chunks for a model of another tenant, which has to be shared for execute. Raises 25006, '
    'TN101, TN204.';

create or replace function ai_storage_private.list_shared_artifacts(
    p_tenant     ai_storage_private.acting_tenant,
    p_owner      text,
    p_model_name text
)
returns table (
    model_name    text,
    owner_key     text,
    artifact_name text,
    version       bigint,
    sha256        text,
    size_bytes    bigint,
    media_type    text,
    put_at        timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_blob_ids uuid[];
begin
    v_blob_ids := array(
        select distinct a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = v_share.tenant_id
          and a.model_id = v_share.model_id
          and a.version <= coalesce(v_share.pinned_version, 9223372036854775807)
    );
    perform ai_storage_private.lend(
        array[v_share.tenant_id], array_append(v_blob_ids, v_share.model_id)
    );
    return query
    select
        v_share.model_name,
        v_share.owner_key,
        a.artifact_name,
        a.version,
        encode(b.sha256, 'hex'),
        b.size_bytes,
        a.media_type,
        a.put_at
    from ai_storage_private.model_artifact as a
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where a.tenant_id = v_share.tenant_id
      and b.tenant_id = v_share.tenant_id
      and a.model_id = v_share.model_id
      and a.version <= coalesce(v_share.pinned_version, 9223372036854775807)
    order by a.artifact_name, a.version desc;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage_private.list_shared_artifacts(
    ai_storage_private.acting_tenant, text, text
) is
    'list_artifacts for a model of another tenant, which has to be shared for execute. Raises '
    'TN101.';

-- The limit ---------------------------------------------------------------------------------------

set local role ai_storage_operator;

create or replace function ai_storage_private.artifact_limit()
returns bigint
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    return (select l.max_bytes from ai_storage_private.artifact_limit as l);
end;
$fn$;
comment on function ai_storage_private.artifact_limit() is 'How many bytes an artifact may have.';

create or replace function ai_storage.set_artifact_limit(p_max_bytes bigint)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if (p_max_bytes > 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of bytes of an artifact.';
    end if;
    update ai_storage_private.artifact_limit as l set
        max_bytes = p_max_bytes;
end;
$fn$;
comment on function ai_storage.set_artifact_limit(bigint) is
    'Sets how many bytes one artifact may have; 5 GiB unless set. Raises 22023.';

-- Policies ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

drop policy if exists tenant_keeps_its_artifacts on ai_storage_private.model_artifact;
create policy tenant_keeps_its_artifacts on ai_storage_private.model_artifact
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_artifacts on ai_storage_private.model_artifact is
    'A tenant sees and changes its own artifacts and no others.';

drop policy if exists tenant_keeps_its_contents on ai_storage_private.artifact_blob;
create policy tenant_keeps_its_contents on ai_storage_private.artifact_blob
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_contents on ai_storage_private.artifact_blob is
    'A tenant sees and changes its own contents and no others.';

drop policy if exists tenant_keeps_its_uploads on ai_storage_private.artifact_upload;
create policy tenant_keeps_its_uploads on ai_storage_private.artifact_upload
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_uploads on ai_storage_private.artifact_upload is
    'A tenant sees and changes its own uploads and no others.';

drop policy if exists tenant_keeps_its_bytes on ai_storage_private.artifact_chunk;
create policy tenant_keeps_its_bytes on ai_storage_private.artifact_chunk
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_bytes on ai_storage_private.artifact_chunk is
    'A tenant sees and changes its own bytes and no others.';

drop policy if exists tenant_keeps_its_cache_key on ai_storage_private.tenant_cache_key;
create policy tenant_keeps_its_cache_key on ai_storage_private.tenant_cache_key
    to ai_storage_owner
    using (tenant_id = ai_storage_private.current_tenant_id())
    with check (tenant_id = ai_storage_private.current_tenant_id());
comment on policy tenant_keeps_its_cache_key on ai_storage_private.tenant_cache_key is
    'A tenant has its own cache key and no other.';

drop policy if exists sharing_sees_lent_artifacts on ai_storage_private.model_artifact;
create policy sharing_sees_lent_artifacts on ai_storage_private.model_artifact
    for select
    to ai_storage_sharing
    using (model_id = any (ai_storage_private.lent_ids()));
comment on policy sharing_sees_lent_artifacts on ai_storage_private.model_artifact is
    'The sharing functions see the artifacts of the models just lent, and no others of anybody.';

drop policy if exists sharing_sees_lent_contents on ai_storage_private.artifact_blob;
create policy sharing_sees_lent_contents on ai_storage_private.artifact_blob
    for select
    to ai_storage_sharing
    using (blob_id = any (ai_storage_private.lent_ids()));
comment on policy sharing_sees_lent_contents on ai_storage_private.artifact_blob is
    'The sharing functions see the content just lent, and no other of anybody.';

drop policy if exists sharing_sees_lent_bytes on ai_storage_private.artifact_chunk;
create policy sharing_sees_lent_bytes on ai_storage_private.artifact_chunk
    for select
    to ai_storage_sharing
    using (blob_id = any (ai_storage_private.lent_ids()));
comment on policy sharing_sees_lent_bytes on ai_storage_private.artifact_chunk is
    'The sharing functions see the bytes of the content just lent, and no others of anybody.';

drop policy if exists operator_sweeps_uploads on ai_storage_private.artifact_upload;
create policy operator_sweeps_uploads on ai_storage_private.artifact_upload
    for select
    to ai_storage_operator
    using (true);
comment on policy operator_sweeps_uploads on ai_storage_private.artifact_upload is
    'apply_retention() sees who has abandoned uploads.';

drop policy if exists operator_limits_artifacts on ai_storage_private.artifact_limit;
create policy operator_limits_artifacts on ai_storage_private.artifact_limit
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_limits_artifacts on ai_storage_private.artifact_limit is
    'The limit is one for all; administrators set it.';
