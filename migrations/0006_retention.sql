-- How long data is kept, how much, and what was erased. All are the operator's: rules and quotas
-- cover the tenants of a pattern, and a certificate names what an erasure took.

create table ai_storage_private.retention_rule (
    org_id            text collate "C" not null,
    server_id         text collate "C" not null,
    project_id        text collate "C" not null,
    environment       text collate "C" not null,
    code_hash         text collate "C" not null,
    keep_versions     integer,
    keep_versions_for interval,
    keep_events_for   interval,
    legal_hold        boolean not null,
    set_at            timestamptz not null default clock_timestamp(),
    set_by            name not null default session_user,
    constraint retention_rule_pk primary key (
        org_id, server_id, project_id, environment, code_hash
    ),
    constraint retention_rule_keeps_the_current check (keep_versions > 0),
    constraint retention_rule_versions_for_positive check (keep_versions_for > '0'),
    constraint retention_rule_events_for_positive check (keep_events_for > '0')
);

-- One row, on which a change of the rules and the deletions it forbids wait for each other.
create table ai_storage_private.retention_gate (
    changed_at timestamptz not null
);

create unique index retention_gate_single on ai_storage_private.retention_gate ((true));

insert into ai_storage_private.retention_gate (changed_at) values (clock_timestamp());

create table ai_storage_private.quota (
    org_id      text collate "C" not null,
    server_id   text collate "C" not null,
    project_id  text collate "C" not null,
    environment text collate "C" not null,
    code_hash   text collate "C" not null,
    max_models  bigint,
    max_bytes   bigint,
    set_at      timestamptz not null default clock_timestamp(),
    set_by      name not null default session_user,
    constraint quota_pk primary key (org_id, server_id, project_id, environment, code_hash),
    constraint quota_models_not_negative check (max_models >= 0),
    constraint quota_bytes_not_negative check (max_bytes >= 0)
);

create table ai_storage_private.quota_use (
    org_id      text collate "C" not null,
    server_id   text collate "C" not null,
    project_id  text collate "C" not null,
    environment text collate "C" not null,
    code_hash   text collate "C" not null,
    models      bigint not null,
    bytes       bigint not null,
    constraint quota_use_pk primary key (org_id, server_id, project_id, environment, code_hash)
) with (fillfactor = 50);

-- Changed with each quota: a transaction whose snapshot is older finds out by it.
insert into ai_storage_private.quota_use (
    org_id, server_id, project_id, environment, code_hash, models, bytes
)
values ('', '', '', '', '', 0, 0);

create table ai_storage_private.erasure_certificate (
    certificate_id uuid not null,
    event_id       uuid not null,
    erased_at      timestamptz not null,
    statement      text collate "C" not null,
    constraint erasure_certificate_pk primary key (certificate_id)
);

alter table ai_storage_private.retention_rule enable row level security;
alter table ai_storage_private.retention_rule force row level security;
alter table ai_storage_private.retention_gate enable row level security;
alter table ai_storage_private.retention_gate force row level security;
alter table ai_storage_private.quota enable row level security;
alter table ai_storage_private.quota force row level security;
alter table ai_storage_private.quota_use enable row level security;
alter table ai_storage_private.quota_use force row level security;
alter table ai_storage_private.erasure_certificate enable row level security;
alter table ai_storage_private.erasure_certificate force row level security;
