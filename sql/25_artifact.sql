-- The bytes of a model: put them, get them back, in one piece or in parts.
--
-- A content lies in artifact_chunk, in chunks of 1 MiB, and once in its tenant however many
-- artifacts name it; no key spans tenants. Its sha256 is that of its bytes up to 1 MiB; above, that
-- of the sha256s of its chunks, so both ends can check a stream in constant memory; what is small
-- may be such a list, so a content is told by sha256 and size. An artifact is a name for a content
-- at exactly one version of a model. A content that nothing names any more is deleted.
--
-- An upload is a content in the making, which nobody sees. finish_artifact() gives it to the
-- version for which it was begun, save_progress() one that is staged to the version that it makes.
-- Reading another's artifact takes the permission execute. Only write_chunks() writes bytes, and
-- only attach_blob() attaches them.
--
-- Tables: model_artifact, artifact_blob, artifact_upload, artifact_chunk, artifact_limit,
-- tenant_cache_key (0007_artifact). Errors: 22023, 54000, TN101, TN102, TN201 to TN204, TN501.

set local role ai_storage_owner;

comment on table ai_storage_private.model_artifact is
    'Names for contents: which bytes belong to a version of a model.';
comment on column ai_storage_private.model_artifact.tenant_id is 'The tenant that owns the model.';
comment on column ai_storage_private.model_artifact.model_id is 'The model.';
comment on column ai_storage_private.model_artifact.version is
    'The model''s version that it belongs to.';
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
comment on column ai_storage_private.artifact_upload.model_id is
    'The model it is for; null for one that a save is to name.';
comment on column ai_storage_private.artifact_upload.version is
    'The model''s version it is for, or null.';
comment on column ai_storage_private.artifact_upload.received_bytes is
    'How many bytes have arrived.';
comment on column ai_storage_private.artifact_upload.began_at is 'When it began.';
comment on column ai_storage_private.artifact_upload.touched_at is 'When bytes last arrived.';
comment on column ai_storage_private.artifact_upload.sha256 is
    'That of the whole content, once it is staged; null before.';
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

create or replace function ai_storage_private.digest_content(p_content bytea)
returns bytea
language sql
immutable
parallel safe
as $fn$
    select ai_storage_private.content_sha256(array(
        select sha256(substr(p_content, n.place * 1048576 + 1, 1048576))
        from generate_series(0, (length(p_content) - 1) / 1048576) as n (place)
        where length(p_content) > 0
        order by n.place
    ));
$fn$;
comment on function ai_storage_private.digest_content(bytea) is 'The sha256 of a content.';

