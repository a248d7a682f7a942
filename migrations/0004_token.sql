-- Keys that sign tokens, and the end of a credential's time in what enter() returns.

create table ai_storage_private.signing_key (
    kid        text collate "C" not null,
    audience   text collate "C" not null,
    inner_pad  bytea not null,
    outer_pad  bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    created_by name not null default session_user,
    retired_at timestamptz,
    constraint signing_key_pk primary key (kid),
    constraint signing_key_pad_size check (length(inner_pad) = 64 and length(outer_pad) = 64)
);

alter table ai_storage_private.signing_key enable row level security;
alter table ai_storage_private.signing_key force row level security;

alter type ai_storage_private.acting_tenant add attribute expires_at text;
