-- The bytes of a model. Contents are kept once in a tenant, in chunks; an artifact is a name for
-- one, at a version of a model. No key spans tenants, so nobody learns whether another holds the
-- same bytes.

create table ai_storage_private.model_artifact (
    tenant_id     bigint not null,
    model_id      uuid not null,
    version       bigint not null,
    blob_id       uuid not null,
    put_at        timestamptz not null,
    artifact_name text collate "C" not null,
    media_type    text collate "C" not null,
    constraint model_artifact_pk primary key (tenant_id, model_id, artifact_name, version)
);

-- Which artifacts still have a content.
create index model_artifact_blob on ai_storage_private.model_artifact (tenant_id, blob_id);

create table ai_storage_private.artifact_blob (
    tenant_id  bigint not null,
    blob_id    uuid not null,
    size_bytes bigint not null,
    put_at     timestamptz not null,
    sha256     bytea not null,
    constraint artifact_blob_pk primary key (tenant_id, blob_id),
    constraint artifact_blob_content_unique unique (tenant_id, sha256, size_bytes),
    constraint artifact_blob_size_not_negative check (size_bytes >= 0)
);

create table ai_storage_private.artifact_upload (
    tenant_id      bigint not null,
    upload_id      uuid not null,
    model_id       uuid,
    version        bigint,
    received_bytes bigint not null,
    began_at       timestamptz not null,
    touched_at     timestamptz not null,
    sha256         bytea,
    artifact_name  text collate "C" not null,
    media_type     text collate "C" not null,
    constraint artifact_upload_pk primary key (tenant_id, upload_id)
);

create table ai_storage_private.artifact_chunk (
    tenant_id    bigint not null,
    blob_id      uuid not null,
    chunk_number integer not null,
    sha256       bytea not null,
    content      bytea not null,
    constraint artifact_chunk_pk primary key (tenant_id, blob_id, chunk_number),
    constraint artifact_chunk_size check (length(content) between 1 and 1048576)
);

-- Not compressed: models are dense, and a part of an uncompressed chunk is read without the rest.
alter table ai_storage_private.artifact_chunk alter column content set storage external;

create table ai_storage_private.artifact_limit (
    max_bytes bigint not null,
    constraint artifact_limit_positive check (max_bytes > 0)
);

create unique index artifact_limit_single on ai_storage_private.artifact_limit ((true));

-- 5 GiB
insert into ai_storage_private.artifact_limit (max_bytes) values (5368709120);

create table ai_storage_private.tenant_cache_key (
    tenant_id bigint not null,
    cache_key bytea not null,
    constraint tenant_cache_key_pk primary key (tenant_id),
    constraint tenant_cache_key_size check (length(cache_key) = 32)
);

alter table ai_storage_private.model_artifact enable row level security;
alter table ai_storage_private.model_artifact force row level security;
alter table ai_storage_private.artifact_blob enable row level security;
alter table ai_storage_private.artifact_blob force row level security;
alter table ai_storage_private.artifact_upload enable row level security;
alter table ai_storage_private.artifact_upload force row level security;
alter table ai_storage_private.artifact_chunk enable row level security;
alter table ai_storage_private.artifact_chunk force row level security;
alter table ai_storage_private.artifact_limit enable row level security;
alter table ai_storage_private.artifact_limit force row level security;
alter table ai_storage_private.tenant_cache_key enable row level security;
alter table ai_storage_private.tenant_cache_key force row level security;