create or replace function ai_storage_private.hold_model(
    p_tenant_id        bigint,
    p_model_name       text,
    p_version          bigint default null,
    p_expected_version bigint default null,
    out model_id       uuid,
    out version        bigint
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
            hint = 'Save the model first, or save it together with its artifacts; an artifact '
                'belongs to a version of a model.';
    end if;
    if version <> p_expected_version then
        raise exception using
            errcode = 'TN102',
            message = 'the model is not at the expected version',
            detail = format(
                'Expected version %s, current version %s.', p_expected_version, version
            ),
            hint = 'Load the model again and decide to which version the artifact belongs.';
    end if;
    if version <> p_version then
        version := p_version;
        perform ai_storage_private.hold_version(p_tenant_id, model_id, p_version);
    end if;
end;
$fn$;
comment on function ai_storage_private.hold_model(bigint, text, bigint, bigint) is
    'An own model, kept from being deleted, and its current version or p_version. Raises TN101, '
    'TN102.';

create or replace function ai_storage_private.hold_version(
    p_tenant_id bigint,
    p_model_id  uuid,
    p_version   bigint
)
returns void
language plpgsql
volatile
as $fn$
begin
    perform from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id
      and v.model_id = p_model_id
      and v.version = p_version
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'load_history() shows the versions there are.';
    end if;
end;
$fn$;
comment on function ai_storage_private.hold_version(bigint, uuid, bigint) is
    'Keeps a version of an own model from being deleted. Raises TN101.';

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

create or replace function ai_storage_private.keep_blob(
    p_tenant_id  bigint,
    p_blob_id    uuid,
    p_sha256     bytea,
    p_size_bytes bigint
)
returns uuid
language plpgsql
volatile
as $fn$
declare
    v_blob_id uuid;
begin
    insert into ai_storage_private.artifact_blob as b (
        tenant_id, blob_id, size_bytes, put_at, sha256
    )
    values (p_tenant_id, p_blob_id, p_size_bytes, clock_timestamp(), p_sha256)
    on conflict on constraint artifact_blob_content_unique do update set
        put_at = excluded.put_at
    returning b.blob_id into v_blob_id;
    return v_blob_id;
end;
$fn$;
comment on function ai_storage_private.keep_blob(bigint, uuid, bytea, bigint) is
    'The id under which a tenant has a content: another than p_blob_id when it had it before. '
    'Keeps it from being swept.';

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

create or replace function ai_storage_private.attach_content(
    p_tenant_id     bigint,
    p_model_id      uuid,
    p_version       bigint,
    p_artifact_name text,
    p_media_type    text,
    p_content       bytea,
    out sha256      text,
    out size_bytes  bigint,
    out is_new      boolean
)
returns record
language plpgsql
volatile
as $fn$
declare
    v_new_id  constant uuid := gen_random_uuid();
    v_sha256  bytea;
    v_blob_id uuid;
begin
    perform ai_storage_private.check_size(length(p_content));
    v_sha256 := ai_storage_private.digest_content(p_content);
    v_blob_id := ai_storage_private.keep_blob(p_tenant_id, v_new_id, v_sha256, length(p_content));
    is_new := v_blob_id = v_new_id;
    if is_new then
        perform ai_storage_private.write_chunks(p_tenant_id, v_blob_id, 0, p_content);
    end if;
    perform ai_storage_private.attach_blob(
        p_tenant_id, p_model_id, p_version, p_artifact_name, p_media_type, v_blob_id
    );
    sha256 := encode(v_sha256, 'hex');
    size_bytes := length(p_content)::bigint;
end;
$fn$;
comment on function ai_storage_private.attach_content(
    bigint, uuid, bigint, text, text, bytea
) is
    'Keeps bytes as an artifact at a version of a model. Raises 54000.';

create or replace function ai_storage_private.attach_upload(
    p_upload        ai_storage_private.artifact_upload,
    p_model_id      uuid,
    p_version       bigint,
    p_artifact_name text,
    p_media_type    text,
    p_sha256        bytea
)
returns boolean
language plpgsql
volatile
as $fn$
declare
    v_blob_id constant uuid := ai_storage_private.keep_blob(
        p_upload.tenant_id, p_upload.upload_id, p_sha256, p_upload.received_bytes
    );
begin
    if v_blob_id <> p_upload.upload_id then
        delete from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_upload.tenant_id
          and c.blob_id = p_upload.upload_id;
    end if;
    perform ai_storage_private.attach_blob(
        p_upload.tenant_id, p_model_id, p_version, p_artifact_name, p_media_type, v_blob_id
    );
    perform ai_storage_private.end_upload(p_upload.tenant_id, p_upload.upload_id);
    return v_blob_id = p_upload.upload_id;
end;
$fn$;
comment on function ai_storage_private.attach_upload(
    ai_storage_private.artifact_upload, uuid, bigint, text, text, bytea
) is
    'Makes an upload, which the caller has locked and checked, an artifact at a version of a '
    'model, and ends it. Returns whether the tenant did not have these bytes before.';

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

create or replace function ai_storage_private.copy_artifacts(
    p_from_context   text,
    p_from_tenant_id bigint,
    p_from_model_id  uuid,
    p_from_version   bigint,
    p_to_context     text,
    p_to_tenant_id   bigint,
    p_to_model_id    uuid,
    p_to_version     bigint
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_offset  bigint;
    v_length  bigint;
    v_name    text collate "C" := '';
    v_from    record;
    v_new_id  uuid;
    v_blob_id uuid;
    v_content bytea;
begin
    loop
        -- Held as they are until the end: nobody deletes or replaces them meanwhile.
        perform ai_storage_private.restore_context(p_from_context);
        select a.artifact_name, a.media_type, b.blob_id, b.sha256, b.size_bytes into v_from
        from ai_storage_private.model_artifact as a
        join ai_storage_private.artifact_blob as b
            on b.tenant_id = a.tenant_id
            and b.blob_id = a.blob_id
        where a.tenant_id = p_from_tenant_id
          and a.model_id = p_from_model_id
          and a.version = p_from_version
          and a.artifact_name > v_name
          and b.tenant_id = p_from_tenant_id
        order by a.artifact_name
        limit 1
        for share of a;
        v_name := v_from.artifact_name;
        perform ai_storage_private.restore_context(p_to_context);
        exit when v_name is null;

        v_new_id := gen_random_uuid();
        v_blob_id := ai_storage_private.keep_blob(
            p_to_tenant_id, v_new_id, v_from.sha256, v_from.size_bytes
        );
        if v_blob_id = v_new_id then
            v_offset := 0;
            while v_offset < v_from.size_bytes loop
                v_length := least(4 * 1048576, v_from.size_bytes - v_offset);
                perform ai_storage_private.restore_context(p_from_context);
                v_content := ai_storage_private.join_chunks(
                    p_from_tenant_id, v_from.blob_id, v_offset, v_length
                );
                perform ai_storage_private.restore_context(p_to_context);
                perform ai_storage_private.write_chunks(
                    p_to_tenant_id, v_blob_id, (v_offset / 1048576)::integer, v_content
                );
                v_offset := v_offset + v_length;
            end loop;
        end if;
        perform ai_storage_private.attach_blob(
            p_to_tenant_id, p_to_model_id, p_to_version, v_name, v_from.media_type, v_blob_id
        );
    end loop;
end;
$fn$;
comment on function ai_storage_private.copy_artifacts(
    text, bigint, uuid, bigint, text, bigint, uuid, bigint
) is
    'Copies the artifacts of one version of a model into another tenant of the caller''s, each '
    'side under its own context; ends under the second.';

-- Putting -----------------------------------------------------------------------------------------

create or replace function ai_storage.put_artifact(
    p_model_name       text,
    p_artifact_name    text,
    p_content          bytea,
    p_media_type       text   default 'application/octet-stream',
    p_version          bigint default null,
    p_expected_version bigint default null,
    p_as               text   default null
)
returns table (sha256 text, size_bytes bigint, is_new boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model  record;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    if p_content is null then
        raise exception using
            errcode = '22023',
            message = 'no content',
            hint = 'Pass the bytes; an empty artifact is an empty bytea.';
    end if;
    v_model := ai_storage_private.hold_model(
        v_tenant.tenant_id, p_model_name, p_version, p_expected_version
    );
    return query
    select a.sha256, a.size_bytes, a.is_new
    from ai_storage_private.attach_content(
        v_tenant.tenant_id, v_model.model_id, v_model.version,
        p_artifact_name, p_media_type, p_content
    ) as a;
end;
$fn$;
comment on function ai_storage.put_artifact(
    text, text, bytea, text, bigint, bigint, text
) is
    'Keeps bytes as an artifact of one version of an own model, in place of what the version had '
    'under the name. p_version: null for the current one. p_expected_version: only if it is the '
    'current one. Returns the sha256 (hexadecimal; above 1 MiB that of the sha256s of the chunks '
    'of 1 MiB), the size, and whether the tenant did not have these bytes before. For more than '
    'some 100 MiB use begin_artifact(). To save a state and its artifacts at once use '
    'save_progress(). Raises 22023, 54000, TN001 to TN005, TN101, TN102.';

create or replace function ai_storage.begin_artifact(
    p_model_name       text   default null,
    p_artifact_name    text   default 'upload',
    p_media_type       text   default 'application/octet-stream',
    p_version          bigint default null,
    p_expected_version bigint default null,
    p_as               text   default null
)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant    constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => p_model_name is null);
    v_now       constant timestamptz := clock_timestamp();
    v_upload_id constant uuid := gen_random_uuid();
    v_model_id  uuid;
    v_version   bigint;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    perform ai_storage_private.sweep_uploads(v_tenant.tenant_id);
    if p_model_name is not null then
        select m.model_id, m.version into v_model_id, v_version
        from ai_storage_private.hold_model(
            v_tenant.tenant_id, p_model_name, p_version, p_expected_version
        ) as m;
    elsif p_version is not null or p_expected_version is not null then
        raise exception using
            errcode = '22023',
            message = 'a version of no model',
            hint = 'Name the model whose version it is; an upload for save_progress() has none.';
    end if;
    insert into ai_storage_private.artifact_upload (
        tenant_id, upload_id, model_id, version, received_bytes, began_at, touched_at,
        artifact_name, media_type
    )
    values (
        v_tenant.tenant_id, v_upload_id, v_model_id, v_version, 0, v_now, v_now,
        p_artifact_name, p_media_type
    );
    return v_upload_id;
end;
$fn$;
comment on function ai_storage.begin_artifact(text, text, text, bigint, bigint, text) is
    'Begins an upload in parts and returns its id. Nobody sees it before finish_artifact() makes '
    'it an artifact of the version for which it was begun: p_version, or the current version when '
    'it began. Without a model, which need not exist yet, it is for stage_artifact() and '
    'save_progress(). p_expected_version: only if it is the current one. An upload that stands '
    'still for a day is abandoned, and swept. Raises 22023, TN001 to TN005, TN101, TN102.';

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
        touched_at     = v_now,
        sha256         = null -- no longer staged
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
    return v_upload.received_bytes + length(p_content);
end;
$fn$;
comment on function ai_storage.append_artifact(uuid, bigint, bytea, text) is
    'Adds the next part to an upload and returns how many bytes have arrived. p_offset: how many '
    'arrived before; so a part that is sent twice is noticed. All parts but the last are multiples '
    'of 1 MiB. Raises 22023, 54000, TN001 to TN005, TN201, TN202.';

create or replace function ai_storage_private.check_upload(
    p_upload     ai_storage_private.artifact_upload,
    p_size_bytes bigint,
    p_sha256     text
)
returns bytea
language plpgsql
stable
as $fn$
declare
    v_sha256 constant bytea := ai_storage_private.content_sha256(array(
        select c.sha256
        from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_upload.tenant_id
          and c.blob_id = p_upload.upload_id
        order by c.chunk_number
    ));
begin
    if p_size_bytes is distinct from p_upload.received_bytes
        or p_sha256 is distinct from encode(v_sha256, 'hex')
    then
        raise exception using
            errcode = 'TN203',
            message = 'the upload is not what was announced',
            detail = format(
                '%s bytes have arrived, with sha256 %s.',
                p_upload.received_bytes, encode(v_sha256, 'hex')
            ),
            hint = 'Compare size and sha256; above 1 MiB it is the sha256 of the sha256s of the '
                'chunks of 1 MiB. Send the rest, or abort the upload and begin again.';
    end if;
    return v_sha256;
end;
$fn$;
comment on function ai_storage_private.check_upload(
    ai_storage_private.artifact_upload, bigint, text
) is
    'The sha256 of what an upload has received, which has to be what was announced. Raises TN203.';

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
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_upload ai_storage_private.artifact_upload;
    v_sha256 bytea;
begin
    -- The model first: whoever deletes it goes on to its uploads.
    perform from ai_storage_private.artifact_upload as u
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = u.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
      and p.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id
    for key share of p;
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    v_sha256 := ai_storage_private.check_upload(v_upload, p_size_bytes, p_sha256);
    if v_upload.model_id is null then
        raise exception using
            errcode = 'TN101',
            message = 'the upload is for no model',
            hint = 'It was begun for a save: end it with stage_artifact() and name it in '
                'save_progress().';
    end if;
    -- Retention may have deleted it meanwhile.
    perform ai_storage_private.hold_version(
        v_tenant.tenant_id, v_upload.model_id, v_upload.version
    );
    is_new := ai_storage_private.attach_upload(
        v_upload, v_upload.model_id, v_upload.version,
        v_upload.artifact_name, v_upload.media_type, v_sha256
    );
    sha256 := p_sha256;
    size_bytes := p_size_bytes;
    return next;
end;
$fn$;
comment on function ai_storage.finish_artifact(uuid, bigint, text, text) is
    'Makes an upload an artifact of the version for which it was begun, if its size and sha256 '
    'are those announced. Returns as put_artifact(). Raises TN001 to TN005, TN101, TN201, TN203.';

create or replace function ai_storage.stage_artifact(
    p_upload_id  uuid,
    p_size_bytes bigint,
    p_sha256     text,
    p_as         text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_upload ai_storage_private.artifact_upload;
begin
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    update ai_storage_private.artifact_upload as u set
        sha256     = ai_storage_private.check_upload(v_upload, p_size_bytes, p_sha256),
        touched_at = clock_timestamp()
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
end;
$fn$;
comment on function ai_storage.stage_artifact(uuid, bigint, text, text) is
    'Ends an upload in parts without an artifact, if its size and sha256 are those announced: '
    'nobody sees it before a save names its id. Raises TN001 to TN005, TN201, TN203.';

create or replace function ai_storage_private.parse_artifact(
    p_artifact_name text,
    p_item          jsonb,
    out upload_id   text,
    out content     bytea,
    out media_type  text
)
returns record
language plpgsql
immutable
as $fn$
begin
    if jsonb_typeof(p_item) = 'string' then
        upload_id := p_item #>> '{}';
        return;
    end if;
    if jsonb_typeof(p_item) = 'object'
        and p_item - array['upload', 'content', 'media_type'] = '{}'
        and p_item ? 'upload' <> (p_item ? 'content')
        and jsonb_typeof(coalesce(p_item -> 'upload', p_item -> 'content')) = 'string'
        and coalesce(jsonb_typeof(p_item -> 'media_type'), 'string') = 'string'
    then
        begin
            upload_id := p_item ->> 'upload';
            content := decode(p_item ->> 'content', 'base64');
            media_type := p_item ->> 'media_type';
            return;
        exception
            when invalid_parameter_value then
                null; -- not base64
        end;
    end if;
    raise exception using
        errcode = '22023',
        message = 'invalid artifacts',
        detail = format('The artifact is %s.', quote_ident(p_artifact_name)),
        hint = 'Artifacts are one object: by name either the id of a staged upload, or an object '
            'with upload (such an id) or content (bytes in base64), and with or without '
            'media_type.';
end;
$fn$;
comment on function ai_storage_private.parse_artifact(text, jsonb) is
    'One artifact of a save: an upload''s id or bytes. Raises 22023.';

create or replace function ai_storage_private.check_artifacts(p_artifacts jsonb)
returns void
language plpgsql
immutable
as $fn$
begin
    if jsonb_typeof(p_artifacts) <> 'object'
        or jsonb_array_length(jsonb_path_query_array(p_artifacts, 'strict $.*')) > 100
    then
        raise exception using
            errcode = '22023',
            message = 'invalid artifacts',
            hint = 'Artifacts are one object, of at most 100 names.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_artifacts(jsonb) is
    'Refuses what are no artifacts of a save. Raises 22023.';

create or replace function ai_storage_private.digest_artifacts(
    p_tenant_id bigint,
    p_artifacts jsonb
)
returns jsonb
language plpgsql
stable
as $fn$
declare
    v_digests jsonb := '{}'::jsonb;
    v_name    text;
    v_item    record;
begin
    perform ai_storage_private.check_artifacts(p_artifacts);
    for v_name in select jsonb_object_keys(p_artifacts)
    loop
        v_item := ai_storage_private.parse_artifact(v_name, p_artifacts -> v_name);
        v_digests := v_digests || jsonb_build_object(v_name, case
            when v_item.content is not null then jsonb_build_array(
                encode(ai_storage_private.digest_content(v_item.content), 'hex'),
                length(v_item.content),
                coalesce(v_item.media_type, 'application/octet-stream')
            )
            else (
                select jsonb_build_array(
                    encode(u.sha256, 'hex'), u.received_bytes,
                    coalesce(v_item.media_type, u.media_type)
                )
                from ai_storage_private.artifact_upload as u
                where u.tenant_id = p_tenant_id
                  and u.upload_id::text = lower(v_item.upload_id)
            )
        end);
    end loop;
    return v_digests;
end;
$fn$;
comment on function ai_storage_private.digest_artifacts(bigint, jsonb) is
    'What the artifacts of a save are, whichever uploads brought them; null for an upload that is '
    'not there. Raises 22023.';

create or replace function ai_storage_private.attach_artifacts(
    p_tenant_id  bigint,
    p_model_name text,
    p_version    bigint,
    p_artifacts  jsonb
)
returns void
language plpgsql
volatile
as $fn$
declare
    v_model_id uuid;
    v_name     text;
    v_item     record;
    v_upload   ai_storage_private.artifact_upload;
begin
    perform ai_storage_private.check_artifacts(p_artifacts);
    select p.model_id into strict v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_name = p_model_name collate "C";
    for v_name in select jsonb_object_keys(p_artifacts)
    loop
        v_item := ai_storage_private.parse_artifact(v_name, p_artifacts -> v_name);
        perform ai_storage_private.check_artifact(
            v_name, coalesce(v_item.media_type, 'application/octet-stream')
        );
        if v_item.content is not null then
            perform ai_storage_private.attach_content(
                p_tenant_id, v_model_id, p_version, v_name,
                coalesce(v_item.media_type, 'application/octet-stream'), v_item.content
            );
            continue;
        end if;
        select u.* into v_upload
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.upload_id::text = lower(v_item.upload_id)
          and u.sha256 is not null
        for update;
        if not found then
            raise exception using
                errcode = 'TN201',
                message = 'no such staged upload',
                detail = format('It was to be the artifact %s.', quote_ident(v_name)),
                hint = 'Name an upload that stage_artifact() has ended, once: the save that names '
                    'it uses it up.';
        end if;
        perform ai_storage_private.attach_upload(
            v_upload, v_model_id, p_version, v_name,
            coalesce(v_item.media_type, v_upload.media_type), v_upload.sha256
        );
    end loop;
end;
$fn$;
comment on function ai_storage_private.attach_artifacts(bigint, text, bigint, jsonb) is
    'Attaches the artifacts of a save to the version that this transaction has just made. Raises '
    '22023, 54000, TN201.';

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
    version        bigint,
    is_current     boolean,
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
        u.version,
        u.version = p.version,
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
    left join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = v_tenant.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
      and (u.model_id is null or p.model_id is not null)
    order by u.began_at, u.upload_id;
end;
$fn$;
comment on function ai_storage.list_uploads(text) is
    'The caller''s uploads that are not finished, the oldest first: an interrupted one goes on '
    'after received_bytes, if these bytes have this sha256. version: for which it was begun, and '
    'is_current whether that is still the model''s; null, as the model, in one for a save. Raises '
    'TN001 to TN005.';

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

create or replace function ai_storage_private.refuse_artifact()
returns void
language plpgsql
stable
as $fn$
begin
    raise exception using
        errcode = 'TN204',
        message = 'no such artifact',
        hint = 'list_artifacts() shows which versions have it, and p_as_of asks for the last one '
            'up to a version; one of another tenant has to be shared with you for execute.';
end;
$fn$;
comment on function ai_storage_private.refuse_artifact() is
    'Refuses to tell of an artifact, whether the version, the name or the right is missing. '
    'Raises TN204.';

create or replace function ai_storage_private.find_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_as_of         boolean,
    out version     bigint,
    out for_version bigint,
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
    -- A version that is not in the history has no artifacts, nor has anything as of it.
    select a.version, v.version, a.blob_id, b.sha256, b.size_bytes, a.media_type, a.put_at
    into version, for_version, blob_id, sha256, size_bytes, media_type, put_at
    from ai_storage_private.ai_progress_tenant as p
    join ai_storage_private.progress_version as v
        on v.tenant_id = p.tenant_id
        and v.model_id = p.model_id
        and v.version = coalesce(p_version, p.version)
    join ai_storage_private.model_artifact as a
        on a.tenant_id = p.tenant_id
        and a.model_id = p.model_id
        and a.version between case when p_as_of then 0 else v.version end and v.version
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where p.tenant_id = p_tenant.tenant_id
      and p.model_name = p_model_name collate "C"
      and v.tenant_id = p_tenant.tenant_id
      and a.tenant_id = p_tenant.tenant_id
      and a.artifact_name = p_artifact_name collate "C"
    order by a.version desc
    limit 1;
    if not found then
        perform ai_storage_private.refuse_artifact();
    end if;
end;
$fn$;
comment on function ai_storage_private.find_artifact(
    ai_storage_private.acting_tenant, text, text, bigint, boolean
) is
    'An artifact of an own model: that of exactly one version, the current one when p_version is '
    'null, or with p_as_of the last one up to it. Raises TN204.';

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
    p_owner         text    default null,
    p_version       bigint  default null,
    p_as_of         boolean default false,
    p_as            text    default null
)
returns table (
    version     bigint,
    for_version bigint,
    sha256      text,
    size_bytes  bigint,
    media_type  text,
    put_at      timestamptz,
    cache_key   bytea
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
            v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
        );
    else
        v_artifact := ai_storage_private.open_shared_artifact(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of
        );
    end if;
    version := v_artifact.version;
    for_version := v_artifact.for_version;
    sha256 := encode(v_artifact.sha256, 'hex');
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
    cache_key := ai_storage_private.cache_key(v_tenant.tenant_id);
    return next;
end;
$fn$;
comment on function ai_storage.open_artifact(text, text, text, bigint, boolean, text) is
    'Says what an artifact is, without its bytes: of an own model, or with p_owner of one that is '
    'shared for execute. p_version: the artifact of exactly this version, null for the current '
    'one; with p_as_of the last one that was put up to it. version: at which it was put. '
    'for_version: the version it was opened for; pass it to read_artifact() with the same p_as_of '
    'to read one content to its end. cache_key: 32 bytes that seal what a cache outside keeps for '
    'the caller, or null; only who holds a verified credential gets them. Each use of another '
    'tenant''s artifact is logged for both; a grant that pins a version shows the artifacts of '
    'that version alone. Raises 25006, TN001 to TN005, TN101, TN204.';

create or replace function ai_storage.read_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text    default null,
    p_version       bigint  default null,
    p_offset        bigint  default 0,
    p_length        integer default null,
    p_as_of         boolean default false,
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
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of,
            p_offset, p_length
        );
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
    );
    return ai_storage_private.join_chunks(
        v_tenant.tenant_id, v_artifact.blob_id, p_offset,
        least(coalesce(p_length, v_artifact.size_bytes), v_artifact.size_bytes - p_offset)
    );
