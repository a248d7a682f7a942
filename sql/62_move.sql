-- Copying an organisation into another cell, row by row: what `pydb move-org` calls.
--
-- A tenant keeps its tenant_id, and rows are copied as they are. list_rows() in both cells tells
-- which rows differ; read_rows() reads them in the old cell, write_rows() writes them into the new
-- one, where the tenants are closed. When digest_organisation() returns the same in both cells, the
-- copy is complete. All of it can be repeated.
--
-- Not copied: the log (export_tenant_audit() returns it as a bundle), keys of caches, and grants
-- that reach other organisations.
--
-- Tables: those that hold a tenant's content. Errors: 22023, 42704, 55000.

set local role ai_storage_owner;

-- Rows of one tenant ------------------------------------------------------------------------------

create or replace function ai_storage_private.stays_inside(
    p_share ai_storage_private.model_share
)
returns boolean
language sql
stable
as $fn$
    select not exists (
        select from ai_storage_private.model_share as s
        where s.tenant_id = p_share.tenant_id
          and s.share_id = any (p_share.ancestors || p_share.share_id)
          and (
              split_part(s.sharer_key, ':', 1) <> split_part(s.owner_key, ':', 1)
              or split_part(s.target, ':', 1) <> split_part(s.owner_key, ':', 1)
          )
    );
$fn$;
comment on function ai_storage_private.stays_inside(ai_storage_private.model_share) is
    'Whether a grant, and each grant that it derives from, stays within the owner''s organisation.';

create or replace function ai_storage_private.list_own_rows(p_tenant_id bigint)
returns table (table_name text, row_id text, digest bytea)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set extra_float_digits = '1'
as $fn$
    select l.table_name, l.row_id::text, sha256(convert_to(l.content::text, 'UTF8'))
    from (
        -- In the order in which to write: deleting a model cascades to the tables after it.
        select
            1 as place,
            'ai_progress_tenant' as table_name,
            jsonb_build_object('tenant_id', r.tenant_id, 'model_id', r.model_id) as row_id,
            to_jsonb(r) as content
        from ai_storage_private.ai_progress_tenant as r
        where r.tenant_id = p_tenant_id
        union all
        select
            2,
            'progress_version',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'model_id', r.model_id, 'version', r.version
            ),
            to_jsonb(r)
        from ai_storage_private.progress_version as r
        where r.tenant_id = p_tenant_id
        union all
        select
            3,
            'artifact_blob',
            jsonb_build_object('tenant_id', r.tenant_id, 'blob_id', r.blob_id),
            to_jsonb(r)
        from ai_storage_private.artifact_blob as r
        where r.tenant_id = p_tenant_id
        union all
        -- The bytes themselves are not read: write_rows() checks that they match sha256.
        select
            4,
            'artifact_chunk',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'blob_id', r.blob_id, 'chunk_number', r.chunk_number
            ),
            jsonb_build_array(r.tenant_id, r.blob_id, r.chunk_number, r.sha256)
        from ai_storage_private.artifact_chunk as r
        where r.tenant_id = p_tenant_id
        union all
        select
            5,
            'artifact_upload',
            jsonb_build_object('tenant_id', r.tenant_id, 'upload_id', r.upload_id),
            to_jsonb(r)
        from ai_storage_private.artifact_upload as r
        where r.tenant_id = p_tenant_id
        union all
        select
            6,
            'model_artifact',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'model_id', r.model_id,
                'artifact_name', r.artifact_name, 'version', r.version
            ),
            to_jsonb(r)
        from ai_storage_private.model_artifact as r
        where r.tenant_id = p_tenant_id
        union all
        select
            7,
            'deleted_model',
            jsonb_build_object('tenant_id', r.tenant_id, 'model_name', r.model_name),
            to_jsonb(r)
        from ai_storage_private.deleted_model as r
        where r.tenant_id = p_tenant_id
        union all
        select
            8,
            'idempotency_key',
            jsonb_build_object('tenant_id', r.tenant_id, 'idempotency_key', r.idempotency_key),
            to_jsonb(r)
        from ai_storage_private.idempotency_key as r
        where r.tenant_id = p_tenant_id
        union all
        select
            9,
            'model_share',
            jsonb_build_object('share_id', r.share_id),
            to_jsonb(r)
        from ai_storage_private.model_share as r
        where r.tenant_id = p_tenant_id
          and ai_storage_private.stays_inside(r)
        union all
        select
            10,
            'share_end',
            jsonb_build_object('share_id', r.share_id, 'ended_by', r.ended_by),
            to_jsonb(r)
        from ai_storage_private.share_end as r
        join ai_storage_private.model_share as s
            on s.tenant_id = r.tenant_id
            and s.share_id = r.share_id
        where r.tenant_id = p_tenant_id
          and ai_storage_private.stays_inside(s)
        union all
        select
            11,
            'share_decline',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'owner_id', r.owner_id,
                'model_name', r.model_name, 'sharer_id', r.sharer_id
            ),
            to_jsonb(r)
        from ai_storage_private.share_decline as r
        where r.tenant_id = p_tenant_id
          and split_part(r.owner_key, ':', 1) = split_part(r.receiver_key, ':', 1)
    ) as l
    order by l.place;
