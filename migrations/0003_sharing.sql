-- Who may reach whose model: one row per grant, and which organisations may share outside.
-- A grant lies between tenants: tenants reach it through functions that look from both ends, by the
-- owner's id and by the receiver's patterns. So its key and one index do not lead with a tenant_id.

create table ai_storage_private.model_share (
    tenant_id      bigint not null,
    share_id       uuid not null,
    model_id       uuid not null,
    sharer_id      bigint not null,
    pinned_version bigint,
    created_at     timestamptz not null,
    expires_at     timestamptz,
    model_name     text collate "C" not null,
    owner_key      text collate "C" not null,
    sharer_key     text collate "C" not null,
    target         text collate "C" not null,
    permissions    text[] not null,
    ancestors      uuid[] not null,
    sharer_ids     bigint[] not null,
    constraint model_share_pk primary key (share_id),
    constraint model_share_once_unique unique (tenant_id, model_id, sharer_id, target),
    constraint model_share_permissions_known check (
        permissions <@ '{read,execute,write,share}' and permissions <> '{}'
    ),
    constraint model_share_pinned_not_written check (
        pinned_version is null or not permissions @> '{write}'
    ),
    constraint model_share_not_to_owner check (target <> owner_key)
);

-- A receiver finds what reaches it by its own patterns, in the order in which it is listed.
create index model_share_received on ai_storage_private.model_share (target, model_name, owner_key);

-- Whoever gave a grant, or passed on what it derives from, finds it by its own id.
create index model_share_sharers on ai_storage_private.model_share using gin (sharer_ids);

create table ai_storage_private.external_sharing_permit (
    org_id       text collate "C" not null,
    permitted_at timestamptz not null default clock_timestamp(),
    permitted_by name not null default session_user,
    constraint external_sharing_permit_pk primary key (org_id)
);

alter table ai_storage_private.model_share enable row level security;
alter table ai_storage_private.model_share force row level security;
alter table ai_storage_private.external_sharing_permit enable row level security;
alter table ai_storage_private.external_sharing_permit force row level security;
