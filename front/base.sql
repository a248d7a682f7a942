-- A front: one address for all cells. A call goes to the cell of its organisation by PL/Proxy.
--
-- Each call is a transaction of its own in its cell, whatever the client's transaction does.
--
-- For each function of tenants there are two here. The inner one, in ai_storage_front, is PL/Proxy's
-- and sends the call to an address. The outer one, in ai_storage, has the name and arguments that it
-- has in a cell; it looks up the address, calls the inner one, and passes errors on. It also reads
-- the whole answer at once: PL/Proxy keeps an answer with the connection, and would lose the rows of
-- the first of two calls that are read at the same time.
--
-- The directory is a hint. The cells check the credential, and refuse what is not theirs (TN602).
-- There is no password here: the login of the caller is passed to a PgBouncer that only this server
-- can reach, and which knows the passwords.
--
-- Tables: cell, home. Errors: 08006, 0A000, 22023, 55000, those of the cells.

set local search_path = pg_catalog, pg_temp;

do $guard$
begin
    if to_regrole('ai_storage_app') is null then
        create role ai_storage_app nologin;
    end if;
    if to_regrole('ai_storage_front') is null then
        create role ai_storage_front nologin;
    end if;
    if exists (
        select from pg_auth_members as m
        where m.roleid = 'ai_storage_front'::regrole
           or m.member = 'ai_storage_front'::regrole
    ) then
        raise exception using
            errcode = '55000',
            message = 'role ai_storage_front has members, or is a member of a role',
            hint = 'Revoke these memberships: the owner of the front''s functions can connect to '
                'any server.';
    end if;
    if exists (
        select from pg_namespace as n
        where n.nspname in ('ai_storage', 'ai_storage_front')
          and n.nspowner <> 'ai_storage_front'::regrole
    ) then
        raise exception using
            errcode = '55000',
            message = 'this database has another schema of that name',
            hint = 'Create an empty database for the front.';
    end if;
    alter role ai_storage_front
        nologin nosuperuser nobypassrls nocreaterole nocreatedb noreplication password null;
end;
$guard$;

create extension if not exists plproxy schema pg_catalog;
revoke all
on function
    pg_catalog.plproxy_call_handler(),
    pg_catalog.plproxy_validator(oid),
    pg_catalog.plproxy_fdw_validator(text[], oid)
from public;

create schema if not exists ai_storage authorization ai_storage_front;
create schema if not exists ai_storage_front authorization ai_storage_front;
revoke all on schema ai_storage, ai_storage_front from public;
grant usage on schema ai_storage to ai_storage_app;

-- The directory -----------------------------------------------------------------------------------

create table if not exists ai_storage_front.cell (
    cell_name         text collate "C" not null,
    address           text             not null,
    read_only_address text             not null,
    takes_new         boolean          not null,
    constraint cell_pk primary key (cell_name)
);
create table if not exists ai_storage_front.home (
    org_id    text collate "C" not null,
    cell_name text collate "C" not null,
    constraint home_pk primary key (org_id)
);
alter table ai_storage_front.cell owner to ai_storage_front;
alter table ai_storage_front.home owner to ai_storage_front;

create or replace function ai_storage_front.route(p_as text, p_cell_name text default null)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_org     text := '';
    v_payload text;
    v_claims  jsonb;
begin
    if strpos(p_as, ':') > 0 then
        v_org := split_part(p_as, ':', 1);
    elsif length(p_as) <= 4096 then
        -- A token, not verified here: the cell does that.
        v_payload := split_part(p_as, '.', 2);
        begin
            v_claims := convert_from(
                decode(
                    rpad(
                        translate(v_payload, '-_', '+/'), (length(v_payload) + 3) / 4 * 4, '='
                    ),
                    'base64'
                ),
                'UTF8'
            );
            v_org := coalesce(v_claims ->> 'org', split_part(v_claims ->> 'key', ':', 1));
        exception
            when data_exception then
                null; -- a cell refuses it
        end;
    end if;
    return (
        -- E'' because the session may have set standard_conforming_strings off.
        select format(
            '%s user=''%s'' application_name=ai_storage_front',
            case current_setting('transaction_read_only')
                when 'on' then c.read_only_address
                else c.address
            end,
            replace(replace(session_user, E'\\', E'\\\\'), '''', E'\\''')
        )
        from ai_storage_front.cell as c
        where c.cell_name = coalesce(
            p_cell_name,
            (
                select h.cell_name
                from ai_storage_front.home as h
                where h.org_id = v_org
            ),
            (
                select n.cell_name
                from ai_storage_front.cell as n
                where n.takes_new
            )
        )
    );