$fn$;
comment on function ai_storage_private.list_own_rows(bigint) is
    'The rows that the tenant of the context has, each by its primary key and the sha256 of its '
    'content.';

create or replace function ai_storage_private.name_columns(p_table_name text, p_of_key boolean)
returns text
language plpgsql
stable
as $fn$
declare
    v_columns text;
begin
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
    from pg_attribute as a
    join pg_index as i
        on i.indrelid = a.attrelid
        and i.indisprimary
    where a.attrelid = to_regclass('ai_storage_private.' || quote_ident(p_table_name))
      and a.attnum > 0
      and not a.attisdropped
      and (not p_of_key or a.attnum = any (i.indkey::smallint[]))
      and p_table_name in (
          'ai_progress_tenant', 'progress_version', 'artifact_blob', 'artifact_chunk',
          'artifact_upload', 'model_artifact', 'deleted_model', 'idempotency_key', 'model_share',
          'share_end', 'share_decline'
      );
    if v_columns is null then
        raise exception using
            errcode = '42704',
            message = 'rows of this table are not copied',
            hint = 'Name a table as list_rows() does.';
    end if;
    return v_columns;
end;
$fn$;
comment on function ai_storage_private.name_columns(text, boolean) is
    'The columns of a table that is copied, or those of its primary key, joined by commas. Raises '
    '42704.';

create or replace function ai_storage_private.read_own_rows(
    p_tenant_id  bigint,
    p_table_name text,
    p_row_ids    jsonb
)
returns setof jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
set timezone = 'UTC'
set extra_float_digits = '1'
as $fn$
begin
    return query execute format(
        'select to_jsonb(r) '
            'from ai_storage_private.%1$I as r '
            'join jsonb_populate_recordset(null::ai_storage_private.%1$I, $2) as k using (%2$s) '
            'where r.tenant_id = $1',
        p_table_name, ai_storage_private.name_columns(p_table_name, p_of_key => true)
    )
    using p_tenant_id, p_row_ids;
end;
$fn$;
comment on function ai_storage_private.read_own_rows(bigint, text, jsonb) is
    'Rows of the tenant of the context, by their keys. Raises 42704.';