end;
$fn$;
comment on function ai_storage.read_artifact(
    text, text, text, bigint, bigint, integer, boolean, text
) is
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
    p_as_of         boolean default false,
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
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of,
            p_first, p_count
        ) as s (content);
        return;
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
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
comment on function ai_storage.read_chunks(
    text, text, text, bigint, integer, integer, boolean, text
) is
    'Chunks of an artifact, a row each, in their order: 1 MiB of its bytes, less only in the last, '
    'none behind it. The fastest way to read a large one. p_first: a chunk''s number, from 0. '
    'Otherwise as get_artifact(). Raises 22023, 25006, TN001 to TN005, TN101, TN204.';

create or replace function ai_storage.get_artifact(
    p_model_name    text,
    p_artifact_name text,
    p_owner         text    default null,
    p_version       bigint  default null,
    p_as_of         boolean default false,
    p_as            text    default null
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
        p_model_name, p_artifact_name, p_owner, p_version, p_as_of => p_as_of, p_as => p_as
    );
end;
$fn$;
comment on function ai_storage.get_artifact(text, text, text, bigint, boolean, text) is
    'All bytes of an artifact: of an own model, or with p_owner of one that is shared for execute. '
    'p_version, p_as_of: as in open_artifact(); without them that of exactly the current version. '
    'Above some MiB read_chunks() is faster. Each use of another tenant''s artifact is logged for '
    'both. Raises 25006, TN001 to TN005, TN101, TN204.';

