-- What a tenant saves: the current state of each model, every version of it, and what must outlive
-- a deletion. There are no foreign keys: every row is written by one function that holds its
-- parent's lock, and the delete trigger of ai_progress_tenant clears what belongs to a model. A key
-- check per saved version would buy nothing. Nor are there check constraints: PostgreSQL reads the
-- text of each anew in every statement, and five of them were a tenth of a save. What they would
-- say is what check_progress() refuses with a hint, and that versions count up from 1.

create table ai_storage_private.ai_progress_tenant (
    tenant_id        bigint not null,
    model_id         uuid not null,
    version          bigint not null,
    mse              double precision,
    training_samples bigint,
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    saved_by         text collate "C",
    model_name       text collate "C" not null,
    metrics          jsonb not null,
    metadata         jsonb not null,
    constraint ai_progress_tenant_pk primary key (tenant_id, model_id),
    constraint ai_progress_tenant_model_name_unique unique (tenant_id, model_name)
) with (fillfactor = 88);

create table ai_storage_private.progress_version (
    tenant_id        bigint not null,
    model_id         uuid not null,
    version          bigint not null,
    mse              double precision,
    training_samples bigint,
    saved_at         timestamptz not null,
    saved_by         text collate "C",
    metrics          jsonb not null,
    metadata         jsonb not null,
    constraint progress_version_pk primary key (tenant_id, model_id, version)
);

create table ai_storage_private.deleted_model (
    tenant_id    bigint not null,
    last_version bigint not null,
    deleted_at   timestamptz not null,
    model_name   text collate "C" not null,
    constraint deleted_model_pk primary key (tenant_id, model_name)
);

create table ai_storage_private.idempotency_key (
    tenant_id       bigint not null,
    version         bigint,
    saved_at        timestamptz not null,
    created         boolean,
    idempotency_key text collate "C" not null,
    request_digest  bytea not null,
    sent_digest     bytea,
    constraint idempotency_key_pk primary key (tenant_id, idempotency_key)
);

alter table ai_storage_private.ai_progress_tenant enable row level security;
alter table ai_storage_private.ai_progress_tenant force row level security;
alter table ai_storage_private.progress_version enable row level security;
alter table ai_storage_private.progress_version force row level security;
alter table ai_storage_private.deleted_model enable row level security;
alter table ai_storage_private.deleted_model force row level security;
alter table ai_storage_private.idempotency_key enable row level security;
alter table ai_storage_private.idempotency_key force row level security;