create or replace function ai_storage_private.write_own_rows(
    p_tenant_id  bigint,
    p_table_name text,
    p_rows       jsonb,
    p_gone       jsonb
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_key     constant text := ai_storage_private.name_columns(p_table_name, p_of_key => true);
    v_columns constant text := ai_storage_private.name_columns(p_table_name, p_of_key => false);
begin
    if p_table_name = 'artifact_chunk' and exists (
        select from jsonb_populate_recordset(null::ai_storage_private.artifact_chunk, p_rows) as c
        where c.sha256 is distinct from sha256(c.content)
    ) then
        raise exception using
            errcode = '22023',
            message = 'the bytes of a chunk do not match their digest',
            hint = 'Pass rows as read_rows() returned them.';
    end if;
    execute format(
        'delete from ai_storage_private.%1$I '
            'where tenant_id = $1 and (%2$s) in ('
            'select %2$s from jsonb_populate_recordset(null::ai_storage_private.%1$I, $2))',
        p_table_name, v_key
    )
    using p_tenant_id, p_gone;
    execute format(
        'insert into ai_storage_private.%1$I '
            'select * from jsonb_populate_recordset(null::ai_storage_private.%1$I, $1) '
            'on conflict (%2$s) do update set (%3$s) = row(excluded.*)',
        p_table_name, v_key, v_columns
    )
    using p_rows;
end;
$fn$;
comment on function ai_storage_private.write_own_rows(bigint, text, jsonb, jsonb) is
    'Deletes and writes rows of the tenant of the context; policies refuse rows of others. '
    'Raises 22023, 42704.';

-- For administrators ------------------------------------------------------------------------------

set local role ai_storage_operator;

create or replace function ai_storage_private.act_for_tenant(p_isolation_key text)
returns ai_storage_private.tenant
language plpgsql
volatile
as $fn$
declare
    v_tenant ai_storage_private.tenant;
begin
    perform ai_storage_private.require_owner();
    select t.* into v_tenant
    from ai_storage_private.tenant as t
    where t.isolation_key = p_isolation_key collate "C";
    if not found then
        raise exception using
            errcode = '42704',
            message = 'no such tenant',
            hint = 'list_tenants() shows the tenants; one is known from its first save on.';
    end if;
    perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
    return v_tenant;
end;
$fn$;
comment on function ai_storage_private.act_for_tenant(text) is
    'Sets the context to a tenant. The caller puts its own back: restore_context(). Raises 42704.';

create or replace function ai_storage.digest_organisation(p_org_id text)
returns table (
    isolation_key text,
    tenant_id     bigint,
    registered_at timestamptz,
    moved_to      text,
    row_count     bigint,
    digest        text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
begin
    perform ai_storage_private.require_owner();
    for isolation_key, tenant_id, registered_at, moved_to in
        select t.isolation_key, t.tenant_id, t.registered_at, t.moved_to
        from ai_storage_private.tenant as t
        where t.org_id = p_org_id collate "C"
        order by t.isolation_key
    loop
        perform ai_storage_private.act_for(tenant_id, isolation_key);
        select
            count(*),
            encode(sha256(coalesce(string_agg(r.digest, '' order by r.digest), '')), 'hex')
        into row_count, digest
        from ai_storage_private.list_own_rows(tenant_id) as r;
        return next;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.digest_organisation(text) is
    'The tenants of an organisation, with how many rows a move copies and the sha256, in '
    'hexadecimal, of the sorted digests of these rows. It is equal in two cells that have the same '
    'content. moved_to: the cell for which a tenant is closed; null: it is open here.';

create or replace function ai_storage.list_rows(p_isolation_key text)
returns table (table_name text, row_id text, digest text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    return query
    select r.table_name, r.row_id, encode(r.digest, 'hex')
    from ai_storage_private.list_own_rows(v_tenant.tenant_id) as r;
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.list_rows(text) is
    'The rows of a tenant that a move copies, in the order in which to write them. row_id: the '
    'primary key, as a JSON object. digest: sha256 of the content, in hexadecimal. Raises 42704.';

create or replace function ai_storage.read_rows(
    p_isolation_key text,
    p_table_name    text,
    p_row_ids       jsonb
)
returns setof text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    perform ai_storage_private.record_event(
        v_tenant.tenant_id, 'read rows',
        p_detail => jsonb_build_object(
            'table', p_table_name, 'rows', jsonb_array_length(p_row_ids)
        )
    );
    return query
    select r.content::text
    from ai_storage_private.read_own_rows(v_tenant.tenant_id, p_table_name, p_row_ids)
        as r (content);
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.read_rows(text, text, jsonb) is
    'Rows of a tenant as they are, each a JSON object as text, for a copy in another cell. '
    'p_row_ids: an array of ids as list_rows() returns them. Logged. Raises 42704.';

create or replace function ai_storage.adopt_tenant(
    p_isolation_key text,
    p_tenant_id     bigint,
    p_registered_at timestamptz
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_here text;
begin
    perform ai_storage_private.require_owner();
    select c.cell_name into v_here
    from ai_storage_private.cell as c
    where c.is_here;
    if v_here is null
        or ai_storage.is_isolation_key(p_isolation_key) is not true
        or (p_tenant_id > 0) is not true
        or p_registered_at is null
    then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant',
            hint = 'Pass what digest_organisation() returns in the other cell. set_cells() makes '
                'this database a cell.';
    end if;
    insert into ai_storage_private.tenant (
        tenant_id, org_id, server_id, project_id, environment, code_hash, registered_at, moved_to
    )
    select
        p_tenant_id, k.org_id, k.server_id, k.project_id, k.environment, k.code_hash,
        p_registered_at, v_here
    from ai_storage.parse_isolation_key(p_isolation_key) as k
    on conflict do nothing;
    if not exists (
        select from ai_storage_private.tenant as t
        where t.tenant_id = p_tenant_id
          and t.isolation_key = p_isolation_key collate "C"
    ) then
        raise exception using
            errcode = '55000',
            message = 'the tenant has another id here, or its id belongs to another tenant',
            hint = 'It was registered in both cells. Copy it with export_tenant() and '
                'import_tenant().';
    end if;
end;
$fn$;
comment on function ai_storage.adopt_tenant(text, bigint, timestamptz) is
    'Registers a tenant of another cell here, closed, under the id that it has there. Raises '
    '22023, and 55000 when it has another id here.';

create or replace function ai_storage.write_rows(
    p_isolation_key text,
    p_table_name    text,
    p_rows          jsonb,
    p_gone          jsonb
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    if v_tenant.moved_to is null then
        raise exception using
            errcode = '55000',
            message = 'this tenant is open here',
            hint = 'Rows are written only into a tenant that is being moved here.';
    end if;
    perform ai_storage_private.write_own_rows(v_tenant.tenant_id, p_table_name, p_rows, p_gone);
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.write_rows(text, text, jsonb, jsonb) is
    'Writes rows of a tenant that is being moved here. p_rows: an array of rows as read_rows() '
    'returned them. p_gone: an array of the ids of rows to delete. Each change is an event. '
    'Raises 22023, 42704, 55000.';

create or replace function ai_storage.export_tenant_audit(p_isolation_key text)
returns setof jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    return query
    select b.line
    from ai_storage_private.list_bundle(v_tenant.tenant_id) as b (line);
    perform ai_storage_private.restore_context(v_context);
end;
$fn$;
comment on function ai_storage.export_tenant_audit(text) is
    'The bundle of a tenant''s sealed log, as export_audit() returns it to the tenant. Raises '
    '42704.';