create or replace function ai_storage.list_artifacts(
    p_model_name text    default null,
    p_owner      text    default null,
    p_version    bigint  default null,
    p_as_of      boolean default false,
    p_as         text    default null
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
        from ai_storage_private.list_shared_artifacts(
            v_tenant, p_owner, p_model_name, p_version, p_as_of
        ) as s;
        return;
    end if;
    if p_version is not null and not exists (
        select from ai_storage_private.ai_progress_tenant as p
        join ai_storage_private.progress_version as v
            on v.tenant_id = p.tenant_id
            and v.model_id = p.model_id
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
          and v.tenant_id = v_tenant.tenant_id
          and v.version = p_version
    ) then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'Name a model and one of its versions; load_history() shows those there are.';
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
      and case when p_as_of
          then a.version = (
              select max(o.version)
              from ai_storage_private.model_artifact as o
              where o.tenant_id = v_tenant.tenant_id
                and o.model_id = a.model_id
                and o.artifact_name = a.artifact_name
                and o.version <= coalesce(p_version, p.version)
          )
          else a.version = coalesce(p_version, a.version)
      end
    order by p.model_name, a.artifact_name, a.version desc;
end;
$fn$;
comment on function ai_storage.list_artifacts(text, text, bigint, boolean, text) is
    'The artifacts of one own model or of all, or with p_owner of one model that is shared for '
    'execute, at every version at which one was put, the newest first. p_version: those of exactly '
    'this version of one model. p_as_of: instead those that were put last up to p_version, or up '
    'to the current version. Raises TN001 to TN005, TN101.';

-- Getting another tenant's ------------------------------------------------------------------------

set local role ai_storage_sharing;

create or replace function ai_storage_private.shown_version(
    p_share   ai_storage_private.model_share,
    p_version bigint
)
returns bigint
language plpgsql
stable
as $fn$
begin
    -- A pinned grant shows its version, whatever else there is.
    if p_share.pinned_version is not null then
        return case when p_version = p_share.pinned_version or p_version is null
            then p_share.pinned_version
        end;
    end if;
    return (
        select v.version
        from ai_storage_private.ai_progress_tenant as p
        join ai_storage_private.progress_version as v
            on v.tenant_id = p.tenant_id
            and v.model_id = p.model_id
            and v.version = coalesce(p_version, p.version)
        where p.tenant_id = p_share.tenant_id
          and p.model_id = p_share.model_id
          and v.tenant_id = p_share.tenant_id
    );
end;
$fn$;
comment on function ai_storage_private.shown_version(
    ai_storage_private.model_share, bigint
) is
    'The version of a model lent to this transaction that a caller means, null for one that there '
    'is not or that its grant does not show.';

create or replace function ai_storage_private.find_shared_artifact(
    p_share         ai_storage_private.model_share,
    p_artifact_name text,
    p_version       bigint,
    p_as_of         boolean,
    out version     bigint,
    out for_version bigint,
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
    for_version := ai_storage_private.shown_version(p_share, p_version);
    -- The model is lent: its artifacts show. Then the content is.
    select a.version, a.blob_id, a.media_type, a.put_at
    into version, blob_id, media_type, put_at
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_share.tenant_id
      and a.model_id = p_share.model_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version between case when p_as_of then 0 else for_version end and for_version
    order by a.version desc
    limit 1;
    if not found then
        perform ai_storage_private.refuse_artifact();
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
    ai_storage_private.model_share, text, bigint, boolean
) is
    'An artifact of a model that is lent to this transaction; lends its content in place of it. '
    'Raises TN204.';

create or replace function ai_storage_private.open_shared_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_as_of         boolean,
    out version     bigint,
    out for_version bigint,
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
        v_share, p_artifact_name, p_version, p_as_of
    );
