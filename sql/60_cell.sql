-- Cells: several complete servers that divide the organisations among them.
--
-- An organisation lives in one cell, whole. Each cell has the same directory: the cells, and where
-- each organisation lives. One without a row lives where tenants of it are registered, and a new
-- one in the cell that takes new ones. A cell refuses calls for an organisation of another cell and
-- names that cell (TN602), so a client with an old directory is never served wrongly.
--
-- A move closes the organisation in both cells (hold_organisation) and opens it in the new one
-- (release_organisation at the source, then open_organisation at the target). If a step fails, the
-- organisation may stay closed; it is never open in two cells.
--
-- Tables: cell, home (0008_cell); tenant.moved_to (0001_tenant).
-- Errors: 22023, 23505, 42704, 55000, TN602, TN603, those of 10_context.sql.

set local role ai_storage_owner;

comment on table ai_storage_private.cell is
    'The cells that divide the organisations among them. Empty: this server is alone.';
comment on column ai_storage_private.cell.cell_name is
    'Name of the cell: 1 to 63 characters out of A-Z a-z 0-9 . _ -';
comment on column ai_storage_private.cell.is_here is 'Whether this database is the cell.';
comment on column ai_storage_private.cell.takes_new is 'Whether new organisations live in it.';

comment on table ai_storage_private.home is 'Where organisations live.';
comment on column ai_storage_private.home.org_id is 'Level 1 of the organisation''s tenants.';
comment on column ai_storage_private.home.cell_name is 'The cell that the organisation lives in.';
comment on column ai_storage_private.home.is_moving is
    'Whether the organisation is being moved: every cell refuses its calls.';

set local role ai_storage_operator;

create or replace function ai_storage_private.check_home(p_org_id text)
returns void
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_here text;
    v_home ai_storage_private.home;
    v_cell text;
begin
    select c.cell_name into v_here
    from ai_storage_private.cell as c
    where c.is_here;
    select h.* into v_home
    from ai_storage_private.home as h
    where h.org_id = p_org_id;
    v_cell := v_home.cell_name;
    if v_cell is null then
        select c.cell_name into v_cell
        from ai_storage_private.cell as c
        where case
            when exists (
                select from ai_storage_private.tenant as t
                -- A range of isolation keys uses their index: ; is the character after the colon.
                where t.isolation_key >= p_org_id || ':' collate "C"
                  and t.isolation_key < p_org_id || ';' collate "C"
                  and t.moved_to is null
            ) then c.is_here
            else c.takes_new
        end;
    end if;
    if v_cell <> v_here and not coalesce(v_home.is_moving, false) then
        raise exception using
            errcode = 'TN602',
            message = 'this organisation lives in another cell',
            detail = v_cell,
            hint = 'Connect to the cell that the detail names. A model is shared only within one '
                'cell.';
    end if;
    -- Whatever the directory says, an organisation that was closed here stays closed until opened.
    if v_home.is_moving or exists (
        select from ai_storage_private.tenant as t
        where t.org_id = p_org_id
          and t.moved_to is not null
    ) then
        raise exception using
            errcode = 'TN603',
            message = 'this organisation is being moved to another cell',
            hint = 'Repeat the call in a second. When no move is under way, an administrator opens '
                'it where it lives: select ai_storage.open_organisation(org_id).';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_home(text) is
    'Refuses an organisation that lives in another cell or is closed. The caller has authorised '
    'already. Raises TN602, whose detail is the name of that cell, and TN603.';

create or replace function ai_storage.home(p_as text default null)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_cell text;
begin
    perform ai_storage_private.enter(p_as);
    select c.cell_name into v_cell
    from ai_storage_private.cell as c
    where c.is_here;
    return v_cell;
exception
    when sqlstate 'TN602' then
        get stacked diagnostics v_cell = pg_exception_detail;
        return v_cell;
