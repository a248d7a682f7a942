-- Which organisation is in which cell, where several complete servers divide the organisations
-- among them. A server that is alone has no cells.

create table ai_storage_private.cell (
    cell_name text collate "C" not null,
    is_here   boolean not null,
    takes_new boolean not null,
    constraint cell_pk primary key (cell_name),
    constraint cell_cell_name_valid check (cell_name ~ '^[A-Za-z0-9._-]{1,63}$')
);

create unique index cell_here on ai_storage_private.cell (is_here) where is_here;
create unique index cell_takes_new on ai_storage_private.cell (takes_new) where takes_new;

create table ai_storage_private.home (
    org_id    text collate "C" not null,
    cell_name text collate "C" not null,
    is_moving boolean not null,
    constraint home_pk primary key (org_id)
);

alter table ai_storage_private.cell enable row level security;
alter table ai_storage_private.cell force row level security;
alter table ai_storage_private.home enable row level security;
alter table ai_storage_private.home force row level security;
