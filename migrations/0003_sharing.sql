-- Who may reach whose model: a row per grant, what ended or was declined of it, and which
-- organisations may share with which.
-- A grant lies between tenants: tenants reach it through functions that look from both ends, by the
-- owner's id and by the receiver's patterns. So not all keys and indexes lead with a tenant_id.

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
    permit_ids     uuid[] not null,
    constraint model_share_pk primary key (share_id),
    constraint model_share_once_unique unique (tenant_id, model_id, sharer_id, target),
    constraint model_share_permissions_known check (
        permissions <@ '{read,execute,write,share}' and permissions <> '{}'
    ),
    constraint model_share_pinned_not_written check (
        pinned_version is null or not permissions @> '{write}'
    ),
    constraint model_share_not_to_owner check (target <> owner_key),
    constraint model_share_depth check (cardinality(ancestors) <= 8)
);

-- A receiver finds what reaches it by its own patterns: of one owner, the nearest to the owner
-- first, or by a name alone.
create index model_share_received
on ai_storage_private.model_share (target, owner_key, model_name, cardinality(ancestors));
create index model_share_named
on ai_storage_private.model_share (target, model_name, owner_key);

-- A sharer finds what it gave.
create index model_share_given
on ai_storage_private.model_share (sharer_id, owner_key, model_name);

-- A grant that was ended by somebody above its sharer, who does not touch the sharer's row.
create table ai_storage_private.share_end (
    tenant_id bigint not null,
    share_id  uuid not null,
    ended_by  bigint not null,
    ended_at  timestamptz not null,
    constraint share_end_pk primary key (share_id, ended_by)
);

-- verify_audit() compares an owner's ends with its log.
create index share_end_tenant on ai_storage_private.share_end (tenant_id);

-- What a receiver wants no more: one model of one owner, from one sharer.
create table ai_storage_private.share_decline (
    tenant_id    bigint not null,
    owner_id     bigint not null,
    model_id     uuid not null,
    sharer_id    bigint not null,
    declined_at  timestamptz not null,
    model_name   text collate "C" not null,
    owner_key    text collate "C" not null,
    sharer_key   text collate "C" not null,
    receiver_key text collate "C" not null,
    constraint share_decline_pk primary key (tenant_id, owner_id, model_name, sharer_id)
);

-- From the other end: does this receiver decline, does anybody.
create index share_decline_from
on ai_storage_private.share_decline (owner_id, model_name, sharer_id, receiver_key);

create table ai_storage_private.external_sharing_permit (
    permit_id    uuid not null default gen_random_uuid(),
    org_id       text collate "C" not null,
    to_org_id    text collate "C" not null,
    permitted_at timestamptz not null default clock_timestamp(),
    permitted_by name not null default session_user,
    constraint external_sharing_permit_pk primary key (org_id, to_org_id),
    constraint external_sharing_permit_id_unique unique (permit_id)
);

alter table ai_storage_private.model_share enable row level security;
alter table ai_storage_private.model_share force row level security;
alter table ai_storage_private.share_end enable row level security;
alter table ai_storage_private.share_end force row level security;
alter table ai_storage_private.share_decline enable row level security;
alter table ai_storage_private.share_decline force row level security;
alter table ai_storage_private.external_sharing_permit enable row level security;
alter table ai_storage_private.external_sharing_permit force row level security;
