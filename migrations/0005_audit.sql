-- What happened, and the seals that prove that it was not changed afterwards. tenant_id 0 is the
-- operator's own log: logins, keys, permits, retention, sealing.
--
-- A change writes into audit_pending; sealing moves events on to audit_event, where a row never
-- changes again but for erasure, which takes salt and detail. There are no foreign keys: events
-- outlive what they tell of.

create table ai_storage_private.audit_pending (
    tenant_id      bigint not null,
    event_id       uuid not null,
    recorded_at    timestamptz not null,
    version        bigint,
    model_id       uuid,
    action         text collate "C" not null,
    login          text collate "C" not null,
    credential     text collate "C" not null,
    content_digest bytea,
    detail_digest  bytea not null,
    salt           uuid,
    detail         text collate "C",
    constraint audit_pending_pk primary key (tenant_id, event_id)
);

create table ai_storage_private.audit_event (
    tenant_id      bigint not null,
    event_id       uuid not null,
    recorded_at    timestamptz not null,
    version        bigint,
    seal_number    bigint not null,
    leaf_index     integer not null,
    model_id       uuid,
    action         text collate "C" not null,
    login          text collate "C" not null,
    credential     text collate "C" not null,
    content_digest bytea,
    detail_digest  bytea not null,
    leaf_hash      bytea not null,
    salt           uuid,
    detail         text collate "C",
    constraint audit_event_recorded_at_finite check (isfinite(recorded_at)),
    constraint audit_event_pk primary key (tenant_id, event_id),
    constraint audit_event_place_unique unique (tenant_id, seal_number, leaf_index)
);

create table ai_storage_private.audit_seal (
    tenant_id         bigint not null,
    seal_number       bigint not null,
    checkpoint_number bigint not null,
    sealed_at         timestamptz not null,
    event_count       integer not null,
    root              bytea not null,
    previous_hash     bytea not null,
    seal_hash         bytea not null,
    constraint audit_seal_sealed_at_finite check (isfinite(sealed_at)),
    constraint audit_seal_pk primary key (tenant_id, seal_number)
);

-- The seals that a checkpoint covers; tenants never reach this index.
create index audit_seal_checkpoint
on ai_storage_private.audit_seal (checkpoint_number, tenant_id, seal_number);

create table ai_storage_private.audit_checkpoint (
    checkpoint_number bigint not null,
    created_at        timestamptz not null,
    seal_count        integer not null,
    root              bytea not null,
    previous_hash     bytea not null,
    checkpoint_hash   bytea not null,
    constraint audit_checkpoint_created_at_finite check (isfinite(created_at)),
    constraint audit_checkpoint_pk primary key (checkpoint_number)
);

-- Counts refused credentials. A refusal rolls everything back but a sequence.
create sequence ai_storage_private.refused_credential;

create table ai_storage_private.refusal_report (
    reported bigint not null
);

create unique index refusal_report_single on ai_storage_private.refusal_report ((true));

insert into ai_storage_private.refusal_report (reported) values (0);

alter table ai_storage_private.audit_pending enable row level security;
alter table ai_storage_private.audit_pending force row level security;
alter table ai_storage_private.audit_event enable row level security;
alter table ai_storage_private.audit_event force row level security;
alter table ai_storage_private.audit_seal enable row level security;
alter table ai_storage_private.audit_seal force row level security;
alter table ai_storage_private.audit_checkpoint enable row level security;
alter table ai_storage_private.audit_checkpoint force row level security;
alter table ai_storage_private.refusal_report enable row level security;
alter table ai_storage_private.refusal_report force row level security;