begin
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
    version := v_artifact.version;
    for_version := v_artifact.for_version;
    blob_id := v_artifact.blob_id;
    sha256 := v_artifact.sha256;
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
end;
$fn$;
comment on function ai_storage_private.open_shared_artifact(
    ai_storage_private.acting_tenant, text, text, text, bigint, boolean
) is
    'open_artifact for a model of another tenant, which has to be shared for execute. Raises '
    '25006, TN101, TN204.';

create or replace function ai_storage_private.read_shared_artifact(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_as_of         boolean,
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
        v_share, p_artifact_name, p_version, p_as_of
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
    ai_storage_private.acting_tenant, text, text, text, bigint, boolean, bigint, integer
) is
    'read_artifact for a model of another tenant, which has to be shared for execute. Raises '
    '25006, TN101, TN204.';

create or replace function ai_storage_private.read_shared_chunks(
    p_tenant        ai_storage_private.acting_tenant,
    p_owner         text,
    p_model_name    text,
    p_artifact_name text,
    p_version       bigint,
    p_as_of         boolean,
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
        v_share, p_artifact_name, p_version, p_as_of
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
    ai_storage_private.acting_tenant, text, text, text, bigint, boolean, integer, integer
) is
    'read_chunks for a model of another tenant, which has to be shared for execute. Raises 25006, '
    'TN101, TN204.';

