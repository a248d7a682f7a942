-- Who is who: the registry of tenants, which login may name which of them, and the secret that
-- signs the context. Tables are born closed: row level security is enabled and forced before
-- anybody can reach them.

create type ai_storage_private.acting_tenant as (
    tenant_id     bigint,
    isolation_key text,
    levels        text[],
    credential    text
);

create table ai_storage_private.tenant (
    tenant_id     bigint not null,
    org_id        text collate "C" not null,
    server_id     text collate "C" not null,
    project_id    text collate "C" not null,
    environment   text collate "C" not null,
    code_hash     text collate "C" not null,
    isolation_key text collate "C" not null generated always as (
        org_id || ':' || server_id || ':' || project_id || ':' || environment || ':' || code_hash
    ) stored,
    registered_at timestamptz not null default clock_timestamp(),
    moved_to      text collate "C",
    constraint tenant_pk primary key (tenant_id),
    constraint tenant_tenant_id_positive check (tenant_id > 0),
    constraint tenant_isolation_key_unique unique (isolation_key),
    constraint tenant_isolation_key_valid check (
        isolation_key ~ '^([A-Za-z0-9._+@~=/-]{1,63}:){4}[A-Za-z0-9._+@~=/-]{1,63}$'
    )
);

create index tenant_moved
on ai_storage_private.tenant (org_id) where moved_to is not null;

create table ai_storage_private.login_authorization (
    login_name    name not null,
    org_id        text collate "C" not null,
    server_id     text collate "C" not null,
    project_id    text collate "C" not null,
    environment   text collate "C" not null,
    code_hash     text collate "C" not null,
    token_only    boolean not null,
    authorized_at timestamptz not null default clock_timestamp(),
    authorized_by name not null default session_user,
    constraint login_authorization_pk primary key (
        login_name, org_id, server_id, project_id, environment, code_hash
    )
);

-- 64 bytes fill one block of sha256, as the inner and outer pads of HMAC do.
create table ai_storage_private.context_secret (
    inner_key      bytea not null,
    outer_key      bytea not null,
    constraint context_secret_block_size check (length(inner_key) = 64 and length(outer_key) = 64)
);

create unique index context_secret_single on ai_storage_private.context_secret ((true));

insert into ai_storage_private.context_secret (inner_key, outer_key)
select
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
        || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

alter table ai_storage_private.tenant enable row level security;
alter table ai_storage_private.tenant force row level security;
alter table ai_storage_private.login_authorization enable row level security;
alter table ai_storage_private.login_authorization force row level security;
alter table ai_storage_private.context_secret enable row level security;
alter table ai_storage_private.context_secret force row level security;