end;
$fn$;
comment on function ai_storage.home(text) is
    'The name of the cell in which the caller''s organisation lives, or null when there are no '
    'cells. Raises TN001 to TN005, TN603.';

-- The directory -----------------------------------------------------------------------------------

create or replace function ai_storage_private.check_cell(p_cell_name text)
returns void
language plpgsql
stable
as $fn$
begin
    if not exists (
        select from ai_storage_private.cell as c
        where c.cell_name = p_cell_name collate "C"
    ) then
        raise exception using
            errcode = '42704',
            message = 'there is no such cell',
            hint = 'list_cells() shows the cells; set_cells() sets them.';
    end if;
end;
$fn$;
comment on function ai_storage_private.check_cell(text) is
    'Refuses a name that no cell has. Raises 42704.';

create or replace function ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_cells constant text[] := coalesce(p_cells, '{}');
begin
    perform ai_storage_private.require_owner();
    if array_position(v_cells, null) is not null
        or (select bool_or(c !~ '^[A-Za-z0-9._-]{1,63}$') from unnest(v_cells) as c)
        or (select count(distinct c) from unnest(v_cells) as c) <> cardinality(v_cells)
        or (
            case
                when v_cells = '{}' then p_here is null and p_takes_new is null
                else p_here = any (v_cells) and p_takes_new = any (v_cells)
            end
        ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid cells',
            hint = 'Name each cell once, with 1 to 63 characters out of A-Z a-z 0-9 . _ - and '
                'among them the one that this database is and the one that takes new '
                'organisations. No cells and two nulls: this server is alone.';
    end if;
    if exists (
        select from ai_storage_private.home as h
        where h.cell_name <> all (v_cells)
    ) then
        raise exception using
            errcode = '55000',
            message = 'organisations live in a cell that is not among these',
            detail = (
                select format('%s lives in %s.', quote_ident(h.org_id), quote_ident(h.cell_name))
                from ai_storage_private.home as h
                where h.cell_name <> all (v_cells)
                order by h.org_id
                limit 1
            ),
            hint = 'Move them first, or set_home(org_id, null) for one that is gone.';
    end if;
    delete from ai_storage_private.cell as c
    where (c.cell_name, c.is_here, c.takes_new) not in (
        select n, n = p_here, n = p_takes_new
        from unnest(v_cells) as n
    );
    insert into ai_storage_private.cell (cell_name, is_here, takes_new)
    select n, n = p_here, n = p_takes_new
    from unnest(v_cells) as n
    on conflict do nothing;
end;
$fn$;
comment on function ai_storage.set_cells(text[], text, text) is
    'Sets the names of all cells, which of them this database is, and which takes new '
    'organisations. Raises 22023, and 55000 when an organisation lives in a cell that is left out.';

create or replace function ai_storage.set_home(
    p_org_id    text,
    p_cell_name text,
    p_is_moving boolean default false
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    if ai_storage.is_isolation_key(p_org_id || ':s:p:e:c') is not true or p_is_moving is null then
        raise exception using
            errcode = '22023',
            message = 'invalid organisation',
            hint = 'An organisation is level 1 of a tenant: 1 to 63 characters out of A-Z a-z 0-9 '
                '. _ + @ ~ = / - and p_is_moving is true or false.';
    end if;
    if p_cell_name is null then
        delete from ai_storage_private.home as h
        where h.org_id = p_org_id collate "C";
        return;
    end if;
    perform ai_storage_private.check_cell(p_cell_name);
    insert into ai_storage_private.home as h (org_id, cell_name, is_moving)
    values (p_org_id, p_cell_name, p_is_moving)
    on conflict on constraint home_pk do update set
        cell_name = excluded.cell_name,
        is_moving = excluded.is_moving
    where (h.cell_name, h.is_moving) <> (excluded.cell_name, excluded.is_moving);
end;
$fn$;
comment on function ai_storage.set_home(text, text, boolean) is
    'Records in which cell an organisation lives; p_cell_name null removes the record. '
    'p_is_moving: calls for it are refused. Does not change its tenants; to move them, see '
    'hold_organisation(). Raises 22023, 42704.';

create or replace function ai_storage.list_cells()
returns table (cell_name text, is_here boolean, takes_new boolean)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select c.cell_name, c.is_here, c.takes_new
    from ai_storage_private.cell as c
    order by c.cell_name;
end;
$fn$;
comment on function ai_storage.list_cells() is 'The cells, by name.';

create or replace function ai_storage.list_homes()
returns table (
    org_id         text,
    cell_name      text,
    is_moving      boolean,
    open_tenants   bigint,
    closed_tenants bigint
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        coalesce(h.org_id, t.org_id),
        coalesce(h.cell_name, c.cell_name),
        coalesce(h.is_moving, false),
        coalesce(t.open, 0),
        coalesce(t.closed, 0)
    from ai_storage_private.home as h
    full join (
        select
            r.org_id,
            count(*) filter (where r.moved_to is null) as open,
            count(r.moved_to) as closed
        from ai_storage_private.tenant as r
        group by r.org_id
    ) as t on t.org_id = h.org_id
    left join ai_storage_private.cell as c on c.is_here
    -- Without a row it lives where it is open.
    where h.org_id is not null
       or (t.open > 0 and c.cell_name is not null)
    order by 1;
end;
$fn$;
comment on function ai_storage.list_homes() is
    'The organisations that are known here and the cells that they live in, by organisation, with '
    'the numbers of their tenants that are open and closed in this cell.';

-- Moving an organisation --------------------------------------------------------------------------

create or replace function ai_storage.hold_organisation(p_org_id text, p_cell_name text)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_tenants bigint;
begin
    perform ai_storage.set_home(
        p_org_id,
        coalesce(
            (
                select h.cell_name
                from ai_storage_private.home as h
                where h.org_id = p_org_id collate "C"
            ),
            (
                select c.cell_name
                from ai_storage_private.cell as c
                where c.is_here
            ),
            p_cell_name
        ),
        true
    );
    perform ai_storage_private.check_cell(p_cell_name);
    -- What a legal hold keeps could not be erased here at the end.
    perform ai_storage_private.check_hold(string_to_array(t.isolation_key, ':'))
    from ai_storage_private.tenant as t
    where t.org_id = p_org_id collate "C";
    update ai_storage_private.tenant as t set
        moved_to = p_cell_name
    where t.org_id = p_org_id collate "C"
      and t.moved_to is distinct from p_cell_name collate "C";
    get diagnostics v_tenants = row_count;
    perform ai_storage_private.record_event(
        0, 'hold organisation',
        p_detail => jsonb_build_object(
            'org_id', p_org_id, 'cell_name', p_cell_name, 'tenants', v_tenants
        )
    );
    return v_tenants;
end;
$fn$;
comment on function ai_storage.hold_organisation(text, text) is
    'First step of moving an organisation: closes it in this cell. Call it in both cells. From its '
    'commit on, new calls for the organisation are refused with TN603; wait until older '
    'transactions have ended, and call it again for what they registered. p_cell_name: the new '
    'cell. Returns the number of tenants closed. Raises 22023, 42704, TN501.';

create or replace function ai_storage.release_organisation(
    p_org_id    text,
    p_cell_name text,
    p_digest    text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if not exists (
        select from ai_storage_private.home as h
        where h.org_id = p_org_id collate "C"
          and h.is_moving
    ) then
        raise exception using
            errcode = '55000',
            message = 'this organisation is not being moved',
            hint = 'Close it first: hold_organisation(org_id, cell_name).';
    end if;
    if exists (
        select from ai_storage_private.tenant as t
        where t.org_id = p_org_id collate "C"
          and t.moved_to is null
    ) then
        raise exception using
            errcode = '55000',
            message = 'a tenant of this organisation was registered while it was being closed',
            hint = 'Call hold_organisation() again, and copy what it closes.';
    end if;
    perform ai_storage.set_home(p_org_id, p_cell_name);
    perform ai_storage_private.record_event(
        0, 'release organisation',
        p_detail => jsonb_build_object(
            'org_id', p_org_id, 'cell_name', p_cell_name, 'digest', p_digest
        )
    );
end;
$fn$;
comment on function ai_storage.release_organisation(text, text, text) is
    'Second step, at the source, when everything is copied: callers are sent to the new cell from '
    'now on. p_digest: of what was copied, for the log. Raises 22023, 42704, 55000.';

create or replace function ai_storage.open_organisation(
    p_org_id text,
    p_digest text default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
declare
    v_here    text;
    v_tenants bigint;
begin
    select c.cell_name into v_here
    from ai_storage_private.cell as c
    where c.is_here;
    perform ai_storage.set_home(p_org_id, v_here);
    update ai_storage_private.tenant as t set
        moved_to = null
    where t.org_id = p_org_id collate "C"
      and t.moved_to is not null;
    get diagnostics v_tenants = row_count;
    perform ai_storage_private.record_event(
        0, 'open organisation',
        p_detail => jsonb_build_object(
            'org_id', p_org_id, 'digest', p_digest, 'tenants', v_tenants
        )
    );
    return v_tenants;
end;
$fn$;
comment on function ai_storage.open_organisation(text, text) is
    'Opens an organisation in this cell: the last step of a move, after release_organisation() in '
    'the old cell. Also cancels a move, called in the old cell before release_organisation(). '
    'p_digest: of what was copied, for the log. Returns the number of tenants opened. Raises '
    '22023.';

create or replace function ai_storage.adopt_signing_key(
    p_kid      text,
    p_secret   text,
    p_audience text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    if (length(p_secret) >= 43 and p_audience <> '' and p_kid <> '') is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid signing key',
            hint = 'Name the kid and the audience, and the secret as create_signing_key() returned '
                'it in the other cell.';
    end if;
    perform ai_storage_private.keep_signing_key(p_kid, p_audience, p_secret);
end;
$fn$;
comment on function ai_storage.adopt_signing_key(text, text, text) is
    'Adds a key that another cell made, so that its tokens are valid here. p_secret: as '
    'create_signing_key() returned it. Raises 22023, 23505.';

-- Triggers ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

create or replace trigger record_change
    after insert or update or delete on ai_storage_private.cell
    for each row
    execute function ai_storage_private.record_change('cell', 'cell_name,is_here,takes_new');
comment on trigger record_change on ai_storage_private.cell is 'One event per change.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.cell
    execute function ai_storage_private.record_change('cell', '');
comment on trigger record_truncate on ai_storage_private.cell is 'One event per TRUNCATE.';
create or replace trigger record_change
    after insert or update or delete on ai_storage_private.home
    for each row
    execute function ai_storage_private.record_change('home', 'org_id,cell_name,is_moving');
comment on trigger record_change on ai_storage_private.home is 'One event per change.';
create or replace trigger record_truncate
    after truncate on ai_storage_private.home
    execute function ai_storage_private.record_change('home', '');
comment on trigger record_truncate on ai_storage_private.home is 'One event per TRUNCATE.';

alter table ai_storage_private.cell enable always trigger record_change;
alter table ai_storage_private.cell enable always trigger record_truncate;
alter table ai_storage_private.home enable always trigger record_change;
alter table ai_storage_private.home enable always trigger record_truncate;

-- Policies ----------------------------------------------------------------------------------------

drop policy if exists operator_keeps_cells on ai_storage_private.cell;
create policy operator_keeps_cells on ai_storage_private.cell
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_cells on ai_storage_private.cell is
    'The directory is one for all; administrators set it.';

drop policy if exists operator_keeps_homes on ai_storage_private.home;
create policy operator_keeps_homes on ai_storage_private.home
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_homes on ai_storage_private.home is
    'Administrators keep the directory. Tenants learn only their own cell, from home().';