create or replace function ai_storage_private.list_shared_artifacts(
    p_tenant     ai_storage_private.acting_tenant,
    p_owner      text,
    p_model_name text,
    p_version    bigint,
    p_as_of      boolean
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
    v_version  constant bigint := ai_storage_private.shown_version(v_share, p_version);
    -- All versions, unless the caller or the grant names one.
    v_first    constant bigint := case when coalesce(p_as_of, false)
        or coalesce(v_share.pinned_version, p_version) is null then 0 else v_version end;
    v_blob_ids uuid[];
begin
    if v_version is null then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'Name one of its versions that is shared with you; load_history() shows them.';
    end if;
    v_blob_ids := array(
        select distinct a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = v_share.tenant_id
          and a.model_id = v_share.model_id
          and a.version between v_first and v_version
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
      and a.version between v_first and v_version
      and (
          p_as_of is not true
          or a.version = (
              select max(o.version)
              from ai_storage_private.model_artifact as o
              where o.tenant_id = v_share.tenant_id
                and o.model_id = v_share.model_id
                and o.artifact_name = a.artifact_name
                and o.version <= v_version
          )
      )
    order by a.artifact_name, a.version desc;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage_private.list_shared_artifacts(
    ai_storage_private.acting_tenant, text, text, bigint, boolean
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
    using (model_id = any ((select ai_storage_private.lent_ids())::uuid[]));
comment on policy sharing_sees_lent_artifacts on ai_storage_private.model_artifact is
    'The sharing functions see the artifacts of the models just lent, and no others of anybody.';

drop policy if exists sharing_sees_lent_contents on ai_storage_private.artifact_blob;
create policy sharing_sees_lent_contents on ai_storage_private.artifact_blob
    for select
    to ai_storage_sharing
    using (blob_id = any ((select ai_storage_private.lent_ids())::uuid[]));
comment on policy sharing_sees_lent_contents on ai_storage_private.artifact_blob is
    'The sharing functions see the content just lent, and no other of anybody.';

drop policy if exists sharing_sees_lent_bytes on ai_storage_private.artifact_chunk;
create policy sharing_sees_lent_bytes on ai_storage_private.artifact_chunk
    for select
    to ai_storage_sharing
    using (blob_id = any ((select ai_storage_private.lent_ids())::uuid[]));
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