end;
$fn$;
comment on function ai_storage_front.route(text, text) is
    'The address of the cell that is named (null: not known here), or else of the one where the '
    'organisation of a credential lives. For any other credential, the cell that takes new '
    'organisations: it accepts, refuses, or names the right cell.';

-- Calls -------------------------------------------------------------------------------------------

create or replace function ai_storage_front.check_documents(variadic p_documents jsonb[])
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_document jsonb;
begin
    -- PL/Proxy prints a document to send it. jsonb holds 1e131071, or a number with 16,383 places
    -- behind the point, in about 10 bytes, so a small document may print as gigabytes. The cells
    -- say which numbers are valid; this only limits how many digits are sent to them.
    foreach v_document in array p_documents loop
        if pg_column_size(v_document) > 256 and (
            select sum(case when abs(d.number) < 1e309 then 0 else 131072 end + scale(d.number))
            from (
                select n.value::numeric as number
                from jsonb_path_query(
                    v_document, 'strict $.** ? (@.type() == "number")'
                ) as n (value)
                offset 0
            ) as d
        ) > 16 * 1024 * 1024 then
            raise exception using
                errcode = '22023',
                message = 'the numbers of a document have too many digits',
                hint = 'Use numbers that a double can hold.';
        end if;
    end loop;
end;
$fn$;
comment on function ai_storage_front.check_documents(jsonb[]) is
    'Refuses documents whose numbers print as more than 16 MiB. Raises 22023.';

do $types$
begin
    if to_regtype('ai_storage_front.error') is null then
        create type ai_storage_front.error as (
            state   text,
            message text,
            detail  text,
            hint    text
        );
    end if;
end;
$types$;

create or replace function ai_storage_front.pass_on(
    p_error ai_storage_front.error,
    p_first ai_storage_front.error
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_remote  constant text := '^[^ (]+[(][0-9]+[)]: [[][^]]*[]] REMOTE [^:]*: ';
    v_error   ai_storage_front.error := p_error;
    v_address text;
begin
    if v_error.state = 'TN602' then
        if p_first is null then
            v_address := ai_storage_front.route(
                null, regexp_replace(v_error.detail, '^Remote detail: ', '')
            );
            if v_address is not null then
                return v_address;
            end if;
        else
            -- Both cells refuse: the first refusal was about another organisation, that of a share.
            v_error := p_first;
        end if;
    end if;
    if v_error.state ~ '^(08|57P|XX000)' then
        -- For the operator: the caller must not learn where the cells are.
        raise log 'front: %', v_error.message;
        raise exception using
            errcode = '08006',
            message = 'the cell does not answer',
            hint = 'Try again later. A save whose answer was lost may have been done: repeat it '
                'with its idempotency key.';
    end if;
    v_error.message := regexp_replace(v_error.message, v_remote, '');
    v_error.detail := regexp_replace(v_error.detail, '^Remote detail: ', '');
    v_error.hint := regexp_replace(v_error.hint, '^Remote hint: ', '');
    -- An option of raise cannot be null, and '' would be sent as a field without text.
    if v_error.detail = '' and v_error.hint = '' then
        raise exception using errcode = v_error.state, message = v_error.message;
    elsif v_error.detail = '' then
        raise exception using
            errcode = v_error.state,
            message = v_error.message,
            hint = v_error.hint;
    elsif v_error.hint = '' then
        raise exception using
            errcode = v_error.state,
            message = v_error.message,
            detail = v_error.detail;
    end if;
    raise exception using
        errcode = v_error.state,
        message = v_error.message,
        detail = v_error.detail,
        hint = v_error.hint;
end;
$fn$;
comment on function ai_storage_front.pass_on(ai_storage_front.error, ai_storage_front.error) is
    'Raises the error of a cell as the cell raised it; 08006 when the cell does not answer. When '
    'the first cell names another one (TN602), returns the address of that cell.';

-- What a front cannot do --------------------------------------------------------------------------

create or replace function ai_storage.set_tenant(p_credential text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
begin
    raise exception using
        errcode = '0A000',
        message = 'a front cannot set the tenant of a transaction',
        hint = 'Name the credential in each call (p_as). For a transaction of several calls connect '
            'to the cell that home(p_as) names.';
end;
$fn$;
comment on function ai_storage.set_tenant(text) is
    'Refused: each call through a front is a transaction of its own. Raises 0A000.';

create or replace function ai_storage.clear_tenant()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $fn$
$fn$;
comment on function ai_storage.clear_tenant() is 'Does nothing: no tenant is ever set in a front.';

create or replace function ai_storage.current_tenant()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $fn$
    select null::text;
$fn$;
comment on function ai_storage.current_tenant() is 'Null: no tenant is ever set in a front.';
