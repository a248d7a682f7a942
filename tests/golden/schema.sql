--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: ai_storage; Type: SCHEMA; Schema: -; Owner: ai_storage_owner
--

CREATE SCHEMA ai_storage;

ALTER SCHEMA ai_storage OWNER TO ai_storage_owner;

--
-- Name: SCHEMA ai_storage; Type: COMMENT; Schema: -; Owner: ai_storage_owner
--

COMMENT ON SCHEMA ai_storage IS 'The API of tenant-ai-storage: functions, and one view for reporting. A grant on this schema is a grant on the API.';

--
-- Name: ai_storage_migration; Type: SCHEMA; Schema: -; Owner: ai_storage_owner
--

CREATE SCHEMA ai_storage_migration;

ALTER SCHEMA ai_storage_migration OWNER TO ai_storage_owner;

--
-- Name: SCHEMA ai_storage_migration; Type: COMMENT; Schema: -; Owner: ai_storage_owner
--

COMMENT ON SCHEMA ai_storage_migration IS 'The installer''s own ledger: which migrations and which files of sql/ were applied. Holds no tenant data.';

--
-- Name: ai_storage_private; Type: SCHEMA; Schema: -; Owner: ai_storage_owner
--

CREATE SCHEMA ai_storage_private;

ALTER SCHEMA ai_storage_private OWNER TO ai_storage_owner;

--
-- Name: SCHEMA ai_storage_private; Type: COMMENT; Schema: -; Owner: ai_storage_owner
--

COMMENT ON SCHEMA ai_storage_private IS 'Tables, triggers and helpers of tenant-ai-storage. No application role has any right here.';

--
-- Name: acting_tenant; Type: TYPE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TYPE ai_storage_private.acting_tenant AS (
	tenant_id bigint,
	isolation_key text,
	levels text[],
	credential text,
	expires_at text
);

ALTER TYPE ai_storage_private.acting_tenant OWNER TO ai_storage_owner;

--
-- Name: TYPE acting_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TYPE ai_storage_private.acting_tenant IS 'The tenant a call acts for, as enter() returns it. tenant_id is 0 for a tenant that never wrote anything.';

--
-- Name: abort_artifact(uuid, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.abort_artifact(p_upload_id uuid, p_as text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
    if not found then
        return false;
    end if;
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_tenant.tenant_id
      and c.blob_id = p_upload_id;
    return true;
end;
$$;

ALTER FUNCTION ai_storage.abort_artifact(p_upload_id uuid, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION abort_artifact(p_upload_id uuid, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.abort_artifact(p_upload_id uuid, p_as text) IS 'Ends an upload and deletes what arrived. Returns false when there is none. Raises TN001 to TN005, TN501.';

--
-- Name: adopt_signing_key(text, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.adopt_signing_key(p_kid text, p_secret text, p_audience text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.adopt_signing_key(p_kid text, p_secret text, p_audience text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION adopt_signing_key(p_kid text, p_secret text, p_audience text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.adopt_signing_key(p_kid text, p_secret text, p_audience text) IS 'Adds a key that another cell made, so that its tokens are valid here. p_secret: as create_signing_key() returned it. Raises 22023, 23505.';

--
-- Name: adopt_tenant(text, bigint, timestamp with time zone); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_here text;
begin
    perform ai_storage_private.require_owner();
    select c.cell_name into v_here
    from ai_storage_private.cell as c
    where c.is_here;
    if v_here is null
        or ai_storage.is_isolation_key(p_isolation_key) is not true
        or (p_tenant_id > 0) is not true
        or p_registered_at is null
    then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant',
            hint = 'Pass what digest_organisation() returns in the other cell. set_cells() makes '
                'this database a cell.';
    end if;
    insert into ai_storage_private.tenant (
        tenant_id, org_id, server_id, project_id, environment, code_hash, registered_at, moved_to
    )
    select
        p_tenant_id, k.org_id, k.server_id, k.project_id, k.environment, k.code_hash,
        p_registered_at, v_here
    from ai_storage.parse_isolation_key(p_isolation_key) as k
    on conflict do nothing;
    if not exists (
        select from ai_storage_private.tenant as t
        where t.tenant_id = p_tenant_id
          and t.isolation_key = p_isolation_key collate "C"
    ) then
        raise exception using
            errcode = '55000',
            message = 'the tenant has another id here, or its id belongs to another tenant',
            hint = 'It was registered in both cells. Copy it with export_tenant() and '
                'import_tenant().';
    end if;
end;
$$;

ALTER FUNCTION ai_storage.adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone) IS 'Registers a tenant of another cell here, closed, under the id that it has there. Raises 22023, and 55000 when it has another id here.';

--
-- Name: allow_external_sharing(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if ai_storage.is_isolation_key(p_org_id || ':s:p:e:c') is not true
        or ai_storage.is_isolation_key(p_to_org_id || ':s:p:e:c') is not true
        or p_org_id = p_to_org_id
    then
        raise exception using
            errcode = '22023',
            message = 'invalid organisation',
            hint = 'Name two organisations. Each is level 1 of a tenant: 1 to 63 characters out of '
                'A-Z a-z 0-9 . _ + @ ~ = / -';
    end if;
    insert into ai_storage_private.external_sharing_permit (org_id, to_org_id)
    values (p_org_id, p_to_org_id)
    on conflict do nothing;
end;
$$;

ALTER FUNCTION ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION allow_external_sharing(p_org_id text, p_to_org_id text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text) IS 'Lets the tenants of one organisation share models with those of another. Raises 22023.';

--
-- Name: append_artifact(uuid, bigint, bytea, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_now    constant timestamptz := clock_timestamp();
    v_upload ai_storage_private.artifact_upload;
begin
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    if p_offset is distinct from v_upload.received_bytes then
        raise exception using
            errcode = 'TN202',
            message = 'the upload goes on at another offset',
            detail = format('%s bytes have arrived.', v_upload.received_bytes),
            hint = 'Go on with the byte after those that list_uploads() shows as received.';
    end if;
    if coalesce(length(p_content), 0) = 0 or v_upload.received_bytes % 1048576 <> 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid part',
            hint = 'A part is not empty, and all parts but the last are multiples of 1 MiB.';
    end if;
    perform ai_storage_private.check_size(v_upload.received_bytes + length(p_content));
    perform ai_storage_private.write_chunks(
        v_tenant.tenant_id, p_upload_id, (v_upload.received_bytes / 1048576)::integer, p_content
    );
    update ai_storage_private.artifact_upload as u set
        received_bytes = v_upload.received_bytes + length(p_content),
        touched_at     = v_now,
        sha256         = null -- no longer staged
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
    return v_upload.received_bytes + length(p_content);
end;
$$;

ALTER FUNCTION ai_storage.append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text) IS 'Adds the next part to an upload and returns how many bytes have arrived. p_offset: how many arrived before; so a part that is sent twice is noticed. All parts but the last are multiples of 1 MiB. Raises 22023, 54000, TN001 to TN005, TN201, TN202.';

--
-- Name: apply_retention(text, integer); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.apply_retention(p_after text DEFAULT NULL::text, p_limit integer DEFAULT 1000) RETURNS TABLE(tenants bigint, versions bigint, events bigint, shares bigint, cursor text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '2s'
    AS $$
declare
    v_most    constant integer := 10000; -- versions
    v_context constant text := ai_storage_private.trusted_context();
    v_after   text collate "C" := coalesce(p_after, '');
    v_last    text collate "C";
    v_walked  bigint;
    v_done    boolean := true;
    v_tenant  record;
    v_swept   record;
begin
    perform ai_storage_private.refuse_old_snapshot();
    if (p_limit > 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is how many tenants lose something in one call, 1 or more.';
    end if;
    tenants := 0;
    versions := 0;
    events := 0;
    shares := 0;
    select count(*), max(w.isolation_key) into v_walked, v_last
    from (
        select t.isolation_key
        from ai_storage_private.tenant as t
        where t.isolation_key > v_after
        order by t.isolation_key
        limit 1000
    ) as w;
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.isolation_key > v_after
          and t.isolation_key <= v_last
          and t.moved_to is null -- a move compares the others with their copies
          and (
              exists (
                  select from ai_storage_private.artifact_upload as u
                  where u.tenant_id = t.tenant_id
                    and u.touched_at < clock_timestamp() - interval '1 day'
              )
              or exists (
                  select from ai_storage_private.retention_rule as r
                  where r.org_id in ('*', t.org_id)
                    and r.server_id in ('*', t.server_id)
                    and r.project_id in ('*', t.project_id)
                    and r.environment in ('*', t.environment)
                    and r.code_hash in ('*', t.code_hash)
              )
          )
        order by t.isolation_key
    loop
        -- Whoever is in the way of one tenant's turn delays no other's: its turn comes next time.
        begin
            v_swept := ai_storage_private.sweep_tenant(
                v_tenant.tenant_id, v_tenant.isolation_key, v_most
            );
            if v_swept.versions + v_swept.events > 0 then
                tenants := tenants + 1;
                versions := versions + v_swept.versions;
                events := events + v_swept.events;
            end if;
            -- The rest of a long history goes in the next call.
            v_done := v_swept.versions < v_most;
        exception
            when lock_not_available or deadlock_detected or serialization_failure
                or sqlstate 'TN501'
            then
                v_done := true;
        end;
        exit when not v_done;
        v_after := v_tenant.isolation_key;
        if tenants >= p_limit then
            v_done := false;
            exit;
        end if;
    end loop;
    -- sweep_shares() deletes grants of many tenants, so it acts for none of them.
    perform ai_storage_private.restore_context('');

    if not v_done then
        cursor := v_after;
    elsif v_walked = 1000 then
        cursor := v_last;
    else
        shares := ai_storage_private.sweep_shares();
    end if;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_event(
        0, 'apply retention',
        p_detail => jsonb_build_object(
            'tenants', tenants, 'versions', versions, 'events', events, 'shares', shares
        )
    );
    return next;
end;
$$;

ALTER FUNCTION ai_storage.apply_retention(p_after text, p_limit integer) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION apply_retention(p_after text, p_limit integer); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.apply_retention(p_after text, p_limit integer) IS 'Deletes what the rules keep no longer: versions with their artifacts, idempotency keys and names in events; also abandoned uploads, and grants that are over. An event is kept without its names; it keeps them while what it describes exists. A call takes a part: at most p_limit tenants that lose something, 10000 versions of one, after the tenant p_after. cursor: pass it as p_after in the next transaction; null when all is done. A tenant is left for the next run when another transaction is in the way for 2 s, or its rule was just changed. Returns how many tenants lost something, and what. Raises 22023, 25000.';

--
-- Name: audit_proof(uuid, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.audit_proof(p_event_id uuid, p_as text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    return ai_storage_private.prove_event(v_tenant.tenant_id, p_event_id);
end;
$$;

ALTER FUNCTION ai_storage.audit_proof(p_event_id uuid, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION audit_proof(p_event_id uuid, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.audit_proof(p_event_id uuid, p_as text) IS 'Proves one sealed event of the caller: the event, its path to the root of its seal, the seal, and the seal''s path to its checkpoint. Verified offline by pydb/verifier.py. Raises TN001 to TN005, TN401.';

--
-- Name: audit_trail(timestamp with time zone, timestamp with time zone, text, text, integer, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.audit_trail(p_since timestamp with time zone DEFAULT NULL::timestamp with time zone, p_until timestamp with time zone DEFAULT NULL::timestamp with time zone, p_action text DEFAULT NULL::text, p_after text DEFAULT NULL::text, p_limit integer DEFAULT 1000, p_as text DEFAULT NULL::text) RETURNS TABLE(event_id uuid, recorded_at timestamp with time zone, action text, model_id uuid, version bigint, login text, credential text, actor text, detail jsonb, sealed boolean, cursor text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_after  uuid;
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if p_after !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;
    v_after := coalesce(p_after, '00000000-0000-0000-0000-000000000000')::uuid;

    -- The sealed ones last: what is sealed meanwhile there may be in two parts, of which one is
    -- taken, and now and then in none.
    return query
    select distinct on (e.event_id)
        e.event_id,
        e.recorded_at,
        e.action,
        e.model_id,
        e.version,
        e.login,
        e.credential,
        e.detail::jsonb ->> 'actor',
        e.detail::jsonb,
        e.is_sealed,
        e.event_id::text
    from (
        (
            select
                p.event_id, p.recorded_at, p.action, p.model_id, p.version, p.login,
                p.credential, p.detail, false as is_sealed
            from ai_storage_private.audit_pending as p
            where p.tenant_id = v_tenant.tenant_id
              and p.event_id > v_after
              and p.recorded_at >= coalesce(p_since, '-infinity')
              and p.recorded_at < coalesce(p_until, 'infinity')
              and p.action = coalesce(p_action collate "C", p.action)
            order by p.event_id
            limit p_limit
        )
        union all
        (
            select
                a.event_id, a.recorded_at, a.action, a.model_id, a.version, a.login,
                a.credential, a.detail, true as is_sealed
            from ai_storage_private.audit_event as a
            where a.tenant_id = v_tenant.tenant_id
              and a.event_id > v_after
              and a.recorded_at >= coalesce(p_since, '-infinity')
              and a.recorded_at < coalesce(p_until, 'infinity')
              and a.action = coalesce(p_action collate "C", a.action)
            order by a.event_id
            limit p_limit
        )
    ) as e
    order by e.event_id
    limit p_limit;
end;
$_$;

ALTER FUNCTION ai_storage.audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text) IS 'Returns the events of the caller''s own log in the order of their time. p_since, p_until: from and before. p_action: such as save model. p_after: the cursor of the last row you have. actor: the sub of the token, if it had one. detail: names. Both are null after an erasure. sealed: whether a seal covers it. For paging through what is there: a transaction that commits late adds events with an earlier time, so a follower calls changes(). Raises 22023, TN001 to TN005.';

--
-- Name: authorize_login(text, text, boolean); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.authorize_login(p_login text, p_pattern text, p_token_only boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_level constant text[] := string_to_array(p_pattern collate "C", ':');
    -- A login with NOINHERIT has no right of its groups, unless the grant says so.
    v_inherits text := '';
begin
    if ai_storage_private.is_tenant_pattern(p_pattern) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'A pattern has five levels joined by colons; each is a value or *, for example '
                'acme:*:*:*:*';
    end if;
    if not exists (
        select from pg_roles as r
        where r.rolname = p_login collate "C" and r.rolcanlogin
    ) then
        raise exception using
            errcode = '42704',
            message = 'no such login role',
            hint = 'Create it first: create role NAME login password ...; pydb init --app-login '
                'NAME does both.';
    end if;
    -- Such a login walks around row level security, so an authorisation would only pretend to limit
    -- it. With CREATEROLE it makes itself a member of what it likes on PostgreSQL 15.
    if exists (
        select from pg_roles as l
        join pg_roles as r on pg_has_role(l.oid, r.oid, 'MEMBER')
        where l.rolname = p_login collate "C"
          and (
              r.rolsuper
              or r.rolbypassrls
              or r.rolcreaterole
              or r.rolreplication
              or r.rolname in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
          )
    ) then
        raise exception using
            errcode = 'TN006',
            message = 'this login is too powerful to serve tenants',
            hint = 'Use a login that neither is nor may become a superuser, a role with '
                'BYPASSRLS, CREATEROLE or REPLICATION, or one of the owning roles.';
    end if;

    insert into ai_storage_private.login_authorization (
        login_name, org_id, server_id, project_id, environment, code_hash, token_only
    )
    values (
        p_login, v_level[1], v_level[2], v_level[3], v_level[4], v_level[5],
        coalesce(p_token_only, false)
    )
    on conflict on constraint login_authorization_pk do update set
        token_only    = excluded.token_only,
        authorized_at = excluded.authorized_at,
        authorized_by = excluded.authorized_by;
    if not pg_has_role(p_login, 'ai_storage_app', 'USAGE') then
        if current_setting('server_version_num')::integer >= 160000 then
            v_inherits := ' with inherit true';
        end if;
        execute format('grant ai_storage_app to %I', p_login) || v_inherits;
        if not pg_has_role(p_login, 'ai_storage_app', 'USAGE') then
            raise exception using
                errcode = '22023',
                message = 'this login does not inherit the rights of its groups',
                hint = 'Let it: alter role NAME inherit. From PostgreSQL 16 on that is not needed.';
        end if;
    end if;
end;
$$;

ALTER FUNCTION ai_storage.authorize_login(p_login text, p_pattern text, p_token_only boolean) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION authorize_login(p_login text, p_pattern text, p_token_only boolean); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.authorize_login(p_login text, p_pattern text, p_token_only boolean) IS 'Lets a login role act for every tenant the pattern covers, and grants it the application role. p_token_only: only with a signed token. Repeating it replaces p_token_only. Raises 22023, 42704, TN006.';

--
-- Name: begin_artifact(text, text, text, bigint, bigint, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.begin_artifact(p_model_name text DEFAULT NULL::text, p_artifact_name text DEFAULT 'upload'::text, p_media_type text DEFAULT 'application/octet-stream'::text, p_version bigint DEFAULT NULL::bigint, p_expected_version bigint DEFAULT NULL::bigint, p_as text DEFAULT NULL::text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant    constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => p_model_name is null);
    v_now       constant timestamptz := clock_timestamp();
    v_upload_id constant uuid := gen_random_uuid();
    v_model_id  uuid;
    v_version   bigint;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    perform ai_storage_private.sweep_uploads(v_tenant.tenant_id);
    if p_model_name is not null then
        select m.model_id, m.version into v_model_id, v_version
        from ai_storage_private.hold_model(
            v_tenant.tenant_id, p_model_name, p_version, p_expected_version
        ) as m;
    elsif p_version is not null or p_expected_version is not null then
        raise exception using
            errcode = '22023',
            message = 'a version of no model',
            hint = 'Name the model whose version it is; an upload for save_progress() has none.';
    end if;
    insert into ai_storage_private.artifact_upload (
        tenant_id, upload_id, model_id, version, received_bytes, began_at, touched_at,
        artifact_name, media_type
    )
    values (
        v_tenant.tenant_id, v_upload_id, v_model_id, v_version, 0, v_now, v_now,
        p_artifact_name, p_media_type
    );
    return v_upload_id;
end;
$$;

ALTER FUNCTION ai_storage.begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) IS 'Begins an upload in parts and returns its id. Nobody sees it before finish_artifact() makes it an artifact of the version for which it was begun: p_version, or the current version when it began. Without a model, which need not exist yet, it is for stage_artifact() and save_progress(). p_expected_version: only if it is the current one. An upload that stands still for a day is abandoned, and swept. Raises 22023, TN001 to TN005, TN101, TN102.';

--
-- Name: break_glass(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.break_glass(p_pattern text, p_reason text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  record;
    v_count   integer := 0;
    v_detail  jsonb;
begin
    perform ai_storage_private.check_reason(p_reason);
    v_detail := jsonb_build_object('pattern', p_pattern, 'reason', p_reason);
    for v_tenant in
        select t.* from ai_storage_private.covered_tenants(p_pattern) as t
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.record_event(
            v_tenant.tenant_id, 'break glass', p_detail => v_detail - 'pattern'
        );
        v_count := v_count + 1;
    end loop;
    perform ai_storage_private.restore_context(v_context);
    if v_count = 0 then
        raise exception using
            errcode = '42704',
            message = 'no tenant is covered by the pattern',
            hint = 'list_tenants() shows the tenants; compare the five levels.';
    end if;
    perform ai_storage_private.record_event(0, 'break glass', p_detail => v_detail);
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage.break_glass(p_pattern text, p_reason text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION break_glass(p_pattern text, p_reason text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.break_glass(p_pattern text, p_reason text) IS 'Announces that somebody is going to look at tenants'' data by hand: an event in the log of each tenant of the pattern and in the operator''s. It grants nothing; call it before a superuser looks. Returns how many tenants are told. Raises 22023, 42704.';

--
-- Name: changes(text, integer, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.changes(p_after text DEFAULT NULL::text, p_limit integer DEFAULT 1000, p_as text DEFAULT NULL::text) RETURNS TABLE(event_id uuid, recorded_at timestamp with time zone, action text, model_id uuid, version bigint, login text, credential text, actor text, detail jsonb, sealed boolean, cursor text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_after  bigint[];
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if p_after !~ '^[0-9]{1,18}[.][0-9]{1,9}$' then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;
    v_after := string_to_array(coalesce(p_after, '0.0'), '.')::bigint[];

    return query
    select
        e.event_id,
        e.recorded_at,
        e.action,
        e.model_id,
        e.version,
        e.login,
        e.credential,
        e.detail::jsonb ->> 'actor',
        e.detail::jsonb,
        true,
        e.seal_number || '.' || e.leaf_index
    from ai_storage_private.audit_event as e
    where e.tenant_id = v_tenant.tenant_id
      and (e.seal_number, e.leaf_index) > (v_after[1], v_after[2])
    order by e.seal_number, e.leaf_index
    limit p_limit;
end;
$_$;

ALTER FUNCTION ai_storage.changes(p_after text, p_limit integer, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION changes(p_after text, p_limit integer, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.changes(p_after text, p_limit integer, p_as text) IS 'Returns the sealed events of the caller''s own log in the order of their seals, for a follower: none is lost and none comes twice, since what commits late is sealed later. Rows are as those of audit_trail(). p_after: the cursor of the last row you have (seal and place), null for the beginning. Raises 22023, TN001 to TN005.';

--
-- Name: clear_tenant(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.clear_tenant() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    if v_field is not null then
        -- Still bound: the transaction may be given to the same tenant again, not to another one.
        perform ai_storage_private.set_context(
            'cleared', (v_field[2]::bigint, v_field[3], null, v_field[5], v_field[4])
        );
    end if;
    perform set_config('app.current_tenant', '', true);
end;
$$;

ALTER FUNCTION ai_storage.clear_tenant() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION clear_tenant(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.clear_tenant() IS 'Ends what set_tenant began: until the next credential, this transaction acts for nobody.';

--
-- Name: collect_evidence(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.collect_evidence() RETURNS TABLE(section text, content jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET "DateStyle" TO 'ISO'
    SET quote_all_identifiers TO 'off'
    AS $$
begin
    perform ai_storage_private.require_owner();
    section := 'release';
    content := jsonb_build_object(
        'database', current_database(),
        'version', ai_storage.version(),
        'server_version', current_setting('server_version')
    );
    return next;

    section := 'controls';
    content := (
        select jsonb_agg(to_jsonb(c) - array['checked_at', 'place'] order by c.place)
        from ai_storage_private.check_controls(false)
            with ordinality as c (
                control, reference, status, result, evidence, checked_at, place
            )
    );
    return next;

    section := 'roles';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'role', r.rolname,
                'can_login', r.rolcanlogin,
                'superuser', r.rolsuper,
                'bypassrls', r.rolbypassrls,
                'createrole', r.rolcreaterole,
                'replication', r.rolreplication,
                'member_of', array(
                    select distinct m.roleid::regrole::text
                    from pg_auth_members as m
                    where m.member = r.oid
                    order by 1
                )
            )
            order by r.rolname
        )
        from pg_roles as r
        where r.rolsuper
           or r.rolbypassrls
           or r.rolcreaterole
           or r.rolname in (
               'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_app',
               'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
           )
           or exists (
               select from pg_roles as g
               where g.rolname like 'ai_storage_%'
                 and pg_has_role(r.oid, g.oid, 'MEMBER')
           )
    );
    return next;

    section := 'rights';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'object', g.object, 'grantee', g.grantee, 'privileges', g.privileges
            )
            order by g.object, g.grantee
        )
        from (
            select
                o.object,
                case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee,
                array_agg(distinct lower(a.privilege_type) order by lower(a.privilege_type))
                    as privileges
            from (
                select 'schema ' || n.nspname as object, n.nspacl as acl, n.nspowner as owner
                from pg_namespace as n
                where n.nspname in ('ai_storage', 'ai_storage_private')
                union all
                select 'function ' || p.oid::regprocedure, p.proacl, p.proowner
                from pg_proc as p
                where p.pronamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
                union all
                select 'relation ' || c.oid::regclass, c.relacl, c.relowner
                from pg_class as c
                where c.relnamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
                union all
                select
                    'column ' || c.oid::regclass || '.' || t.attname, t.attacl, c.relowner
                from pg_class as c
                join pg_attribute as t on t.attrelid = c.oid
                where c.relnamespace
                    in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
            ) as o
            cross join aclexplode(o.acl) as a
            where a.grantee <> o.owner
            group by o.object, a.grantee
        ) as g
    );
    return next;

    section := 'policies';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'table', c.relname,
                'policy', p.polname,
                'roles', array(
                    select r.oid::regrole::text
                    from unnest(p.polroles) as r (oid)
                    order by 1
                ),
                'command', p.polcmd,
                'using', pg_get_expr(p.polqual, p.polrelid),
                'check', pg_get_expr(p.polwithcheck, p.polrelid),
                'comment', obj_description(p.oid, 'pg_policy')
            )
            order by c.relname, p.polname
        )
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        where c.relnamespace = 'ai_storage_private'::regnamespace
    );
    return next;

    section := 'triggers';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'table', c.relname,
                'trigger', g.tgname,
                'enabled', g.tgenabled,
                'definition', pg_get_triggerdef(g.oid)
            )
            order by c.relname, g.tgname
        )
        from pg_trigger as g
        join pg_class as c on c.oid = g.tgrelid
        where c.relnamespace = 'ai_storage_private'::regnamespace
          and not g.tgisinternal
    );
    return next;

    section := 'functions';
    content := (
        select jsonb_agg(
            jsonb_build_object(
                'function', p.oid::regprocedure,
                'owner', p.proowner::regrole,
                'security_definer', p.prosecdef,
                'settings', coalesce(p.proconfig, '{}'),
                'sha256', encode(sha256(convert_to(pg_get_functiondef(p.oid), 'UTF8')), 'hex')
            )
            order by p.oid::regprocedure::text
        )
        from pg_proc as p
        where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
    );
    return next;

    section := 'settings';
    content := (
        select jsonb_object_agg(s.name, current_setting(s.name))
        from unnest(array[
            'data_checksums', 'fsync', 'full_page_writes', 'listen_addresses',
            'log_min_duration_statement', 'log_parameter_max_length_on_error', 'log_statement',
            'password_encryption', 'row_security', 'session_replication_role', 'ssl',
            'synchronous_commit', 'wal_level'
        ]) as s (name)
    );
    return next;

    section := 'authorizations';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'login', a.login_name, 'pattern', a.pattern, 'token_only', a.token_only
            )
        ), '[]')
        from ai_storage.list_authorizations() as a
    );
    return next;

    section := 'signing_keys';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object(
                'kid', k.kid,
                'audience', k.audience,
                'created_at', ai_storage_private.render_time(k.created_at),
                'retired_at', ai_storage_private.render_time(k.retired_at)
            )
            order by k.kid
        ), '[]')
        from ai_storage_private.signing_key as k
    );
    return next;

    section := 'audit';
    content := (select to_jsonb(v) from ai_storage.verify_all_audit() as v);
    return next;

    section := 'checkpoints';
    content := (
        select coalesce(jsonb_agg(c.line order by c.place), '[]')
        from ai_storage_private.list_checkpoints() with ordinality as c (line, place)
    );
    return next;

    section := 'events';
    content := (
        select coalesce(jsonb_agg(
            jsonb_build_object('day', d.day, 'action', d.action, 'events', d.events)
            order by d.day, d.action
        ), '[]')
        from (
            select e.day, e.action, sum(e.events)::bigint as events
            from (
                select (s.recorded_at at time zone 'UTC')::date as day, s.action, count(*) as events
                from ai_storage_private.audit_event as s
                group by 1, 2
                union all
                select (p.recorded_at at time zone 'UTC')::date, p.action, count(*)
                from ai_storage_private.audit_pending as p
                group by 1, 2
            ) as e
            group by 1, 2
        ) as d
    );
    return next;

    section := 'shares';
    content := (
        select coalesce(jsonb_agg(s.grant_line order by s.grant_line), '[]')
        from ai_storage_private.summarize_shares() as s (grant_line)
    );
    return next;

    section := 'retention';
    content := (
        select coalesce(jsonb_agg(
            to_jsonb(r)
                || jsonb_build_object('set_at', ai_storage_private.render_time(r.set_at))
        ), '[]')
        from ai_storage.list_retention() as r
    );
    return next;

    section := 'erasures';
    content := (
        select coalesce(jsonb_agg(
            to_jsonb(c)
                || jsonb_build_object('erased_at', ai_storage_private.render_time(c.erased_at))
        ), '[]')
        from ai_storage.list_erasures() as c
    );
    return next;
end;
$$;

ALTER FUNCTION ai_storage.collect_evidence() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION collect_evidence(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.collect_evidence() IS 'What an auditor takes along, a section each: controls, roles, rights, policies, triggers, functions, settings, and what the log says of all tenants together, by counts. Times are UTC. The same twice while nothing changes. pydb evidence writes it as files.';

--
-- Name: compliance_report(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.compliance_report() RETURNS TABLE(control text, reference text, status text, result text, evidence text, checked_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET "DateStyle" TO 'ISO'
    SET quote_all_identifiers TO 'off'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select c.*
    from ai_storage_private.check_controls(false) as c;
end;
$$;

ALTER FUNCTION ai_storage.compliance_report() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION compliance_report(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.compliance_report() IS 'Checks every control now. reference: GDPR articles and SOC 2 criteria. status: passed, warning, failed, or unknown when nobody told. result: what the query found. evidence: the query, which a superuser may run as it stands. It recomputes the whole audit log, so it takes as long as verify_all_audit().';

--
-- Name: create_checkpoint(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.create_checkpoint() RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_last  ai_storage_private.audit_checkpoint;
    v_next  ai_storage_private.audit_checkpoint;
    v_seals bytea[];
begin
    perform ai_storage_private.require_owner();
    perform ai_storage_private.keep_durable();
    perform ai_storage_private.take_turn();

    select c.* into v_last
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number desc
    limit 1;
    v_next.checkpoint_number := coalesce(v_last.checkpoint_number, 0) + 1;
    v_seals := array(
        select s.seal_hash
        from ai_storage_private.audit_seal as s
        where s.checkpoint_number = v_next.checkpoint_number
        order by s.tenant_id, s.seal_number
    );
    if cardinality(v_seals) > 0 then
        v_next.created_at := clock_timestamp();
        v_next.seal_count := cardinality(v_seals);
        v_next.root := ai_storage_private.merkle_root(v_seals);
        v_next.previous_hash := coalesce(v_last.checkpoint_hash, decode(repeat('00', 32), 'hex'));
        v_next.checkpoint_hash := ai_storage_private.checkpoint_hash(v_next);
        insert into ai_storage_private.audit_checkpoint
        values (v_next.*);
        v_last := v_next;
    end if;
    return case when v_last.checkpoint_number > 0
        then ai_storage_private.render_checkpoint(v_last)
    end;
end;
$$;

ALTER FUNCTION ai_storage.create_checkpoint() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION create_checkpoint(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.create_checkpoint() IS 'Chains one root over all seals since the last checkpoint and returns the checkpoint: number, time, root, previous hash, hash. Without new seals it returns the last one, or null. Keep the hash outside the database. Raises 25000.';

--
-- Name: create_signing_key(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.create_signing_key(p_kid text DEFAULT NULL::text, p_audience text DEFAULT NULL::text) RETURNS TABLE(kid text, secret text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    -- 256 bits, of two random UUIDs with 122 each.
    v_secret constant text := ai_storage_private.encode_base64url(
        sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
    );
    v_kid    constant text := coalesce(p_kid, left(gen_random_uuid()::text, 8));
begin
    perform ai_storage_private.keep_signing_key(
        v_kid, coalesce(p_audience, current_database()), v_secret
    );
    return query select v_kid, v_secret;
end;
$$;

ALTER FUNCTION ai_storage.create_signing_key(p_kid text, p_audience text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION create_signing_key(p_kid text, p_audience text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.create_signing_key(p_kid text, p_audience text) IS 'Makes a key that signs tokens and returns it. The secret is shown this once; its characters are the key, as any JWT library takes it. p_kid: null makes one up. p_audience: what tokens name as aud; null for the name of the database. Several keys are valid side by side, to rotate them. Raises 22023, 23505.';

--
-- Name: current_tenant(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.current_tenant() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'transaction' then v_field[3] end;
end;
$$;

ALTER FUNCTION ai_storage.current_tenant() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION current_tenant(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.current_tenant() IS 'The isolation key that set_tenant set for this transaction, or null when there is none.';

--
-- Name: deauthorize_login(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.deauthorize_login(p_login text, p_pattern text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_level constant text[] := string_to_array(p_pattern collate "C", ':');
    v_count integer;
begin
    if p_pattern is not null and not ai_storage_private.is_tenant_pattern(p_pattern) then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'Name the pattern as list_authorizations() shows it, or none to remove all of '
                'the login''s.';
    end if;

    delete from ai_storage_private.login_authorization as a
    where a.login_name = p_login collate "C"
      and (
          p_pattern is null
          or (a.org_id, a.server_id, a.project_id, a.environment, a.code_hash)
              = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5])
      );
    get diagnostics v_count = row_count;
    -- The login stays in ai_storage_app, which is one for all databases of the server: others may
    -- authorise it. Without an authorisation the group names no tenant.
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage.deauthorize_login(p_login text, p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION deauthorize_login(p_login text, p_pattern text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.deauthorize_login(p_login text, p_pattern text) IS 'Takes back one authorisation of a login, or without a pattern all of them, and returns how many. It stays in ai_storage_app, which other databases may need. Holds from the next transaction on. Raises 22023.';

--
-- Name: decline_share(uuid, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage.decline_share(p_share_id uuid, p_as text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_share  ai_storage_private.model_share;
begin
    select f.* into v_share
    from ai_storage_private.in_force(array[p_share_id], v_tenant.isolation_key) as f
    where f.target = any (ai_storage_private.target_patterns(v_tenant.levels))
      and v_tenant.tenant_id <> all (f.sharer_ids);
    if not found then
        return false;
    end if;
    v_tenant := ai_storage_private.enter(p_as, p_register => true);
    insert into ai_storage_private.share_decline (
        tenant_id, owner_id, model_id, sharer_id, declined_at, model_name, owner_key, sharer_key,
        receiver_key
    )
    values (
        v_tenant.tenant_id, v_share.tenant_id, v_share.model_id, v_share.sharer_id,
        clock_timestamp(), v_share.model_name, v_share.owner_key, v_share.sharer_key,
        v_tenant.isolation_key
    )
    on conflict do nothing;
    return true;
end;
$$;

ALTER FUNCTION ai_storage.decline_share(p_share_id uuid, p_as text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION decline_share(p_share_id uuid, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage.decline_share(p_share_id uuid, p_as text) IS 'Ends a grant for the caller, which receives it, and for good: nothing that the same sharer grants on the model of that name and owner reaches the caller again. What the caller passed on from it ends too. A target with * goes on for others. Returns false when no such grant reaches the caller. Raises TN001 to TN005.';

--
-- Name: delete_artifact(text, text, bigint, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.delete_artifact(p_model_name text, p_artifact_name text, p_version bigint DEFAULT NULL::bigint, p_as text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model_id uuid;
    v_blob_ids uuid[];
    v_count    integer;
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    select p.model_id into v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id
      and p.model_name = p_model_name collate "C";
    v_blob_ids := array(
        select a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = v_tenant.tenant_id
          and a.model_id = v_model_id
          and a.artifact_name = p_artifact_name collate "C"
        for update
    );
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = v_tenant.tenant_id
      and a.model_id = v_model_id
      and a.artifact_name = p_artifact_name collate "C"
      and (p_version is null or a.version = p_version);
    get diagnostics v_count = row_count;
    perform ai_storage_private.sweep_blobs(v_tenant.tenant_id, v_blob_ids);
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage.delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text) IS 'Deletes an artifact of an own model: what was put at one version, or without p_version at any. Returns at how many versions. Raises TN001 to TN005, TN501.';

--
-- Name: delete_progress(text, bigint, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.delete_progress(p_model_name text, p_expected_version bigint DEFAULT NULL::bigint, p_as text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_version bigint;
begin
    perform ai_storage_private.check_hold(v_tenant.levels);
    loop
        delete from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
          and (p_expected_version is null or p.version = p_expected_version);
        if found then
            return true;
        end if;

        select p.version into v_version
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C";
        if not found then
            return false;
        end if;
        if v_version <> p_expected_version then
            raise exception using
                errcode = 'TN102',
                message = 'the model is not at the expected version',
                detail = format(
                    'Expected version %s, current version %s.', p_expected_version, v_version
                ),
                hint = 'Load the model again and decide whether it still has to go.';
        end if;
        -- It was replaced by another of its name while we waited for the old one: around again.
    end loop;
end;
$$;

ALTER FUNCTION ai_storage.delete_progress(p_model_name text, p_expected_version bigint, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION delete_progress(p_model_name text, p_expected_version bigint, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.delete_progress(p_model_name text, p_expected_version bigint, p_as text) IS 'Deletes a model with all its versions. Returns false when there is none of that name. p_expected_version: only if it is the current one. Raises TN001 to TN005, TN102, TN501.';

--
-- Name: digest_organisation(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.digest_organisation(p_org_id text) RETURNS TABLE(isolation_key text, tenant_id bigint, registered_at timestamp with time zone, moved_to text, row_count bigint, digest text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
begin
    perform ai_storage_private.require_owner();
    for isolation_key, tenant_id, registered_at, moved_to in
        select t.isolation_key, t.tenant_id, t.registered_at, t.moved_to
        from ai_storage_private.tenant as t
        where t.org_id = p_org_id collate "C"
        order by t.isolation_key
    loop
        perform ai_storage_private.act_for(tenant_id, isolation_key);
        select
            count(*),
            encode(sha256(coalesce(string_agg(r.digest, '' order by r.digest), '')), 'hex')
        into row_count, digest
        from ai_storage_private.list_own_rows(tenant_id) as r;
        return next;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.digest_organisation(p_org_id text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION digest_organisation(p_org_id text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.digest_organisation(p_org_id text) IS 'The tenants of an organisation, with how many rows a move copies and the sha256, in hexadecimal, of the sorted digests of these rows. It is equal in two cells that have the same content. moved_to: the cell for which a tenant is closed; null: it is open here.';

--
-- Name: drop_quota(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.drop_quota(p_pattern text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '5s'
    AS $$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
    v_found boolean;
begin
    perform ai_storage_private.lock_quotas();
    delete from ai_storage_private.quota as q
    where (q.org_id, q.server_id, q.project_id, q.environment, q.code_hash)
        = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5]);
    v_found := found;
    -- A total that nobody counts any more would be wrong.
    delete from ai_storage_private.quota_use as u
    where u.org_id <> ''
      and not exists (
          select from ai_storage_private.quota as q
          where (q.server_id, q.project_id, q.environment, q.code_hash)
                  = (u.server_id, u.project_id, u.environment, u.code_hash)
            and q.org_id in ('*', u.org_id)
      );
    return v_found;
end;
$$;

ALTER FUNCTION ai_storage.drop_quota(p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION drop_quota(p_pattern text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.drop_quota(p_pattern text) IS 'Removes the quota of exactly this pattern. Returns false when there is none. Raises 22023, 25000, 55P03.';

--
-- Name: drop_retention(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.drop_retention(p_pattern text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    delete from ai_storage_private.retention_rule as r
    where (r.org_id, r.server_id, r.project_id, r.environment, r.code_hash)
        = (v_level[1], v_level[2], v_level[3], v_level[4], v_level[5]);
    return found;
end;
$$;

ALTER FUNCTION ai_storage.drop_retention(p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION drop_retention(p_pattern text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.drop_retention(p_pattern text) IS 'Removes the rule, and with it the legal hold, of exactly this pattern. Returns false when there is none. Raises 22023.';

--
-- Name: erase_tenant(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.erase_tenant(p_pattern text, p_reason text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '10s'
    AS $$
declare
    v_context        constant text := ai_storage_private.trusted_context();
    v_certificate_id constant uuid := gen_random_uuid();
    v_now            constant timestamptz := clock_timestamp();
    v_tenant_ids     constant bigint[] := array(
        select t.tenant_id from ai_storage_private.covered_tenants(p_pattern) as t
    );
    v_model_ids      uuid[];
    v_subjects       text[];
    v_tenant         record;
    v_seal           record;
    v_counts         jsonb[] := '{}'::jsonb[];
    v_statement      text;
    v_event_id       uuid;
begin
    perform ai_storage_private.check_reason(p_reason);
    perform ai_storage_private.refuse_old_snapshot();
    if v_tenant_ids = '{}' then
        raise exception using
            errcode = '42704',
            message = 'no tenant is covered by the pattern',
            hint = 'list_tenants() shows the tenants; one is known from its first save on.';
    end if;
    -- The copy in the other cell would keep what is erased here.
    if exists (
        select from ai_storage_private.tenant as t
        join ai_storage_private.home as h on h.org_id = t.org_id
        where t.tenant_id = any (v_tenant_ids)
          and h.is_moving
    ) then
        raise exception using
            errcode = 'TN603',
            message = 'an organisation that the pattern covers is being moved to another cell',
            hint = 'When it was moved, erase in the cell that list_homes() names.';
    end if;

    -- The content, tenant by tenant. Whoever is writing is waited for before it is our turn, so
    -- that sealing goes on meanwhile. Models are held before grants, as everybody does.
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
        order by t.tenant_id
    loop
        perform ai_storage_private.check_hold(string_to_array(v_tenant.isolation_key, ':'));
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.lock_models(v_tenant.tenant_id);
        v_counts := v_counts || (
            jsonb_build_object(
                'shares', ai_storage_private.erase_shares(v_tenant.tenant_id)
            )
            || ai_storage_private.erase_content(v_tenant.tenant_id)
            || jsonb_build_object(
                'tenant_id', v_tenant.tenant_id, 'isolation_key', v_tenant.isolation_key
            )
        );
    end loop;

    -- The names in the log, also in the logs of those who used these tenants' models.
    perform ai_storage_private.take_turn();
    perform ai_storage_private.seal_events();
    -- Keep the events of what was saved after the content was erased.
    for v_tenant in
        select t.tenant_id, t.isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        v_subjects := v_subjects || array(
            select s
            from ai_storage_private.list_subjects(v_tenant.tenant_id) as s
        );
    end loop;
    v_model_ids := array(
        select distinct m.model_id
        from ai_storage_private.audit_event as m
        where m.tenant_id = any (v_tenant_ids)
          and m.action = 'save model'
    );
    update ai_storage_private.audit_event as e set
        salt   = null,
        detail = null
    where e.salt is not null
      and (
          e.tenant_id = any (v_tenant_ids)
          or e.model_id in (select m.model_id from unnest(v_model_ids) as m (model_id))
      )
      and not exists (
          select from unnest(v_subjects) as s (subject)
          where s.subject = ai_storage_private.event_subject(
              e.action, e.model_id, e.version, e.detail::jsonb
          )
      );

    for v_tenant in
        select
            t.tenant_id,
            t.isolation_key,
            row_number() over (order by t.tenant_id)::integer as place
        from ai_storage_private.tenant as t
        where t.tenant_id = any (v_tenant_ids)
        order by t.tenant_id
    loop
        -- The seal up to which the log has lost its names.
        select a.seal_number, a.seal_hash into v_seal
        from ai_storage_private.audit_seal as a
        where a.tenant_id = v_tenant.tenant_id
        order by a.seal_number desc
        limit 1;
        v_counts[v_tenant.place] := v_counts[v_tenant.place] || jsonb_build_object(
            'seal_number', v_seal.seal_number, 'seal_hash', encode(v_seal.seal_hash, 'hex')
        );
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        perform ai_storage_private.record_event(
            v_tenant.tenant_id, 'erase tenant',
            p_detail => jsonb_build_object('certificate_id', v_certificate_id)
        );
    end loop;
    perform ai_storage_private.restore_context(v_context);
    -- Whatever there was: a tenant may have had nothing left but names in its log.
    perform ai_storage_private.pass_gate(t.tenant_id)
    from unnest(v_tenant_ids) as t (tenant_id);

    v_statement := jsonb_build_object(
        'certificate_id', v_certificate_id,
        'erased_at', ai_storage_private.micros(v_now),
        'erased_by', session_user,
        'pattern', p_pattern,
        'reason', p_reason,
        'tenants', (
            select jsonb_agg(c.counts order by c.counts ->> 'isolation_key' collate "C")
            from unnest(v_counts) as c (counts)
        )
    )::text;
    v_event_id := ai_storage_private.record_event(
        0, 'erase tenant',
        p_content => v_statement,
        p_detail => jsonb_build_object(
            'certificate_id', v_certificate_id, 'pattern', p_pattern, 'reason', p_reason
        )
    );
    insert into ai_storage_private.erasure_certificate (
        certificate_id, event_id, erased_at, statement
    )
    values (v_certificate_id, v_event_id, v_now, v_statement);
    perform ai_storage_private.seal_events();
    perform ai_storage.create_checkpoint();
    return ai_storage.erasure_certificate(v_certificate_id);
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = 'a session keeps the tenant''s data locked',
            detail = 'It was waited for 10 s. Nothing was erased.',
            hint = 'pg_stat_activity shows the transactions that are open. End them with '
                'pg_terminate_backend(), and erase again.';
end;
$$;

ALTER FUNCTION ai_storage.erase_tenant(p_pattern text, p_reason text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION erase_tenant(p_pattern text, p_reason text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.erase_tenant(p_pattern text, p_reason text) IS 'Erases all data of the registered tenants that the pattern covers: models, versions, grants they gave, idempotency keys, remembered names, and the salts and names in their events and in others'' events about their models. The events stay and verify. Returns the certificate, which pydb/verifier.py checks offline; it counts once this transaction is committed. Open saves are waited for, 10 s at most; what others save, read or pass on and commit later is new data: erase again. Dead rows go with the next VACUUM. Raises 22023, 25000, 42704, 55P03, TN501, TN603.';

--
-- Name: erasure_certificate(uuid); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_certificate ai_storage_private.erasure_certificate;
    v_proof       jsonb;
begin
    perform ai_storage_private.require_owner();
    select c.* into v_certificate
    from ai_storage_private.erasure_certificate as c
    where c.certificate_id = p_certificate_id;
    if not found then
        raise exception using
            errcode = 'TN502',
            message = 'no such certificate',
            hint = 'list_erasures() shows the certificates.';
    end if;
    v_proof := ai_storage_private.prove_event(0, v_certificate.event_id);
    return jsonb_build_object(
        'kind', 'certificate',
        'statement', v_certificate.statement,
        'proof', v_proof,
        'checkpoint', (
            select ai_storage_private.render_checkpoint(c)
            from ai_storage_private.audit_checkpoint as c
            where c.checkpoint_number = (v_proof -> 'seal' ->> 'checkpoint_number')::bigint
        )
    );
end;
$$;

ALTER FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION erasure_certificate(p_certificate_id uuid); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) IS 'A certificate of an erasure: the statement, the event that holds its digest, and the path from it to a checkpoint. Verified offline by pydb/verifier.py. Raises TN502.';

--
-- Name: export_audit(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.export_audit(p_as text DEFAULT NULL::text) RETURNS SETOF jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    return query
    select b.line
    from ai_storage_private.list_bundle(v_tenant.tenant_id) as b (line);
end;
$$;

ALTER FUNCTION ai_storage.export_audit(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION export_audit(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.export_audit(p_as text) IS 'The bundle of the caller''s sealed log: its events, its seals with their paths, and all checkpoints, an object each. Verified offline by pydb/verifier.py. Raises TN001 to TN005.';

--
-- Name: export_tenant(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.export_tenant(p_as text DEFAULT NULL::text) RETURNS SETOF jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    if v_tenant.tenant_id > 0 then
        if current_setting('transaction_read_only') = 'on' then
            raise exception using
                errcode = '25006',
                message = 'an export is logged, and this transaction is read-only',
                hint = 'Use a read-write transaction on the primary server.';
        end if;
        perform ai_storage_private.record_event(v_tenant.tenant_id, 'export tenant');
    end if;

    -- One query, so that the manifest counts what the lines hold.
    return query
    with record (part, name, version, line) as materialized (
        select
            1, v.model_name, v.version, jsonb_build_object(
                'kind'::text, 'version'::text,
                'model_name'::text, v.model_name,
                'version'::text, v.version,
                'previous_version'::text, v.previous_version,
                'created_at'::text, v.created_at,
                'saved_at'::text, v.saved_at,
                'saved_by'::text, v.saved_by,
                'mse'::text, v.mse,
                'training_samples'::text, v.training_samples,
                'metrics'::text, v.metrics,
                'metadata'::text, v.metadata
            )
        from (
            select
                h.*,
                p.model_name,
                p.created_at,
                lag(h.version) over (partition by h.model_id order by h.version)
                    as previous_version
            from ai_storage_private.progress_version as h
            join ai_storage_private.ai_progress_tenant as p
                on p.tenant_id = h.tenant_id
                and p.model_id = h.model_id
            where h.tenant_id = v_tenant.tenant_id
              and p.tenant_id = v_tenant.tenant_id
        ) as v
        union all
        select
            2, d.model_name, 0, jsonb_build_object(
                'kind'::text, 'deleted model'::text,
                'model_name'::text, d.model_name,
                'last_version'::text, d.last_version,
                'deleted_at'::text, d.deleted_at
            )
        from ai_storage_private.deleted_model as d
        where d.tenant_id = v_tenant.tenant_id
        union all
        select
            3, k.idempotency_key, 0, jsonb_build_object(
                'kind'::text, 'idempotency key'::text,
                'idempotency_key'::text, k.idempotency_key,
                'version'::text, k.version,
                'created'::text, k.created,
                'saved_at'::text, k.saved_at,
                'request_digest'::text, encode(k.request_digest, 'hex')
            )
        from ai_storage_private.idempotency_key as k
        where k.tenant_id = v_tenant.tenant_id
        union all
        -- A content comes before the artifacts that name it.
        select
            4, encode(b.sha256, 'hex') || b.size_bytes, c.chunk_number, jsonb_build_object(
                'kind'::text, 'chunk'::text,
                'sha256'::text, encode(b.sha256, 'hex'),
                'size_bytes'::text, b.size_bytes,
                'chunk_number'::text, c.chunk_number,
                'content'::text, translate(encode(c.content, 'base64'), E'\n', '')
            )
        from ai_storage_private.artifact_blob as b
        join ai_storage_private.artifact_chunk as c
            on c.tenant_id = b.tenant_id
            and c.blob_id = b.blob_id
        where b.tenant_id = v_tenant.tenant_id
          and c.tenant_id = v_tenant.tenant_id
        union all
        select
            5, p.model_name || ' ' || a.artifact_name, a.version, jsonb_build_object(
                'kind'::text, 'artifact'::text,
                'model_name'::text, p.model_name,
                'artifact_name'::text, a.artifact_name,
                'version'::text, a.version,
                'media_type'::text, a.media_type,
                'sha256'::text, encode(b.sha256, 'hex'),
                'size_bytes'::text, b.size_bytes,
                'put_at'::text, a.put_at
            )
        from ai_storage_private.model_artifact as a
        join ai_storage_private.ai_progress_tenant as p
            on p.tenant_id = a.tenant_id
            and p.model_id = a.model_id
        join ai_storage_private.artifact_blob as b
            on b.tenant_id = a.tenant_id
            and b.blob_id = a.blob_id
        where a.tenant_id = v_tenant.tenant_id
          and p.tenant_id = v_tenant.tenant_id
        union all
        select
            6, s.share_id::text, 0, jsonb_build_object(
                'kind'::text, 'share'::text,
                'model_name'::text, s.model_name,
                'shared_by'::text, s.sharer_key,
                'target'::text, s.target,
                'permissions'::text, s.permissions,
                'version'::text, s.pinned_version,
                'expires_at'::text, s.expires_at
            )
        from ai_storage_private.model_share as s
        where s.tenant_id = v_tenant.tenant_id
        union all
        select
            7, d.owner_key || ' ' || d.model_name || ' ' || d.sharer_key, 0, jsonb_build_object(
                'kind'::text, 'decline'::text,
                'model_name'::text, d.model_name,
                'owner'::text, d.owner_key,
                'shared_by'::text, d.sharer_key
            )
        from ai_storage_private.share_decline as d
        where d.tenant_id = v_tenant.tenant_id
    )
    select l.line
    from (
        select
            0, ''::text collate "C", 0::bigint, jsonb_build_object(
                'kind'::text, 'manifest'::text,
                'format'::text, 1,
                'isolation_key'::text, v_tenant.isolation_key,
                'records'::text, count(*),
                'digest'::text, encode(sha256(coalesce(string_agg(
                    sha256(convert_to(r.line::text, 'UTF8')), ''
                    order by r.part, r.name, r.version
                ), '')), 'hex')
            )
        from record as r
        union all
        select r.part, r.name, r.version, r.line
        from record as r
    ) as l (part, name, version, line)
    order by l.part, l.name, l.version;
end;
$$;

ALTER FUNCTION ai_storage.export_tenant(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION export_tenant(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.export_tenant(p_as text) IS 'All that the caller has, an object each: first a manifest, then every version of every model by name and number, remembered deletions, idempotency keys, contents by chunk, artifacts, grants and declines. The manifest''s digest is the sha256 of the sha256 of each further line, as text. import_tenant() takes the lines back; the log is export_audit()''s. Logged. Raises 25006, TN001 to TN005.';

--
-- Name: export_tenant_audit(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.export_tenant_audit(p_isolation_key text) RETURNS SETOF jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    return query
    select b.line
    from ai_storage_private.list_bundle(v_tenant.tenant_id) as b (line);
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.export_tenant_audit(p_isolation_key text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION export_tenant_audit(p_isolation_key text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.export_tenant_audit(p_isolation_key text) IS 'The bundle of a tenant''s sealed log, as export_audit() returns it to the tenant. Raises 42704.';

--
-- Name: finish_artifact(uuid, bigint, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text DEFAULT NULL::text) RETURNS TABLE(sha256 text, size_bytes bigint, is_new boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_upload ai_storage_private.artifact_upload;
    v_sha256 bytea;
begin
    -- The model first: whoever deletes it goes on to its uploads.
    perform from ai_storage_private.artifact_upload as u
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = u.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
      and p.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id
    for key share of p;
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    v_sha256 := ai_storage_private.check_upload(v_upload, p_size_bytes, p_sha256);
    if v_upload.model_id is null then
        raise exception using
            errcode = 'TN101',
            message = 'the upload is for no model',
            hint = 'It was begun for a save: end it with stage_artifact() and name it in '
                'save_progress().';
    end if;
    -- Retention may have deleted it meanwhile.
    perform ai_storage_private.hold_version(
        v_tenant.tenant_id, v_upload.model_id, v_upload.version
    );
    is_new := ai_storage_private.attach_upload(
        v_upload, v_upload.model_id, v_upload.version,
        v_upload.artifact_name, v_upload.media_type, v_sha256
    );
    sha256 := p_sha256;
    size_bytes := p_size_bytes;
    return next;
end;
$$;

ALTER FUNCTION ai_storage.finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) IS 'Makes an upload an artifact of the version for which it was begun, if its size and sha256 are those announced. Returns as put_artifact(). Raises TN001 to TN005, TN101, TN201, TN203.';

--
-- Name: forbid_external_sharing(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.forbid_external_sharing(p_org_id text, p_to_org_id text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_permit_ids constant uuid[] := array(
        select e.permit_id
        from ai_storage_private.external_sharing_permit as e
        where e.org_id = p_org_id collate "C"
          and e.to_org_id = coalesce(p_to_org_id, e.to_org_id) collate "C"
    );
    v_count      constant integer := ai_storage_private.count_permitted(v_permit_ids);
begin
    delete from ai_storage_private.external_sharing_permit as e
    where e.permit_id = any (v_permit_ids);
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage.forbid_external_sharing(p_org_id text, p_to_org_id text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION forbid_external_sharing(p_org_id text, p_to_org_id text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.forbid_external_sharing(p_org_id text, p_to_org_id text) IS 'Ends allow_external_sharing for one organisation, or with null for all that p_org_id may share with, and with it every grant that names such an organisation and all that derives from it, for good. A target with * reaches it no more. Returns how many grants ended.';

--
-- Name: get_artifact(text, text, text, bigint, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.get_artifact(p_model_name text, p_artifact_name text, p_owner text DEFAULT NULL::text, p_version bigint DEFAULT NULL::bigint, p_as_of boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return ai_storage.read_artifact(
        p_model_name, p_artifact_name, p_owner, p_version, p_as_of => p_as_of, p_as => p_as
    );
end;
$$;

ALTER FUNCTION ai_storage.get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) IS 'All bytes of an artifact: of an own model, or with p_owner of one that is shared for execute. p_version, p_as_of: as in open_artifact(); without them that of exactly the current version. Above some MiB read_chunks() is faster. Each use of another tenant''s artifact is logged for both. Raises 25006, TN001 to TN005, TN101, TN204.';

--
-- Name: has_permission(text, text, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.has_permission(p_owner text, p_model_name text, p_permission text, p_as text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    perform ai_storage_private.check_permission(p_permission);
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return ai_storage_private.has_grant(
            v_tenant, p_owner collate "C", p_model_name collate "C", p_permission
        );
    end if;
    return exists (
        select from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
    );
end;
$$;

ALTER FUNCTION ai_storage.has_permission(p_owner text, p_model_name text, p_permission text, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION has_permission(p_owner text, p_model_name text, p_permission text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.has_permission(p_owner text, p_model_name text, p_permission text, p_as text) IS 'Whether the caller may read, execute, write or share a model. p_owner: the owner''s isolation key, or null for the caller''s own models, which it may do everything with. False when there is no such model. Raises 22023, TN001 to TN005.';

--
-- Name: hold_organisation(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.hold_organisation(p_org_id text, p_cell_name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.hold_organisation(p_org_id text, p_cell_name text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION hold_organisation(p_org_id text, p_cell_name text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.hold_organisation(p_org_id text, p_cell_name text) IS 'First step of moving an organisation: closes it in this cell. Call it in both cells. From its commit on, new calls for the organisation are refused with TN603; wait until older transactions have ended, and call it again for what they registered. p_cell_name: the new cell. Returns the number of tenants closed. Raises 22023, 42704, TN501.';

--
-- Name: home(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.home(p_as text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.home(p_as text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION home(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.home(p_as text) IS 'The name of the cell in which the caller''s organisation lives, or null when there are no cells. Raises TN001 to TN005, TN603.';

--
-- Name: import_tenant(jsonb, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.import_tenant(p_records jsonb, p_as text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_record jsonb;
    v_count  bigint := 0::bigint;
    v_hint   text;
begin
    if jsonb_typeof(p_records) is distinct from 'array' then
        raise exception using
            errcode = '22023',
            message = 'invalid records',
            hint = 'Pass an array of the lines of export_tenant().';
    end if;
    for v_record in
        select e.value from jsonb_array_elements(p_records) as e
    loop
        case v_record ->> 'kind'
            when 'version' then
                perform ai_storage_private.import_version(v_tenant.tenant_id, v_record);
            when 'deleted model' then
                perform ai_storage_private.import_deletion(v_tenant.tenant_id, v_record);
            when 'idempotency key' then
                perform ai_storage_private.import_key(v_tenant.tenant_id, v_record);
            when 'chunk' then
                perform ai_storage_private.import_chunk(v_tenant.tenant_id, v_record);
            when 'artifact' then
                perform ai_storage_private.import_artifact(v_tenant.tenant_id, v_record);
            when 'manifest', 'share', 'decline' then
                continue; -- whom to share with is decided where the models are now
            else
                raise exception using
                    errcode = '22023',
                    message = 'unknown kind of record',
                    hint = 'Pass the lines of export_tenant() as they are.';
        end case;
        v_count := v_count + 1;
    end loop;
    perform ai_storage_private.record_event(
        v_tenant.tenant_id, 'import tenant', p_detail => jsonb_build_object('records', v_count)
    );
    return v_count;
exception
    when data_exception or not_null_violation or check_violation then
        get stacked diagnostics v_hint = pg_exception_hint;
        if v_hint <> '' then
            raise; -- one of ours
        end if;
        raise exception using
            errcode = '22023',
            message = 'invalid record',
            hint = 'Pass the lines of export_tenant() as they are.';
end;
$$;

ALTER FUNCTION ai_storage.import_tenant(p_records jsonb, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_tenant(p_records jsonb, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.import_tenant(p_records jsonb, p_as text) IS 'Restores lines of export_tenant(), all or nothing, into the caller''s tenant: models with their versions, artifacts, times and numbers, remembered deletions and idempotency keys, not the grants, and not who had saved a version: all are the caller''s. Long exports go in several calls, in their order. Each version is an event. Returns how many lines. Raises 22023, 23505, TN001 to TN005.';

--
-- Name: is_isolation_key(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.is_isolation_key(p_key text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    -- A level of more than 63 characters is looked for only where there is room for one: with a
    -- bound within the first pattern the whole took 9 to 25 times as long.
    select p_key ~ '^([A-Za-z0-9._+@~=/-]+:){4}[A-Za-z0-9._+@~=/-]+$'
        and (length(p_key) < 64 + length(':s:p:e:c') or p_key !~ '[^:]{64}');
$_$;

ALTER FUNCTION ai_storage.is_isolation_key(p_key text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_isolation_key(p_key text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.is_isolation_key(p_key text) IS 'True for five levels joined by colons; false or null for anything else.';

--
-- Name: isolation_key(text, text, text, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    -- A colon inside a level makes more than five, a null level makes the whole null: both are
    -- refused below.
    v_key constant text := p_org_id || ':' || p_server_id || ':' || p_project_id
        || ':' || p_environment || ':' || p_code_hash;
begin
    if ai_storage.is_isolation_key(v_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant level',
            hint = 'Each of the five levels has 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = '
                '/ -';
    end if;
    return v_key;
end;
$$;

ALTER FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) IS 'Renders five tenant levels as an isolation key. Two different tenants never render alike. Raises 22023.';

--
-- Name: list_artifacts(text, text, bigint, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.list_artifacts(p_model_name text DEFAULT NULL::text, p_owner text DEFAULT NULL::text, p_version bigint DEFAULT NULL::bigint, p_as_of boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS TABLE(model_name text, owner_key text, artifact_name text, version bigint, sha256 text, size_bytes bigint, media_type text, put_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.*
        from ai_storage_private.list_shared_artifacts(
            v_tenant, p_owner, p_model_name, p_version, p_as_of
        ) as s;
        return;
    end if;
    if p_version is not null and not exists (
        select from ai_storage_private.ai_progress_tenant as p
        join ai_storage_private.progress_version as v
            on v.tenant_id = p.tenant_id
            and v.model_id = p.model_id
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name = p_model_name collate "C"
          and v.tenant_id = v_tenant.tenant_id
          and v.version = p_version
    ) then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'Name a model and one of its versions; load_history() shows those there are.';
    end if;
    return query
    select
        p.model_name,
        v_tenant.isolation_key,
        a.artifact_name,
        a.version,
        encode(b.sha256, 'hex'),
        b.size_bytes,
        a.media_type,
        a.put_at
    from ai_storage_private.ai_progress_tenant as p
    join ai_storage_private.model_artifact as a
        on a.tenant_id = p.tenant_id
        and a.model_id = p.model_id
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where p.tenant_id = v_tenant.tenant_id
      and a.tenant_id = v_tenant.tenant_id
      and (p_model_name is null or p.model_name = p_model_name collate "C")
      and case when p_as_of
          then a.version = (
              select max(o.version)
              from ai_storage_private.model_artifact as o
              where o.tenant_id = v_tenant.tenant_id
                and o.model_id = a.model_id
                and o.artifact_name = a.artifact_name
                and o.version <= coalesce(p_version, p.version)
          )
          else a.version = coalesce(p_version, a.version)
      end
    order by p.model_name, a.artifact_name, a.version desc;
end;
$$;

ALTER FUNCTION ai_storage.list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) IS 'The artifacts of one own model or of all, or with p_owner of one model that is shared for execute, at every version at which one was put, the newest first. p_version: those of exactly this version of one model. p_as_of: instead those that were put last up to p_version, or up to the current version. Raises TN001 to TN005, TN101.';

--
-- Name: list_authorizations(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_authorizations() RETURNS TABLE(login_name text, pattern text, token_only boolean, authorized_at timestamp with time zone, authorized_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        a.login_name::text,
        concat_ws(':', a.org_id, a.server_id, a.project_id, a.environment, a.code_hash),
        a.token_only,
        a.authorized_at,
        a.authorized_by::text
    from ai_storage_private.login_authorization as a
    order by 1, 2;
end;
$$;

ALTER FUNCTION ai_storage.list_authorizations() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_authorizations(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_authorizations() IS 'Who may name which tenants: one row per login and pattern.';

--
-- Name: list_cells(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_cells() RETURNS TABLE(cell_name text, is_here boolean, takes_new boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select c.cell_name, c.is_here, c.takes_new
    from ai_storage_private.cell as c
    order by c.cell_name;
end;
$$;

ALTER FUNCTION ai_storage.list_cells() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_cells(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_cells() IS 'The cells, by name.';

--
-- Name: list_code_versions(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.list_code_versions(p_as text DEFAULT NULL::text) RETURNS TABLE(code_hash text, is_own boolean, models bigint, last_saved_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_own    constant text := current_setting('app.tenant_context', true);
    v_source ai_storage_private.acting_tenant;
begin
    foreach code_hash in array ai_storage_private.list_covered_versions(p_as) loop
        is_own := code_hash = v_tenant.levels[5];
        v_source := v_tenant;
        if not is_own then
            v_source := ai_storage_private.enter_code_version(code_hash collate "C", p_as);
        end if;
        select count(*), max(p.updated_at) into models, last_saved_at
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_source.tenant_id;
        perform ai_storage_private.restore_context(v_own);
        return next;
    end loop;
end;
$$;

ALTER FUNCTION ai_storage.list_code_versions(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_code_versions(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.list_code_versions(p_as text) IS 'The code versions of the caller''s other four levels that ever wrote and that its credential covers, the newest first: what promote_progress() takes, and the caller''s own. Raises TN001 to TN005.';

--
-- Name: list_erasures(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_erasures() RETURNS TABLE(certificate_id uuid, erased_at timestamp with time zone, erased_by text, pattern text, reason text, tenants integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        c.certificate_id,
        c.erased_at,
        s.statement ->> 'erased_by',
        s.statement ->> 'pattern',
        s.statement ->> 'reason',
        jsonb_array_length(s.statement -> 'tenants')
    from ai_storage_private.erasure_certificate as c
    cross join lateral (select c.statement::jsonb) as s (statement)
    order by c.erased_at, c.certificate_id;
end;
$$;

ALTER FUNCTION ai_storage.list_erasures() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_erasures(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_erasures() IS 'The erasures, one row a certificate.';

--
-- Name: list_external_sharing(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_external_sharing() RETURNS TABLE(org_id text, to_org_id text, permitted_at timestamp with time zone, permitted_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select e.org_id, e.to_org_id, e.permitted_at, e.permitted_by::text
    from ai_storage_private.external_sharing_permit as e
    order by e.org_id, e.to_org_id;
end;
$$;

ALTER FUNCTION ai_storage.list_external_sharing() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_external_sharing(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_external_sharing() IS 'Which organisation may share with which other.';

--
-- Name: list_homes(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_homes() RETURNS TABLE(org_id text, cell_name text, is_moving boolean, open_tenants bigint, closed_tenants bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.list_homes() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_homes(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_homes() IS 'The organisations that are known here and the cells that they live in, by organisation, with the numbers of their tenants that are open and closed in this cell.';

--
-- Name: list_quotas(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_quotas() RETURNS TABLE(pattern text, max_models bigint, max_bytes bigint, models bigint, bytes bigint, set_at timestamp with time zone, set_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        concat_ws(':', q.org_id, q.server_id, q.project_id, q.environment, q.code_hash),
        q.max_models,
        q.max_bytes,
        coalesce(max(u.models), 0),
        coalesce(max(u.bytes), 0),
        q.set_at,
        q.set_by::text
    from ai_storage_private.quota as q
    left join ai_storage_private.quota_use as u
        on (u.server_id, u.project_id, u.environment, u.code_hash)
            = (q.server_id, q.project_id, q.environment, q.code_hash)
        and q.org_id in ('*', u.org_id)
    group by q.org_id, q.server_id, q.project_id, q.environment, q.code_hash
    order by 1;
end;
$$;

ALTER FUNCTION ai_storage.list_quotas() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_quotas(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_quotas() IS 'The quotas, one row a pattern. models and bytes: what its tenants keep; for a pattern of all organisations, in the one that keeps most.';

--
-- Name: list_received_shares(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage.list_received_shares(p_owner text DEFAULT NULL::text, p_as text DEFAULT NULL::text) RETURNS TABLE(share_id uuid, model_name text, owner_key text, shared_by text, target text, permissions text[], version bigint, expires_at timestamp with time zone, created_at timestamp with time zone, state text, parent_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_patterns constant text[] := ai_storage_private.used_patterns(v_tenant.levels);
    v_owner    text := '';
    v_name     text := '';
    v_owners   text[];
    v_names    text[];
begin
    for i in 1 .. 10 loop
        select p.owners, p.names into v_owners, v_names
        from ai_storage_private.page_received(v_patterns, p_owner, null, v_owner, v_name) as p;
        exit when v_names is null;
        v_owner := v_owners[cardinality(v_owners)];
        v_name := v_names[cardinality(v_names)];
        return query
        select
            f.share_id,
            f.model_name,
            f.owner_key,
            f.sharer_key,
            f.target,
            f.permissions,
            f.pinned_version,
            f.expires_at,
            f.created_at,
            case when exists (
                select from ai_storage_private.share_decline as d
                where d.tenant_id = v_tenant.tenant_id
                  and d.owner_id = f.tenant_id
                  and d.model_name = f.model_name
                  and d.sharer_id = f.sharer_id
            ) then 'declined' else 'active' end,
            null::uuid
        from ai_storage_private.in_force(
            ai_storage_private.grants_on(v_patterns, v_owners, v_names), null
        ) as f
        where ai_storage_private.may_share_with(
            split_part(f.sharer_key, ':', 1), v_tenant.levels[1]
        )
          and f.owner_key <> v_tenant.isolation_key
        order by f.owner_key, f.model_name, f.target, f.share_id;
    end loop;
end;
$$;

ALTER FUNCTION ai_storage.list_received_shares(p_owner text, p_as text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION list_received_shares(p_owner text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage.list_received_shares(p_owner text, p_as text) IS 'The grants that reach the caller, on up to 1,000 models: of each owner on its first 100, or with p_owner of that one alone. version: the only one to be seen, or null. state: active, or declined. Raises TN001 to TN005.';

--
-- Name: list_retention(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_retention() RETURNS TABLE(pattern text, keep_versions integer, keep_versions_for interval, keep_events_for interval, legal_hold boolean, set_at timestamp with time zone, set_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        concat_ws(':', r.org_id, r.server_id, r.project_id, r.environment, r.code_hash),
        r.keep_versions,
        r.keep_versions_for,
        r.keep_events_for,
        r.legal_hold,
        r.set_at,
        r.set_by::text
    from ai_storage_private.retention_rule as r
    order by 1;
end;
$$;

ALTER FUNCTION ai_storage.list_retention() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_retention(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_retention() IS 'The rules, one row a pattern.';

--
-- Name: list_rows(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_rows(p_isolation_key text) RETURNS TABLE(table_name text, row_id text, digest text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    return query
    select r.table_name, r.row_id, encode(r.digest, 'hex')
    from ai_storage_private.list_own_rows(v_tenant.tenant_id) as r;
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.list_rows(p_isolation_key text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_rows(p_isolation_key text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_rows(p_isolation_key text) IS 'The rows of a tenant that a move copies, in the order in which to write them. row_id: the primary key, as a JSON object. digest: sha256 of the content, in hexadecimal. Raises 42704.';

--
-- Name: list_shares(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage.list_shares(p_model_name text DEFAULT NULL::text, p_as text DEFAULT NULL::text) RETURNS TABLE(share_id uuid, model_name text, owner_key text, shared_by text, target text, permissions text[], version bigint, expires_at timestamp with time zone, created_at timestamp with time zone, state text, parent_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    -- What derives from my grants lies on the models that I gave.
    return query
    select
        f.share_id,
        f.model_name,
        f.owner_key,
        f.sharer_key,
        f.target,
        f.permissions,
        f.pinned_version,
        f.expires_at,
        f.created_at,
        coalesce(
            (
                -- Who declined a target with * is not told: it would name those it covers.
                select case when bool_or(d.receiver_key = f.target)
                    then 'declined' else 'partly declined' end
                from ai_storage_private.share_decline as d
                where d.owner_id = f.tenant_id
                  and d.model_name = f.model_name
                  and d.sharer_id = f.sharer_id
                  and f.target = any (ai_storage_private.target_patterns(
                      string_to_array(d.receiver_key, ':')
                  ))
                having count(*) > 0
            ),
            'active'
        ),
        f.ancestors[cardinality(f.ancestors)]
    from ai_storage_private.in_force(
        array(
            select distinct s.share_id
            from ai_storage_private.model_share as g
            join ai_storage_private.model_share as s
                on s.tenant_id = g.tenant_id
                and s.model_id = g.model_id
            where g.sharer_id = v_tenant.tenant_id
              and v_tenant.tenant_id = any (s.sharer_ids)
              and (p_model_name is null or s.model_name = p_model_name collate "C")
        ),
        null
    ) as f
    order by f.model_name, f.owner_key, f.target, f.share_id;
end;
$$;

ALTER FUNCTION ai_storage.list_shares(p_model_name text, p_as text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION list_shares(p_model_name text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage.list_shares(p_model_name text, p_as text) IS 'The grants that the caller may end: those on its own models, whoever gave them, and those it passed on, with all that derive from them. version: the pinned one, or null. state: active, declined by the tenant it names, or partly declined by some that its * covers. parent_id: the grant it was passed on from, or null. Raises TN001 to TN005.';

--
-- Name: list_signing_keys(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_signing_keys() RETURNS TABLE(kid text, audience text, created_at timestamp with time zone, created_by text, retired_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select k.kid, k.audience, k.created_at, k.created_by::text, k.retired_at
    from ai_storage_private.signing_key as k
    order by k.created_at, k.kid;
end;
$$;

ALTER FUNCTION ai_storage.list_signing_keys() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_signing_keys(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_signing_keys() IS 'The keys that sign tokens, retired ones too, without their secrets.';

--
-- Name: list_tenants(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.list_tenants(p_pattern text DEFAULT '*:*:*:*:*'::text) RETURNS TABLE(isolation_key text, registered_at timestamp with time zone, is_held boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    return query
    select
        t.isolation_key,
        t.registered_at,
        coalesce(r.is_held, false)
    from ai_storage_private.tenant as t
    left join ai_storage_private.list_effective_rules() as r on r.tenant_id = t.tenant_id
    where t.tenant_id in (
        select c.tenant_id from ai_storage_private.covered_tenants(p_pattern) as c
    )
    order by t.isolation_key;
end;
$$;

ALTER FUNCTION ai_storage.list_tenants(p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_tenants(p_pattern text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.list_tenants(p_pattern text) IS 'The registered tenants that a pattern covers: those that an erasure would take. is_held: a legal hold keeps their data. Raises 22023.';

--
-- Name: list_uploads(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.list_uploads(p_as text DEFAULT NULL::text) RETURNS TABLE(upload_id uuid, model_name text, artifact_name text, version bigint, is_current boolean, received_bytes bigint, sha256 text, media_type text, began_at timestamp with time zone, touched_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    return query
    select
        u.upload_id,
        p.model_name,
        u.artifact_name,
        u.version,
        u.version = p.version,
        u.received_bytes,
        encode(ai_storage_private.content_sha256(array(
            select c.sha256
            from ai_storage_private.artifact_chunk as c
            where c.tenant_id = v_tenant.tenant_id
              and c.blob_id = u.upload_id
            order by c.chunk_number
        )), 'hex'),
        u.media_type,
        u.began_at,
        u.touched_at
    from ai_storage_private.artifact_upload as u
    left join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = v_tenant.tenant_id
        and p.model_id = u.model_id
    where u.tenant_id = v_tenant.tenant_id
      and (u.model_id is null or p.model_id is not null)
    order by u.began_at, u.upload_id;
end;
$$;

ALTER FUNCTION ai_storage.list_uploads(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_uploads(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.list_uploads(p_as text) IS 'The caller''s uploads that are not finished, the oldest first: an interrupted one goes on after received_bytes, if these bytes have this sha256. version: for which it was begun, and is_current whether that is still the model''s; null, as the model, in one for a save. Raises TN001 to TN005.';

--
-- Name: load_history(text, text, bigint, integer, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.load_history(p_model_name text, p_owner text DEFAULT NULL::text, p_before_version bigint DEFAULT NULL::bigint, p_limit integer DEFAULT 1000, p_as text DEFAULT NULL::text) RETURNS TABLE(version bigint, mse double precision, training_samples bigint, metrics jsonb, metadata jsonb, saved_at timestamp with time zone, saved_by text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model_id uuid;
begin
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;

    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.*
        from ai_storage_private.load_shared_history(
            v_tenant, p_owner collate "C", p_model_name collate "C", p_before_version, p_limit
        ) as s;
        return;
    end if;

    select p.model_id into v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id
      and p.model_name = p_model_name collate "C";
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;

    return query
    select
        v.version,
        v.mse,
        v.training_samples,
        v.metrics,
        v.metadata,
        v.saved_at,
        coalesce(v.saved_by, v_tenant.isolation_key)
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_tenant.tenant_id
      and v.model_id = v_model_id
      and v.version < coalesce(p_before_version, 9223372036854775807)
    order by v.version desc
    limit p_limit;
end;
$$;

ALTER FUNCTION ai_storage.load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text) IS 'Returns the saved versions of one model, the newest first. p_before_version: only versions below it, for the next page; p_limit null: no limit. saved_by: the tenant that saved it; null in another tenant''s model for a third one. Raises 22023, TN001 to TN005, TN101.';

--
-- Name: load_progress(text, text, text, integer, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.load_progress(p_model_name text DEFAULT NULL::text, p_scope text DEFAULT NULL::text, p_after text DEFAULT NULL::text, p_limit integer DEFAULT 1000, p_owner text DEFAULT NULL::text, p_as text DEFAULT NULL::text) RETURNS TABLE(model_name text, owner_key text, is_shared boolean, permissions text[], mse double precision, training_samples bigint, metrics jsonb, metadata jsonb, version bigint, created_at timestamp with time zone, updated_at timestamp with time zone, cursor text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    -- Who names a model means its own, and the one of another only together with the owner.
    v_scope  constant text := case
            when p_owner = v_tenant.isolation_key then 'own'
            when p_owner is not null then 'shared'
            when p_model_name is not null then coalesce(p_scope, 'own')
            else coalesce(p_scope, 'all')
        end;
    -- One name is the range from itself to itself; all names end at the largest there can be.
    v_first  constant text collate "C" := coalesce(p_model_name, '');
    v_last   constant text collate "C" := coalesce(p_model_name, repeat(chr(1114111), 255));
    -- A cursor is the owner's key (none for my own models), a blank, and the name.
    v_after_owner constant text collate "C" := coalesce(split_part(p_after, ' ', 1), '');
    v_after_name  constant text collate "C"
        := coalesce(substr(p_after, strpos(p_after, ' ') + 1), '');
    v_count  integer := 0;
begin
    if p_scope not in ('all', 'own', 'shared') then
        raise exception using
            errcode = '22023',
            message = 'invalid scope',
            hint = 'The scope is all, own or shared.';
    end if;
    if p_limit < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of rows to return, or null for no limit.';
    end if;
    if strpos(p_after, ' ') = 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid cursor',
            hint = 'p_after takes the cursor of the last row you have, unchanged.';
    end if;

    if v_scope <> 'shared' and v_after_owner = '' then
        return query
        select
            p.model_name,
            v_tenant.isolation_key,
            false,
            '{read,execute,write,share}'::text[],
            p.mse,
            p.training_samples,
            p.metrics,
            p.metadata,
            p.version,
            p.created_at,
            p.updated_at,
            ' ' || p.model_name
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_tenant.tenant_id
          and p.model_name between v_first and v_last
          and p.model_name > v_after_name
        order by p.model_name
        limit p_limit;
        get diagnostics v_count = row_count;
    end if;

    if v_scope = 'own'
        or v_count >= p_limit
        or (v_scope = 'all' and p_model_name is not null and v_count > 0)
        or (p_owner is null and not ai_storage_private.may_receive(v_tenant.levels[1]))
    then
        return;
    end if;
    -- A standby does not know yet what was revoked, and a use could not be logged.
    if current_setting('transaction_read_only') = 'on'
        and (p_owner is null or p_model_name is null)
    then
        if exists (
            select from ai_storage_private.load_shared(
                v_tenant, p_owner, p_model_name, '', '', 1
            )
        ) then
            raise warning using
                message = 'shared models are left out in a read-only transaction',
                hint = 'Use a read-write transaction to see them, or p_scope => ''own''.';
        end if;
        return;
    end if;
    return query
    select s.*
    from ai_storage_private.load_shared(
        v_tenant, p_owner collate "C", p_model_name collate "C",
        v_after_owner, case when v_after_owner = '' then '' else v_after_name end,
        p_limit - v_count
    ) as s;
end;
$$;

ALTER FUNCTION ai_storage.load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text) IS 'Returns the current state of the caller''s models, by name, then of those shared with it, by owner and name. With a name alone: the caller''s own model; p_scope all: another''s where it has none; shared: others'' alone. p_owner: that tenant''s models. A shared model comes with metrics and metadata, and its use is logged, only by name and owner together; a list leaves both null, and has up to 1,000 shared models, of each owner the first 100. A read-only transaction lists the caller''s own and warns. permissions: what the caller may do. p_after: the cursor of the last row already had; p_limit null: no limit for the caller''s own. No row when there is no such model. Raises 22023, 25006, TN001 to TN005.';

--
-- Name: metrics(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.metrics() RETURNS TABLE(metric text, kind text, help text, labels jsonb, value double precision)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_now           constant timestamptz := clock_timestamp();
    v_most          constant integer := 10000;
    v_count         bigint;
    v_oldest        timestamptz;
    v_checkpoint    bigint;
    v_chained_at    timestamptz;
    v_tail          tid;
    v_unchained     bigint;
    v_abandoned     bigint;
begin
    perform ai_storage_private.require_owner();
    return query
    select
        'ai_storage_info', 'gauge', 'The release, as a label; always 1.',
        jsonb_build_object('version', ai_storage.version()), 1::double precision;

    -- As the planner estimates: rows per page when it was last analyzed, times the pages now.
    -- It outlives a crash and a failover. Of a table that never was, what the statistics counted.
    return query
    select
        m.metric, 'gauge', m.help, '{}'::jsonb,
        case when c.reltuples > 0 and c.relpages > 0
            then round(
                c.reltuples::double precision / c.relpages
                * (pg_relation_size(c.oid) / current_setting('block_size')::bigint)
            )
            else pg_stat_get_live_tuples(c.oid)::double precision
        end
    from (
        values
        ('tenant', 'ai_storage_tenants', 'Registered tenants, an estimate.'),
        ('ai_progress_tenant', 'ai_storage_models', 'Models, an estimate.'),
        ('progress_version', 'ai_storage_versions', 'Versions of models, an estimate.'),
        ('model_share', 'ai_storage_grants', 'Grants on models, an estimate.'),
        ('model_artifact', 'ai_storage_artifacts', 'Artifacts of models, an estimate.'),
        ('audit_event', 'ai_storage_sealed_events', 'Events under a seal, an estimate.'),
        ('idempotency_key', 'ai_storage_idempotency_keys',
            'Idempotency keys that are kept, an estimate. Rules of retention let them go.')
    ) as m (table_name, metric, help)
    join pg_class as c
        on c.relname = m.table_name
        and c.relnamespace = 'ai_storage_private'::regnamespace
    order by m.metric;

    return query
    select
        'ai_storage_table_bytes', 'gauge',
        'Size of a table with its indexes and large values, in bytes.',
        jsonb_build_object('table', c.relname), pg_total_relation_size(c.oid)::double precision
    from pg_class as c
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relkind = 'r'
    order by c.relname;

    -- Sealing reads these tables whole every time, so they stay short, or that is what is wrong.
    select count(*), min(p.recorded_at) into v_count, v_oldest
    from (
        select d.recorded_at
        from ai_storage_private.audit_pending as d
        limit v_most
    ) as p;
    select c.checkpoint_number, c.created_at into v_checkpoint, v_chained_at
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number desc
    limit 1;
    select count(*) into v_unchained
    from (
        select s.seal_number
        from ai_storage_private.audit_seal as s
        where s.checkpoint_number > coalesce(v_checkpoint, 0)
        limit v_most
    ) as s;
    select count(*) into v_abandoned
    from (
        select a.touched_at
        from ai_storage_private.artifact_upload as a
        limit v_most
    ) as u
    where u.touched_at < v_now - interval '1 day';
    return query
    values
    (
        'ai_storage_unsealed_events', 'gauge',
        'Events that wait to be sealed, counted up to 10000.',
        '{}'::jsonb, v_count::double precision
    ),
    (
        'ai_storage_oldest_unsealed_event_age_seconds', 'gauge',
        'How long the oldest of these events waits, in seconds; 0 when none does.',
        '{}',
        coalesce(extract(epoch from v_now - v_oldest), 0)::double precision
    ),
    (
        'ai_storage_unchained_seals', 'gauge',
        'Seals that no checkpoint covers yet, counted up to 10000.',
        '{}', v_unchained::double precision
    ),
    (
        'ai_storage_abandoned_uploads', 'gauge',
        'Uploads that stood still for a day and wait to be swept, out of 10000 that are looked '
        'at.',
        '{}', v_abandoned::double precision
    );

    -- Seals are only ever added, so the newest are at the table's end.
    v_tail := format(
        '(%s,0)',
        greatest(0, pg_relation_size('ai_storage_private.audit_seal')
            / current_setting('block_size')::bigint - 8)
    )::tid;
    return query
    select
        'ai_storage_last_seal_age_seconds', 'gauge',
        'Since when no event was sealed, in seconds. No seal is made when no event waits.',
        '{}'::jsonb, extract(epoch from v_now - max(s.sealed_at))::double precision
    from ai_storage_private.audit_seal as s
    where s.ctid >= v_tail
    having count(*) > 0;

    if v_checkpoint is not null then
        return query
        values
        (
            'ai_storage_last_checkpoint_age_seconds', 'gauge',
            'How old the last checkpoint is, in seconds.',
            '{}'::jsonb, extract(epoch from v_now - v_chained_at)::double precision
        );
    end if;

    return query
    select
        'ai_storage_refused_credentials_total', 'counter',
        'Credentials that were refused since the installation. A crash may add up to 32.',
        '{}'::jsonb, case when r.is_called then r.last_value else 0 end::double precision
    from ai_storage_private.refused_credential as r;

    select count(*), min(k.created_at) into v_count, v_oldest
    from ai_storage_private.signing_key as k
    where k.retired_at is null;
    return query
    values
    (
        'ai_storage_signing_keys', 'gauge', 'Keys in use that sign tokens.',
        '{}'::jsonb, v_count::double precision
    ),
    (
        'ai_storage_oldest_signing_key_age_seconds', 'gauge',
        'How old the oldest of these keys is, in seconds; 0 without any. Rotate after 90 days.',
        '{}', coalesce(extract(epoch from v_now - v_oldest), 0)::double precision
    );

    return query
    select m.metric, 'gauge', m.help, '{}'::jsonb, m.value
    from pg_database as d
    cross join lateral (
        values
        (
            'ai_storage_database_age_transactions',
            'Transactions since the database''s oldest unfrozen row; writes end at 2 billion.',
            age(d.datfrozenxid)::double precision
        ),
        (
            'ai_storage_database_age_multixacts',
            'The same of row locks that transactions share.',
            mxid_age(d.datminmxid)::double precision
        )
    ) as m (metric, help, value)
    where d.datname = current_database();
end;
$$;

ALTER FUNCTION ai_storage.metrics() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION metrics(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.metrics() IS 'Figures of the whole database for a monitor, in the terms of Prometheus: kind is gauge or counter. None tells of a tenant, and each costs the same however many there are. pydb metrics prints them as text.';

--
-- Name: open_artifact(text, text, text, bigint, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.open_artifact(p_model_name text, p_artifact_name text, p_owner text DEFAULT NULL::text, p_version bigint DEFAULT NULL::bigint, p_as_of boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS TABLE(version bigint, for_version bigint, sha256 text, size_bytes bigint, media_type text, put_at timestamp with time zone, cache_key bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if coalesce(p_owner, v_tenant.isolation_key) = v_tenant.isolation_key then
        v_artifact := ai_storage_private.find_artifact(
            v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
        );
    else
        v_artifact := ai_storage_private.open_shared_artifact(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of
        );
    end if;
    version := v_artifact.version;
    for_version := v_artifact.for_version;
    sha256 := encode(v_artifact.sha256, 'hex');
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
    cache_key := ai_storage_private.cache_key(v_tenant.tenant_id);
    return next;
end;
$$;

ALTER FUNCTION ai_storage.open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) IS 'Says what an artifact is, without its bytes: of an own model, or with p_owner of one that is shared for execute. p_version: the artifact of exactly this version, null for the current one; with p_as_of the last one that was put up to it. version: at which it was put. for_version: the version it was opened for; pass it to read_artifact() with the same p_as_of to read one content to its end. cache_key: 32 bytes that seal what a cache outside keeps for the caller, or null; only who holds a verified credential gets them. Each use of another tenant''s artifact is logged for both; a grant that pins a version shows the artifacts of that version alone. Raises 25006, TN001 to TN005, TN101, TN204.';

--
-- Name: open_organisation(text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.open_organisation(p_org_id text, p_digest text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.open_organisation(p_org_id text, p_digest text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION open_organisation(p_org_id text, p_digest text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.open_organisation(p_org_id text, p_digest text) IS 'Opens an organisation in this cell: the last step of a move, after release_organisation() in the old cell. Also cancels a move, called in the old cell before release_organisation(). p_digest: of what was copied, for the log. Returns the number of tenants opened. Raises 22023.';

--
-- Name: parse_isolation_key(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.parse_isolation_key(p_key text) RETURNS TABLE(org_id text, server_id text, project_id text, environment text, code_hash text)
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_levels constant text[] := string_to_array(p_key, ':');
begin
    if ai_storage.is_isolation_key(p_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid isolation key',
            hint = 'A key has five levels joined by colons, each of 1 to 63 characters out of A-Z '
                'a-z 0-9 . _ + @ ~ = / -';
    end if;
    return query select v_levels[1], v_levels[2], v_levels[3], v_levels[4], v_levels[5];
end;
$$;

ALTER FUNCTION ai_storage.parse_isolation_key(p_key text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION parse_isolation_key(p_key text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.parse_isolation_key(p_key text) IS 'Splits an isolation key into its five levels. The inverse of isolation_key. Raises 22023.';

--
-- Name: promote_progress(text, text, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.promote_progress(p_from_code_hash text, p_model_name text DEFAULT NULL::text, p_with_history boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS TABLE(model_name text, version bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_target constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    -- Even here the policies show one tenant at a time: read as the source, write as the target.
    v_to     constant text := current_setting('app.tenant_context', true);
    v_from   text;
    v_first  constant text collate "C" := coalesce(p_model_name, '');
    v_last   constant text collate "C" := coalesce(p_model_name, repeat(chr(1114111), 255));
    v_name   text collate "C" := '';
    v_source ai_storage_private.acting_tenant;
    v_model  ai_storage_private.ai_progress_tenant;
    v_found  boolean := false;
begin
    if p_from_code_hash is null or p_from_code_hash = v_target.levels[5] then
        raise exception using
            errcode = '22023',
            message = 'invalid code hash',
            hint = 'Name the code version to promote from; it is another one than your own.';
    end if;
    v_source := ai_storage_private.enter_code_version(p_from_code_hash collate "C", p_as);
    v_from := current_setting('app.tenant_context', true);

    loop
        perform ai_storage_private.restore_context(v_from);
        select p.* into v_model
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = v_source.tenant_id
          and p.model_name between v_first and v_last
          and p.model_name > v_name
        order by p.model_name
        limit 1
        for key share;
        v_name := v_model.model_name;
        perform ai_storage_private.restore_context(v_to);
        exit when v_name is null;
        v_found := true;
        continue when exists (
            select from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = v_target.tenant_id
              and p.model_name = v_name
        );
        model_name := v_name;
        version := ai_storage_private.copy_model(
            v_from, v_source, v_model, v_to, v_target, coalesce(p_with_history, false)
        );
        return next;
    end loop;
    if not v_found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model in the other code version',
            hint = 'list_code_versions() shows the code versions that have models.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage.promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text) IS 'Copies the current state of the models of another code version, with the same four other levels, into the caller''s tenant: one model, or all, each with the artifacts of its current version. p_with_history: all versions instead, under their numbers, with the artifacts of each. Names that exist already are left alone and not returned. The credential must cover the other code version too: a key by the login''s authorisation, a token by its claim from. Raises 22023, TN001 to TN005, TN101 when there is nothing to copy, and TN102 or 23505 when another session creates the same name meanwhile.';

--
-- Name: put_artifact(text, text, bytea, text, bigint, bigint, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text DEFAULT 'application/octet-stream'::text, p_version bigint DEFAULT NULL::bigint, p_expected_version bigint DEFAULT NULL::bigint, p_as text DEFAULT NULL::text) RETURNS TABLE(sha256 text, size_bytes bigint, is_new boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_model  record;
begin
    perform ai_storage_private.check_artifact(p_artifact_name, p_media_type);
    if p_content is null then
        raise exception using
            errcode = '22023',
            message = 'no content',
            hint = 'Pass the bytes; an empty artifact is an empty bytea.';
    end if;
    v_model := ai_storage_private.hold_model(
        v_tenant.tenant_id, p_model_name, p_version, p_expected_version
    );
    return query
    select a.sha256, a.size_bytes, a.is_new
    from ai_storage_private.attach_content(
        v_tenant.tenant_id, v_model.model_id, v_model.version,
        p_artifact_name, p_media_type, p_content
    ) as a;
end;
$$;

ALTER FUNCTION ai_storage.put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) IS 'Keeps bytes as an artifact of one version of an own model, in place of what the version had under the name. p_version: null for the current one. p_expected_version: only if it is the current one. Returns the sha256 (hexadecimal; above 1 MiB that of the sha256s of the chunks of 1 MiB), the size, and whether the tenant did not have these bytes before. For more than some 100 MiB use begin_artifact(). To save a state and its artifacts at once use save_progress(). Raises 22023, 54000, TN001 to TN005, TN101, TN102.';

--
-- Name: read_artifact(text, text, text, bigint, bigint, integer, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.read_artifact(p_model_name text, p_artifact_name text, p_owner text DEFAULT NULL::text, p_version bigint DEFAULT NULL::bigint, p_offset bigint DEFAULT 0, p_length integer DEFAULT NULL::integer, p_as_of boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if (p_offset >= 0) is not true or p_length < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid range',
            hint = 'Offset and length are counts of bytes; a null length reads to the end.';
    end if;
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return ai_storage_private.read_shared_artifact(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of,
            p_offset, p_length
        );
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
    );
    return ai_storage_private.join_chunks(
        v_tenant.tenant_id, v_artifact.blob_id, p_offset,
        least(coalesce(p_length, v_artifact.size_bytes), v_artifact.size_bytes - p_offset)
    );
end;
$$;

ALTER FUNCTION ai_storage.read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text) IS 'Part of an artifact, less than p_length bytes only at its end, none behind it. Otherwise as get_artifact(). Read large artifacts so, 1 to 16 MiB at a time. Raises 22023, 25006, TN001 to TN005, TN101, TN204.';

--
-- Name: read_chunks(text, text, text, bigint, integer, integer, boolean, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.read_chunks(p_model_name text, p_artifact_name text, p_owner text DEFAULT NULL::text, p_version bigint DEFAULT NULL::bigint, p_first integer DEFAULT 0, p_count integer DEFAULT 4, p_as_of boolean DEFAULT false, p_as text DEFAULT NULL::text) RETURNS SETOF bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant   constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_artifact record;
begin
    if (p_first >= 0 and p_count >= 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid range',
            hint = 'Chunks are counted from 0.';
    end if;
    if coalesce(p_owner, v_tenant.isolation_key) <> v_tenant.isolation_key then
        return query
        select s.content
        from ai_storage_private.read_shared_chunks(
            v_tenant, p_owner, p_model_name, p_artifact_name, p_version, p_as_of,
            p_first, p_count
        ) as s (content);
        return;
    end if;
    v_artifact := ai_storage_private.find_artifact(
        v_tenant, p_model_name, p_artifact_name, p_version, p_as_of
    );
    -- What is returned are references to the bytes, which are read only where they are sent.
    return query
    select c.content
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_tenant.tenant_id
      and c.blob_id = v_artifact.blob_id
      and c.chunk_number >= p_first
      and c.chunk_number < p_first::bigint + p_count
    order by c.chunk_number;
end;
$$;

ALTER FUNCTION ai_storage.read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text) IS 'Chunks of an artifact, a row each, in their order: 1 MiB of its bytes, less only in the last, none behind it. The fastest way to read a large one. p_first: a chunk''s number, from 0. Otherwise as get_artifact(). Raises 22023, 25006, TN001 to TN005, TN101, TN204.';

--
-- Name: read_rows(text, text, jsonb); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    perform ai_storage_private.record_event(
        v_tenant.tenant_id, 'read rows',
        p_detail => jsonb_build_object(
            'table', p_table_name, 'rows', jsonb_array_length(p_row_ids)
        )
    );
    return query
    select r.content::text
    from ai_storage_private.read_own_rows(v_tenant.tenant_id, p_table_name, p_row_ids)
        as r (content);
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb) IS 'Rows of a tenant as they are, each a JSON object as text, for a copy in another cell. p_row_ids: an array of ids as list_rows() returns them. Logged. Raises 42704.';

--
-- Name: release_organisation(text, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.release_organisation(p_org_id text, p_cell_name text, p_digest text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.release_organisation(p_org_id text, p_cell_name text, p_digest text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION release_organisation(p_org_id text, p_cell_name text, p_digest text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.release_organisation(p_org_id text, p_cell_name text, p_digest text) IS 'Second step, at the source, when everything is copied: callers are sent to the new cell from now on. p_digest: of what was copied, for the log. Raises 22023, 42704, 55000.';

--
-- Name: renew_context_secret(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.renew_context_secret() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_key bytea[] := '{}'::bytea[];
begin
    -- 256 bits each, of two random UUIDs with 122.
    for i in 1 .. 4 loop
        v_key := v_key || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    end loop;
    -- Not DELETE: an older snapshot, even an imported one, would still see the row. Others wait for
    -- the lock that this takes, so it is not waited for long.
    perform set_config('lock_timeout', '2s', true);
    truncate ai_storage_private.context_secret;
    insert into ai_storage_private.context_secret (inner_key, outer_key)
    values (v_key[1] || v_key[2], v_key[3] || v_key[4]);
    perform ai_storage_private.record_event(0, 'renew context secret');
end;
$$;

ALTER FUNCTION ai_storage.renew_context_secret() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION renew_context_secret(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.renew_context_secret() IS 'Makes a new secret to sign contexts with: after a restore that left it out, or when somebody may have read it. Transactions that are open lose their tenant. Data, grants and tokens stay as they are. Waits 2 s for calls that are under way (55P03).';

--
-- Name: report_backup(timestamp with time zone, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.report_backup(p_taken_at timestamp with time zone, p_location text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if (p_taken_at <= clock_timestamp() and isfinite(p_taken_at)) is not true
        or not ai_storage_private.is_name(coalesce(p_location, '-'))
    then
        raise exception using
            errcode = '22023',
            message = 'invalid backup',
            hint = 'A backup was taken at a time that is past; its location has 1 to 255 '
                'characters and no control character.';
    end if;
    perform ai_storage_private.record_event(
        0, 'report backup',
        p_detail => jsonb_build_object('taken_at', p_taken_at, 'location', p_location)
    );
end;
$$;

ALTER FUNCTION ai_storage.report_backup(p_taken_at timestamp with time zone, p_location text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION report_backup(p_taken_at timestamp with time zone, p_location text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.report_backup(p_taken_at timestamp with time zone, p_location text) IS 'Tells the log that a backup was taken, for the compliance report. Call it when a backup is done, or better when one was restored on trial. Raises 22023.';

--
-- Name: retire_signing_key(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.retire_signing_key(p_kid text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    update ai_storage_private.signing_key as k set
        retired_at = clock_timestamp()
    where k.kid = p_kid collate "C"
      and k.retired_at is null;
    return found;
end;
$$;

ALTER FUNCTION ai_storage.retire_signing_key(p_kid text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION retire_signing_key(p_kid text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.retire_signing_key(p_kid text) IS 'Refuses the tokens of a key from the next transaction on; end the sessions that keep an older snapshot. Returns false when there is no such key in use.';

--
-- Name: revoke_share(uuid, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage.revoke_share(p_share_id uuid, p_as text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    delete from ai_storage_private.model_share as s
    where s.share_id = p_share_id
      and s.sharer_id = v_tenant.tenant_id;
    if found then
        return true;
    end if;
    -- A row of somebody else's, who may hold it: it stays, and counts no more.
    insert into ai_storage_private.share_end (tenant_id, share_id, ended_by, ended_at)
    select f.tenant_id, f.share_id, v_tenant.tenant_id, clock_timestamp()
    from ai_storage_private.in_force(array[p_share_id], null) as f
    where v_tenant.tenant_id = any (f.sharer_ids)
    on conflict do nothing;
    return found;
end;
$$;

ALTER FUNCTION ai_storage.revoke_share(p_share_id uuid, p_as text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION revoke_share(p_share_id uuid, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage.revoke_share(p_share_id uuid, p_as text) IS 'Ends one grant that the caller gave, or that derives from one it gave, and all that derive from it. Holds from the next statement on. Returns false when there is no such grant. Raises TN001 to TN005.';

--
-- Name: save_progress(text, double precision, bigint, jsonb, jsonb, bigint, text, text, jsonb, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.save_progress(p_model_name text, p_mse double precision DEFAULT NULL::double precision, p_training_samples bigint DEFAULT NULL::bigint, p_metrics jsonb DEFAULT '{}'::jsonb, p_metadata jsonb DEFAULT '{}'::jsonb, p_expected_version bigint DEFAULT NULL::bigint, p_idempotency_key text DEFAULT NULL::text, p_owner text DEFAULT NULL::text, p_artifacts jsonb DEFAULT '{}'::jsonb, p_as text DEFAULT NULL::text) RETURNS TABLE(model_name text, version bigint, created boolean, saved_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_saved  constant record := ai_storage_private.save_version(
        v_tenant, p_model_name collate "C", p_mse, p_training_samples, p_metrics, p_metadata,
        p_expected_version, p_idempotency_key collate "C", p_owner collate "C", p_artifacts
    );
begin
    model_name := p_model_name;
    version := v_saved.version;
    created := v_saved.created;
    saved_at := v_saved.saved_at;
    return next;
end;
$$;

ALTER FUNCTION ai_storage.save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text) IS 'Saves the state of one model as its next version and keeps the earlier ones. p_mse: finite; null only with metrics. p_training_samples: 0 or more. p_metrics: up to 256 finite numbers by name. p_metadata: an object of up to 1 MiB and 64 levels. p_expected_version: 0 = the model must not exist yet, another number = it must be the current version, null = last writer wins. A repeated p_idempotency_key with the same content returns the first answer. p_owner: the owner''s isolation key when the model was shared for writing. p_artifacts: what is attached to exactly this version, all or nothing, not with p_owner: by name the id of an upload that stage_artifact() ended, used once, or an object with upload (such an id) or content (bytes in base64, for small ones), and media_type. Raises 22023, 54000, TN001 to TN005, TN101, TN102, TN103, TN201.';

--
-- Name: save_progress_batch(jsonb, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.save_progress_batch(p_items jsonb, p_as text DEFAULT NULL::text) RETURNS TABLE(model_name text, version bigint, created boolean, saved_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_item   record;
    v_saved  record;
begin
    if p_items is null or jsonb_typeof(p_items) <> 'array'
        or exists (
            select from jsonb_array_elements(p_items) as i (item)
            where ai_storage_private.is_item(i.item) is not true
        )
    then
        raise exception using
            errcode = '22023',
            message = 'invalid batch',
            hint = 'A batch is an array of objects with model_name and any of mse, '
                'training_samples, metrics, metadata, expected_version, idempotency_key, owner and '
                'artifacts.';
    end if;

    -- In a few statements where no item has to come after another. Under an older snapshot only
    -- write_progress() notices what was deleted meanwhile.
    if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') and (
        select
            count(distinct i.model_name collate "C") = count(*)
                and count(i.idempotency_key) = 0 and count(i.owner) = 0
                and count(i.artifacts) = 0
        from jsonb_to_recordset(p_items) as i (
            model_name text, idempotency_key text, owner text, artifacts jsonb
        )
    )
    then
        return query
        select b.model_name, b.version, b.created, b.saved_at
        from ai_storage_private.write_batch(v_tenant.tenant_id, p_items) as b;
        return;
    end if;

    for v_item in
        select i.*
        from rows from (
            jsonb_to_recordset(p_items) as (
                model_name       text,
                mse              double precision,
                training_samples numeric,
                metrics          jsonb,
                metadata         jsonb,
                expected_version numeric,
                idempotency_key  text,
                owner            text,
                artifacts        jsonb
            )
        ) with ordinality as i
        order by i.ordinality
    loop
        v_saved := ai_storage_private.save_version(
            v_tenant, v_item.model_name, v_item.mse, v_item.training_samples::bigint,
            v_item.metrics, v_item.metadata, v_item.expected_version::bigint,
            v_item.idempotency_key, v_item.owner, coalesce(v_item.artifacts, '{}')
        );
        model_name := v_item.model_name;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return next;
    end loop;
end;
$$;

ALTER FUNCTION ai_storage.save_progress_batch(p_items jsonb, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION save_progress_batch(p_items jsonb, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.save_progress_batch(p_items jsonb, p_as text) IS 'Saves many model states, all or none, in the order given. p_items: an array of objects with model_name and any of mse, training_samples, metrics, metadata, expected_version, idempotency_key, owner, artifacts, each as in save_progress. Several times as fast where each model is named once and no item has a key, an owner or artifacts. Raises 22023, 54000, TN001 to TN005, TN101, TN102, TN103, TN201.';

--
-- Name: seal_audit(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.seal_audit() RETURNS TABLE(events bigint, seals bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.require_owner();
    perform ai_storage_private.take_turn();
    return query
    select n.events, n.seals
    from ai_storage_private.seal_events(50000) as n;
end;
$$;

ALTER FUNCTION ai_storage.seal_audit() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION seal_audit(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.seal_audit() IS 'Seals events that are committed and not sealed yet, at most 50,000 in a call: one seal per tenant that has any. Returns how many events and seals. Call it again, in a new transaction, while it returns 50,000 events. Several sealers take turns. Raises 23505, 25000.';

--
-- Name: set_artifact_limit(bigint); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_artifact_limit(p_max_bytes bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if (p_max_bytes > 0) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid limit',
            hint = 'The limit is the largest number of bytes of an artifact.';
    end if;
    update ai_storage_private.artifact_limit as l set
        max_bytes = p_max_bytes;
end;
$$;

ALTER FUNCTION ai_storage.set_artifact_limit(p_max_bytes bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_artifact_limit(p_max_bytes bigint); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_artifact_limit(p_max_bytes bigint) IS 'Sets how many bytes one artifact may have; 5 GiB unless set. Raises 22023.';

--
-- Name: set_cells(text[], text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
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
$_$;

ALTER FUNCTION ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_cells(p_cells text[], p_here text, p_takes_new text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text) IS 'Sets the names of all cells, which of them this database is, and which takes new organisations. Raises 22023, and 55000 when an organisation lives in a cell that is left out.';

--
-- Name: set_home(text, text, boolean); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_home(p_org_id text, p_cell_name text, p_is_moving boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage.set_home(p_org_id text, p_cell_name text, p_is_moving boolean) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_home(p_org_id text, p_cell_name text, p_is_moving boolean); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_home(p_org_id text, p_cell_name text, p_is_moving boolean) IS 'Records in which cell an organisation lives; p_cell_name null removes the record. p_is_moving: calls for it are refused. Does not change its tenants; to move them, see hold_organisation(). Raises 22023, 42704.';

--
-- Name: set_quota(text, bigint, bigint); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_quota(p_pattern text, p_max_models bigint DEFAULT NULL::bigint, p_max_bytes bigint DEFAULT NULL::bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '5s'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_level   constant text[] := ai_storage_private.check_pattern(p_pattern);
    v_tenant  record;
    v_use     record;
begin
    if p_max_models < 0 or p_max_bytes < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid quota',
            hint = 'A quota is a number of models and one of bytes, each 0 or more; null is no '
                'limit.';
    end if;
    perform ai_storage_private.lock_quotas();
    insert into ai_storage_private.quota (
        org_id, server_id, project_id, environment, code_hash, max_models, max_bytes
    )
    values (
        v_level[1], v_level[2], v_level[3], v_level[4], v_level[5], p_max_models, p_max_bytes
    )
    on conflict on constraint quota_pk do update set
        max_models = excluded.max_models,
        max_bytes  = excluded.max_bytes,
        set_at     = excluded.set_at,
        set_by     = excluded.set_by;
    -- Counted anew: whoever had no quota of these levels was not counted.
    delete from ai_storage_private.quota_use as u
    where (u.server_id, u.project_id, u.environment, u.code_hash)
            = (v_level[2], v_level[3], v_level[4], v_level[5])
      and v_level[1] in ('*', u.org_id)
      and u.org_id <> '';
    for v_tenant in
        select c.tenant_id, c.isolation_key, split_part(c.isolation_key, ':', 1) as org_id
        from ai_storage_private.covered_tenants(p_pattern) as c
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        v_use := ai_storage_private.measure_tenant(v_tenant.tenant_id);
        insert into ai_storage_private.quota_use as u (
            org_id, server_id, project_id, environment, code_hash, models, bytes
        )
        values (
            v_tenant.org_id, v_level[2], v_level[3], v_level[4], v_level[5],
            v_use.models, v_use.bytes
        )
        on conflict on constraint quota_use_pk do update set
            models = u.models + excluded.models,
            bytes  = u.bytes + excluded.bytes;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint) IS 'Limits what the tenants of a pattern may keep in total, and replaces the quota that the same pattern had. Level 1 as * stands for each organisation by itself, unless it has a quota of its own with the same other levels. Each quota that covers a tenant counts. p_max_models: models. p_max_bytes: bytes of artifacts and uploads; states and their versions do not count. Null: no limit. What is there already stays. Beyond a quota, TN601 refuses new models and bytes. Raises 22023, 25000, and 55P03 after 5 s when a transaction that adds some is open.';

--
-- Name: set_retention(text, integer, interval, interval, boolean); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_retention(p_pattern text, p_keep_versions integer DEFAULT NULL::integer, p_keep_versions_for interval DEFAULT NULL::interval, p_keep_events_for interval DEFAULT NULL::interval, p_legal_hold boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '5s'
    AS $$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    if p_keep_versions < 1
        or p_keep_versions_for <= '0'
        or p_keep_versions_for > '1000 years'
        or p_keep_events_for <= '0'
        or p_keep_events_for > '1000 years'
    then
        raise exception using
            errcode = '22023',
            message = 'invalid retention',
            hint = 'Keep 1 version or more, and for longer than no time and no longer than 1000 '
                'years; null keeps all, for ever.';
    end if;
    perform ai_storage_private.close_gate();
    insert into ai_storage_private.retention_rule as r (
        org_id, server_id, project_id, environment, code_hash,
        keep_versions, keep_versions_for, keep_events_for, legal_hold
    )
    values (
        v_level[1], v_level[2], v_level[3], v_level[4], v_level[5],
        p_keep_versions, p_keep_versions_for, p_keep_events_for, coalesce(p_legal_hold, false)
    )
    on conflict on constraint retention_rule_pk do update set
        keep_versions     = excluded.keep_versions,
        keep_versions_for = excluded.keep_versions_for,
        keep_events_for   = excluded.keep_events_for,
        legal_hold        = coalesce(p_legal_hold, r.legal_hold),
        set_at            = excluded.set_at,
        set_by            = excluded.set_by;
end;
$$;

ALTER FUNCTION ai_storage.set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean) IS 'Sets how long the data of the tenants of a pattern is kept, and replaces the rule that the same pattern had. p_keep_versions: at most so many of a model. p_keep_versions_for: how long one that is not current, and an idempotency key. p_keep_events_for: how long events keep names. Null: all, for ever. p_legal_hold: nothing is deleted or erased, not even by the tenant, and deletions that are under way fail at their commit; null leaves a hold as it is. Of several rules the most specific counts; a hold of any. Nothing is deleted before apply_retention(). Versions that other tenants saved in a shared model are counted apart from the owner''s. Raises 22023, and 55P03 after 5 s when a session keeps a deletion from ending.';

--
-- Name: set_tenant(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.set_tenant(p_credential text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    -- Null would stand for the context there is; here it is a malformed credential.
    v_tenant constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(coalesce(p_credential, ''), p_scope => 'transaction');
begin
    -- For people to read; nothing trusts it.
    return set_config('app.current_tenant', v_tenant.isolation_key, true);
end;
$$;

ALTER FUNCTION ai_storage.set_tenant(p_credential text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_tenant(p_credential text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.set_tenant(p_credential text) IS 'Makes the rest of this transaction act for one tenant and returns its isolation key. Nothing outlives the transaction. Raises TN002 to TN005, TN602, TN603, as every tenant function does.';

--
-- Name: share_model(text, jsonb, text[], timestamp with time zone, bigint, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.share_model(p_model_name text, p_targets jsonb, p_permissions text[] DEFAULT '{read}'::text[], p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_version bigint DEFAULT NULL::bigint, p_owner text DEFAULT NULL::text, p_as text DEFAULT NULL::text) RETURNS TABLE(share_id uuid, target text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant      constant ai_storage_private.acting_tenant
        := ai_storage_private.enter(p_as, p_register => true);
    v_targets     constant text[] := ai_storage_private.check_targets(p_targets, v_tenant.levels);
    v_permissions text[];
    v_held        ai_storage_private.model_share;
begin
    perform ai_storage_private.check_permission(p.permission)
    from unnest(p_permissions) as p (permission);
    v_permissions := array(
        select distinct p.permission
        from unnest(p_permissions) as p (permission)
        order by p.permission
    );
    if v_permissions = '{}' then
        raise exception using
            errcode = '22023',
            message = 'no permission to share',
            hint = 'Name at least one of read, execute, write and share.';
    end if;
    if p_version is not null and v_permissions @> '{write}' then
        raise exception using
            errcode = '22023',
            message = 'a pinned version cannot be written',
            hint = 'Share one version without write, or the model without a version.';
    end if;
    if p_expires_at <= clock_timestamp() or p_expires_at >= '10000-01-01 00:00:00+00' then
        raise exception using
            errcode = '22023',
            message = 'invalid end of a share',
            hint = 'p_expires_at lies in the future and before the year 10000, or is null for no '
                'end.';
    end if;
    if v_targets && array[v_tenant.isolation_key, p_owner] then
        raise exception using
            errcode = 'TN301',
            message = 'a model is not shared with its owner or its sharer',
            hint = 'Name another tenant, or a wider target with *.';
    end if;
    if exists (
        select from unnest(v_targets) as t (target)
        where not ai_storage_private.may_share_with(
            v_tenant.levels[1], split_part(t.target, ':', 1)
        )
    ) then
        raise exception using
            errcode = 'TN302',
            message = 'this organisation may not share with that one',
            hint = 'An administrator allows it: select ai_storage.allow_external_sharing(org_id, '
                'to_org_id). Within the organisation, leave org_id out.';
    end if;
    perform ai_storage_private.check_home(split_part(t.target, ':', 1))
    from unnest(v_targets) as t (target)
    where split_part(t.target, ':', 1) not in ('*', v_tenant.levels[1]);

    if coalesce(p_owner, v_tenant.isolation_key) = v_tenant.isolation_key then
        v_held := ai_storage_private.hold_own(
            v_tenant, p_model_name collate "C", p_version
        );
    else
        v_held := ai_storage_private.hold_grant(
            v_tenant, p_owner collate "C", p_model_name collate "C",
            v_permissions, p_expires_at, p_version
        );
    end if;
    return query
    select w.share_id, w.target
    from ai_storage_private.write_shares(
        v_held, v_tenant, v_targets, v_permissions,
        coalesce(p_expires_at, v_held.expires_at), coalesce(p_version, v_held.pinned_version)
    ) as w;
end;
$$;

ALTER FUNCTION ai_storage.share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text) IS 'Lets other tenants reach one model. p_targets: an array of objects with any of org_id, server_id, project_id, environment, code_hash (or orgId ...); a level left out is the sharer''s own, * is any. p_permissions: read, execute, write, share. p_expires_at: null for no end. p_version: the only version to be seen. p_owner: the owner''s isolation key, to pass on a model that was shared with the permission share, never wider or longer than it is held. Sharing again with the same target replaces what was given, and ends what was passed on from it; the same grant once more changes nothing. A sharer has up to 1,000 grants on a model, and a model is passed on up to 8 times in a row. Returns one row per target. Raises 22023, TN001 to TN005, TN101, TN301 to TN306.';

--
-- Name: stage_artifact(uuid, bigint, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_upload ai_storage_private.artifact_upload;
begin
    v_upload := ai_storage_private.hold_upload(v_tenant.tenant_id, p_upload_id);
    update ai_storage_private.artifact_upload as u set
        sha256     = ai_storage_private.check_upload(v_upload, p_size_bytes, p_sha256),
        touched_at = clock_timestamp()
    where u.tenant_id = v_tenant.tenant_id
      and u.upload_id = p_upload_id;
end;
$$;

ALTER FUNCTION ai_storage.stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) IS 'Ends an upload in parts without an artifact, if its size and sha256 are those announced: nobody sees it before a save names its id. Raises TN001 to TN005, TN201, TN203.';

--
-- Name: tenant_stats(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.tenant_stats(p_as text DEFAULT NULL::text) RETURNS TABLE(isolation_key text, own_models bigint, shared_models bigint, total_models bigint, versions bigint, artifact_bytes bigint, last_saved_at timestamp with time zone, compliance_status text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET "DateStyle" TO 'ISO'
    SET quote_all_identifiers TO 'off'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
begin
    isolation_key := v_tenant.isolation_key;
    select count(*), max(p.updated_at)
    into own_models, last_saved_at
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id;
    select count(*) into versions
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_tenant.tenant_id;
    shared_models := case when ai_storage_private.may_receive(v_tenant.levels[1])
        then ai_storage_private.count_received(v_tenant)
        else 0
    end;
    total_models := own_models + shared_models;
    select coalesce(sum(b.size_bytes), 0)::bigint into artifact_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = v_tenant.tenant_id;
    compliance_status := ai_storage_private.compliance_status();
    return next;
end;
$$;

ALTER FUNCTION ai_storage.tenant_stats(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION tenant_stats(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.tenant_stats(p_as text) IS 'How much the caller has: own_models, shared_models that load_progress() lists, both together, versions, artifact_bytes, when it last saved. compliance_status: the worst status of the controls that are quick to check, passed, warning or failed; verify_audit() checks the log. Raises TN001 to TN005.';

--
-- Name: unshare_model(text, jsonb, text, text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage.unshare_model(p_model_name text, p_targets jsonb DEFAULT NULL::jsonb, p_owner text DEFAULT NULL::text, p_as text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant  constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_targets text[];
    v_given   uuid[];
    v_count   integer;
begin
    if p_targets is not null then
        v_targets := ai_storage_private.check_targets(p_targets, v_tenant.levels);
    end if;
    v_given := array(
        select s.share_id
        from ai_storage_private.model_share as s
        where s.sharer_id = v_tenant.tenant_id
          and s.model_name = p_model_name collate "C"
          and s.owner_key = coalesce(p_owner, v_tenant.isolation_key) collate "C"
          and (v_targets is null or s.target = any (v_targets))
    );
    v_count := ai_storage_private.count_line(v_given);
    delete from ai_storage_private.model_share as s
    where s.share_id = any (v_given);
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage.unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage.unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text) IS 'Ends what the caller gave on one model: to the targets named as in share_model, or to all, with all that derives from it. p_owner: the owner of a model that was passed on. Returns how many grants ended. Raises TN001 to TN005, TN301.';

--
-- Name: verify_all_audit(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.verify_all_audit() RETURNS TABLE(verified boolean, events bigint, seals bigint, checkpoints bigint, pending bigint, isolation_key text, event_id uuid, problem text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_log     record;
    v_chain   record;
    v_numbers bigint[];
    v_counts  bigint[];
    v_roots   bytea[];
    v_highest bigint;
begin
    perform ai_storage_private.require_owner();
    select l.* into v_log
    from ai_storage_private.check_log(null) as l;

    -- The last seals may be under no checkpoint yet; every checkpoint has all of its own.
    select
        array_agg(s.checkpoint_number), array_agg(s.seal_count), array_agg(s.root),
        max(s.checkpoint_number) filter (where s.sealed_at < now())
    into v_numbers, v_counts, v_roots, v_highest
    from (
        select
            a.checkpoint_number,
            min(a.sealed_at) as sealed_at,
            count(*) as seal_count,
            ai_storage_private.merkle_root(
                array_agg(a.seal_hash order by a.tenant_id, a.seal_number)
            ) as root
        from ai_storage_private.audit_seal as a
        group by a.checkpoint_number
    ) as s;
    select
        count(*) as checkpoints,
        min(c.checkpoint_number) filter (where not c.is_good) as bad_number
    into v_chain
    from (
        select
            c.checkpoint_number,
            c.checkpoint_number = 1 + coalesce(lag(c.checkpoint_number) over chain, 0)
                and c.previous_hash = coalesce(
                    lag(c.checkpoint_hash) over chain, decode(repeat('00', 32), 'hex')
                )
                and c.checkpoint_hash = ai_storage_private.checkpoint_hash(c)
                and c.root is not distinct from s.root
                and c.seal_count = s.seal_count
                as is_good
        from ai_storage_private.audit_checkpoint as c
        left join unnest(v_numbers, v_counts, v_roots) as s (checkpoint_number, seal_count, root)
            on s.checkpoint_number = c.checkpoint_number
        window chain as (order by c.checkpoint_number)
    ) as c;

    events := coalesce(v_log.events, 0);
    seals := v_log.seals;
    checkpoints := v_chain.checkpoints;
    select count(*) into pending from ai_storage_private.audit_pending as p;
    if v_log.problem is not null then
        problem := format('seal %s: %s', v_log.seal_number, v_log.problem);
        select t.isolation_key into isolation_key
        from ai_storage_private.tenant as t
        where t.tenant_id = v_log.tenant_id;
        select e.event_id into event_id
        from ai_storage_private.audit_event as e
        where e.tenant_id = v_log.tenant_id
          and e.seal_number = v_log.seal_number
          and e.leaf_index = v_log.leaf_index;
    elsif v_chain.bad_number is not null then
        problem := format('checkpoint %s: changed, or its seals were', v_chain.bad_number);
    elsif v_highest > v_chain.checkpoints + 1 then
        problem := format('checkpoint %s: missing', v_chain.checkpoints + 1);
    end if;
    verified := problem is null;
    return next;
end;
$$;

ALTER FUNCTION ai_storage.verify_all_audit() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION verify_all_audit(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.verify_all_audit() IS 'Recomputes every leaf, seal and checkpoint of all tenants. pending: events that no seal covers yet. verified false: problem says what is wrong first, event_id and isolation_key where, as far as they are known.';

--
-- Name: verify_audit(text); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.verify_audit(p_as text DEFAULT NULL::text) RETURNS TABLE(verified boolean, events bigint, seals bigint, pending bigint, event_id uuid, problem text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant constant ai_storage_private.acting_tenant := ai_storage_private.enter(p_as);
    v_log    record;
begin
    select l.* into v_log
    from ai_storage_private.check_log(v_tenant.tenant_id) as l;
    events := coalesce(v_log.events, 0);
    seals := v_log.seals;
    select count(*) into pending
    from ai_storage_private.audit_pending as p
    where p.tenant_id = v_tenant.tenant_id;

    if v_log.problem is not null then
        problem := format('seal %s: %s', v_log.seal_number, v_log.problem);
        select e.event_id into event_id
        from ai_storage_private.audit_event as e
        where e.tenant_id = v_tenant.tenant_id
          and e.seal_number = v_log.seal_number
          and e.leaf_index = v_log.leaf_index;
    else
        problem := ai_storage_private.find_unlogged(v_tenant.tenant_id);
    end if;
    verified := problem is null;
    return next;
end;
$$;

ALTER FUNCTION ai_storage.verify_audit(p_as text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION verify_audit(p_as text); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.verify_audit(p_as text) IS 'Recomputes every leaf and seal of the caller''s own log and compares the tenant''s data with it: models and versions with authors and times, artifacts, whose bytes it reads again, grants, their ends, declines and deleted names. Finds what was changed, added or removed without an event. pending: events that no seal covers yet. verified false: problem says what is wrong first, event_id where, when it is known. Raises TN001 to TN005.';

--
-- Name: version(); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage.version() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select '0.1.0';
$$;

ALTER FUNCTION ai_storage.version() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION version(); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage.version() IS 'Returns the release of tenant-ai-storage that this database runs, as major.minor.patch.';

--
-- Name: write_rows(text, text, jsonb, jsonb); Type: FUNCTION; Schema: ai_storage; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage.write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  constant ai_storage_private.tenant
        := ai_storage_private.act_for_tenant(p_isolation_key);
begin
    if v_tenant.moved_to is null then
        raise exception using
            errcode = '55000',
            message = 'this tenant is open here',
            hint = 'Rows are written only into a tenant that is being moved here.';
    end if;
    perform ai_storage_private.write_own_rows(v_tenant.tenant_id, p_table_name, p_rows, p_gone);
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage.write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb); Type: COMMENT; Schema: ai_storage; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage.write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb) IS 'Writes rows of a tenant that is being moved here. p_rows: an array of rows as read_rows() returned them. p_gone: an array of the ids of rows to delete. Each change is an event. Raises 22023, 42704, 55000.';

--
-- Name: act_for(bigint, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.act_for(p_tenant_id bigint, p_isolation_key text) RETURNS text
    LANGUAGE plpgsql
    AS $$
begin
    return ai_storage_private.set_context(
        'call', (p_tenant_id, p_isolation_key, null, 'operator', '')
    );
end;
$$;

ALTER FUNCTION ai_storage_private.act_for(p_tenant_id bigint, p_isolation_key text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION act_for(p_tenant_id bigint, p_isolation_key text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.act_for(p_tenant_id bigint, p_isolation_key text) IS 'Turns the context to a tenant, for an administrator''s function that puts the caller''s back.';

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: tenant; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.tenant (
    tenant_id bigint NOT NULL,
    org_id text NOT NULL COLLATE pg_catalog."C",
    server_id text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    code_hash text NOT NULL COLLATE pg_catalog."C",
    isolation_key text GENERATED ALWAYS AS (((((((((org_id || ':'::text) || server_id) || ':'::text) || project_id) || ':'::text) || environment) || ':'::text) || code_hash)) STORED NOT NULL COLLATE pg_catalog."C",
    registered_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    moved_to text COLLATE pg_catalog."C",
    CONSTRAINT tenant_isolation_key_valid CHECK ((isolation_key ~ '^([A-Za-z0-9._+@~=/-]{1,63}:){4}[A-Za-z0-9._+@~=/-]{1,63}$'::text)),
    CONSTRAINT tenant_tenant_id_positive CHECK ((tenant_id > 0))
);

ALTER TABLE ONLY ai_storage_private.tenant FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.tenant OWNER TO ai_storage_owner;

--
-- Name: TABLE tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.tenant IS 'The registry of tenants: five levels and the id that every tenant table carries. A tenant is registered by its first write.';

--
-- Name: COLUMN tenant.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.tenant_id IS 'The id in every tenant table, random.';

--
-- Name: COLUMN tenant.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.org_id IS 'Level 1: the organisation.';

--
-- Name: COLUMN tenant.server_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.server_id IS 'Level 2: the MCP server or application.';

--
-- Name: COLUMN tenant.project_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.project_id IS 'Level 3: the project.';

--
-- Name: COLUMN tenant.environment; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.environment IS 'Level 4: the environment, such as production.';

--
-- Name: COLUMN tenant.code_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.code_hash IS 'Level 5: the version of the code.';

--
-- Name: COLUMN tenant.isolation_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.isolation_key IS 'The five levels joined by colons.';

--
-- Name: COLUMN tenant.registered_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.registered_at IS 'When the tenant first wrote.';

--
-- Name: COLUMN tenant.moved_to; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant.moved_to IS 'The cell that its organisation was moved to or is moving to; null: it lives here.';

--
-- Name: act_for_tenant(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.act_for_tenant(p_isolation_key text) RETURNS ai_storage_private.tenant
    LANGUAGE plpgsql
    AS $$
declare
    v_tenant ai_storage_private.tenant;
begin
    perform ai_storage_private.require_owner();
    select t.* into v_tenant
    from ai_storage_private.tenant as t
    where t.isolation_key = p_isolation_key collate "C";
    if not found then
        raise exception using
            errcode = '42704',
            message = 'no such tenant',
            hint = 'list_tenants() shows the tenants; one is known from its first save on.';
    end if;
    perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
    return v_tenant;
end;
$$;

ALTER FUNCTION ai_storage_private.act_for_tenant(p_isolation_key text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION act_for_tenant(p_isolation_key text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.act_for_tenant(p_isolation_key text) IS 'Sets the context to a tenant. The caller puts its own back: restore_context(). Raises 42704.';

--
-- Name: artifact_content(bytea, bigint, timestamp with time zone, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select encode(p_sha256, 'hex') || '|' || p_size_bytes
        || '|' || ai_storage_private.micros(p_put_at) || '|' || p_media_type;
$$;

ALTER FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) IS 'What the digest of an artifact is made of.';

--
-- Name: artifact_limit(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.artifact_limit() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return (select l.max_bytes from ai_storage_private.artifact_limit as l);
end;
$$;

ALTER FUNCTION ai_storage_private.artifact_limit() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION artifact_limit(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.artifact_limit() IS 'How many bytes an artifact may have.';

--
-- Name: attach_artifacts(bigint, text, bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_model_id uuid;
    v_name     text;
    v_item     record;
    v_upload   ai_storage_private.artifact_upload;
begin
    perform ai_storage_private.check_artifacts(p_artifacts);
    select p.model_id into strict v_model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_name = p_model_name collate "C";
    for v_name in select jsonb_object_keys(p_artifacts)
    loop
        v_item := ai_storage_private.parse_artifact(v_name, p_artifacts -> v_name);
        perform ai_storage_private.check_artifact(
            v_name, coalesce(v_item.media_type, 'application/octet-stream')
        );
        if v_item.content is not null then
            perform ai_storage_private.attach_content(
                p_tenant_id, v_model_id, p_version, v_name,
                coalesce(v_item.media_type, 'application/octet-stream'), v_item.content
            );
            continue;
        end if;
        select u.* into v_upload
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.upload_id::text = lower(v_item.upload_id)
          and u.sha256 is not null
        for update;
        if not found then
            raise exception using
                errcode = 'TN201',
                message = 'no such staged upload',
                detail = format('It was to be the artifact %s.', quote_ident(v_name)),
                hint = 'Name an upload that stage_artifact() has ended, once: the save that names '
                    'it uses it up.';
        end if;
        perform ai_storage_private.attach_upload(
            v_upload, v_model_id, p_version, v_name,
            coalesce(v_item.media_type, v_upload.media_type), v_upload.sha256
        );
    end loop;
end;
$$;

ALTER FUNCTION ai_storage_private.attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb) IS 'Attaches the artifacts of a save to the version that this transaction has just made. Raises 22023, 54000, TN201.';

--
-- Name: attach_blob(bigint, uuid, bigint, text, text, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_now     constant timestamptz := clock_timestamp();
    v_blob_id uuid;
begin
    select a.blob_id into v_blob_id
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
      and a.model_id = p_model_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version = p_version
    for update;
    insert into ai_storage_private.model_artifact (
        tenant_id, model_id, version, blob_id, put_at, artifact_name, media_type
    )
    values (p_tenant_id, p_model_id, p_version, p_blob_id, v_now, p_artifact_name, p_media_type)
    on conflict on constraint model_artifact_pk do update set
        blob_id    = excluded.blob_id,
        put_at     = excluded.put_at,
        media_type = excluded.media_type;
    if v_blob_id <> p_blob_id then
        perform ai_storage_private.sweep_blobs(p_tenant_id, array[v_blob_id]);
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid) IS 'Names a content as an artifact at a version of a model, in place of another.';

--
-- Name: attach_content(bigint, uuid, bigint, text, text, bytea); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_new_id  constant uuid := gen_random_uuid();
    v_sha256  bytea;
    v_blob_id uuid;
begin
    perform ai_storage_private.check_size(length(p_content));
    v_sha256 := ai_storage_private.digest_content(p_content);
    v_blob_id := ai_storage_private.keep_blob(p_tenant_id, v_new_id, v_sha256, length(p_content));
    is_new := v_blob_id = v_new_id;
    if is_new then
        perform ai_storage_private.write_chunks(p_tenant_id, v_blob_id, 0, p_content);
    end if;
    perform ai_storage_private.attach_blob(
        p_tenant_id, p_model_id, p_version, p_artifact_name, p_media_type, v_blob_id
    );
    sha256 := encode(v_sha256, 'hex');
    size_bytes := length(p_content)::bigint;
end;
$$;

ALTER FUNCTION ai_storage_private.attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean) IS 'Keeps bytes as an artifact at a version of a model. Raises 54000.';

--
-- Name: artifact_upload; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.artifact_upload (
    tenant_id bigint NOT NULL,
    upload_id uuid NOT NULL,
    model_id uuid,
    version bigint,
    received_bytes bigint NOT NULL,
    began_at timestamp with time zone NOT NULL,
    touched_at timestamp with time zone NOT NULL,
    sha256 bytea,
    artifact_name text NOT NULL COLLATE pg_catalog."C",
    media_type text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.artifact_upload FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.artifact_upload OWNER TO ai_storage_owner;

--
-- Name: TABLE artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.artifact_upload IS 'Contents that are still arriving.';

--
-- Name: COLUMN artifact_upload.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.tenant_id IS 'The tenant that uploads.';

--
-- Name: COLUMN artifact_upload.upload_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.upload_id IS 'Random id of the upload, and of the content that comes of it.';

--
-- Name: COLUMN artifact_upload.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.model_id IS 'The model it is for; null for one that a save is to name.';

--
-- Name: COLUMN artifact_upload.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.version IS 'The model''s version it is for, or null.';

--
-- Name: COLUMN artifact_upload.received_bytes; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.received_bytes IS 'How many bytes have arrived.';

--
-- Name: COLUMN artifact_upload.began_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.began_at IS 'When it began.';

--
-- Name: COLUMN artifact_upload.touched_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.touched_at IS 'When bytes last arrived.';

--
-- Name: COLUMN artifact_upload.sha256; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.sha256 IS 'That of the whole content, once it is staged; null before.';

--
-- Name: COLUMN artifact_upload.artifact_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.artifact_name IS 'The name it is going to have.';

--
-- Name: COLUMN artifact_upload.media_type; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_upload.media_type IS 'What the bytes are.';

--
-- Name: attach_upload(ai_storage_private.artifact_upload, uuid, bigint, text, text, bytea); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
declare
    v_blob_id constant uuid := ai_storage_private.keep_blob(
        p_upload.tenant_id, p_upload.upload_id, p_sha256, p_upload.received_bytes
    );
begin
    if v_blob_id <> p_upload.upload_id then
        delete from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_upload.tenant_id
          and c.blob_id = p_upload.upload_id;
    end if;
    perform ai_storage_private.attach_blob(
        p_upload.tenant_id, p_model_id, p_version, p_artifact_name, p_media_type, v_blob_id
    );
    perform ai_storage_private.end_upload(p_upload.tenant_id, p_upload.upload_id);
    return v_blob_id = p_upload.upload_id;
end;
$$;

ALTER FUNCTION ai_storage_private.attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea) IS 'Makes an upload, which the caller has locked and checked, an artifact at a version of a model, and ends it. Returns whether the tenant did not have these bytes before.';

--
-- Name: model_share; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.model_share (
    tenant_id bigint NOT NULL,
    share_id uuid NOT NULL,
    model_id uuid NOT NULL,
    sharer_id bigint NOT NULL,
    pinned_version bigint,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    model_name text NOT NULL COLLATE pg_catalog."C",
    owner_key text NOT NULL COLLATE pg_catalog."C",
    sharer_key text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL COLLATE pg_catalog."C",
    permissions text[] NOT NULL,
    ancestors uuid[] NOT NULL,
    sharer_ids bigint[] NOT NULL,
    permit_ids uuid[] NOT NULL,
    CONSTRAINT model_share_depth CHECK ((cardinality(ancestors) <= 8)),
    CONSTRAINT model_share_not_to_owner CHECK ((target <> owner_key)),
    CONSTRAINT model_share_permissions_known CHECK (((permissions <@ '{read,execute,write,share}'::text[]) AND (permissions <> '{}'::text[]))),
    CONSTRAINT model_share_pinned_not_written CHECK (((pinned_version IS NULL) OR (NOT (permissions @> '{write}'::text[]))))
);

ALTER TABLE ONLY ai_storage_private.model_share FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.model_share OWNER TO ai_storage_owner;

--
-- Name: TABLE model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.model_share IS 'Grants: who may reach which model of another tenant. A row is deleted and never changed.';

--
-- Name: COLUMN model_share.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.tenant_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN model_share.share_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.share_id IS 'Random id of the grant.';

--
-- Name: COLUMN model_share.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.model_id IS 'The model.';

--
-- Name: COLUMN model_share.sharer_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.sharer_id IS 'The tenant that gave the grant: the owner, or one that passed the model on.';

--
-- Name: COLUMN model_share.pinned_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.pinned_version IS 'The only version the receiver sees, or null for the current one and all before it.';

--
-- Name: COLUMN model_share.created_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.created_at IS 'When the grant was given.';

--
-- Name: COLUMN model_share.expires_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.expires_at IS 'When it ends by itself, or null.';

--
-- Name: COLUMN model_share.model_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.model_name IS 'Name of the model; names never change.';

--
-- Name: COLUMN model_share.owner_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.owner_key IS 'Isolation key of the owner.';

--
-- Name: COLUMN model_share.sharer_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.sharer_key IS 'Isolation key of the sharer.';

--
-- Name: COLUMN model_share.target; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.target IS 'Who may reach the model: five levels joined by colons, each a value or *.';

--
-- Name: COLUMN model_share.permissions; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.permissions IS 'read: progress and history; execute: artifacts; write: save versions; share: pass it on.';

--
-- Name: COLUMN model_share.ancestors; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.ancestors IS 'The grants this one derives from, the owner''s first, 8 at most; it ends with any of them.';

--
-- Name: COLUMN model_share.sharer_ids; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.sharer_ids IS 'The tenants that may end this grant: the owner and each that passed the model on.';

--
-- Name: COLUMN model_share.permit_ids; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_share.permit_ids IS 'The permits to share outside that this grant rests on; it ends with any of them.';

--
-- Name: borrow(ai_storage_private.acting_tenant, text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) RETURNS ai_storage_private.model_share
    LANGUAGE plpgsql
    AS $$
declare
    v_share ai_storage_private.model_share;
begin
    -- An older snapshot would still find a grant that has ended since: good for reading what was,
    -- not for writing now.
    if p_permission = 'write'
        and current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    then
        raise exception using
            errcode = '25000',
            message = 'a shared model is written under read committed only',
            hint = 'Begin the transaction with isolation level read committed.';
    end if;
    -- Of several grants, one without a pinned version shows the most.
    select s.* into v_share
    from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
    where s.permissions @> array[p_permission]
    order by s.pinned_version desc nulls first, s.share_id
    limit 1;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
    -- What is saved into an organisation while it is moved would be lost.
    if split_part(v_share.owner_key, ':', 1) <> p_tenant.levels[1] then
        perform ai_storage_private.check_home(split_part(v_share.owner_key, ':', 1));
    end if;
    perform ai_storage_private.lend(array[v_share.tenant_id], array[v_share.model_id]);
    return v_share;
end;
$$;

ALTER FUNCTION ai_storage_private.borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) IS 'Finds the grant for one use of one model and lends the model to this transaction; the caller puts the context back. Raises TN101, TN602, TN603.';

--
-- Name: cache_key(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.cache_key(p_tenant_id bigint) RETURNS bytea
    LANGUAGE plpgsql
    AS $$
declare
    v_random    constant bytea := sha256(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    );
    v_cache_key bytea;
begin
    select k.cache_key into v_cache_key
    from ai_storage_private.tenant_cache_key as k
    where k.tenant_id = p_tenant_id;
    if not found and p_tenant_id > 0 and current_setting('transaction_read_only') = 'off' then
        insert into ai_storage_private.tenant_cache_key as k (tenant_id, cache_key)
        values (p_tenant_id, v_random)
        on conflict on constraint tenant_cache_key_pk do update set
            tenant_id = excluded.tenant_id -- returns the row that somebody else was faster with
        returning k.cache_key into v_cache_key;
    end if;
    return v_cache_key;
end;
$$;

ALTER FUNCTION ai_storage_private.cache_key(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION cache_key(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.cache_key(p_tenant_id bigint) IS 'The key that seals what a cache keeps for a tenant, made when it is first asked for; null for a tenant that never wrote.';

--
-- Name: check_artifact(text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_artifact(p_artifact_name text, p_media_type text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
begin
    if ai_storage_private.is_name(p_artifact_name) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid artifact name',
            hint = 'A name has 1 to 255 characters and no control character.';
    end if;
    if (
        p_media_type ~ '^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$'
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid media type',
            hint = 'A media type is a type and a subtype in lower case, such as '
                'application/octet-stream.';
    end if;
end;
$_$;

ALTER FUNCTION ai_storage_private.check_artifact(p_artifact_name text, p_media_type text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_artifact(p_artifact_name text, p_media_type text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_artifact(p_artifact_name text, p_media_type text) IS 'Refuses a name or media type that breaks a documented rule. Raises 22023.';

--
-- Name: check_artifacts(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_artifacts(p_artifacts jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
begin
    if jsonb_typeof(p_artifacts) <> 'object'
        or jsonb_array_length(jsonb_path_query_array(p_artifacts, 'strict $.*')) > 100
    then
        raise exception using
            errcode = '22023',
            message = 'invalid artifacts',
            hint = 'Artifacts are one object, of at most 100 names.';
    end if;
end;
$_$;

ALTER FUNCTION ai_storage_private.check_artifacts(p_artifacts jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_artifacts(p_artifacts jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_artifacts(p_artifacts jsonb) IS 'Refuses what are no artifacts of a save. Raises 22023.';

--
-- Name: check_cell(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_cell(p_cell_name text) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
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
$$;

ALTER FUNCTION ai_storage_private.check_cell(p_cell_name text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_cell(p_cell_name text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_cell(p_cell_name text) IS 'Refuses a name that no cell has. Raises 42704.';

--
-- Name: check_controls(boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_controls(p_only_quick boolean) RETURNS TABLE(control text, reference text, status text, result text, evidence text, checked_at timestamp with time zone)
    LANGUAGE plpgsql
    AS $$
declare
    v_control record;
begin
    for v_control in
        select c.*
        from ai_storage_private.list_controls() as c
        where c.is_quick or not p_only_quick
        order by c.place
    loop
        control := v_control.control;
        reference := v_control.reference;
        evidence := btrim(v_control.evidence, E' \n');
        checked_at := clock_timestamp();
        begin
            execute evidence into status, result;
        -- What cannot be checked does not hold, and the other controls are checked all the same.
        exception when others then
            status := 'failed';
            result := 'not to be checked: ' || sqlerrm;
        end;
        return next;
    end loop;
end;
$$;

ALTER FUNCTION ai_storage_private.check_controls(p_only_quick boolean) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_controls(p_only_quick boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_controls(p_only_quick boolean) IS 'Runs the evidence of the controls, of all or of the quick ones.';

--
-- Name: check_credential(text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_credential(p_credential text, p_scope text) RETURNS ai_storage_private.acting_tenant
    LANGUAGE plpgsql
    AS $$
declare
    -- A key has colons, a token has none.
    v_is_token   constant boolean := strpos(p_credential, ':') = 0;
    v_key        text collate "C" := p_credential;
    v_credential text := 'key';
    v_expires_at text := '';
    v_level      text[];
    v_authorized boolean;
    v_tenant_id  bigint;
    v_inner_key  bytea;
    v_outer_key  bytea;
    v_payload    text;
    v_set        text;
begin
    if v_is_token then
        select t.isolation_key, t.credential, t.expires_at
        into v_key, v_credential, v_expires_at
        from ai_storage_private.verify_token(p_credential) as t;
    end if;
    v_level := string_to_array(v_key, ':');

    -- One query, since each takes its time to begin. For whoever is not authorised it looks at
    -- nothing of the tenant: not even counters of the registry, or the time, tell whether it
    -- exists.
    select
        true,
        t.tenant_id,
        s.inner_key,
        s.outer_key
    into v_authorized, v_tenant_id, v_inner_key, v_outer_key
    from ai_storage_private.login_authorization as a
    left join ai_storage_private.tenant as t
        on t.isolation_key = v_key
        and t.moved_to is null
    left join ai_storage_private.context_secret as s on true
    where a.login_name = session_user
      and a.org_id in ('*', v_level[1])
      and a.server_id in ('*', v_level[2])
      and a.project_id in ('*', v_level[3])
      and a.environment in ('*', v_level[4])
      and a.code_hash in ('*', v_level[5])
      and (v_is_token or not a.token_only)
    limit 1;

    if v_tenant_id is not null and v_inner_key is not null then
        v_payload := ai_storage_private.context_payload(
            p_scope, v_tenant_id, v_key, v_expires_at, v_credential, null
        );
        v_set := set_config(
            'app.tenant_context',
            ai_storage_private.sign_context(v_inner_key, v_outer_key, v_payload),
            true
        );
    else
        -- A key in the registry is well formed, so the hot path is spared the regular expression.
        if v_tenant_id is null and ai_storage.is_isolation_key(v_key) is not true then
            perform ai_storage_private.count_refusal();
            raise exception using
                errcode = 'TN002',
                message = 'malformed credential',
                hint = 'A credential is an isolation key, five levels joined by colons as '
                    'isolation_key() renders it, or a signed token that names one tenant.';
        end if;
        if v_authorized is null then
            perform ai_storage_private.count_refusal();
            raise exception using
                errcode = 'TN003',
                message = 'this login is not authorised for the tenant',
                hint = 'An administrator authorises it: select ai_storage.authorize_login(login, '
                    'pattern). A login that is authorised by token only presents a signed token.';
        end if;
        perform ai_storage_private.check_home(v_level[1]);
        -- Not registered, or no secret to sign with, which set_context() refuses.
        v_set := ai_storage_private.set_context(
            p_scope, (coalesce(v_tenant_id, 0), v_key, v_level, v_credential, v_expires_at)
        );
    end if;
    return (coalesce(v_tenant_id, 0), v_key, v_level, v_credential, v_expires_at);
end;
$$;

ALTER FUNCTION ai_storage_private.check_credential(p_credential text, p_scope text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_credential(p_credential text, p_scope text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_credential(p_credential text, p_scope text) IS 'Checks what a caller presents, makes the transaction act for the tenant it stands for, and returns it. p_scope: as set_context() takes it. Raises 55000, TN002, TN003, TN005, TN602, TN603.';

--
-- Name: check_events(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_events(p_tenant_id bigint) RETURNS TABLE(events bigint, tenant_id bigint, seal_number bigint, leaf_index integer, problem text)
    LANGUAGE plpgsql STABLE
    SET min_parallel_table_scan_size TO '0'
    SET jit TO 'off'
    AS $$
begin
    -- PostgreSQL runs RETURN QUERY in parallel, SELECT INTO never. The place as text of a fixed
    -- width, so that each process finds the smallest.
    return query
    select
        n.event_count,
        substr(n.place, 1, 20)::bigint,
        substr(n.place, 21, 20)::bigint,
        substr(n.place, 41, 20)::integer,
        case when n.place is not null then 'a changed event' end
    from (
        select
            count(*) as event_count,
            min(
                to_char(e.tenant_id, 'S0000000000000000000')
                    || to_char(e.seal_number, 'S0000000000000000000')
                    || to_char(e.leaf_index, 'S0000000000000000000')
            ) filter (
                where e.leaf_hash <> ai_storage_private.leaf_hash(
                        e.tenant_id, e.event_id, e.seal_number, e.leaf_index, e.recorded_at,
                        e.action, e.model_id, e.version, e.credential, e.content_digest,
                        e.detail_digest, e.login
                    )
                   -- Two rows could share such a leaf: only the login, the last, may hold a bar.
                   or strpos(e.action || e.credential, '|') > 0
                   or e.content_digest = ''
                   -- No erasure and no retention takes a name from the operator's own log.
                   or (e.tenant_id = 0 and e.salt is null)
                   or (e.detail is null) <> (e.salt is null)
                   or e.detail_digest
                       <> sha256(uuid_send(e.salt) || convert_to(e.detail, 'UTF8'))
            ) as place
        from ai_storage_private.audit_event as e
        where p_tenant_id is null or e.tenant_id = p_tenant_id
    ) as n;
    return query
    select 0::bigint, e.tenant_id, e.seal_number, e.leaf_index, 'events without their seal'
    from ai_storage_private.audit_event as e
    where (p_tenant_id is null or e.tenant_id = p_tenant_id)
      and not exists (
          select from ai_storage_private.audit_seal as s
          where s.tenant_id = e.tenant_id
            and s.seal_number = e.seal_number
      )
    order by e.tenant_id, e.seal_number, e.leaf_index
    limit 1;
end;
$$;

ALTER FUNCTION ai_storage_private.check_events(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_events(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_events(p_tenant_id bigint) IS 'Recomputes the leaves of one tenant''s log, or with null of all: how many, and the first that is wrong or under no seal.';

--
-- Name: check_hold(text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_hold(p_levels text[]) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if exists (
        select from ai_storage_private.retention_rule as r
        where r.legal_hold
          and r.org_id in ('*', p_levels[1])
          and r.server_id in ('*', p_levels[2])
          and r.project_id in ('*', p_levels[3])
          and r.environment in ('*', p_levels[4])
          and r.code_hash in ('*', p_levels[5])
    ) then
        raise exception using
            errcode = 'TN501',
            message = 'a legal hold keeps this data',
            hint = 'An administrator sees the holds with list_retention(), and ends one with '
                'set_retention() or drop_retention().';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.check_hold(p_levels text[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_hold(p_levels text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_hold(p_levels text[]) IS 'Refuses to delete or erase what a legal hold keeps. Raises TN501.';

--
-- Name: check_home(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_home(p_org_id text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
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
$$;

ALTER FUNCTION ai_storage_private.check_home(p_org_id text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_home(p_org_id text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_home(p_org_id text) IS 'Refuses an organisation that lives in another cell or is closed. The caller has authorised already. Raises TN602, whose detail is the name of that cell, and TN603.';

--
-- Name: check_log(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_log(p_tenant_id bigint) RETURNS TABLE(events bigint, seals bigint, tenant_id bigint, seal_number bigint, leaf_index integer, problem text)
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return query
    with event as materialized (
        select n.* from ai_storage_private.check_events(p_tenant_id) as n
    ),
    seal as materialized (
        select
            s.*,
            s.seal_number = 1 + coalesce(lag(s.seal_number) over chain, 0)
                and s.previous_hash = coalesce(
                    lag(s.seal_hash) over chain, decode(repeat('00', 32), 'hex')
                ) as follows
        from ai_storage_private.check_seals(p_tenant_id) as s
        window chain as (partition by s.tenant_id order by s.seal_number)
    ),
    wrong as (
        select n.tenant_id, n.seal_number, n.leaf_index, n.problem
        from event as n
        where n.problem is not null
        union all
        select
            c.tenant_id,
            c.seal_number,
            null,
            case when c.follows then c.problem
                else 'a seal that does not follow the one before' end
        from seal as c
        where c.problem is not null
           or not c.follows
    )
    select
        (select sum(n.events)::bigint from event as n),
        (select count(*) from seal),
        w.tenant_id, w.seal_number, w.leaf_index, w.problem
    from (values (1)) as one (row)
    left join lateral (
        select r.*
        from wrong as r
        order by r.tenant_id, r.seal_number, r.leaf_index
        limit 1
    ) as w on true;
end;
$$;

ALTER FUNCTION ai_storage_private.check_log(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_log(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_log(p_tenant_id bigint) IS 'Recomputes the leaves and seals of one tenant''s log, or with null of all, and tells what is wrong first. Under row level security it sees what its caller''s policies show.';

--
-- Name: check_pattern(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_pattern(p_pattern text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    if ai_storage_private.is_tenant_pattern(p_pattern) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid tenant pattern',
            hint = 'A pattern has five levels joined by colons; each is a value or *, for example '
                'acme:*:*:*:*';
    end if;
    return string_to_array(p_pattern collate "C", ':');
end;
$$;

ALTER FUNCTION ai_storage_private.check_pattern(p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_pattern(p_pattern text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_pattern(p_pattern text) IS 'The five levels of a pattern. Raises 22023.';

--
-- Name: check_permission(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_permission(p_permission text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    if p_permission is null or p_permission not in ('read', 'execute', 'write', 'share') then
        raise exception using
            errcode = '22023',
            message = 'invalid permission',
            hint = 'A permission is read, execute, write or share.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.check_permission(p_permission text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_permission(p_permission text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_permission(p_permission text) IS 'Refuses what is not a permission. Raises 22023.';

--
-- Name: check_progress(text, double precision, bigint, jsonb, jsonb, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    if ai_storage_private.is_name(p_model_name) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid model name',
            hint = 'A name has 1 to 255 characters and no control character.';
    end if;
    if not ai_storage_private.is_metrics(coalesce(p_metrics, '{}')) then
        raise exception using
            errcode = '22023',
            message = 'invalid metrics',
            detail = ai_storage_private.name_wrong_metric(p_metrics),
            hint = 'Metrics are one flat object of at most 256 names, each with a finite number; a '
                'name has 1 to 255 characters and no control character.';
    end if;
    if not ai_storage_private.is_metadata(coalesce(p_metadata, '{}')) then
        raise exception using
            errcode = '22023',
            message = 'invalid metadata',
            hint = 'Metadata is one object of at most 1 MiB as text and 64 levels, with numbers '
                'that a double can hold.';
    end if;
    if p_mse in ('nan', 'infinity', '-infinity')
        or (p_mse is null and coalesce(p_metrics, '{}') = '{}')
    then
        raise exception using
            errcode = '22023',
            message = 'invalid mse',
            hint = 'mse is a finite number. It may be left out when metrics is not empty.';
    end if;
    if p_training_samples < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid training_samples',
            hint = 'training_samples is a count, 0 or more, or null when unknown.';
    end if;
    if p_expected_version < 0 then
        raise exception using
            errcode = '22023',
            message = 'invalid expected version',
            hint = '0: the model must not exist yet; another number: it must be the current '
                'version; null: any.';
    end if;
    return true;
end;
$$;

ALTER FUNCTION ai_storage_private.check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint) IS 'Refuses a model state that breaks a documented rule; true for any other. Raises 22023.';

--
-- Name: check_reason(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_reason(p_reason text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    if ai_storage_private.is_name(p_reason) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid reason',
            hint = 'The log keeps the reason: 1 to 255 characters and no control character.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.check_reason(p_reason text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_reason(p_reason text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_reason(p_reason text) IS 'Refuses a reason that the log cannot keep. Raises 22023.';

--
-- Name: audit_seal; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.audit_seal (
    tenant_id bigint NOT NULL,
    seal_number bigint NOT NULL,
    checkpoint_number bigint NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    event_count integer NOT NULL,
    root bytea NOT NULL,
    previous_hash bytea NOT NULL,
    seal_hash bytea NOT NULL,
    CONSTRAINT audit_seal_sealed_at_finite CHECK (isfinite(sealed_at))
);

ALTER TABLE ONLY ai_storage_private.audit_seal FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.audit_seal OWNER TO ai_storage_owner;

--
-- Name: TABLE audit_seal; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.audit_seal IS 'Per tenant a chain of seals over its events.';

--
-- Name: COLUMN audit_seal.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.tenant_id IS 'Whose log it seals; 0: the operator''s.';

--
-- Name: COLUMN audit_seal.seal_number; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.seal_number IS 'Its number in the tenant''s chain, from 1.';

--
-- Name: COLUMN audit_seal.checkpoint_number; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.checkpoint_number IS 'The checkpoint that covers it, or will.';

--
-- Name: COLUMN audit_seal.sealed_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.sealed_at IS 'When it was made.';

--
-- Name: COLUMN audit_seal.event_count; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.event_count IS 'How many events it covers.';

--
-- Name: COLUMN audit_seal.root; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.root IS 'Root of the Merkle tree of its events'' leaves.';

--
-- Name: COLUMN audit_seal.previous_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.previous_hash IS 'seal_hash of the seal before it; zeros for the first.';

--
-- Name: COLUMN audit_seal.seal_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_seal.seal_hash IS 'Hash of all the other columns.';

--
-- Name: check_seal(ai_storage_private.audit_seal); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_seal(p_seal ai_storage_private.audit_seal) RETURNS text
    LANGUAGE plpgsql STABLE COST 10000 PARALLEL SAFE
    AS $$
declare
    v_leaves constant bytea[] := array(
        select e.leaf_hash
        from ai_storage_private.audit_event as e
        where e.tenant_id = p_seal.tenant_id
          and e.seal_number = p_seal.seal_number
        order by e.leaf_index
    );
begin
    return case
        when p_seal.seal_hash <> ai_storage_private.seal_hash(p_seal) then 'a changed seal'
        when cardinality(v_leaves) <> p_seal.event_count then 'a missing event, or one too many'
        when ai_storage_private.merkle_root(v_leaves) is distinct from p_seal.root
        then 'a changed event'
    end;
end;
$$;

ALTER FUNCTION ai_storage_private.check_seal(p_seal ai_storage_private.audit_seal) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_seal(p_seal ai_storage_private.audit_seal); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_seal(p_seal ai_storage_private.audit_seal) IS 'Recomputes a seal from the leaves of its events and tells what is wrong with it, or null.';

--
-- Name: check_seals(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.check_seals(p_tenant_id bigint) RETURNS TABLE(tenant_id bigint, seal_number bigint, previous_hash bytea, seal_hash bytea, problem text)
    LANGUAGE plpgsql STABLE
    SET min_parallel_table_scan_size TO '0'
    SET jit TO 'off'
    AS $$
begin
    -- A correlated subquery would keep PostgreSQL to one process, a function does not.
    return query
    select
        s.tenant_id, s.seal_number, s.previous_hash, s.seal_hash,
        ai_storage_private.check_seal(s)
    from ai_storage_private.audit_seal as s
    where p_tenant_id is null or s.tenant_id = p_tenant_id;
end;
$$;

ALTER FUNCTION ai_storage_private.check_seals(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION check_seals(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.check_seals(p_tenant_id bigint) IS 'The seals of one tenant, or with null of all, and what is wrong with each by itself.';

--
-- Name: check_shared_write(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_shared_write() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if not ai_storage_private.may_write(new.tenant_id, new.model_id, new.saved_by) then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you, also when the transaction commits.';
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.check_shared_write() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_shared_write(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_shared_write() IS 'Trigger: refuses what a borrower saved unless it may still write. Raises TN101.';

--
-- Name: check_size(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_size(p_size_bytes bigint) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_max_bytes constant bigint := ai_storage_private.artifact_limit();
begin
    if p_size_bytes > v_max_bytes then
        raise exception using
            errcode = '54000',
            message = 'the artifact is too large',
            detail = format('An artifact has at most %s bytes.', v_max_bytes),
            hint = 'An administrator changes the limit with set_artifact_limit().';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.check_size(p_size_bytes bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_size(p_size_bytes bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_size(p_size_bytes bigint) IS 'Refuses more bytes than an artifact may have. Raises 54000.';

--
-- Name: check_targets(jsonb, text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_targets(p_targets jsonb, p_level text[]) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE
    AS $$
declare
    v_targets text[];
begin
    if p_targets is null or jsonb_typeof(p_targets) <> 'array' or p_targets = '[]' then
        raise exception using
            errcode = 'TN301',
            message = 'no targets',
            hint = 'Targets are an array of at least one object, such as [{"server_id": "mcp-2"}].';
    end if;
    v_targets := array(
        select ai_storage_private.render_target(t.value, p_level)
        from jsonb_array_elements(p_targets) with ordinality as t (value, place)
        order by t.place
    );
    if cardinality(v_targets) > (select count(distinct t) from unnest(v_targets) as t) then
        raise exception using
            errcode = 'TN301',
            message = 'a target is named twice',
            hint = 'Name each target once. A level left out is your own.';
    end if;
    return v_targets;
end;
$$;

ALTER FUNCTION ai_storage_private.check_targets(p_targets jsonb, p_level text[]) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_targets(p_targets jsonb, p_level text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_targets(p_targets jsonb, p_level text[]) IS 'Renders an array of targets as patterns, in its order. Raises TN301.';

--
-- Name: check_upload(ai_storage_private.artifact_upload, bigint, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text) RETURNS bytea
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_sha256 constant bytea := ai_storage_private.content_sha256(array(
        select c.sha256
        from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_upload.tenant_id
          and c.blob_id = p_upload.upload_id
        order by c.chunk_number
    ));
begin
    if p_size_bytes is distinct from p_upload.received_bytes
        or p_sha256 is distinct from encode(v_sha256, 'hex')
    then
        raise exception using
            errcode = 'TN203',
            message = 'the upload is not what was announced',
            detail = format(
                '%s bytes have arrived, with sha256 %s.',
                p_upload.received_bytes, encode(v_sha256, 'hex')
            ),
            hint = 'Compare size and sha256; above 1 MiB it is the sha256 of the sha256s of the '
                'chunks of 1 MiB. Send the rest, or abort the upload and begin again.';
    end if;
    return v_sha256;
end;
$$;

ALTER FUNCTION ai_storage_private.check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text) IS 'The sha256 of what an upload has received, which has to be what was announced. Raises TN203.';

--
-- Name: check_version(bigint, uuid, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
    if p_version is not null and not exists (
        select from ai_storage_private.progress_version as v
        where v.tenant_id = p_tenant_id
          and v.model_id = p_model_id
          and v.version = p_version
    ) then
        raise exception using
            errcode = 'TN304',
            message = 'no such version',
            hint = 'load_history lists the versions of the model.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) IS 'Refuses a version that the model does not have; null is fine. Raises TN304.';

--
-- Name: audit_checkpoint; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.audit_checkpoint (
    checkpoint_number bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal_count integer NOT NULL,
    root bytea NOT NULL,
    previous_hash bytea NOT NULL,
    checkpoint_hash bytea NOT NULL,
    CONSTRAINT audit_checkpoint_created_at_finite CHECK (isfinite(created_at))
);

ALTER TABLE ONLY ai_storage_private.audit_checkpoint FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.audit_checkpoint OWNER TO ai_storage_owner;

--
-- Name: TABLE audit_checkpoint; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.audit_checkpoint IS 'One chain of checkpoints over the seals of all tenants.';

--
-- Name: COLUMN audit_checkpoint.checkpoint_number; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.checkpoint_number IS 'Its number, from 1.';

--
-- Name: COLUMN audit_checkpoint.created_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.created_at IS 'When it was made.';

--
-- Name: COLUMN audit_checkpoint.seal_count; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.seal_count IS 'How many seals it covers.';

--
-- Name: COLUMN audit_checkpoint.root; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.root IS 'Root of the Merkle tree of their hashes.';

--
-- Name: COLUMN audit_checkpoint.previous_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.previous_hash IS 'checkpoint_hash of the one before it; zeros for the first.';

--
-- Name: COLUMN audit_checkpoint.checkpoint_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_checkpoint.checkpoint_hash IS 'Hash of number, time, root and previous hash.';

--
-- Name: checkpoint_hash(ai_storage_private.audit_checkpoint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select sha256(convert_to(
        'checkpoint|' || p_checkpoint.checkpoint_number
            || '|' || ai_storage_private.micros(p_checkpoint.created_at)
            || '|' || encode(p_checkpoint.root, 'hex')
            || '|' || encode(p_checkpoint.previous_hash, 'hex'),
        'UTF8'
    ));
$$;

ALTER FUNCTION ai_storage_private.checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint) IS 'The hash of a checkpoint: kept outside, it pins everything before it.';

--
-- Name: close_gate(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.close_gate() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_sessions text;
begin
    begin
        lock table ai_storage_private.retention_gate in exclusive mode;
    exception
        when lock_not_available then
            select string_agg(distinct l.pid::text, ', ') into v_sessions
            from pg_locks as l
            where l.relation = 'ai_storage_private.retention_gate'::regclass
              and l.database = (
                  select d.oid from pg_database as d where d.datname = current_database()
              )
              and l.granted;
            raise exception using
                errcode = '55P03',
                message = 'a session keeps a deletion from ending',
                detail = format('Backends: %s.', coalesce(v_sessions, 'they are gone now')),
                hint = 'Nothing was changed. End these sessions with pg_terminate_backend(), and '
                    'set the rule again.';
    end;
    update ai_storage_private.retention_gate as g set
        changed_at = clock_timestamp();
end;
$$;

ALTER FUNCTION ai_storage_private.close_gate() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION close_gate(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.close_gate() IS 'Lets no deletion commit before this transaction ends. Raises 55P03.';

--
-- Name: compare_models(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.compare_models() RETURNS TABLE(isolation_key text, problem text)
    LANGUAGE plpgsql
    AS $$
declare
    v_context constant text := ai_storage_private.trusted_context();
    v_tenant  record;
begin
    for v_tenant in
        select t.tenant_id, t.isolation_key from ai_storage_private.tenant as t
    loop
        perform ai_storage_private.act_for(v_tenant.tenant_id, v_tenant.isolation_key);
        isolation_key := v_tenant.isolation_key;
        problem := ai_storage_private.find_unlogged(v_tenant.tenant_id);
        return next;
    end loop;
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage_private.compare_models() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION compare_models(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.compare_models() IS 'Each tenant, and what of its data is not as the log says, or null.';

--
-- Name: compliance_status(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.compliance_status() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    -- Of all systems together: it tells of no tenant.
    return (
        select case
            when bool_or(c.status = 'failed') then 'failed'
            when bool_or(c.status = 'warning') then 'warning'
            else 'passed'
        end
        from ai_storage_private.check_controls(true) as c
    );
end;
$$;

ALTER FUNCTION ai_storage_private.compliance_status() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION compliance_status(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.compliance_status() IS 'The worst status of the quick controls, which take no longer the more tenants there are.';

--
-- Name: content_sha256(bytea[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.content_sha256(p_chunks bytea[]) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select case
        when cardinality(p_chunks) = 1 then p_chunks[1]
        else sha256(
            coalesce((
                select string_agg(c.sha256, '' order by c.place)
                from unnest(p_chunks) with ordinality as c (sha256, place)
            ), '')
        )
    end;
$$;

ALTER FUNCTION ai_storage_private.content_sha256(p_chunks bytea[]) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION content_sha256(p_chunks bytea[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.content_sha256(p_chunks bytea[]) IS 'The sha256 of a content, from those of its chunks.';

--
-- Name: context_mac(bytea, bytea, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select encode(
        sha256(p_outer_key || sha256(p_inner_key || convert_to(p_payload, 'UTF8'))), 'hex'
    );
$$;

ALTER FUNCTION ai_storage_private.context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text) IS 'The MAC of a context under this database''s secret, 64 hexadecimal digits. Nested hashing under two keys, as in HMAC.';

--
-- Name: context_payload(text, bigint, text, text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    AS $$
    select concat_ws(
        '|', p_scope, p_tenant_id, p_isolation_key, p_expires_at, p_credential,
        pg_backend_pid(), extract(epoch from now()), p_lent
    );
$$;

ALTER FUNCTION ai_storage_private.context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text) IS 'The payload of a context, valid for this transaction of this backend: scope, tenant id, isolation key, expiry, credential, backend and transaction, joined by |. p_lent: further fields joined by |, or null.';

--
-- Name: copy_artifacts(text, bigint, uuid, bigint, text, bigint, uuid, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_offset  bigint;
    v_length  bigint;
    v_name    text collate "C" := '';
    v_from    record;
    v_new_id  uuid;
    v_blob_id uuid;
    v_content bytea;
begin
    loop
        -- Held as they are until the end: nobody deletes or replaces them meanwhile.
        perform ai_storage_private.restore_context(p_from_context);
        select a.artifact_name, a.media_type, b.blob_id, b.sha256, b.size_bytes into v_from
        from ai_storage_private.model_artifact as a
        join ai_storage_private.artifact_blob as b
            on b.tenant_id = a.tenant_id
            and b.blob_id = a.blob_id
        where a.tenant_id = p_from_tenant_id
          and a.model_id = p_from_model_id
          and a.version = p_from_version
          and a.artifact_name > v_name
          and b.tenant_id = p_from_tenant_id
        order by a.artifact_name
        limit 1
        for share of a;
        v_name := v_from.artifact_name;
        perform ai_storage_private.restore_context(p_to_context);
        exit when v_name is null;

        v_new_id := gen_random_uuid();
        v_blob_id := ai_storage_private.keep_blob(
            p_to_tenant_id, v_new_id, v_from.sha256, v_from.size_bytes
        );
        if v_blob_id = v_new_id then
            v_offset := 0;
            while v_offset < v_from.size_bytes loop
                v_length := least(4 * 1048576, v_from.size_bytes - v_offset);
                perform ai_storage_private.restore_context(p_from_context);
                v_content := ai_storage_private.join_chunks(
                    p_from_tenant_id, v_from.blob_id, v_offset, v_length
                );
                perform ai_storage_private.restore_context(p_to_context);
                perform ai_storage_private.write_chunks(
                    p_to_tenant_id, v_blob_id, (v_offset / 1048576)::integer, v_content
                );
                v_offset := v_offset + v_length;
            end loop;
        end if;
        perform ai_storage_private.attach_blob(
            p_to_tenant_id, p_to_model_id, p_to_version, v_name, v_from.media_type, v_blob_id
        );
    end loop;
end;
$$;

ALTER FUNCTION ai_storage_private.copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint) IS 'Copies the artifacts of one version of a model into another tenant of the caller''s, each side under its own context; ends under the second.';

--
-- Name: ai_progress_tenant; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.ai_progress_tenant (
    tenant_id bigint NOT NULL,
    model_id uuid NOT NULL,
    version bigint NOT NULL,
    mse double precision,
    training_samples bigint,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    saved_by text COLLATE pg_catalog."C",
    model_name text NOT NULL COLLATE pg_catalog."C",
    metrics jsonb NOT NULL,
    metadata jsonb NOT NULL
)
WITH (fillfactor='88');

ALTER TABLE ONLY ai_storage_private.ai_progress_tenant FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.ai_progress_tenant OWNER TO ai_storage_owner;

--
-- Name: TABLE ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.ai_progress_tenant IS 'The current state of each model of each tenant.';

--
-- Name: COLUMN ai_progress_tenant.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.tenant_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN ai_progress_tenant.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.model_id IS 'Random id of the model; a new model of the same name gets another.';

--
-- Name: COLUMN ai_progress_tenant.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.version IS 'The current version; counts from 1 without a gap.';

--
-- Name: COLUMN ai_progress_tenant.mse; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.mse IS 'Mean squared error, finite; null only when metrics is not empty.';

--
-- Name: COLUMN ai_progress_tenant.training_samples; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.training_samples IS 'How many samples the model has been trained on, or null.';

--
-- Name: COLUMN ai_progress_tenant.created_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.created_at IS 'When the first version was saved.';

--
-- Name: COLUMN ai_progress_tenant.updated_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.updated_at IS 'When the current version was saved.';

--
-- Name: COLUMN ai_progress_tenant.saved_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.saved_by IS 'Isolation key of the tenant that saved the current version, or null for the owner.';

--
-- Name: COLUMN ai_progress_tenant.model_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.model_name IS 'Name of the model, unique in its tenant, 1 to 255 characters.';

--
-- Name: COLUMN ai_progress_tenant.metrics; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.metrics IS 'Further measures: a flat object of name to finite number.';

--
-- Name: COLUMN ai_progress_tenant.metadata; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.ai_progress_tenant.metadata IS 'Anything else, an object of at most 1 MiB.';

--
-- Name: copy_model(text, ai_storage_private.acting_tenant, ai_storage_private.ai_progress_tenant, text, ai_storage_private.acting_tenant, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
    v_saved    record;
    v_model_id uuid;
    v_deleted  bigint; -- a name that was deleted here goes on counting
    v_last     bigint; -- the version copied last
    v_version  ai_storage_private.progress_version;
    v_swept    bigint[];
    v_number   bigint;
begin
    if not p_with_history then
        v_saved := ai_storage_private.write_progress(
            p_target.tenant_id, p_model.model_name, p_model.mse, p_model.training_samples,
            p_model.metrics, p_model.metadata, 0
        );
        select p.model_id into v_model_id
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_target.tenant_id
          and p.model_name = p_model.model_name;
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, p_model.version,
            p_to_context, p_target.tenant_id, v_model_id, v_saved.version
        );
        return v_saved.version;
    end if;

    v_deleted := coalesce((
        select d.last_version
        from ai_storage_private.deleted_model as d
        where d.tenant_id = p_target.tenant_id
          and d.model_name = p_model.model_name
    ), 0);
    loop
        perform ai_storage_private.restore_context(p_from_context);
        select v.* into v_version
        from ai_storage_private.progress_version as v
        where v.tenant_id = p_source.tenant_id
          and v.model_id = p_model.model_id
          and v.version > coalesce(v_last, 0)
          and v.version <= p_model.version
        order by v.version
        limit 1;
        perform ai_storage_private.restore_context(p_to_context);
        exit when v_version.version is null;

        perform ai_storage_private.import_version(p_target.tenant_id, jsonb_build_object(
            'model_name', p_model.model_name,
            'version', v_deleted + v_version.version,
            'previous_version', v_deleted + v_last,
            'mse', v_version.mse,
            'training_samples', v_version.training_samples,
            'metrics', v_version.metrics,
            'metadata', v_version.metadata,
            'created_at', p_model.created_at,
            'saved_at', v_version.saved_at
        ));
        select p.model_id into v_model_id
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_target.tenant_id
          and p.model_name = p_model.model_name;
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, v_version.version,
            p_to_context, p_target.tenant_id, v_model_id, v_deleted + v_version.version
        );
        v_last := v_version.version;
    end loop;
    -- Artifacts that hold on though their version was deleted.
    perform ai_storage_private.restore_context(p_from_context);
    v_swept := array(
        select distinct a.version
        from ai_storage_private.model_artifact as a
        left join ai_storage_private.progress_version as v
            on v.tenant_id = a.tenant_id
            and v.model_id = a.model_id
            and v.version = a.version
        where a.tenant_id = p_source.tenant_id
          and a.model_id = p_model.model_id
          and a.version < p_model.version
          and v.version is null
    );
    foreach v_number in array v_swept loop
        perform ai_storage_private.copy_artifacts(
            p_from_context, p_source.tenant_id, p_model.model_id, v_number,
            p_to_context, p_target.tenant_id, v_model_id, v_deleted + v_number
        );
    end loop;
    perform ai_storage_private.restore_context(p_to_context);
    return v_deleted + v_last;
end;
$$;

ALTER FUNCTION ai_storage_private.copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean) IS 'Copies one model into another tenant of the caller''s that has none of its name, each side under its own context. Returns the version it has there. Raises 23505, TN102.';

--
-- Name: count_bytes(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.count_bytes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if tg_op = 'INSERT' then
        perform ai_storage_private.count_use(new.tenant_id, 0, length(new.content));
    else
        perform ai_storage_private.count_use(old.tenant_id, 0, -length(old.content));
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.count_bytes() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION count_bytes(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.count_bytes() IS 'Counts bytes that come or go for the quotas. Raises 55P03, TN601.';

--
-- Name: count_line(uuid[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.count_line(p_share_ids uuid[]) RETURNS integer
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return (
        select count(*)::integer
        from ai_storage_private.in_force(
            array(
                select distinct s.share_id
                from ai_storage_private.model_share as g
                join ai_storage_private.model_share as s
                    on s.tenant_id = g.tenant_id
                    and s.model_id = g.model_id
                where g.share_id = any (p_share_ids)
                  and (s.share_id = any (p_share_ids) or s.ancestors && p_share_ids)
            ),
            null
        )
    );
end;
$$;

ALTER FUNCTION ai_storage_private.count_line(p_share_ids uuid[]) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION count_line(p_share_ids uuid[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.count_line(p_share_ids uuid[]) IS 'How many grants count now out of some and of all that derive from them.';

--
-- Name: count_models(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.count_models() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.count_use(
        c.tenant_id, case when tg_op = 'INSERT' then c.models else -c.models end, 0
    )
    from (
        select m.tenant_id, count(*) as models
        from model as m
        group by m.tenant_id
        order by m.tenant_id
    ) as c;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.count_models() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION count_models(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.count_models() IS 'Counts models that come or go for the quotas. Raises 55P03, TN601.';

--
-- Name: count_permitted(uuid[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.count_permitted(p_permit_ids uuid[]) RETURNS integer
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return (
        select count(*)::integer
        from ai_storage_private.in_force(
            array(
                select s.share_id
                from ai_storage_private.model_share as s
                where s.permit_ids && p_permit_ids
            ),
            null
        )
    );
end;
$$;

ALTER FUNCTION ai_storage_private.count_permitted(p_permit_ids uuid[]) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION count_permitted(p_permit_ids uuid[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.count_permitted(p_permit_ids uuid[]) IS 'How many grants count now that rest on some permits.';

--
-- Name: count_received(ai_storage_private.acting_tenant); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.count_received(p_tenant ai_storage_private.acting_tenant) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return (
        select count(*)
        from ai_storage_private.load_shared(p_tenant, null, null, '', '', null)
    );
end;
$$;

ALTER FUNCTION ai_storage_private.count_received(p_tenant ai_storage_private.acting_tenant) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION count_received(p_tenant ai_storage_private.acting_tenant); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.count_received(p_tenant ai_storage_private.acting_tenant) IS 'How many models of others load_progress() lists for a tenant.';

--
-- Name: count_refusal(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.count_refusal() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
begin
    -- A sequence keeps its count when the refusal rolls everything else back. A standby has none.
    if current_setting('transaction_read_only') = 'off' then
        return nextval('ai_storage_private.refused_credential');
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.count_refusal() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION count_refusal(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.count_refusal() IS 'Counts a refused credential; seal_audit() puts the count into the log.';

--
-- Name: count_use(bigint, bigint, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '10s'
    AS $$
declare
    v_quota record;
    v_use   ai_storage_private.quota_use;
begin
    -- A snapshot from before a quota was set would not show it: refused with 40001.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        perform from ai_storage_private.quota_use as u
        where u.org_id = ''
        for share;
    end if;
    -- That it was read is a lock, too: set_quota() waits for whoever found none.
    if not exists (select from ai_storage_private.quota) then
        return;
    end if;
    for v_quota in
        select q.* from ai_storage_private.list_tenant_quotas(p_tenant_id) as q
    loop
        insert into ai_storage_private.quota_use as u (
            org_id, server_id, project_id, environment, code_hash, models, bytes
        )
        values (
            v_quota.org_id, v_quota.server_id, v_quota.project_id, v_quota.environment,
            v_quota.code_hash, greatest(p_models, 0), greatest(p_bytes, 0)
        )
        on conflict on constraint quota_use_pk do update set
            models = greatest(u.models + p_models, 0),
            bytes  = greatest(u.bytes + p_bytes, 0)
        returning u.* into v_use;
        if (p_models > 0 and v_use.models > v_quota.max_models)
            or (p_bytes > 0 and v_use.bytes > v_quota.max_bytes)
        then
            raise exception using
                errcode = 'TN601',
                message = 'the quota is used up',
                detail = case
                    when p_models > 0 then format('Models allowed: %s.', v_quota.max_models)
                    else format('Bytes of artifacts allowed: %s.', v_quota.max_bytes)
                end,
                hint = 'Delete what is no longer needed, or have an administrator raise the quota '
                    'with set_quota().';
        end if;
    end loop;
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = 'another transaction adds to the same quota',
            hint = 'Repeat the call. Whoever adds models or artifacts under a quota commits soon.';
end;
$$;

ALTER FUNCTION ai_storage_private.count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint) IS 'Adds to the totals of the quotas that count for a tenant, and holds them until the commit. Raises 55P03, TN601.';

--
-- Name: covered_tenants(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.covered_tenants(p_pattern text) RETURNS TABLE(tenant_id bigint, isolation_key text)
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_level constant text[] := ai_storage_private.check_pattern(p_pattern);
begin
    return query
    select t.tenant_id, t.isolation_key
    from ai_storage_private.tenant as t
    where v_level[1] in ('*', t.org_id)
      and v_level[2] in ('*', t.server_id)
      and v_level[3] in ('*', t.project_id)
      and v_level[4] in ('*', t.environment)
      and v_level[5] in ('*', t.code_hash)
    order by t.isolation_key;
end;
$$;

ALTER FUNCTION ai_storage_private.covered_tenants(p_pattern text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION covered_tenants(p_pattern text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.covered_tenants(p_pattern text) IS 'The registered tenants that a pattern covers. Raises 22023.';

--
-- Name: covers_version(text[], text, text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.covers_version(p_levels text[], p_code_hash text, p_sources text[]) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    select exists (
        select from ai_storage_private.login_authorization as a
        where a.login_name = session_user
          and a.org_id in ('*', p_levels[1])
          and a.server_id in ('*', p_levels[2])
          and a.project_id in ('*', p_levels[3])
          and a.environment in ('*', p_levels[4])
          and a.code_hash in ('*', p_code_hash)
          and (p_code_hash = any (p_sources) or not a.token_only)
    );
$$;

ALTER FUNCTION ai_storage_private.covers_version(p_levels text[], p_code_hash text, p_sources text[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION covers_version(p_levels text[], p_code_hash text, p_sources text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.covers_version(p_levels text[], p_code_hash text, p_sources text[]) IS 'Whether this login may read another code version for a promotion: by key, or since its token names the version.';

--
-- Name: current_credential(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.current_credential() RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return v_field[5];
end;
$$;

ALTER FUNCTION ai_storage_private.current_credential() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION current_credential(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.current_credential() IS 'What this transaction''s context was signed for: key, token and its kid, operator; or null.';

--
-- Name: current_tenant_id(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.current_tenant_id() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    if v_field[1] in ('transaction', 'call') then
        return v_field[2]::bigint;
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.current_tenant_id() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION current_tenant_id(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.current_tenant_id() IS 'The tenant this transaction acts for, or null. The only thing that row policies trust.';

--
-- Name: decode_base64url(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.decode_base64url(p_text text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select decode(
        rpad(translate(p_text, '-_', '+/'), (length(p_text) + 3) / 4 * 4, '='), 'base64'
    );
$$;

ALTER FUNCTION ai_storage_private.decode_base64url(p_text text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION decode_base64url(p_text text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.decode_base64url(p_text text) IS 'The inverse of encode_base64url; it also takes other spellings of the last character.';

--
-- Name: digest_artifacts(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.digest_artifacts(p_tenant_id bigint, p_artifacts jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_digests jsonb := '{}'::jsonb;
    v_name    text;
    v_item    record;
begin
    perform ai_storage_private.check_artifacts(p_artifacts);
    for v_name in select jsonb_object_keys(p_artifacts)
    loop
        v_item := ai_storage_private.parse_artifact(v_name, p_artifacts -> v_name);
        v_digests := v_digests || jsonb_build_object(v_name, case
            when v_item.content is not null then jsonb_build_array(
                encode(ai_storage_private.digest_content(v_item.content), 'hex'),
                length(v_item.content),
                coalesce(v_item.media_type, 'application/octet-stream')
            )
            else (
                select jsonb_build_array(
                    encode(u.sha256, 'hex'), u.received_bytes,
                    coalesce(v_item.media_type, u.media_type)
                )
                from ai_storage_private.artifact_upload as u
                where u.tenant_id = p_tenant_id
                  and u.upload_id::text = lower(v_item.upload_id)
            )
        end);
    end loop;
    return v_digests;
end;
$$;

ALTER FUNCTION ai_storage_private.digest_artifacts(p_tenant_id bigint, p_artifacts jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION digest_artifacts(p_tenant_id bigint, p_artifacts jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.digest_artifacts(p_tenant_id bigint, p_artifacts jsonb) IS 'What the artifacts of a save are, whichever uploads brought them; null for an upload that is not there. Raises 22023.';

--
-- Name: digest_content(bytea); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.digest_content(p_content bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select ai_storage_private.content_sha256(array(
        select sha256(substr(p_content, n.place * 1048576 + 1, 1048576))
        from generate_series(0, (length(p_content) - 1) / 1048576) as n (place)
        where length(p_content) > 0
        order by n.place
    ));
$$;

ALTER FUNCTION ai_storage_private.digest_content(p_content bytea) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION digest_content(p_content bytea); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.digest_content(p_content bytea) IS 'The sha256 of a content.';

--
-- Name: encode_base64url(bytea); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.encode_base64url(p_bytes bytea) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select translate(rtrim(encode(p_bytes, 'base64'), '='), E'+/\n', '-_');
$$;

ALTER FUNCTION ai_storage_private.encode_base64url(p_bytes bytea) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION encode_base64url(p_bytes bytea); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.encode_base64url(p_bytes bytea) IS 'base64url without padding, as JWT wants it (RFC 7515, section 2).';

--
-- Name: end_upload(bigint, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.end_upload(p_tenant_id bigint, p_upload_id uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    -- Without bytes first, so that a legal hold does not take this for a loss.
    update ai_storage_private.artifact_upload as u set
        received_bytes = 0
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id;
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id;
end;
$$;

ALTER FUNCTION ai_storage_private.end_upload(p_tenant_id bigint, p_upload_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION end_upload(p_tenant_id bigint, p_upload_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.end_upload(p_tenant_id bigint, p_upload_id uuid) IS 'Ends an upload whose bytes the tenant has as a content.';

--
-- Name: enter(text, boolean, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.enter(p_as text, p_register boolean DEFAULT false, p_scope text DEFAULT 'call'::text) RETURNS ai_storage_private.acting_tenant
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    -- A caller's own collation would be at odds with the tables'.
    v_as     constant text collate "C" := p_as;
    v_field  constant text[] := ai_storage_private.verified_context();
    v_bound  ai_storage_private.acting_tenant; -- whom this transaction acts for already
    v_tenant ai_storage_private.acting_tenant;
    v_scope  text := p_scope;
    v_before text; -- the context there was
    v_set    text;
    -- By itself, so that no plan that a server logs holds the credential.
    v_collation constant text := collation for (p_as);
begin
    if current_user <> 'ai_storage_operator' then
        perform ai_storage_private.require_owner();
    end if;
    if v_field is not null then
        v_bound := (
            v_field[2]::bigint, v_field[3], string_to_array(v_field[3], ':'), v_field[5], v_field[4]
        );
        v_before := current_setting('app.tenant_context', true);
        if v_field[1] = 'transaction' then
            v_scope := 'transaction';
        end if;
    end if;

    -- Under such a collation other texts would be equal to the ones we mean.
    if v_collation not in ('"default"', '"C"') then
        if exists (
            select from pg_collation as c
            where c.oid = v_collation::regcollation
              and not c.collisdeterministic
        ) then
            raise exception using
                errcode = '22023',
                message = 'nondeterministic collation',
                hint = 'Pass the arguments with collate "C".';
        end if;
    end if;

    if v_as is null then
        if v_field[1] is distinct from 'transaction' then
            raise exception using
                errcode = 'TN001',
                message = 'no tenant is set',
                hint = 'Pass a credential in p_as, or call set_tenant(credential) first in the '
                    'same transaction.';
        end if;
        v_tenant := v_bound;
    elsif v_as = v_bound.isolation_key and v_bound.credential = 'key' then
        -- The same key was checked in this transaction already.
        v_tenant := v_bound;
        if v_scope <> v_field[1] then
            v_set := ai_storage_private.set_context(v_scope, v_tenant);
        end if;
    else
        v_tenant := ai_storage_private.check_credential(v_as, v_scope);
        if v_tenant.isolation_key <> v_bound.isolation_key then
            raise exception using
                errcode = 'TN004',
                message = 'this transaction already acts for another tenant',
                hint = 'One transaction serves one tenant: commit or roll back before you name the '
                    'next.';
        end if;
        if v_field[1] = 'transaction' and v_tenant.tenant_id = v_bound.tenant_id then
            -- What is bound stays bound, with the credential and the end that it has.
            v_set := ai_storage_private.restore_context(v_before);
        end if;
    end if;

    if v_tenant.tenant_id = 0 then
        v_tenant.tenant_id := ai_storage_private.find_tenant(v_tenant.levels, p_register);
        if v_tenant.tenant_id > 0 then
            v_set := ai_storage_private.set_context(v_scope, v_tenant);
        end if;
    end if;
    return v_tenant;
end;
$$;

ALTER FUNCTION ai_storage_private.enter(p_as text, p_register boolean, p_scope text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION enter(p_as text, p_register boolean, p_scope text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.enter(p_as text, p_register boolean, p_scope text) IS 'The first step of every tenant function: checks the credential, or without one the context of set_tenant, and makes the transaction act for that tenant. p_register: register a new tenant, as writes do. Raises TN001 to TN005, TN602, TN603.';

--
-- Name: enter_code_version(text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.enter_code_version(p_code_hash text, p_as text) RETURNS ai_storage_private.acting_tenant
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field  constant text[] := ai_storage_private.verified_context();
    v_level  text[] := string_to_array(v_field[3], ':');
    v_key    constant text := ai_storage.isolation_key(
        v_level[1], v_level[2], v_level[3], v_level[4], p_code_hash
    );
    v_tenant ai_storage_private.acting_tenant;
begin
    if not ai_storage_private.covers_version(
        v_level, p_code_hash, ai_storage_private.promotion_sources(p_as, v_field[3])
    ) then
        perform ai_storage_private.count_refusal();
        raise exception using
            errcode = 'TN003',
            message = 'this credential does not cover the other code version',
            hint = 'A token names the code versions that it may promote from in its claim from, '
                'and is passed in p_as; a login that presents keys has to be authorised for the '
                'other code version too.';
    end if;
    v_level[5] := p_code_hash;
    v_tenant := (
        ai_storage_private.find_tenant(v_level, false), v_key, v_level, v_field[5], v_field[4]
    );
    perform ai_storage_private.set_context(v_field[1], v_tenant);
    return v_tenant;
end;
$$;

ALTER FUNCTION ai_storage_private.enter_code_version(p_code_hash text, p_as text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION enter_code_version(p_code_hash text, p_as text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.enter_code_version(p_code_hash text, p_as text) IS 'Turns the context to another code version of the same four levels, which the credential must cover too. For promote_progress and list_code_versions, which turn it back. Raises 22023, TN003.';

--
-- Name: erase_content(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.erase_content(p_tenant_id bigint) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_models   bigint;
    v_versions bigint;
    v_names    bigint;
    v_keys     bigint;
    v_bytes    bigint;
begin
    select coalesce(sum(b.size_bytes), 0)::bigint into v_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id;
    select count(*) into v_versions
    from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id;
    delete from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id;
    get diagnostics v_models = row_count;
    -- The trigger took versions and artifacts, and left the names to be remembered.
    delete from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id;
    delete from ai_storage_private.deleted_model as d
    where d.tenant_id = p_tenant_id;
    get diagnostics v_names = row_count;
    delete from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant_id;
    get diagnostics v_keys = row_count;
    -- Whatever a deletion by hand may have left.
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id;
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id;
    -- Without it, what a cache still keeps of the tenant cannot be opened.
    delete from ai_storage_private.tenant_cache_key as k
    where k.tenant_id = p_tenant_id;
    return jsonb_build_object(
        'models', v_models, 'versions', v_versions, 'names', v_names, 'idempotency_keys', v_keys,
        'artifact_bytes', v_bytes
    );
end;
$$;

ALTER FUNCTION ai_storage_private.erase_content(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION erase_content(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.erase_content(p_tenant_id bigint) IS 'Deletes all content of the tenant that the context names, and returns how much it was.';

--
-- Name: erase_shares(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.erase_shares(p_tenant_id bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_count bigint;
begin
    -- What derives from these counts no more. Its sharer may hold a row: then a sweep takes it.
    delete from ai_storage_private.model_share as s
    where s.share_id = any (array(
        select d.share_id
        from ai_storage_private.model_share as d
        where d.share_id = any (array(
            select distinct o.share_id
            from ai_storage_private.model_share as g
            join ai_storage_private.model_share as o
                on o.tenant_id = g.tenant_id
                and o.model_id = g.model_id
            where (g.sharer_id = p_tenant_id or g.tenant_id = p_tenant_id)
              and (o.tenant_id = p_tenant_id or p_tenant_id = any (o.sharer_ids))
        ))
        for update skip locked
    ));
    get diagnostics v_count = row_count;
    delete from ai_storage_private.model_share as s
    where s.sharer_id = p_tenant_id;
    delete from ai_storage_private.share_decline as d
    where d.tenant_id = p_tenant_id
       or d.owner_id = p_tenant_id;
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage_private.erase_shares(p_tenant_id bigint) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION erase_shares(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.erase_shares(p_tenant_id bigint) IS 'Deletes the grants on a tenant''s models and those it passed on, what it declined, and what others declined of it. Returns how many grants.';

--
-- Name: event_subject(text, uuid, bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select case
        when p_action = 'save model' then concat_ws(' ', 'version', p_version, p_model_id)
        when p_action in ('put artifact', 'delete artifact') then concat_ws(
            ' ', 'artifact', p_version, p_model_id, p_detail ->> 'artifact_name'
        )
        when p_action like '% share' then 'grant ' || (p_detail ->> 'share_id')
        when p_action like '% share end' then 'end of grant ' || (p_detail ->> 'share_id')
        when p_action like '% share decline' then concat_ws(
            ' ', 'decline', p_detail ->> 'owner_key', p_detail ->> 'sharer_key',
            p_detail ->> 'model_name'
        )
        when p_action like '% deleted model' then 'deleted model ' || (p_detail ->> 'model_name')
    end;
$$;

ALTER FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) IS 'What an event is about, for events that verify_audit() compares with what there is; else null.';

--
-- Name: find_acts(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.find_acts(p_action text) RETURNS TABLE(recorded_at timestamp with time zone, detail text)
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return query
    select e.recorded_at, e.detail
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0
      and e.action = p_action
    union all
    select p.recorded_at, p.detail
    from ai_storage_private.audit_pending as p
    where p.tenant_id = 0
      and p.action = p_action;
end;
$$;

ALTER FUNCTION ai_storage_private.find_acts(p_action text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION find_acts(p_action text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.find_acts(p_action text) IS 'What the operator''s log has of one action, sealed or not.';

--
-- Name: find_artifact(ai_storage_private.acting_tenant, text, text, bigint, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
begin
    -- A version that is not in the history has no artifacts, nor has anything as of it.
    select a.version, v.version, a.blob_id, b.sha256, b.size_bytes, a.media_type, a.put_at
    into version, for_version, blob_id, sha256, size_bytes, media_type, put_at
    from ai_storage_private.ai_progress_tenant as p
    join ai_storage_private.progress_version as v
        on v.tenant_id = p.tenant_id
        and v.model_id = p.model_id
        and v.version = coalesce(p_version, p.version)
    join ai_storage_private.model_artifact as a
        on a.tenant_id = p.tenant_id
        and a.model_id = p.model_id
        and a.version between case when p_as_of then 0 else v.version end and v.version
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where p.tenant_id = p_tenant.tenant_id
      and p.model_name = p_model_name collate "C"
      and v.tenant_id = p_tenant.tenant_id
      and a.tenant_id = p_tenant.tenant_id
      and a.artifact_name = p_artifact_name collate "C"
    order by a.version desc
    limit 1;
    if not found then
        perform ai_storage_private.refuse_artifact();
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) IS 'An artifact of an own model: that of exactly one version, the current one when p_version is null, or with p_as_of the last one up to it. Raises TN204.';

--
-- Name: find_shared_artifact(ai_storage_private.model_share, text, bigint, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    AS $$
begin
    for_version := ai_storage_private.shown_version(p_share, p_version);
    -- The model is lent: its artifacts show. Then the content is.
    select a.version, a.blob_id, a.media_type, a.put_at
    into version, blob_id, media_type, put_at
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_share.tenant_id
      and a.model_id = p_share.model_id
      and a.artifact_name = p_artifact_name collate "C"
      and a.version between case when p_as_of then 0 else for_version end and for_version
    order by a.version desc
    limit 1;
    if not found then
        perform ai_storage_private.refuse_artifact();
    end if;
    perform ai_storage_private.lend(array[p_share.tenant_id], array[blob_id]);
    select b.sha256, b.size_bytes
    into sha256, size_bytes
    from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_share.tenant_id
      and b.blob_id = find_shared_artifact.blob_id;
end;
$$;

ALTER FUNCTION ai_storage_private.find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) IS 'An artifact of a model that is lent to this transaction; lends its content in place of it. Raises TN204.';

--
-- Name: find_tenant(text[], boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.find_tenant(p_levels text[], p_register boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
    -- A random id tells nobody how many tenants there are: 15 hexadecimal digits of a UUID.
    v_random_id constant bigint
        := ('x' || left(replace(gen_random_uuid()::text, '-', ''), 15))::bit(60)::bigint;
    v_tenant_id bigint;
begin
    if p_register then
        insert into ai_storage_private.tenant as t (
            tenant_id, org_id, server_id, project_id, environment, code_hash
        )
        values (v_random_id, p_levels[1], p_levels[2], p_levels[3], p_levels[4], p_levels[5])
        on conflict on constraint tenant_isolation_key_unique do nothing
        returning t.tenant_id into v_tenant_id;
    end if;
    -- Not inserted: not asked to, or it is there already, perhaps closed.
    if v_tenant_id is null then
        select t.tenant_id into v_tenant_id
        from ai_storage_private.tenant as t
        where t.isolation_key = array_to_string(p_levels, ':')
          and t.moved_to is null;
    end if;
    if p_register and v_tenant_id is null then
        -- Its organisation was closed after the credential was checked.
        perform ai_storage_private.check_home(p_levels[1]);
    end if;
    return coalesce(v_tenant_id, 0);
end;
$$;

ALTER FUNCTION ai_storage_private.find_tenant(p_levels text[], p_register boolean) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION find_tenant(p_levels text[], p_register boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.find_tenant(p_levels text[], p_register boolean) IS 'The id of a tenant, or 0 when it is not registered and not to be. Safe when several writers register it at once. Raises TN602, TN603.';

--
-- Name: find_unlogged(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.find_unlogged(p_tenant_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return coalesce(
        'model ' || ai_storage_private.find_unlogged_model(p_tenant_id) || ': not as it was saved',
        'artifact ' || ai_storage_private.find_unlogged_artifact(p_tenant_id)
            || ': not as it was put',
        ai_storage_private.find_unlogged_row(p_tenant_id) || ': not as it was written'
    );
end;
$$;

ALTER FUNCTION ai_storage_private.find_unlogged(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION find_unlogged(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.find_unlogged(p_tenant_id bigint) IS 'What is not as the log says of the tenant that the context names, in words, or null.';

--
-- Name: find_unlogged_artifact(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.find_unlogged_artifact(p_tenant_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
begin
    return (
        with content as materialized (
            select
                b.blob_id,
                b.sha256,
                b.size_bytes,
                b.sha256 = ai_storage_private.content_sha256(coalesce(k.digests, '{}'))
                    and b.size_bytes = coalesce(k.size_bytes, 0)
                    and coalesce(k.is_whole, true) as is_whole
            from ai_storage_private.artifact_blob as b
            left join lateral (
                select
                    array_agg(sha256(c.content) order by c.chunk_number) as digests,
                    sum(length(c.content)) as size_bytes,
                    bool_and(c.sha256 = sha256(c.content))
                        and max(c.chunk_number) + 1 = count(*) as is_whole
                from ai_storage_private.artifact_chunk as c
                where c.tenant_id = p_tenant_id
                  and c.blob_id = b.blob_id
            ) as k on true
            where b.tenant_id = p_tenant_id
        ),
        artifact as materialized (
            select
                a.artifact_name, a.version, a.put_at, a.media_type, b.sha256, b.size_bytes,
                b.is_whole,
                ai_storage_private.event_subject(
                    'put artifact', a.model_id, a.version, to_jsonb(a)
                ) as subject
            from ai_storage_private.model_artifact as a
            left join content as b
                on b.blob_id = a.blob_id
            where a.tenant_id = p_tenant_id
        )
        select min(format(
            '%I at version %s',
            coalesce(a.artifact_name, l.detail ->> 'artifact_name'),
            coalesce(a.version, l.version)
        ))
        from artifact as a
        full join ai_storage_private.list_last_events(
            p_tenant_id, '^(put|delete) artifact$'
        ) as l on l.subject = a.subject
        where case
            when a.subject is null then l.action = 'put artifact' and l.detail is not null
            else (
                l.action = 'put artifact'
                and a.is_whole
                and l.content_digest = sha256(uuid_send(l.salt) || convert_to(
                    ai_storage_private.artifact_content(
                        a.sha256, a.size_bytes, a.put_at, a.media_type
                    ),
                    'UTF8'
                ))
            ) is not true
        end
    );
end;
$_$;

ALTER FUNCTION ai_storage_private.find_unlogged_artifact(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION find_unlogged_artifact(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.find_unlogged_artifact(p_tenant_id bigint) IS 'An artifact of the tenant that the context names that is not as it was put last: its bytes, read again, its size, media type, time, name or version; or one that is gone. Null when there is none.';

--
-- Name: find_unlogged_model(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.find_unlogged_model(p_tenant_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
begin
    return (
        with model as materialized (
            select p.*
            from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = p_tenant_id
        ),
        history as materialized (
            select v.*
            from ai_storage_private.progress_version as v
            where v.tenant_id = p_tenant_id
        ),
        saved as materialized (
            select l.*
            from ai_storage_private.list_last_events(p_tenant_id, '^save model$') as l
        ),
        -- The last save or deletion of each model.
        latest as materialized (
            select distinct on (l.model_id)
                l.model_id, l.action, l.version, l.detail ->> 'model_name' as model_name
            from ai_storage_private.list_events(p_tenant_id, '^(save|delete) model$') as l
            order by
                l.model_id, l.version desc, l.seal_number desc nulls first, l.event_id desc
        ),
        gone as materialized (
            select l.model_id, range_agg((l.detail ->> 'gone')::int8multirange) as versions
            from ai_storage_private.list_events(p_tenant_id, '^(save model|delete version)$') as l
            where l.detail ? 'gone'
            group by l.model_id
        )
        select min(coalesce(quote_ident(f.model_name), '?'))
        from (
            -- A model that was not saved as this version, or whose version is another state; and
            -- one that was saved, was never deleted, and is not there.
            select coalesce(p.model_name, l.model_name) as model_name
            from model as p
            full join latest as l
                on l.model_id = p.model_id
            left join history as v
                on v.model_id = p.model_id
                and v.version = p.version
            where case
                when p.model_id is null then l.action = 'save model'
                else (
                    l.action = 'save model'
                    and l.version = p.version
                    and coalesce(l.model_name, p.model_name) = p.model_name
                    and v.mse is not distinct from p.mse
                    and v.training_samples is not distinct from p.training_samples
                    and v.saved_at = p.updated_at
                    and v.saved_by is not distinct from p.saved_by
                    and v.metrics = p.metrics
                    and v.metadata = p.metadata
                ) is not true
            end
            union all
            -- A version that is not as it was saved last, or was deleted.
            select p.model_name
            from history as v
            left join model as p
                on p.model_id = v.model_id
            left join saved as l
                on l.model_id = v.model_id
                and l.version = v.version
            left join gone as g
                on g.model_id = v.model_id
            where p.model_id is null
               or g.versions @> v.version
               or (l.content_digest = sha256(uuid_send(l.salt) || convert_to(
                   ai_storage_private.model_content(
                       v.mse, v.training_samples, p.created_at, v.saved_at,
                       v.metrics, v.metadata, v.saved_by
                   ),
                   'UTF8'
               ))) is not true
            union all
            -- A version that was saved, was never deleted, and is not there. Its event has its salt
            -- until a retention rule finds that the version is gone.
            select p.model_name
            from saved as l
            join model as p
                on p.model_id = l.model_id
            left join history as v
                on v.model_id = l.model_id
                and v.version = l.version
            left join gone as g
                on g.model_id = l.model_id
            where l.salt is not null
              and v.model_id is null
              and (g.versions @> l.version) is not true
        ) as f
    );
end;
$_$;

ALTER FUNCTION ai_storage_private.find_unlogged_model(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION find_unlogged_model(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.find_unlogged_model(p_tenant_id bigint) IS 'The name of a model of the tenant that the context names that is not as the log says it became: its state, its author and times, or a version of its history; quoted; ? when it has no name; null when there is no such model. So a change while the triggers were off shows.';

--
-- Name: find_unlogged_row(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.find_unlogged_row(p_tenant_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    AS $_$
begin
    return (
        select min(coalesce(r.subject, l.subject))
        from ai_storage_private.list_logged_rows(p_tenant_id) as r
        full join ai_storage_private.list_last_events(
            p_tenant_id, ' (share|share end|share decline|deleted model)$'
        ) as l on l.subject = r.subject
        where case
            when r.subject is null then l.action not like 'delete %'
            else (
                l.action not like 'delete %'
                and l.content_digest
                    = sha256(uuid_send(l.salt) || convert_to(r.content, 'UTF8'))
            ) is not true
        end
    );
end;
$_$;

ALTER FUNCTION ai_storage_private.find_unlogged_row(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION find_unlogged_row(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.find_unlogged_row(p_tenant_id bigint) IS 'A grant, the end of one, a decline or the memory of a deleted model, of the tenant that the context names, that is not as it was written last, or is gone without an event. Null when there is none.';

--
-- Name: forget_artifacts(bigint, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.forget_artifacts(p_tenant_id bigint, p_model_id uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_blob_ids   uuid[];
    v_upload_ids uuid[];
begin
    v_blob_ids := array(
        select distinct a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = p_tenant_id
          and a.model_id = p_model_id
    );
    v_upload_ids := array(
        select u.upload_id
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.model_id = p_model_id
        for update
    );
    delete from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
      and a.model_id = p_model_id;
    perform ai_storage_private.sweep_blobs(p_tenant_id, v_blob_ids);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = any (v_upload_ids);
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_upload_ids);
end;
$$;

ALTER FUNCTION ai_storage_private.forget_artifacts(p_tenant_id bigint, p_model_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION forget_artifacts(p_tenant_id bigint, p_model_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.forget_artifacts(p_tenant_id bigint, p_model_id uuid) IS 'Deletes the artifacts and uploads of a model that is being deleted.';

--
-- Name: forget_model(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.forget_model() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    delete from ai_storage_private.progress_version as v
    where v.tenant_id = old.tenant_id
      and v.model_id = old.model_id;

    perform ai_storage_private.forget_shares(old.tenant_id, old.model_id);

    perform ai_storage_private.forget_artifacts(old.tenant_id, old.model_id);

    insert into ai_storage_private.deleted_model as d (
        tenant_id, last_version, deleted_at, model_name
    )
    values (old.tenant_id, old.version, clock_timestamp(), old.model_name)
    on conflict on constraint deleted_model_pk do update set
        last_version = greatest(d.last_version, excluded.last_version),
        deleted_at   = excluded.deleted_at;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.forget_model() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION forget_model(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.forget_model() IS 'Clears the versions, shares and artifacts of a deleted model and remembers its last version. A trigger, so that it holds for a deletion by hand too.';

--
-- Name: forget_shares(bigint, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.forget_shares(p_tenant_id bigint, p_model_id uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    -- What derives from the owner's grants counts no more; their sharers may hold those rows.
    delete from ai_storage_private.model_share as s
    where s.tenant_id = p_tenant_id
      and s.model_id = p_model_id
      and s.sharer_id = p_tenant_id;
end;
$$;

ALTER FUNCTION ai_storage_private.forget_shares(p_tenant_id bigint, p_model_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION forget_shares(p_tenant_id bigint, p_model_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.forget_shares(p_tenant_id bigint, p_model_id uuid) IS 'Ends the grants on a model that is being deleted.';

--
-- Name: grants_on(text[], text[], text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.grants_on(p_patterns text[], p_owners text[], p_names text[]) RETURNS uuid[]
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return array(
        select g.share_id
        from unnest(p_owners, p_names) as m (owner_key, model_name)
        cross join unnest(p_patterns) as t (pattern)
        cross join lateral (
            select s.share_id
            from ai_storage_private.model_share as s
            where s.target = t.pattern
              and s.owner_key = m.owner_key
              and s.model_name = m.model_name
            order by cardinality(s.ancestors)
            limit 32
        ) as g
    );
end;
$$;

ALTER FUNCTION ai_storage_private.grants_on(p_patterns text[], p_owners text[], p_names text[]) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION grants_on(p_patterns text[], p_owners text[], p_names text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.grants_on(p_patterns text[], p_owners text[], p_names text[]) IS 'The grants on some models, an owner and a name each, to any of the patterns: as reaching().';

--
-- Name: has_grant(ai_storage_private.acting_tenant, text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return exists (
        select
        from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
        where p_permission is null
           or s.permissions @> array[p_permission]
    );
end;
$$;

ALTER FUNCTION ai_storage_private.has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) IS 'Whether a tenant was granted a permission, or with null anything, on a model of another.';

--
-- Name: hmac_pad(bytea, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.hmac_pad(p_secret bytea, p_pad integer) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
declare
    v_pad bytea := decode(repeat(lpad(to_hex(p_pad), 2, '0'), 64), 'hex');
begin
    for i in 0 .. length(p_secret) - 1 loop
        v_pad := set_byte(v_pad, i, get_byte(p_secret, i) # p_pad);
    end loop;
    return v_pad;
end;
$$;

ALTER FUNCTION ai_storage_private.hmac_pad(p_secret bytea, p_pad integer) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION hmac_pad(p_secret bytea, p_pad integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.hmac_pad(p_secret bytea, p_pad integer) IS 'A secret of up to 64 bytes, padded and xored, as RFC 2104 begins.';

--
-- Name: hold_grant(ai_storage_private.acting_tenant, text, text, text[], timestamp with time zone, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) RETURNS ai_storage_private.model_share
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := current_setting('app.tenant_context', true);
    v_held    ai_storage_private.model_share;
begin
    -- Of several grants, one has to cover all that is passed on. A grant that I gave myself, or
    -- that derives from it, is not one I hold. Nothing is locked: were the grant ended now, what
    -- derives from it would not count.
    select s.* into v_held
    from ai_storage_private.reaching(p_tenant.isolation_key, p_owner, p_model_name) as s
    where p_tenant.tenant_id <> all (s.sharer_ids)
      and s.permissions @> (p_permissions || '{share}'::text[])
      and (s.expires_at is null or p_expires_at is null or p_expires_at <= s.expires_at)
      and (s.pinned_version is null or p_version is null or p_version = s.pinned_version)
    order by
        cardinality(s.ancestors) = 8,
        s.expires_at desc nulls first,
        s.pinned_version desc nulls first,
        cardinality(s.ancestors),
        s.share_id
    limit 1;
    if cardinality(v_held.ancestors) = 8 then
        raise exception using
            errcode = 'TN306',
            message = 'the model was passed on too often',
            hint = 'A model is passed on up to 8 times in a row. Ask its owner, or a tenant nearer '
                'to the owner, to share it.';
    end if;
    if v_held.share_id is not null then
        perform ai_storage_private.lend(array[v_held.tenant_id], array[v_held.model_id]);
        perform ai_storage_private.check_version(v_held.tenant_id, v_held.model_id, p_version);
        perform ai_storage_private.restore_context(v_context);
        -- It came to me from another organisation by a *: what I pass on rests on that permit.
        v_held.permit_ids := v_held.permit_ids || array(
            select p.permit_id
            from ai_storage_private.external_sharing_permit as p
            where split_part(v_held.target, ':', 1) = '*'
              and p.org_id = split_part(v_held.sharer_key, ':', 1)
              and p.to_org_id = p_tenant.levels[1]
              and p.permit_id <> all (v_held.permit_ids)
        );
        return v_held;
    end if;

    if ai_storage_private.has_grant(p_tenant, p_owner, p_model_name, null) then
        raise exception using
            errcode = 'TN303',
            message = 'more than you hold',
            hint = 'Pass on only permissions, versions and a time that one grant with share gives '
                'you; see list_received_shares.';
    end if;
    raise exception using
        errcode = 'TN101',
        message = 'no such model',
        hint = 'Check the name and the owner; a model of another tenant has to be shared with you.';
end;
$$;

ALTER FUNCTION ai_storage_private.hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) IS 'The received grant that covers what is to be passed on. Raises TN101, TN303, TN304, TN306.';

--
-- Name: hold_model(bigint, text, bigint, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.hold_model(p_tenant_id bigint, p_model_name text, p_version bigint DEFAULT NULL::bigint, p_expected_version bigint DEFAULT NULL::bigint, OUT model_id uuid, OUT version bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
begin
    -- Until the end of the transaction nobody deletes it; others may go on saving.
    select p.model_id, p.version into model_id, version
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_name = p_model_name collate "C"
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Save the model first, or save it together with its artifacts; an artifact '
                'belongs to a version of a model.';
    end if;
    if version <> p_expected_version then
        raise exception using
            errcode = 'TN102',
            message = 'the model is not at the expected version',
            detail = format(
                'Expected version %s, current version %s.', p_expected_version, version
            ),
            hint = 'Load the model again and decide to which version the artifact belongs.';
    end if;
    if version <> p_version then
        version := p_version;
        perform ai_storage_private.hold_version(p_tenant_id, model_id, p_version);
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.hold_model(p_tenant_id bigint, p_model_name text, p_version bigint, p_expected_version bigint, OUT model_id uuid, OUT version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION hold_model(p_tenant_id bigint, p_model_name text, p_version bigint, p_expected_version bigint, OUT model_id uuid, OUT version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.hold_model(p_tenant_id bigint, p_model_name text, p_version bigint, p_expected_version bigint, OUT model_id uuid, OUT version bigint) IS 'An own model, kept from being deleted, and its current version or p_version. Raises TN101, TN102.';

--
-- Name: hold_own(ai_storage_private.acting_tenant, text, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint) RETURNS ai_storage_private.model_share
    LANGUAGE plpgsql
    AS $$
declare
    v_held ai_storage_private.model_share;
begin
    -- The lock keeps the model from being deleted until the grant is committed.
    select p.model_id into v_held.model_id
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant.tenant_id
      and p.model_name = p_model_name
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such model',
            hint = 'Check the name and the owner; a model of another tenant has to be shared with '
                'you.';
    end if;
    perform ai_storage_private.check_version(p_tenant.tenant_id, v_held.model_id, p_version);
    -- Until the grant is there, nobody sweeps the version.
    perform from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant.tenant_id
      and v.model_id = v_held.model_id
      and v.version = p_version
    for key share;

    v_held.tenant_id := p_tenant.tenant_id;
    v_held.model_name := p_model_name;
    v_held.owner_key := p_tenant.isolation_key;
    v_held.ancestors := '{}';
    v_held.sharer_ids := '{}';
    v_held.permit_ids := '{}';
    return v_held;
end;
$$;

ALTER FUNCTION ai_storage_private.hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint) IS 'What a tenant holds of its own model: everything. Locks the model. Raises TN101, TN304.';

--
-- Name: hold_upload(bigint, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.hold_upload(p_tenant_id bigint, p_upload_id uuid) RETURNS ai_storage_private.artifact_upload
    LANGUAGE plpgsql
    AS $$
declare
    v_upload ai_storage_private.artifact_upload;
begin
    select u.* into v_upload
    from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = p_upload_id
      and u.artifact_name <> '' -- an import's, of which nobody knows what is still to come
    for update;
    if not found then
        raise exception using
            errcode = 'TN201',
            message = 'no such upload',
            hint = 'list_uploads() shows the uploads that go on; it was finished, aborted or '
                'abandoned.';
    end if;
    return v_upload;
end;
$$;

ALTER FUNCTION ai_storage_private.hold_upload(p_tenant_id bigint, p_upload_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION hold_upload(p_tenant_id bigint, p_upload_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.hold_upload(p_tenant_id bigint, p_upload_id uuid) IS 'An own upload, locked. Raises TN201.';

--
-- Name: hold_version(bigint, uuid, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    perform from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id
      and v.model_id = p_model_id
      and v.version = p_version
    for key share;
    if not found then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'load_history() shows the versions there are.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) IS 'Keeps a version of an own model from being deleted. Raises TN101.';

--
-- Name: hurry(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.hurry() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    -- A borrower holds the model's row until it commits, and the owner waits for it: not for long.
    perform set_config(s.name, '2s', true)
    from unnest(array['idle_in_transaction_session_timeout', 'transaction_timeout']) as s (name)
    where current_setting(s.name, true)::interval = '0'
       or current_setting(s.name, true)::interval > '2 s';
end;
$$;

ALTER FUNCTION ai_storage_private.hurry() OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION hurry(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.hurry() IS 'Ends this transaction when it is still open in 2 s: idle, or from PostgreSQL 17 on at all.';

--
-- Name: import_artifact(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_artifact(p_tenant_id bigint, p_record jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_sha256  constant text := p_record ->> 'sha256';
    v_size    constant bigint := (p_record ->> 'size_bytes')::bigint;
    v_version constant bigint := (p_record ->> 'version')::bigint;
    v_put_at  constant timestamptz := (p_record ->> 'put_at')::timestamptz;
    v_upload  constant uuid := ai_storage_private.import_id(v_sha256, v_size);
    v_now     constant timestamptz := clock_timestamp();
    v_model   record;
    v_found   record;
    v_blob_id uuid;
begin
    perform ai_storage_private.check_artifact(
        p_record ->> 'artifact_name', p_record ->> 'media_type'
    );
    v_model := ai_storage_private.hold_model(p_tenant_id, p_record ->> 'model_name');
    if (v_version between 1 and v_model.version) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid record of an artifact',
            hint = 'Pass the lines of export_tenant() as they are, in their order.';
    end if;
    -- Held, so that no chunk is added between the look at them and the end.
    perform from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = v_upload
    for update;
    -- Changed and not only locked: so a sweep with an older snapshot fails instead of deleting it.
    update ai_storage_private.artifact_blob as b set
        put_at = v_now
    where b.tenant_id = p_tenant_id
      and b.sha256 = decode(v_sha256, 'hex')
      and b.size_bytes = v_size
    returning b.blob_id into v_blob_id;
    if not found then
        select
            ai_storage_private.content_sha256(
                coalesce(array_agg(c.sha256 order by c.chunk_number), '{}')
            ) as sha256,
            coalesce(sum(length(c.content)), 0) as size_bytes
        into v_found
        from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_tenant_id
          and c.blob_id = v_upload;
        if encode(v_found.sha256, 'hex') is distinct from v_sha256
            or v_found.size_bytes is distinct from v_size
        then
            raise exception using
                errcode = '22023',
                message = 'a content does not fit its digest',
                hint = 'Pass the lines of export_tenant() as they are, in their order.';
        end if;
        perform ai_storage_private.check_size(v_found.size_bytes);
        insert into ai_storage_private.artifact_blob (
            tenant_id, blob_id, size_bytes, put_at, sha256
        )
        values (
            p_tenant_id, v_upload, v_found.size_bytes, v_put_at, decode(v_sha256, 'hex')
        );
        perform ai_storage_private.end_upload(p_tenant_id, v_upload);
        v_blob_id := v_upload;
    end if;
    insert into ai_storage_private.model_artifact (
        tenant_id, model_id, version, blob_id, put_at, artifact_name, media_type
    )
    values (
        p_tenant_id, v_model.model_id, v_version, v_blob_id, v_put_at,
        p_record ->> 'artifact_name', p_record ->> 'media_type'
    );
end;
$$;

ALTER FUNCTION ai_storage_private.import_artifact(p_tenant_id bigint, p_record jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_artifact(p_tenant_id bigint, p_record jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_artifact(p_tenant_id bigint, p_record jsonb) IS 'Restores one artifact, of a content whose chunks are there. Raises 22023, 23505, TN101.';

--
-- Name: import_chunk(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_chunk(p_tenant_id bigint, p_record jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare
    v_sha256  constant text := p_record ->> 'sha256';
    v_size    constant bigint := (p_record ->> 'size_bytes')::bigint;
    v_number  constant integer := (p_record ->> 'chunk_number')::integer;
    v_content constant bytea := decode(p_record ->> 'content', 'base64');
    v_now     constant timestamptz := clock_timestamp();
    v_upload  constant uuid := ai_storage_private.import_id(v_sha256, v_size);
begin
    if (
        v_sha256 ~ '^[0-9a-f]{64}$' and v_size > 0
        and v_number between 0 and (v_size - 1) / 1048576
        -- One content has one splitting: only the last chunk may be short.
        and length(v_content) = least(v_size - v_number * 1048576::bigint, 1048576)
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of a chunk',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    perform ai_storage_private.check_size(v_size);
    -- An upload for no model: swept when no artifact comes to name it. Held, so that neither a
    -- sweep nor another import of the same content gets between; only then we look for the content.
    insert into ai_storage_private.artifact_upload as u (
        tenant_id, upload_id, model_id, received_bytes, began_at, touched_at,
        artifact_name, media_type
    )
    values (p_tenant_id, v_upload, v_upload, 0, v_now, v_now, '', '')
    on conflict on constraint artifact_upload_pk do update set
        touched_at = excluded.touched_at;
    if exists (
        select from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and b.sha256 = decode(v_sha256, 'hex')
          and b.size_bytes = v_size
    ) then
        -- What arrived before goes too, unless it is this content.
        delete from ai_storage_private.artifact_chunk as c
        where c.tenant_id = p_tenant_id
          and c.blob_id = v_upload
          and not exists (
              select from ai_storage_private.artifact_blob as b
              where b.tenant_id = p_tenant_id
                and b.blob_id = v_upload
          );
        perform ai_storage_private.end_upload(p_tenant_id, v_upload);
        return;
    end if;
    insert into ai_storage_private.artifact_chunk (
        tenant_id, blob_id, chunk_number, sha256, content
    )
    values (p_tenant_id, v_upload, v_number, sha256(v_content), v_content)
    on conflict do nothing;
    if found then
        update ai_storage_private.artifact_upload as u set
            received_bytes = u.received_bytes + length(v_content)
        where u.tenant_id = p_tenant_id
          and u.upload_id = v_upload;
    end if;
end;
$_$;

ALTER FUNCTION ai_storage_private.import_chunk(p_tenant_id bigint, p_record jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_chunk(p_tenant_id bigint, p_record jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_chunk(p_tenant_id bigint, p_record jsonb) IS 'Restores one chunk of a content that an artifact is going to name. Raises 22023.';

--
-- Name: import_deletion(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_deletion(p_tenant_id bigint, p_record jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_name    constant text := p_record ->> 'model_name';
    v_version constant bigint := (p_record ->> 'last_version')::bigint;
    v_deleted constant timestamptz := (p_record ->> 'deleted_at')::timestamptz;
begin
    if (
        ai_storage_private.is_name(v_name)
        and v_version between 0 and 1000000000000000
        and ai_storage_private.is_past(v_deleted)
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of a deleted model',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    insert into ai_storage_private.deleted_model (tenant_id, last_version, deleted_at, model_name)
    select p_tenant_id, v_version, v_deleted, v_name
    where not exists (
        select from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_tenant_id
          and p.model_name = v_name collate "C"
    )
    on conflict do nothing;
end;
$$;

ALTER FUNCTION ai_storage_private.import_deletion(p_tenant_id bigint, p_record jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_deletion(p_tenant_id bigint, p_record jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_deletion(p_tenant_id bigint, p_record jsonb) IS 'Restores the memory of a deleted model, unless there is one of its name or a model that has the name. Raises 22023.';

--
-- Name: import_id(text, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_id(p_sha256 text, p_size_bytes bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select left(
        encode(sha256(convert_to(p_sha256 || ' ' || p_size_bytes, 'UTF8')), 'hex'), 32
    )::uuid;
$$;

ALTER FUNCTION ai_storage_private.import_id(p_sha256 text, p_size_bytes bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_id(p_sha256 text, p_size_bytes bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_id(p_sha256 text, p_size_bytes bigint) IS 'The id of a content that is being imported: the same in each call, since its chunks may come in several.';

--
-- Name: import_key(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_key(p_tenant_id bigint, p_record jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $_$
declare
    v_key     constant text := p_record ->> 'idempotency_key';
    v_version constant bigint := (p_record ->> 'version')::bigint;
    v_saved   constant timestamptz := (p_record ->> 'saved_at')::timestamptz;
    v_created constant boolean := (p_record ->> 'created')::boolean;
    v_digest  constant text := p_record ->> 'request_digest';
begin
    if (
        ai_storage_private.is_name(v_key) and v_version > 0
        and ai_storage_private.is_past(v_saved) and v_created is not null
        and v_digest ~ '^[0-9a-f]{64}$'
    ) is not true
    then
        raise exception using
            errcode = '22023',
            message = 'invalid record of an idempotency key',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;
    insert into ai_storage_private.idempotency_key (
        tenant_id, version, saved_at, created, idempotency_key, request_digest
    )
    values (
        p_tenant_id, v_version, v_saved, v_created, v_key, decode(v_digest, 'hex')
    )
    on conflict do nothing;
end;
$_$;

ALTER FUNCTION ai_storage_private.import_key(p_tenant_id bigint, p_record jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_key(p_tenant_id bigint, p_record jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_key(p_tenant_id bigint, p_record jsonb) IS 'Restores the first answer to an idempotency key, unless there is one. Raises 22023.';

--
-- Name: import_version(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.import_version(p_tenant_id bigint, p_record jsonb) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_name     constant text collate "C" := p_record ->> 'model_name';
    v_version  constant bigint := (p_record ->> 'version')::bigint;
    v_previous constant bigint := (p_record ->> 'previous_version')::bigint;
    v_mse      constant double precision := (p_record ->> 'mse')::double precision;
    v_samples  constant bigint := (p_record ->> 'training_samples')::bigint;
    v_metrics  constant jsonb := coalesce(p_record -> 'metrics', '{}');
    v_metadata constant jsonb := coalesce(p_record -> 'metadata', '{}');
    v_saved_at constant timestamptz := (p_record ->> 'saved_at')::timestamptz;
    v_created  constant timestamptz := (p_record ->> 'created_at')::timestamptz;
    v_model_id uuid := gen_random_uuid();
begin
    perform ai_storage_private.check_progress(
        v_name, v_mse, v_samples, v_metrics, v_metadata, v_version
    );
    if coalesce(v_version, 0) <= coalesce(v_previous, 0)
        or v_previous < 1
        or v_version > 1000000000000000 -- far from where counting on would end
        or ai_storage_private.is_past(v_saved_at) is not true
        or ai_storage_private.is_past(v_created) is not true
        or not ai_storage.is_isolation_key(coalesce(p_record ->> 'saved_by', 'o:s:p:e:c'))
    then
        raise exception using
            errcode = '22023',
            message = 'invalid version record',
            hint = 'Pass the lines of export_tenant() as they are.';
    end if;

    if v_previous is null then
        insert into ai_storage_private.ai_progress_tenant (
            tenant_id, model_id, version, mse, training_samples,
            created_at, updated_at, model_name, metrics, metadata
        )
        values (
            p_tenant_id, v_model_id, v_version, v_mse, v_samples,
            v_created, v_saved_at, v_name, v_metrics, v_metadata
        )
        on conflict do nothing;
    else
        update ai_storage_private.ai_progress_tenant as p set
            version          = v_version,
            mse              = v_mse,
            training_samples = v_samples,
            metrics          = v_metrics,
            metadata         = v_metadata,
            updated_at       = v_saved_at,
            saved_by         = null
        where p.tenant_id = p_tenant_id
          and p.model_name = v_name
          and p.version = v_previous
        returning p.model_id into v_model_id;
    end if;
    -- A name that was deleted here goes on counting, which the record does not.
    if not found or exists (
        select from ai_storage_private.deleted_model as d
        where d.tenant_id = p_tenant_id
          and d.model_name = v_name
          and d.last_version >= v_version
    ) then
        raise exception using
            errcode = '23505',
            message = 'a model of this name is or was here',
            detail = format('The model is %s.', quote_ident(v_name)),
            hint = 'Import into a tenant that never had the name, and the lines in their order.';
    end if;
    -- Without the record's author, which may be made up: it is the importer who saves this here.
    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, metrics, metadata
    )
    values (
        p_tenant_id, v_model_id, v_version, v_mse, v_samples, v_saved_at, v_metrics, v_metadata
    );
end;
$$;

ALTER FUNCTION ai_storage_private.import_version(p_tenant_id bigint, p_record jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION import_version(p_tenant_id bigint, p_record jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.import_version(p_tenant_id bigint, p_record jsonb) IS 'Restores one version of a model, on top of the version before it. Raises 22023, 23505.';

--
-- Name: in_force(uuid[], text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.in_force(p_share_ids uuid[], p_receiver text) RETURNS SETOF ai_storage_private.model_share
    LANGUAGE plpgsql STABLE ROWS 10
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_org constant text := split_part(p_receiver, ':', 1);
begin
    -- A grant never gives more than its ancestors did, and none of them changes. So it counts while
    -- all of them are there: one query, however long the line is.
    return query
    select s.*
    from ai_storage_private.model_share as s
    where s.share_id = any (p_share_ids)
      and (s.expires_at is null or s.expires_at > clock_timestamp())
      and (
          s.ancestors = '{}'
          or cardinality(s.ancestors) = (
              select count(*)
              from ai_storage_private.model_share as a
              where a.share_id = any (s.ancestors)
                and (a.expires_at is null or a.expires_at > clock_timestamp())
          )
      )
      and not exists (
          select from ai_storage_private.share_end as e
          where e.share_id = any (s.ancestors || s.share_id)
      )
      and (
          s.permit_ids = '{}'
          or cardinality(s.permit_ids) = (
              select count(*)
              from ai_storage_private.external_sharing_permit as p
              where p.permit_id = any (s.permit_ids)
          )
      )
      -- * as the organisation: the sharer's own, and those it may share with now.
      and (
          p_receiver is null
          or split_part(s.target, ':', 1) = v_org
          or split_part(s.sharer_key, ':', 1) = v_org
          or exists (
              select from ai_storage_private.external_sharing_permit as p
              where p.org_id = split_part(s.sharer_key, ':', 1)
                and p.to_org_id = v_org
          )
      )
      -- Nobody in the line declined what it passed on, nor does the receiver.
      and (
          s.ancestors = '{}'
          or not exists (
              select
              from unnest(s.sharer_ids[1:cardinality(s.ancestors)], s.sharer_ids[2:])
                  as h (giver_id, taker_id)
              join ai_storage_private.share_decline as d
                  on d.tenant_id = h.taker_id
                  and d.sharer_id = h.giver_id
              where d.owner_id = s.tenant_id
                and d.model_name = s.model_name
          )
      )
      and not exists (
          select from ai_storage_private.share_decline as d
          where d.owner_id = s.tenant_id
            and d.model_name = s.model_name
            and d.sharer_id = s.sharer_id
            and d.receiver_key = p_receiver
      );
end;
$$;

ALTER FUNCTION ai_storage_private.in_force(p_share_ids uuid[], p_receiver text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION in_force(p_share_ids uuid[], p_receiver text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.in_force(p_share_ids uuid[], p_receiver text) IS 'Of some grants those that count now. p_receiver: for this tenant, or with null for any.';

--
-- Name: is_base64url(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.is_base64url(p_text text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    -- The bits that the last character has to spare are zero.
    select p_text ~ '^[A-Za-z0-9_-]+$' and case length(p_text) % 4
        when 0 then true
        when 2 then strpos('AQgw', right(p_text, 1)) > 0
        when 3 then strpos('AEIMQUYcgkosw048', right(p_text, 1)) > 0
        else false
    end;
$_$;

ALTER FUNCTION ai_storage_private.is_base64url(p_text text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION is_base64url(p_text text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.is_base64url(p_text text) IS 'True for base64url without padding in its only spelling, the one that encode_base64url gives.';

--
-- Name: is_code_list(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.is_code_list(p_claim jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    select count(*) between 1 and 32
        and bool_and(
            jsonb_typeof(c.code) = 'string'
            and c.code #>> '{}' ~ '^[A-Za-z0-9._+@~=/-]{1,63}$'
        )
    from jsonb_array_elements(
        case jsonb_typeof(p_claim) when 'array' then p_claim else jsonb_build_array(p_claim) end
    ) as c (code);
$_$;

ALTER FUNCTION ai_storage_private.is_code_list(p_claim jsonb) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION is_code_list(p_claim jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.is_code_list(p_claim jsonb) IS 'True for a code version, or 1 to 32 of them in an array; false for anything else.';

--
-- Name: is_held(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.is_held(p_tenant_id bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return coalesce(
        (
            select r.is_held
            from ai_storage_private.list_effective_rules() as r
            where r.tenant_id = p_tenant_id
        ),
        false
    );
end;
$$;

ALTER FUNCTION ai_storage_private.is_held(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION is_held(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.is_held(p_tenant_id bigint) IS 'Whether a legal hold keeps a tenant.';

--
-- Name: is_item(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_item(p_item jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
begin
    if jsonb_typeof(p_item) <> 'object' then
        return false;
    end if;
    -- Numbers are looked at here, since a cast would refuse them in words of its own.
    return p_item - array[
            'model_name', 'mse', 'training_samples', 'metrics', 'metadata',
            'expected_version', 'idempotency_key', 'owner', 'artifacts'
        ] = '{}'
        and jsonb_typeof(p_item -> 'model_name') = 'string'
        and coalesce(jsonb_typeof(p_item -> 'idempotency_key'), 'null') in ('string', 'null')
        and coalesce(jsonb_typeof(p_item -> 'owner'), 'null') in ('string', 'null')
        and coalesce(jsonb_typeof(p_item -> 'artifacts'), 'null') in ('object', 'null')
        and coalesce(jsonb_typeof(p_item -> 'mse'), 'null') in ('number', 'null')
        and coalesce(jsonb_typeof(p_item -> 'training_samples'), 'null') in ('number', 'null')
        and coalesce(jsonb_typeof(p_item -> 'expected_version'), 'null') in ('number', 'null')
        and not jsonb_path_exists(
            p_item,
            'lax $.mse ? (
                @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
                || (@ != 0 && @ < 5e-324 && @ > -5e-324)
            )'
        )
        and not jsonb_path_exists(
            jsonb_build_array(p_item -> 'training_samples', p_item -> 'expected_version'),
            'lax $[*] ? (
                @ > 9223372036854775807 || @ < -9223372036854775808 || @.floor() != @
            )'
        );
end;
$_$;

ALTER FUNCTION ai_storage_private.is_item(p_item jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_item(p_item jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_item(p_item jsonb) IS 'True for an object with the fields of a batch''s item, each of its type and range.';

--
-- Name: is_metadata(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_metadata(p_metadata jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $_$
begin
    if p_metadata = '{}' then
        return true;
    end if;
    -- The size in storage comes first, since it costs nothing. Then the numbers: jsonb keeps
    -- 1e99999, or a zero with 10,000 places, in ten bytes and prints it in as many, so one small
    -- document could exhaust everybody who reads it. Only then is it printed, to be measured.
    -- One statement after the other: a caller may have each planned for its value, and planning
    -- evaluates what it can, in no order.
    if jsonb_typeof(p_metadata) <> 'object' or pg_column_size(p_metadata) > 4 * 1024 * 1024 then
        return false;
    end if;
    if jsonb_path_exists(
        p_metadata,
        'strict $.**{64 to last} ? (@.type() == "object" || @.type() == "array")'
    ) then
        return false;
    end if;
    if jsonb_path_exists(
        p_metadata,
        'strict $.** ? (@.type() == "number") ? (
            @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
            || (@ != 0 && @ < 1e-400 && @ > -1e-400)
        )'
    ) then
        return false;
    end if;
    if pg_column_size(p_metadata) >= 2048 then
        if exists (
            -- An array first: jsonb_path_query() takes time in the square of what it returns.
            select from jsonb_array_elements(
                jsonb_path_query_array(p_metadata, 'strict $.** ? (@.type() == "number")')
            ) as n (number)
            where scale(n.number::numeric) > 1000
        ) then
            return false;
        end if;
    end if;
    return octet_length(p_metadata::text) <= 1024 * 1024;
end;
$_$;

ALTER FUNCTION ai_storage_private.is_metadata(p_metadata jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_metadata(p_metadata jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_metadata(p_metadata jsonb) IS 'True for an object of at most 1 MiB as text and 64 levels, with numbers that a double can hold.';

--
-- Name: is_metrics(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_metrics(p_metrics jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $_$
declare
    v_text text;
begin
    if p_metrics = '{}' then
        return true;
    end if;
    -- A number beyond a double would arrive at clients as infinity, and 1e-16000 in 16,000 digits.
    if jsonb_typeof(p_metrics) <> 'object'
        or jsonb_path_exists(
            p_metrics,
            'strict $.* ? (
                @.type() != "number" || @ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
                || (@ != 0 && @ < 1e-400 && @ > -1e-400)
            )'
        )
        or jsonb_array_length(jsonb_path_query_array(p_metrics, 'strict $.*')) > 256
    then
        return false;
    end if;
    -- Printed once, now that it has an end.
    v_text := p_metrics::text;
    if octet_length(v_text) > 256 * 1024 then
        return false;
    end if;
    -- The names one by one, only where the text leaves room for a bad one.
    if length(v_text) <= 255 and v_text !~ E'""|\\\\|[\\x7f-\\x9f]' then
        return true;
    end if;
    return not exists (
        select from jsonb_object_keys(p_metrics) as k (name)
        where ai_storage_private.is_name(k.name) is not true
    );
end;
$_$;

ALTER FUNCTION ai_storage_private.is_metrics(p_metrics jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_metrics(p_metrics jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_metrics(p_metrics jsonb) IS 'True for a flat object of at most 256 finite numbers, with names as is_name() wants them.';

--
-- Name: is_name(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_name(p_name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select length(p_name) between 1 and 255 and p_name !~ E'[\\x01-\\x1f\\x7f-\\x9f]';
$$;

ALTER FUNCTION ai_storage_private.is_name(p_name text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_name(p_name text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_name(p_name text) IS 'True for 1 to 255 characters without a control character; false or null for anything else.';

--
-- Name: is_past(timestamp with time zone); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_past(p_time timestamp with time zone) RETURNS boolean
    LANGUAGE sql
    AS $$
    -- A minute for clocks that differ.
    select p_time between '1970-01-01 00:00:00+00' and clock_timestamp() + interval '1 minute';
$$;

ALTER FUNCTION ai_storage_private.is_past(p_time timestamp with time zone) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_past(p_time timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_past(p_time timestamp with time zone) IS 'True for a time that a save may have had; false or null for one that would outlive every rule, or that clients cannot read.';

--
-- Name: is_tenant_pattern(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
    select p_pattern ~ '^(([*]|[A-Za-z0-9._+@~=/-]{1,63}):){4}([*]|[A-Za-z0-9._+@~=/-]{1,63})$';
$_$;

ALTER FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION is_tenant_pattern(p_pattern text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) IS 'True for five levels joined by colons in which any level may be *; false or null for anything else.';

--
-- Name: join_chunks(bigint, uuid, bigint, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint) RETURNS bytea
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_content bytea;
begin
    -- Sorted before anything reads the bytes.
    select coalesce(
        string_agg(
            case
                when c.chunk_number in (p_offset / 1048576, (p_offset + p_length - 1) / 1048576)
                    then substr(
                        c.content,
                        (greatest(p_offset - c.chunk_number * 1048576::bigint, 0) + 1)::integer,
                        least(
                            p_offset + p_length
                                - greatest(p_offset, c.chunk_number * 1048576::bigint),
                            1048576
                        )::integer
                    )
                else c.content
            end,
            ''
        ),
        ''
    )
    into v_content
    from (
        select k.chunk_number, k.content
        from ai_storage_private.artifact_chunk as k
        where k.tenant_id = p_tenant_id
          and k.blob_id = p_blob_id
          and k.chunk_number between p_offset / 1048576 and (p_offset + p_length - 1) / 1048576
          and p_length > 0
        order by k.chunk_number
    ) as c;
    return v_content;
end;
$$;

ALTER FUNCTION ai_storage_private.join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint) IS 'Part of a content. Under row level security it sees what its caller''s policies show.';

--
-- Name: keep_blob(bigint, uuid, bytea, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint) RETURNS uuid
    LANGUAGE plpgsql
    AS $$
declare
    v_blob_id uuid;
begin
    insert into ai_storage_private.artifact_blob as b (
        tenant_id, blob_id, size_bytes, put_at, sha256
    )
    values (p_tenant_id, p_blob_id, p_size_bytes, clock_timestamp(), p_sha256)
    on conflict on constraint artifact_blob_content_unique do update set
        put_at = excluded.put_at
    returning b.blob_id into v_blob_id;
    return v_blob_id;
end;
$$;

ALTER FUNCTION ai_storage_private.keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint) IS 'The id under which a tenant has a content: another than p_blob_id when it had it before. Keeps it from being swept.';

--
-- Name: keep_durable(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.keep_durable() RETURNS text
    LANGUAGE plpgsql
    AS $$
begin
    -- Any login may set less, for a session or for itself, and a setting of a function's own ends
    -- before the commit. remote_apply is more than on.
    if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
        return set_config('synchronous_commit', 'on', true);
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.keep_durable() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION keep_durable(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.keep_durable() IS 'Makes the commit of this transaction wait until it survives a crash, whatever the session has set. Every function that writes calls it, most of them in record_event().';

--
-- Name: keep_held(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.keep_held() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform ai_storage_private.pass_gate(old.tenant_id);
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.keep_held() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION keep_held(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.keep_held() IS 'Refuses at commit what took data that a legal hold keeps, whichever function did it. Raises TN501.';

--
-- Name: keep_signing_key(text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.keep_signing_key(p_kid text, p_audience text, p_secret text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
begin
    if p_kid !~ '^[A-Za-z0-9._-]{1,63}$' or length(p_audience) not between 1 and 255 then
        raise exception using
            errcode = '22023',
            message = 'invalid name of a signing key',
            hint = 'kid has 1 to 63 characters out of A-Z a-z 0-9 . _ - and the audience 1 to 255.';
    end if;
    insert into ai_storage_private.signing_key as k (kid, audience, inner_pad, outer_pad)
    values (
        p_kid,
        p_audience,
        ai_storage_private.hmac_pad(convert_to(p_secret, 'UTF8'), 54),
        ai_storage_private.hmac_pad(convert_to(p_secret, 'UTF8'), 92)
    )
    on conflict do nothing;
    if not found then
        raise exception using
            errcode = '23505',
            message = 'there is a signing key of this name',
            hint = 'Names are not used twice, so that an old token stays refused. Choose another '
                'kid.';
    end if;
end;
$_$;

ALTER FUNCTION ai_storage_private.keep_signing_key(p_kid text, p_audience text, p_secret text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION keep_signing_key(p_kid text, p_audience text, p_secret text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.keep_signing_key(p_kid text, p_audience text, p_secret text) IS 'Adds a key that signs tokens. Raises 22023, 23505.';

--
-- Name: leaf_hash(bigint, uuid, bigint, integer, timestamp with time zone, text, uuid, bigint, text, bytea, bytea, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    -- The only text in which a '|' may stand comes last.
    select sha256(decode('00', 'hex') || convert_to(
        p_tenant_id || '|' || p_event_id || '|' || p_seal_number || '|' || p_leaf_index
            || '|' || ai_storage_private.micros(p_recorded_at)
            || '|' || p_action
            || '|' || coalesce(p_model_id::text, '')
            || '|' || coalesce(p_version::text, '')
            || '|' || p_credential
            || '|' || coalesce(encode(p_content_digest, 'hex'), '')
            || '|' || encode(p_detail_digest, 'hex')
            || '|' || p_login,
        'UTF8'
    ));
$$;

ALTER FUNCTION ai_storage_private.leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text) IS 'The leaf of an event in the tree of its seal: a hash of all that is never erased.';

--
-- Name: lend(bigint[], uuid[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[]) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return ai_storage_private.set_context(
        'lent',
        (v_field[2]::bigint, v_field[3], null, v_field[5], v_field[4]),
        array_to_string(p_tenant_ids, ',') || '|' || array_to_string(p_model_ids, ',')
    );
end;
$$;

ALTER FUNCTION ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION lend(p_tenant_ids bigint[], p_model_ids uuid[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[]) IS 'Turns the context to some models of other tenants: the policies then show these and nothing else, not even the caller''s own. The function that lends puts the context back.';

--
-- Name: lent_ids(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.lent_ids() RETURNS uuid[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'lent' then string_to_array(v_field[9], ',')::uuid[] end;
end;
$$;

ALTER FUNCTION ai_storage_private.lent_ids() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION lent_ids(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.lent_ids() IS 'The models that are lent to this transaction, or null.';

--
-- Name: lent_tenant_ids(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.lent_tenant_ids() RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL RESTRICTED
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field constant text[] := ai_storage_private.verified_context();
begin
    return case when v_field[1] = 'lent' then string_to_array(v_field[8], ',')::bigint[] end;
end;
$$;

ALTER FUNCTION ai_storage_private.lent_tenant_ids() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION lent_tenant_ids(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.lent_tenant_ids() IS 'The owners of the models that are lent to this transaction, or null.';

--
-- Name: list_bundle(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_bundle(p_tenant_id bigint) RETURNS SETOF jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_last bigint;
begin
    -- Up to here seals and their events change no more, however many queries read them.
    select max(s.seal_number) into v_last
    from ai_storage_private.audit_seal as s
    where s.tenant_id = p_tenant_id;
    return query
    select ai_storage_private.render_event(e)
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      -- An event whose seal is gone is told of.
      and (
          e.seal_number <= v_last
          or not exists (
              select from ai_storage_private.audit_seal as s
              where s.tenant_id = p_tenant_id
                and s.seal_number = e.seal_number
          )
      )
    order by e.seal_number, e.leaf_index;
    -- One query: the paths of the seals lead to the checkpoints that are listed.
    return query
    select b.line
    from (
        -- The policy on seals had its say: a tenant that never wrote has none.
        select 1, r.seal_number, r.line
        from ai_storage_private.render_seals(p_tenant_id) as r
        where r.seal_number <= v_last
        union all
        select 2, c.place, c.line
        from ai_storage_private.list_checkpoints() with ordinality as c (line, place)
    ) as b (part, place, line)
    order by b.part, b.place;
end;
$$;

ALTER FUNCTION ai_storage_private.list_bundle(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_bundle(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_bundle(p_tenant_id bigint) IS 'The bundle of the sealed log of the tenant that the context names.';

--
-- Name: list_checkpoints(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.list_checkpoints() RETURNS SETOF jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return query
    select ai_storage_private.render_checkpoint(c)
    from ai_storage_private.audit_checkpoint as c
    order by c.checkpoint_number;
end;
$$;

ALTER FUNCTION ai_storage_private.list_checkpoints() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_checkpoints(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.list_checkpoints() IS 'All checkpoints, as lines of a bundle. They tell nothing of a tenant.';

--
-- Name: list_controls(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.list_controls() RETURNS TABLE(place integer, control text, reference text, is_quick boolean, evidence text)
    LANGUAGE sql STABLE
    AS $_$
    -- is_quick: costs the same however many tenants, events and grants there are.
    values
    (
        1, 'row level security is forced on every table',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when bool_and(c.relrowsecurity and c.relforcerowsecurity)
        then 'passed' else 'failed' end,
    coalesce(
        'not on ' || string_agg(c.relname, ', ' order by c.relname)
            filter (where not (c.relrowsecurity and c.relforcerowsecurity)),
        'on ' || count(*) || ' tables'
    )
from pg_class as c
where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind in ('r', 'p')
        $q$
    ),
    (
        2, 'row policies are permissive, and for the owning roles only',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where p.is_foreign) = 0 then 'passed' else 'failed' end,
    coalesce(
        'foreign: ' || string_agg(p.polname, ', ' order by p.polname) filter (where p.is_foreign),
        count(*) || ' policies'
    )
from (
    select p.polname, not p.polpermissive or not p.polroles <@ array[
        'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
        'ai_storage_operator'::regrole::oid
    ] as is_foreign
    from pg_policy as p
    join pg_class as c on c.oid = p.polrelid
    where c.relnamespace = 'ai_storage_private'::regnamespace
) as p
        $q$
    ),
    (
        3, 'nobody but the owning roles has a right on a table',
        'GDPR 25(2), 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(r.described, ', ' order by r.described), 'no such right')
from (
    select distinct
        case a.grantee when 0 then 'public' else a.grantee::regrole::text end
            || ' on ' || c.relname as described
    from pg_class as c
    left join pg_attribute as t on t.attrelid = c.oid and t.attacl is not null
    cross join unnest(c.relacl || t.attacl) as i (item)
    cross join aclexplode(array[i.item]) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and a.grantee <> all (array[
          'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
          'ai_storage_operator'::regrole::oid
      ])
) as r
        $q$
    ),
    (
        4, 'functions are open to the groups that they are for',
        'GDPR 25(2), 32(4); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(distinct f.described, ', '), 'to no other role')
from (
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end
        || ' may call ' || p.proname as described
    from pg_proc as p
    cross join aclexplode(p.proacl) as a
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
      and a.grantee <> all (array[
          'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
          'ai_storage_operator'::regrole::oid
      ])
      and (
          a.grantee <> all (array[
              'ai_storage_app'::regrole::oid, 'ai_storage_sql'::regrole::oid,
              'ai_storage_admin'::regrole::oid, 'ai_storage_auditor'::regrole::oid
          ])
          or (
              p.pronamespace = 'ai_storage_private'::regnamespace
              and p.proname <> 'report_models'
          )
          -- What is for administrators is not for applications.
          or (
              a.grantee in ('ai_storage_app'::regrole, 'ai_storage_sql'::regrole)
              and p.proname <> 'version'
              and exists (
                  select from aclexplode(p.proacl) as o
                  where o.grantee in ('ai_storage_admin'::regrole, 'ai_storage_auditor'::regrole)
              )
          )
      )
) as f
        $q$
    ),
    (
        5, 'nobody but who installed it may act as an owning role',
        'GDPR 32(1)(b), 32(4); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(r.rolname, ', ' order by r.rolname), 'nobody')
from pg_roles as r
where r.rolcanlogin
  and not r.rolsuper
  -- Of these a control of their own tells.
  and r.rolname not in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator')
  and not pg_has_role(
      r.oid, (select d.datdba from pg_database as d where d.datname = current_database()), 'MEMBER'
  )
  and (
      pg_has_role(r.oid, 'ai_storage_owner', 'MEMBER')
      or pg_has_role(r.oid, 'ai_storage_sharing', 'MEMBER')
      or pg_has_role(r.oid, 'ai_storage_operator', 'MEMBER')
  )
        $q$
    ),
    (
        6, 'policies of the tables'' owner name the tenant',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(*) filter (where p.is_wide) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(p.polname, ', ' order by p.polname) filter (where p.is_wide),
        'all ' || count(*)
    )
from (
    select p.polname, not (
        pg_get_expr(p.polqual, p.polrelid) like '%(tenant_id = %current_tenant_id())%'
        and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '(tenant_id = current_tenant_id())')
            like '%(tenant_id = %current_tenant_id())%'
    ) as is_wide
    from pg_policy as p
    join pg_class as c on c.oid = p.polrelid
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and 'ai_storage_owner'::regrole = any (p.polroles)
) as p
        $q$
    ),
    (
        7, 'the private schema is closed',
        'GDPR 25(2), 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(a.grantee) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
            ', '),
        'the owning roles alone'
    )
from pg_namespace as n
left join lateral aclexplode(n.nspacl) as a on a.grantee <> all (array[
    'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
    'ai_storage_operator'::regrole::oid
])
where n.nspname = 'ai_storage_private'
        $q$
    ),
    (
        8, 'no function is open to everybody',
        'GDPR 25(2); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where f.is_open) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(f.proname, ', ' order by f.proname) filter (where f.is_open),
        count(*) || ' functions, none to public'
    )
from (
    select p.proname, p.proacl is null or exists (
        select from aclexplode(p.proacl) as a where a.grantee = 0
    ) as is_open
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
) as f
        $q$
    ),
    (
        9, 'functions with the rights of their owner pin their search path',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC6.8', true,
        $q$
select case when count(*) filter (where f.is_loose) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(f.proname, ', ' order by f.proname) filter (where f.is_loose),
        count(*) || ' functions'
    )
from (
    select p.proname,
        (p.proconfig @> array['search_path=pg_catalog, pg_temp']) is not true as is_loose
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
      and p.prosecdef
) as f
        $q$
    ),
    (
        10, 'everything belongs to the owning roles',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC8.1', true,
        $q$
select case when count(*) filter (where o.owner <> all (w.roles)) = 0
        then 'passed' else 'failed' end,
    coalesce(
        string_agg(o.name, ', ' order by o.name) filter (where o.owner <> all (w.roles)),
        count(*) || ' relations and functions'
    )
from (
    select c.relname as name, c.relowner as owner
    from pg_class as c
    where c.relnamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
    union all
    select p.proname, p.proowner
    from pg_proc as p
    where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)
) as o
cross join (
    select array[
        'ai_storage_owner'::regrole::oid, 'ai_storage_sharing'::regrole::oid,
        'ai_storage_operator'::regrole::oid
    ]
) as w (roles)
        $q$
    ),
    (
        11, 'the package''s roles cannot log in and have no power',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where r.is_powerful) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(r.rolname, ', ' order by r.rolname) filter (where r.is_powerful),
        count(*) || ' roles'
    )
from (
    select r.rolname,
        r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication or r.rolcanlogin
            as is_powerful
    from pg_roles as r
    where r.rolname in (
        'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator', 'ai_storage_app',
        'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql'
    )
) as r
        $q$
    ),
    (
        12, 'application logins cannot walk around row level security',
        'GDPR 25, 32(1)(b); SOC 2 CC6.1, CC6.3', true,
        $q$
select case when count(*) filter (where l.is_powerful) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(l.rolname, ', ' order by l.rolname) filter (where l.is_powerful),
        'none of ' || count(*)
    )
from (
    select l.rolname, exists (
        select from pg_roles as r
        where (
                r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication
                or r.rolname in (
                    'ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator',
                    'pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_monitor',
                    'pg_read_all_stats', 'pg_read_server_files', 'pg_write_server_files',
                    'pg_execute_server_program'
                )
            )
          and pg_has_role(l.oid, r.oid, 'MEMBER')
    ) as is_powerful
    from pg_roles as l
    where l.rolname in (select a.login_name from ai_storage_private.login_authorization as a)
) as l
        $q$
    ),
    (
        13, 'no login may name every organisation by key',
        'GDPR 25(2), 32(4); SOC 2 CC6.2, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct a.login_name, ', '), 'no such authorisation')
from ai_storage_private.login_authorization as a
where a.org_id = '*' and not a.token_only
        $q$
    ),
    (
        14, 'whoever audits does not administer, and applications do neither',
        'GDPR 32(4); SOC 2 CC5.1, CC6.3', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(r.rolname, ', ' order by r.rolname), 'no login is in two of the groups')
from pg_roles as r
where r.rolcanlogin
  and not r.rolsuper
  and pg_has_role(r.oid, 'ai_storage_admin', 'MEMBER')::integer
      + pg_has_role(r.oid, 'ai_storage_auditor', 'MEMBER')::integer
      + (r.rolname in (
          select a.login_name from ai_storage_private.login_authorization as a
      ))::integer > 1
        $q$
    ),
    (
        15, 'new passwords are stored as SCRAM',
        'GDPR 32(1)(a); SOC 2 CC6.1', true,
        $q$
select case when s.setting = 'scram-sha-256' and s.source not in ('session', 'client')
        then 'passed' else 'failed' end,
    'password_encryption = ' || s.setting || case when s.source in ('session', 'client')
        then ', as this session says' else '' end
from pg_settings as s
where s.name = 'password_encryption'
        $q$
    ),
    (
        16, 'the triggers that record changes are on, on every table',
        'GDPR 5(2), 30; SOC 2 CC7.2, CC7.3', true,
        $q$
select case when count(*) filter (where t.gap > 0) = 0 then 'passed' else 'failed' end,
    coalesce(
        'not on ' || string_agg(t.relname, ', ' order by t.relname) filter (where t.gap > 0),
        'on ' || count(*) || ' tables'
    )
from (
    -- Of tgtype: 4 insert, 8 delete, 16 update, 32 truncate.
    select
        c.relname,
        60 - (60 & coalesce(bit_or(g.tgtype), 0)) as gap
    from pg_class as c
    left join pg_trigger as g
        on g.tgrelid = c.oid
        and g.tgenabled = 'A'
        and g.tgqual is null
        and g.tgattr = ''
        and g.tgfoid in (
            'ai_storage_private.record_change()'::regprocedure,
            'ai_storage_private.record_changes()'::regprocedure,
            'ai_storage_private.record_version()'::regprocedure,
            'ai_storage_private.record_swept_versions()'::regprocedure,
            'ai_storage_private.record_model_change()'::regprocedure,
            'ai_storage_private.record_artifact_change()'::regprocedure
        )
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relkind in ('r', 'p')
      and c.relname not in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint', 'refusal_report',
          -- What changes of rules wait for, and sums of what is recorded elsewhere.
          'retention_gate', 'quota_use'
      )
    group by c.relname
) as t
        $q$
    ),
    (
        17, 'no session replays changes as a replica',
        'GDPR 5(2); SOC 2 CC7.2, CC8.1', true,
        $q$
select case when current_setting('session_replication_role') = 'origin' and count(s.setting) = 0
        then 'passed' else 'failed' end,
    case when count(s.setting) > 0 then 'set for a role or database'
        else 'session_replication_role = ' || current_setting('session_replication_role') end
from pg_db_role_setting as d
left join lateral unnest(d.setconfig) as s (setting)
    on s.setting like 'session_replication_role=%'
        $q$
    ),
    (
        18, 'the audit log verifies',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2, CC7.3', false,
        $q$
select case when v.verified then 'passed' else 'failed' end,
    coalesce(v.problem, 'events: ' || v.events || ', seals: ' || v.seals || ', checkpoints: '
        || v.checkpoints)
from ai_storage.verify_all_audit() as v
        $q$
    ),
    (
        19, 'models are as the audit log says they were saved',
        'GDPR 5(1)(d), 5(1)(f); SOC 2 CC7.2, PI1.5', false,
        $q$
select case when count(m.problem) = 0 then 'passed' else 'failed' end,
    coalesce(
        'not in ' || string_agg(m.isolation_key, ', ' order by m.isolation_key)
            filter (where m.problem is not null),
        'in ' || count(*) || ' tenants'
    )
from ai_storage_private.compare_models() as m
        $q$
    ),
    (
        20, 'events are sealed within a minute',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2', false,
        $q$
select case when min(p.recorded_at) > clock_timestamp() - interval '1 minute' is not false
        then 'passed'
        when min(p.recorded_at) > clock_timestamp() - interval '1 hour' then 'warning'
        else 'failed' end,
    coalesce(
        count(*) || ' wait, the first since ' || ai_storage_private.render_time(min(p.recorded_at)),
        'none waits'
    )
from ai_storage_private.audit_pending as p
        $q$
    ),
    (
        21, 'seals are under a checkpoint within a day',
        'GDPR 5(1)(f), 5(2); SOC 2 CC7.2', true,
        $q$
select case when min(s.sealed_at) < clock_timestamp() - interval '1 day'
        then 'warning' else 'passed' end,
    coalesce('seals wait since ' || ai_storage_private.render_time(min(s.sealed_at)), 'none waits')
from ai_storage_private.audit_seal as s
where s.checkpoint_number > coalesce(
    (select max(c.checkpoint_number) from ai_storage_private.audit_checkpoint as c), 0
)
        $q$
    ),
    (
        22, 'the audit log is written by its own functions only',
        'GDPR 5(1)(f), 5(2); SOC 2 CC6.1, CC7.2', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(
        string_agg(distinct r.grantee::regrole || ' may ' || lower(r.privilege) || ' ' || r.place,
            ', '),
        'sealed events: insert, and erase salt and detail'
    )
from (
    select a.grantee, a.privilege_type as privilege, c.relname as place
    from pg_class as c
    cross join aclexplode(c.relacl) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relname in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint'
      )
      and a.grantee <> c.relowner
      and a.privilege_type <> 'SELECT'
      and not (
          a.grantee = 'ai_storage_operator'::regrole
          and (
              a.privilege_type = 'INSERT'
              or (a.privilege_type = 'DELETE' and c.relname = 'audit_pending')
          )
      )
    union all
    select a.grantee, a.privilege_type, c.relname || '.' || t.attname
    from pg_class as c
    join pg_attribute as t on t.attrelid = c.oid
    cross join aclexplode(t.attacl) as a
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and c.relname in (
          'audit_pending', 'audit_event', 'audit_seal', 'audit_checkpoint'
      )
      and not (
          a.grantee = 'ai_storage_operator'::regrole
          and a.privilege_type = 'UPDATE'
          and c.relname = 'audit_event'
          and t.attname in ('salt', 'detail')
      )
) as r
        $q$
    ),
    (
        23, 'refused credentials are few',
        'GDPR 32(1)(d), 33; SOC 2 CC7.2, CC7.3', false,
        $q$
select case when max(r.in_all) - coalesce(max(r.in_all) filter (where r.is_old), 0) > 1000
        then 'warning' else 'passed' end,
    coalesce(max(r.in_all) - coalesce(max(r.in_all) filter (where r.is_old), 0), 0)
        || ' in the last day'
from (
    select (e.detail::jsonb ->> 'in_all')::bigint as in_all,
        e.recorded_at < clock_timestamp() - interval '1 day' as is_old
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0 and e.action = 'refuse credentials'
) as r
        $q$
    ),
    (
        24, 'every tenant has a retention rule',
        'GDPR 5(1)(e), 25(2); SOC 2 C1.2, P4.2', false,
        $q$
select case when count(*) filter (where r.tenant_id is null) = 0
        then 'passed' else 'warning' end,
    count(*) filter (where r.tenant_id is null) || ' of ' || count(*)
        || ' tenants have none that ends anything'
from ai_storage_private.tenant as t
left join ai_storage_private.list_effective_rules() as r
    on r.tenant_id = t.tenant_id
    and (
        r.is_held or r.keep_versions is not null or r.keep_versions_for is not null
        or r.keep_events_for is not null
    )
        $q$
    ),
    (
        25, 'retention is applied',
        'GDPR 5(1)(e); SOC 2 C1.2, P4.2', false,
        $q$
select case
        when (select count(*) from ai_storage_private.retention_rule) = 0 then 'unknown'
        when max(e.recorded_at) > clock_timestamp() - interval '2 days' then 'passed'
        else 'warning' end,
    coalesce('last on ' || (max(e.recorded_at) at time zone 'UTC')::date, 'never')
from ai_storage_private.find_acts('apply retention') as e
        $q$
    ),
    (
        26, 'what was erased is gone from the log',
        'GDPR 17, 5(2); SOC 2 C1.2, P4.3', false,
        $q$
with erased as materialized (
    select (t.erased ->> 'tenant_id')::bigint as tenant_id,
        max((t.erased ->> 'seal_number')::bigint) as seal_number
    from ai_storage_private.erasure_certificate as c
    cross join jsonb_array_elements(c.statement::jsonb -> 'tenants') as t (erased)
    group by 1
),
model as materialized (
    select distinct m.model_id
    from ai_storage_private.audit_event as m
    join erased as t on t.tenant_id = m.tenant_id and m.seal_number <= t.seal_number
    where m.action = 'save model'
),
named as materialized (
    select e.tenant_id, e.event_id
    from ai_storage_private.audit_event as e
    join erased as t on t.tenant_id = e.tenant_id and e.seal_number <= t.seal_number
    where e.salt is not null
    union
    -- Also what others were doing with its models, and committed later.
    select e.tenant_id, e.event_id
    from ai_storage_private.audit_event as e
    join model as m on m.model_id = e.model_id
    where e.salt is not null
)
select case when n.events = 0 then 'passed' else 'failed' end,
    'certificates: ' || c.certificates || ', events that still have names: ' || n.events
from (select count(*) as events from named) as n
cross join (
    select count(*) as certificates from ai_storage_private.erasure_certificate
) as c
        $q$
    ),
    (
        27, 'every certificate of an erasure is proved by the log',
        'GDPR 17, 5(2); SOC 2 C1.2, P4.3', false,
        $q$
with event as materialized (
    select e.event_id, e.salt, e.content_digest
    from ai_storage_private.audit_event as e
    where e.tenant_id = 0 and e.action = 'erase tenant'
)
select case when bool_and(p.is_proved) is not false then 'passed' else 'failed' end,
    count(*) filter (where p.is_proved) || ' of ' || count(*) || ' certificates'
from (
    select exists (
        select from event as e
        where e.event_id = c.event_id
          and e.content_digest
              = sha256(uuid_send(e.salt) || convert_to(c.statement, 'UTF8'))
    ) as is_proved
    from ai_storage_private.erasure_certificate as c
) as p
        $q$
    ),
    (
        28, 'signing keys are rotated every 90 days',
        'GDPR 32(1)(a); SOC 2 CC6.1', true,
        $q$
select case when min(k.created_at) < clock_timestamp() - interval '90 days'
        then 'warning' else 'passed' end,
    coalesce('the oldest in use is of ' || (min(k.created_at) at time zone 'UTC')::date,
        'none in use')
from ai_storage_private.signing_key as k
where k.retired_at is null
        $q$
    ),
    (
        29, 'contexts are signed with one secret',
        'GDPR 32(1)(a), 32(1)(b); SOC 2 CC6.1', true,
        $q$
select case when count(*) = 1 then 'passed' else 'failed' end, 'secrets: ' || count(*)
from ai_storage_private.context_secret as s
        $q$
    ),
    (
        30, 'connections from other machines are encrypted',
        'GDPR 32(1)(a); SOC 2 CC6.6, CC6.7', true,
        $q$
select case when current_setting('ssl') = 'on' or w.is_local then 'passed' else 'failed' end,
    'ssl = ' || current_setting('ssl')
        || case when w.is_local then '; no other machine connects' else '' end
from (
    select regexp_split_to_array(current_setting('listen_addresses'), ' *, *')
        <@ array['', 'localhost', '127.0.0.1', '::1']
) as w (is_local)
        $q$
    ),
    (
        31, 'the server''s log keeps no content',
        'GDPR 5(1)(c), 5(1)(f); SOC 2 C1.1', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(f.name || ' = ' || f.setting || f.place, ', ' order by f.name), 'none')
from (
    select s.name, lower(s.setting), ''
    from pg_settings as s
    union all
    select lower(split_part(c.text, '=', 1)), lower(substr(c.text, strpos(c.text, '=') + 1)),
        ' for a role or database'
    from pg_db_role_setting as d, unnest(d.setconfig) as c (text)
) as f (name, setting, place)
where f.name = 'log_statement' and f.setting not in ('none', 'ddl')
   or f.name in ('log_min_duration_statement', 'log_min_duration_sample') and f.setting !~ '^-'
   or f.name = 'log_transaction_sample_rate' and f.setting !~ '^0*[.]?0*$'
   or f.name = 'log_parameter_max_length_on_error' and f.setting <> '0'
   or f.name = 'pgaudit.log_parameter' and f.setting ~ '^(on|1|tr?u?e?|ye?s?)$'
        $q$
    ),
    (
        32, 'a commit survives a crash',
        'GDPR 32(1)(b), 32(1)(c); SOC 2 A1.2, PI1.5', true,
        $q$
select case when bool_or(
        case s.name when 'synchronous_commit'
            then s.reset_val = 'off' or s.source in ('session', 'client')
            else s.setting <> 'on' end
    ) then 'failed' else 'passed' end,
    string_agg(s.name || ' = ' || s.setting, ', ' order by s.name)
from pg_settings as s
where s.name in ('fsync', 'full_page_writes', 'synchronous_commit')
        $q$
    ),
    (
        33, 'no table is left out of the write-ahead log',
        'GDPR 32(1)(c); SOC 2 A1.2, PI1.5', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(c.relname, ', ' order by c.relname), 'none')
from pg_class as c
where c.relnamespace = 'ai_storage_private'::regnamespace
  and c.relkind in ('r', 'p', 'i') and c.relpersistence <> 'p'
        $q$
    ),
    (
        34, 'pages have checksums',
        'GDPR 5(1)(f), 32(1)(b); SOC 2 PI1.5', true,
        $q$
select case current_setting('data_checksums') when 'on' then 'passed' else 'warning' end,
    'data_checksums = ' || current_setting('data_checksums')
        $q$
    ),
    (
        35, 'no publication carries the tables elsewhere',
        'GDPR 5(1)(f), 28; SOC 2 CC6.7', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct p.pubname, ', '), 'none')
from pg_publication_tables as p
where p.schemaname = 'ai_storage_private'
        $q$
    ),
    (
        36, 'nobody else''s trigger or rule runs on a table',
        'GDPR 32(1)(b); SOC 2 CC6.8, CC8.1', true,
        $q$
select case when count(*) = 0 then 'passed' else 'failed' end,
    coalesce(string_agg(f.name, ', ' order by f.name), 'none')
from (
    select g.tgname as name
    from pg_trigger as g
    join pg_class as c on c.oid = g.tgrelid
    join pg_proc as p on p.oid = g.tgfoid
    where c.relnamespace = 'ai_storage_private'::regnamespace
      and not g.tgisinternal
      and p.pronamespace <> 'ai_storage_private'::regnamespace
    union all
    select w.rulename
    from pg_rewrite as w
    join pg_class as c on c.oid = w.ev_class
    where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind in ('r', 'p')
) as f
        $q$
    ),
    (
        37, 'what is shared with another organisation has an end',
        'GDPR 5(1)(c), 28, 44; SOC 2 CC6.3, P6.1', false,
        $q$
select case when count(*) filter (where s.expires_at is null) = 0
        then 'passed' else 'warning' end,
    count(*) filter (where s.expires_at is null) || ' of ' || count(*) || ' grants have none'
from ai_storage_private.model_share as s
where split_part(s.target, ':', 1) <> split_part(s.sharer_key, ':', 1)
        $q$
    ),
    (
        38, 'there is a backup of the last two days',
        'GDPR 32(1)(c); SOC 2 A1.2', false,
        $q$
select case
        when max(b.taken_at) is null then 'unknown'
        when max(b.taken_at) > clock_timestamp() - interval '2 days' then 'passed'
        else 'failed' end,
    coalesce('last on ' || (max(b.taken_at) at time zone 'UTC')::date,
        'none was reported with report_backup()')
from (
    select (e.detail::jsonb ->> 'taken_at')::timestamptz as taken_at
    from ai_storage_private.find_acts('report backup') as e
) as b
        $q$
    ),
    (
        39, 'nobody broke the glass in the last 30 days',
        'GDPR 32(4), 33; SOC 2 CC7.3, CC7.4', false,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(count(*) || ' times, last on ' || (max(e.recorded_at) at time zone 'UTC')::date,
        'none')
from ai_storage_private.find_acts('break glass') as e
where e.recorded_at > clock_timestamp() - interval '30 days'
        $q$
    ),
    (
        40, 'no application login keeps settings for its sessions',
        'GDPR 32(1)(b); SOC 2 CC6.1, CC7.2', true,
        $q$
select case when count(*) = 0 then 'passed' else 'warning' end,
    coalesce(string_agg(distinct r.rolname, ', ' order by r.rolname), 'none does')
from pg_db_role_setting as d
join pg_roles as r on r.oid = d.setrole
cross join lateral unnest(d.setconfig) as s (setting)
where r.rolname in (select a.login_name from ai_storage_private.login_authorization as a)
  -- How values look and what a session is called: nothing of ours depends on it.
  and lower(split_part(s.setting, '=', 1)) not in (
      'application_name', 'bytea_output', 'client_encoding', 'datestyle', 'extra_float_digits',
      'intervalstyle', 'jit', 'search_path', 'timezone', 'work_mem'
  )
  -- A limit is wise, unless it is so small that nothing works.
  and s.setting !~ '^[^=]*_timeout=([0-9]{4,}(ms)?|[0-9]+ ?(s|min|h|d))$'
        $q$
    );
$_$;

ALTER FUNCTION ai_storage_private.list_controls() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_controls(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.list_controls() IS 'The controls: name, references, and the query that tells status and result.';

--
-- Name: list_covered_versions(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.list_covered_versions(p_as text) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_field   constant text[] := ai_storage_private.verified_context();
    v_level   constant text[] := string_to_array(v_field[3], ':');
    v_prefix  constant text collate "C" := array_to_string(v_level[1:4], ':');
    v_sources constant text[] := ai_storage_private.promotion_sources(p_as, v_field[3]);
begin
    -- ';' is what follows ':' in the order of the index.
    return array(
        select t.code_hash
        from ai_storage_private.tenant as t
        where t.isolation_key between v_prefix || ':' and v_prefix || ';'
          and (
              t.code_hash = v_level[5]
              or ai_storage_private.covers_version(v_level, t.code_hash, v_sources)
          )
        order by t.registered_at desc, t.code_hash
    );
end;
$$;

ALTER FUNCTION ai_storage_private.list_covered_versions(p_as text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_covered_versions(p_as text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.list_covered_versions(p_as text) IS 'The registered code versions of the caller''s other four levels that its credential covers.';

--
-- Name: list_effective_rules(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.list_effective_rules() RETURNS TABLE(tenant_id bigint, isolation_key text, keep_versions integer, keep_versions_for interval, keep_events_for interval, is_held boolean)
    LANGUAGE sql STABLE
    AS $$
    select distinct on (t.tenant_id)
        t.tenant_id,
        t.isolation_key,
        r.keep_versions,
        r.keep_versions_for,
        r.keep_events_for,
        bool_or(r.legal_hold) over (partition by t.tenant_id)
    from ai_storage_private.tenant as t
    join ai_storage_private.retention_rule as r
        on r.org_id in ('*', t.org_id)
        and r.server_id in ('*', t.server_id)
        and r.project_id in ('*', t.project_id)
        and r.environment in ('*', t.environment)
        and r.code_hash in ('*', t.code_hash)
    -- The rule with the fewest *; among equals the one that names the higher level.
    order by
        t.tenant_id,
        cardinality(array_positions(
            array[r.org_id, r.server_id, r.project_id, r.environment, r.code_hash], '*'
        )),
        r.org_id = '*', r.server_id = '*', r.project_id = '*', r.environment = '*';
$$;

ALTER FUNCTION ai_storage_private.list_effective_rules() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_effective_rules(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.list_effective_rules() IS 'The rule that counts for each tenant that any rule covers, and whether a hold does.';

--
-- Name: list_events(bigint, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_events(p_tenant_id bigint, p_actions text) RETURNS TABLE(event_id uuid, seal_number bigint, action text, model_id uuid, version bigint, content_digest bytea, salt uuid, detail jsonb)
    LANGUAGE sql STABLE
    AS $$
    select
        p.event_id, null, p.action, p.model_id, p.version, p.content_digest, p.salt,
        p.detail::jsonb
    from ai_storage_private.audit_pending as p
    where p.tenant_id = p_tenant_id
      and p.action ~ p_actions
    union all
    select
        e.event_id, e.seal_number, e.action, e.model_id, e.version, e.content_digest, e.salt,
        e.detail::jsonb
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      and e.action ~ p_actions;
$$;

ALTER FUNCTION ai_storage_private.list_events(p_tenant_id bigint, p_actions text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_events(p_tenant_id bigint, p_actions text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_events(p_tenant_id bigint, p_actions text) IS 'The events of a tenant, sealed or not (seal_number null). p_actions: a regular expression.';

--
-- Name: list_last_events(bigint, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_last_events(p_tenant_id bigint, p_actions text) RETURNS TABLE(subject text, action text, model_id uuid, version bigint, content_digest bytea, salt uuid, detail jsonb)
    LANGUAGE sql STABLE
    AS $$
    -- By seal first: ids follow the clock, which may be set back.
    select distinct on (l.subject)
        l.subject, l.action, l.model_id, l.version, l.content_digest, l.salt, l.detail
    from (
        select
            e.*,
            ai_storage_private.event_subject(
                e.action, e.model_id, e.version, e.detail
            ) as subject
        from ai_storage_private.list_events(p_tenant_id, p_actions) as e
    ) as l
    where l.subject is not null
    order by l.subject, l.seal_number desc nulls first, l.event_id desc;
$$;

ALTER FUNCTION ai_storage_private.list_last_events(p_tenant_id bigint, p_actions text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_last_events(p_tenant_id bigint, p_actions text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_last_events(p_tenant_id bigint, p_actions text) IS 'The last event of each subject of a tenant: see event_subject(). p_actions: a regular expression.';

--
-- Name: list_logged_rows(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_logged_rows(p_tenant_id bigint) RETURNS TABLE(subject text, content text)
    LANGUAGE sql STABLE
    AS $$
    select
        ai_storage_private.event_subject('insert share', null, null, to_jsonb(s)),
        to_jsonb(s)::text
    from ai_storage_private.model_share as s
    where s.tenant_id = p_tenant_id
    union all
    (
        -- Of several ends of a grant the last, as of its events.
        select distinct on (e.share_id)
            ai_storage_private.event_subject('insert share end', null, null, to_jsonb(e)),
            to_jsonb(e)::text
        from ai_storage_private.share_end as e
        where e.tenant_id = p_tenant_id
        order by e.share_id, e.ended_at desc
    )
    union all
    select
        ai_storage_private.event_subject('insert share decline', null, null, to_jsonb(d)),
        to_jsonb(d)::text
    from ai_storage_private.share_decline as d
    where d.tenant_id = p_tenant_id
    union all
    select
        ai_storage_private.event_subject('insert deleted model', null, null, to_jsonb(m)),
        to_jsonb(m)::text
    from ai_storage_private.deleted_model as m
    where m.tenant_id = p_tenant_id;
$$;

ALTER FUNCTION ai_storage_private.list_logged_rows(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_logged_rows(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_logged_rows(p_tenant_id bigint) IS 'The rows of a tenant of whose events record_change() keeps a digest: grants, their ends, declines and deleted models, as it writes them in the time zone UTC.';

--
-- Name: list_own_rows(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_own_rows(p_tenant_id bigint) RETURNS TABLE(table_name text, row_id text, digest bytea)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'
    AS $$
    select l.table_name, l.row_id::text, sha256(convert_to(l.content::text, 'UTF8'))
    from (
        -- In the order in which to write: deleting a model cascades to the tables after it.
        select
            1 as place,
            'ai_progress_tenant' as table_name,
            jsonb_build_object('tenant_id', r.tenant_id, 'model_id', r.model_id) as row_id,
            to_jsonb(r) as content
        from ai_storage_private.ai_progress_tenant as r
        where r.tenant_id = p_tenant_id
        union all
        select
            2,
            'progress_version',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'model_id', r.model_id, 'version', r.version
            ),
            to_jsonb(r)
        from ai_storage_private.progress_version as r
        where r.tenant_id = p_tenant_id
        union all
        select
            3,
            'artifact_blob',
            jsonb_build_object('tenant_id', r.tenant_id, 'blob_id', r.blob_id),
            to_jsonb(r)
        from ai_storage_private.artifact_blob as r
        where r.tenant_id = p_tenant_id
        union all
        -- The bytes themselves are not read: write_rows() checks that they match sha256.
        select
            4,
            'artifact_chunk',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'blob_id', r.blob_id, 'chunk_number', r.chunk_number
            ),
            jsonb_build_array(r.tenant_id, r.blob_id, r.chunk_number, r.sha256)
        from ai_storage_private.artifact_chunk as r
        where r.tenant_id = p_tenant_id
        union all
        select
            5,
            'artifact_upload',
            jsonb_build_object('tenant_id', r.tenant_id, 'upload_id', r.upload_id),
            to_jsonb(r)
        from ai_storage_private.artifact_upload as r
        where r.tenant_id = p_tenant_id
        union all
        select
            6,
            'model_artifact',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'model_id', r.model_id,
                'artifact_name', r.artifact_name, 'version', r.version
            ),
            to_jsonb(r)
        from ai_storage_private.model_artifact as r
        where r.tenant_id = p_tenant_id
        union all
        select
            7,
            'deleted_model',
            jsonb_build_object('tenant_id', r.tenant_id, 'model_name', r.model_name),
            to_jsonb(r)
        from ai_storage_private.deleted_model as r
        where r.tenant_id = p_tenant_id
        union all
        select
            8,
            'idempotency_key',
            jsonb_build_object('tenant_id', r.tenant_id, 'idempotency_key', r.idempotency_key),
            to_jsonb(r)
        from ai_storage_private.idempotency_key as r
        where r.tenant_id = p_tenant_id
        union all
        select
            9,
            'model_share',
            jsonb_build_object('share_id', r.share_id),
            to_jsonb(r)
        from ai_storage_private.model_share as r
        where r.tenant_id = p_tenant_id
          and ai_storage_private.stays_inside(r)
        union all
        select
            10,
            'share_end',
            jsonb_build_object('share_id', r.share_id, 'ended_by', r.ended_by),
            to_jsonb(r)
        from ai_storage_private.share_end as r
        join ai_storage_private.model_share as s
            on s.tenant_id = r.tenant_id
            and s.share_id = r.share_id
        where r.tenant_id = p_tenant_id
          and ai_storage_private.stays_inside(s)
        union all
        select
            11,
            'share_decline',
            jsonb_build_object(
                'tenant_id', r.tenant_id, 'owner_id', r.owner_id,
                'model_name', r.model_name, 'sharer_id', r.sharer_id
            ),
            to_jsonb(r)
        from ai_storage_private.share_decline as r
        where r.tenant_id = p_tenant_id
          and split_part(r.owner_key, ':', 1) = split_part(r.receiver_key, ':', 1)
    ) as l
    order by l.place;
$$;

ALTER FUNCTION ai_storage_private.list_own_rows(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_own_rows(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_own_rows(p_tenant_id bigint) IS 'The rows that the tenant of the context has, each by its primary key and the sha256 of its content.';

--
-- Name: list_shared_artifacts(ai_storage_private.acting_tenant, text, text, bigint, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean) RETURNS TABLE(model_name text, owner_key text, artifact_name text, version bigint, sha256 text, size_bytes bigint, media_type text, put_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_version  constant bigint := ai_storage_private.shown_version(v_share, p_version);
    -- All versions, unless the caller or the grant names one.
    v_first    constant bigint := case when coalesce(p_as_of, false)
        or coalesce(v_share.pinned_version, p_version) is null then 0 else v_version end;
    v_blob_ids uuid[];
begin
    if v_version is null then
        raise exception using
            errcode = 'TN101',
            message = 'no such version of the model',
            hint = 'Name one of its versions that is shared with you; load_history() shows them.';
    end if;
    v_blob_ids := array(
        select distinct a.blob_id
        from ai_storage_private.model_artifact as a
        where a.tenant_id = v_share.tenant_id
          and a.model_id = v_share.model_id
          and a.version between v_first and v_version
    );
    perform ai_storage_private.lend(
        array[v_share.tenant_id], array_append(v_blob_ids, v_share.model_id)
    );
    return query
    select
        v_share.model_name,
        v_share.owner_key,
        a.artifact_name,
        a.version,
        encode(b.sha256, 'hex'),
        b.size_bytes,
        a.media_type,
        a.put_at
    from ai_storage_private.model_artifact as a
    join ai_storage_private.artifact_blob as b
        on b.tenant_id = a.tenant_id
        and b.blob_id = a.blob_id
    where a.tenant_id = v_share.tenant_id
      and b.tenant_id = v_share.tenant_id
      and a.model_id = v_share.model_id
      and a.version between v_first and v_version
      and (
          p_as_of is not true
          or a.version = (
              select max(o.version)
              from ai_storage_private.model_artifact as o
              where o.tenant_id = v_share.tenant_id
                and o.model_id = v_share.model_id
                and o.artifact_name = a.artifact_name
                and o.version <= v_version
          )
      )
    order by a.artifact_name, a.version desc;
    perform ai_storage_private.restore_context(v_context);
end;
$$;

ALTER FUNCTION ai_storage_private.list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean) IS 'list_artifacts for a model of another tenant, which has to be shared for execute. Raises TN101.';

--
-- Name: list_subjects(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.list_subjects(p_tenant_id bigint) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return query
    select ai_storage_private.event_subject('save model', v.model_id, v.version, null)
    from ai_storage_private.progress_version as v
    where v.tenant_id = p_tenant_id
    union all
    select ai_storage_private.event_subject('put artifact', a.model_id, a.version, to_jsonb(a))
    from ai_storage_private.model_artifact as a
    where a.tenant_id = p_tenant_id
    union all
    select r.subject
    from ai_storage_private.list_logged_rows(p_tenant_id) as r;
end;
$$;

ALTER FUNCTION ai_storage_private.list_subjects(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION list_subjects(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.list_subjects(p_tenant_id bigint) IS 'What there is of the tenant that the context names, as event_subject() writes it: the log keeps salts and names for it.';

--
-- Name: list_tenant_quotas(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.list_tenant_quotas(p_tenant_id bigint) RETURNS TABLE(org_id text, server_id text, project_id text, environment text, code_hash text, max_models bigint, max_bytes bigint)
    LANGUAGE sql STABLE
    AS $$
    select distinct on (q.server_id, q.project_id, q.environment, q.code_hash)
        t.org_id,
        q.server_id,
        q.project_id,
        q.environment,
        q.code_hash,
        q.max_models,
        q.max_bytes
    from ai_storage_private.tenant as t
    join ai_storage_private.quota as q
        on q.org_id in ('*', t.org_id)
        and q.server_id in ('*', t.server_id)
        and q.project_id in ('*', t.project_id)
        and q.environment in ('*', t.environment)
        and q.code_hash in ('*', t.code_hash)
    where t.tenant_id = p_tenant_id
    order by q.server_id, q.project_id, q.environment, q.code_hash, q.org_id = '*';
$$;

ALTER FUNCTION ai_storage_private.list_tenant_quotas(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION list_tenant_quotas(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.list_tenant_quotas(p_tenant_id bigint) IS 'The quotas that count for a tenant, in the order in which everybody locks their totals.';

--
-- Name: load_shared(ai_storage_private.acting_tenant, text, text, text, text, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer) RETURNS TABLE(model_name text, owner_key text, is_shared boolean, permissions text[], mse double precision, training_samples bigint, metrics jsonb, metadata jsonb, version bigint, created_at timestamp with time zone, updated_at timestamp with time zone, cursor text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    -- Whoever names model and owner uses it. All else is a list, which shows less and is no use.
    v_is_use   constant boolean := p_owner is not null and p_model_name is not null;
    v_patterns constant text[] := case when not v_is_use
            then ai_storage_private.used_patterns(p_tenant.levels)
        end;
    v_owner    text := p_after_owner;
    v_name     text := p_after_name;
    v_left     integer := least(p_limit, 1000);
    v_rows     integer;
    v_owners   text[];
    v_names    text[];
    v_granted  ai_storage_private.model_share[];
begin
    -- In pages, since a context names the models of one page, and naming all would cost the square.
    while v_left > 0 loop
        if v_is_use then
            exit when v_owner <> ''; -- the one row was there
            v_owner := p_owner;
            v_granted := array(
                select f
                from ai_storage_private.reaching(
                    p_tenant.isolation_key, p_owner, p_model_name
                ) as f
            );
        else
            select p.owners, p.names into v_owners, v_names
            from ai_storage_private.page_received(
                v_patterns, p_owner, p_model_name, v_owner, v_name
            ) as p;
            exit when v_names is null;
            v_owner := v_owners[cardinality(v_owners)];
            v_name := v_names[cardinality(v_names)];
            v_granted := array(
                select f
                from ai_storage_private.in_force(
                    ai_storage_private.grants_on(v_patterns, v_owners, v_names),
                    p_tenant.isolation_key
                ) as f
                where f.owner_key <> p_tenant.isolation_key
            );
        end if;
        continue when cardinality(v_granted) = 0;

        perform ai_storage_private.lend(
            array(select distinct g.tenant_id from unnest(v_granted) as g),
            array(select distinct g.model_id from unnest(v_granted) as g)
        );
        return query
        with granted as materialized (
            -- Several grants on one model add up; one that shows the current version wins over
            -- a pin.
            select
                g.tenant_id,
                g.model_id,
                min(g.owner_key) as owner_key,
                min(g.model_name) as model_name,
                array_agg(distinct e.permission order by e.permission) as permissions,
                case
                    when not bool_or(g.pinned_version is null and g.permissions @> '{read}')
                    then max(g.pinned_version) filter (where g.permissions @> '{read}')
                end as pinned_version
            from unnest(v_granted) as g
            cross join unnest(g.permissions) as e (permission)
            group by g.tenant_id, g.model_id
            having bool_or(g.permissions @> '{read}')
        )
        select
            p.model_name,
            g.owner_key,
            true,
            g.permissions,
            case when g.pinned_version is null then p.mse else v.mse end,
            case
                when g.pinned_version is null then p.training_samples else v.training_samples
            end,
            case
                when v_is_use and g.pinned_version is null then p.metrics
                when v_is_use then v.metrics
            end,
            case
                when v_is_use and g.pinned_version is null then p.metadata
                when v_is_use then v.metadata
            end,
            coalesce(g.pinned_version, p.version),
            p.created_at,
            case when g.pinned_version is null then p.updated_at else v.saved_at end,
            g.owner_key || ' ' || p.model_name
        from granted as g
        join ai_storage_private.ai_progress_tenant as p
            on p.tenant_id = g.tenant_id
            and p.model_id = g.model_id
            -- By name too, or a plan may read all models of the owner to find the one.
            and p.model_name = g.model_name
        left join ai_storage_private.progress_version as v
            on v.tenant_id = g.tenant_id
            and v.model_id = g.model_id
            and v.version = g.pinned_version
        where g.pinned_version is null
           or v.version is not null
        order by g.owner_key, p.model_name
        limit v_left;
        get diagnostics v_rows = row_count;
        perform ai_storage_private.restore_context(v_context);
        if v_is_use and v_rows > 0 then
            perform ai_storage_private.record_use(
                'read model', p_tenant, array[v_granted[1].tenant_id], array[p_owner],
                array[v_granted[1].model_id], null, array[p_model_name]
            );
        end if;
        v_left := v_left - v_rows;
    end loop;
end;
$$;

ALTER FUNCTION ai_storage_private.load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer) IS 'The second half of load_progress: models shared with the caller, by owner and name, behind a cursor. Raises 25006 for a use.';

--
-- Name: load_shared_history(ai_storage_private.acting_tenant, text, text, bigint, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer) RETURNS TABLE(version bigint, mse double precision, training_samples bigint, metrics jsonb, metadata jsonb, saved_at timestamp with time zone, saved_by text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context constant text := current_setting('app.tenant_context', true);
    v_share   constant ai_storage_private.model_share
        := ai_storage_private.borrow(p_tenant, p_owner, p_model_name, 'read');
begin
    return query
    select
        v.version,
        v.mse,
        v.training_samples,
        v.metrics,
        v.metadata,
        v.saved_at,
        -- Who else writes is between the owner and them.
        case when coalesce(v.saved_by, p_owner) in (p_owner, p_tenant.isolation_key)
            then coalesce(v.saved_by, p_owner)
        end
    from ai_storage_private.progress_version as v
    where v.tenant_id = v_share.tenant_id
      and v.model_id = v_share.model_id
      and v.version = coalesce(v_share.pinned_version, v.version)
      and v.version < coalesce(p_before_version, 9223372036854775807)
    order by v.version desc
    limit p_limit;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read history', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_share.pinned_version], array[p_model_name]
    );
end;
$$;

ALTER FUNCTION ai_storage_private.load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer) IS 'load_history for a model of another tenant, which has to be shared for reading. Raises TN101.';

--
-- Name: lock_models(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.lock_models(p_tenant_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    perform from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
    order by p.model_id
    for update;
end;
$$;

ALTER FUNCTION ai_storage_private.lock_models(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION lock_models(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.lock_models(p_tenant_id bigint) IS 'Waits for whoever writes a model of the tenant that the context names, and holds them all.';

--
-- Name: lock_quotas(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.lock_quotas() RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    v_sessions text;
begin
    perform ai_storage_private.refuse_old_snapshot();
    begin
        lock table ai_storage_private.quota in access exclusive mode;
    exception
        when lock_not_available then
            select string_agg(distinct l.pid::text, ', ') into v_sessions
            from pg_locks as l
            where l.relation = 'ai_storage_private.quota'::regclass
              and l.database = (
                  select d.oid from pg_database as d where d.datname = current_database()
              )
              and l.granted;
            raise exception using
                errcode = '55P03',
                message = 'a transaction that adds models or artifacts is open',
                detail = format('Backends: %s.', coalesce(v_sessions, 'they are gone now')),
                hint = 'Nothing was changed. Try again, or end these sessions with '
                    'pg_terminate_backend().';
    end;
    update ai_storage_private.quota_use as u set
        models = u.models
    where u.org_id = '';
end;
$$;

ALTER FUNCTION ai_storage_private.lock_quotas() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION lock_quotas(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.lock_quotas() IS 'Lets nobody count before this transaction ends. Raises 25000, 55P03.';

--
-- Name: may_receive(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.may_receive(p_org_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    -- ';' is what follows ':' in the order of the index.
    return exists (
        select from ai_storage_private.model_share as s
        where s.target between p_org_id || ':' and p_org_id || ';'
    ) or exists (
        select from ai_storage_private.model_share as s
        where s.target between '*:' and '*;'
    );
end;
$$;

ALTER FUNCTION ai_storage_private.may_receive(p_org_id text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION may_receive(p_org_id text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.may_receive(p_org_id text) IS 'Whether there is any grant to somebody in an organisation, or to any. Spares all others the search for their 32 patterns.';

--
-- Name: may_share_with(text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.may_share_with(p_org_id text, p_to_org_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return p_org_id = p_to_org_id or exists (
        select from ai_storage_private.external_sharing_permit as e
        where e.org_id = p_org_id
          and (e.to_org_id = p_to_org_id or p_to_org_id = '*')
    );
end;
$$;

ALTER FUNCTION ai_storage_private.may_share_with(p_org_id text, p_to_org_id text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION may_share_with(p_org_id text, p_to_org_id text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.may_share_with(p_org_id text, p_to_org_id text) IS 'Whether an organisation may share with another; *: with any other.';

--
-- Name: may_write(bigint, uuid, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.may_write(p_owner_id bigint, p_model_id uuid, p_receiver text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return exists (
        select
        from ai_storage_private.in_force(
            array(
                select s.share_id
                from ai_storage_private.model_share as s
                where s.tenant_id = p_owner_id
                  and s.model_id = p_model_id
                  and s.target = any (ai_storage_private.target_patterns(
                      string_to_array(p_receiver, ':')
                  ))
            ),
            p_receiver
        ) as f
        where f.permissions @> '{write}'
    );
end;
$$;

ALTER FUNCTION ai_storage_private.may_write(p_owner_id bigint, p_model_id uuid, p_receiver text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION may_write(p_owner_id bigint, p_model_id uuid, p_receiver text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.may_write(p_owner_id bigint, p_model_id uuid, p_receiver text) IS 'Whether a receiver may write a model of another tenant now: this model, and not a later one of its name.';

--
-- Name: measure_tenant(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    select count(*) into models
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id;
    select coalesce(sum(length(c.content)), 0)::bigint into bytes
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id;
end;
$$;

ALTER FUNCTION ai_storage_private.measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint) IS 'How much the tenant that the context names keeps.';

--
-- Name: merkle_paths(bytea[], integer[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[]) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
declare
    v_one     constant bytea := decode('01', 'hex');
    v_level   bytea[] := p_leaf; -- each level replaces the one below, in place
    v_count   integer := cardinality(p_leaf);
    v_place   integer[] := p_indexes; -- of each leaf's node in the level
    v_path    text[] := array_fill(''::text, array[cardinality(p_indexes)]);
    v_sibling integer;
begin
    while v_count > 1 loop
        for i in 1 .. cardinality(v_place) loop
            -- The last node of an odd level has no sibling.
            v_sibling := v_place[i] # 1;
            if v_sibling < v_count then
                v_path[i] := v_path[i]
                    || case when v_sibling > v_place[i] then ',"right ' else ',"left ' end
                    || encode(v_level[v_sibling + 1], 'hex') || '"';
            end if;
            v_place[i] := v_place[i] / 2;
        end loop;
        for i in 1 .. v_count / 2 loop
            v_level[i] := sha256(v_one || v_level[2 * i - 1] || v_level[2 * i]);
        end loop;
        if v_count % 2 = 1 then
            v_level[v_count / 2 + 1] := v_level[v_count];
        end if;
        v_count := (v_count + 1) / 2;
    end loop;
    return (
        select jsonb_agg(('[' || ltrim(p.path, ',') || ']')::jsonb order by p.place)
        from unnest(v_path) with ordinality as p (path, place)
    );
end;
$$;

ALTER FUNCTION ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION merkle_paths(p_leaf bytea[], p_indexes integer[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[]) IS 'The audit paths of some leaves (RFC 6962, section 2.1.1), an array each, from the bottom: the side of each sibling and its hash, in hexadecimal. p_indexes count from 0.';

--
-- Name: merkle_root(bytea[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.merkle_root(p_leaf bytea[]) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
declare
    v_one   constant bytea := decode('01', 'hex');
    v_level bytea[] := p_leaf; -- each level replaces the one below, in place
    v_count integer := cardinality(p_leaf);
begin
    while v_count > 1 loop
        for i in 1 .. v_count / 2 loop
            v_level[i] := sha256(v_one || v_level[2 * i - 1] || v_level[2 * i]);
        end loop;
        -- A hash without a partner goes up as it is.
        if v_count % 2 = 1 then
            v_level[v_count / 2 + 1] := v_level[v_count];
        end if;
        v_count := (v_count + 1) / 2;
    end loop;
    return v_level[1];
end;
$$;

ALTER FUNCTION ai_storage_private.merkle_root(p_leaf bytea[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION merkle_root(p_leaf bytea[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.merkle_root(p_leaf bytea[]) IS 'The root of a Merkle tree (RFC 6962, section 2.1) over leaves that are hashed already.';

--
-- Name: micros(timestamp with time zone); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.micros(p_time timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select (extract(epoch from p_time) * 1000000)::bigint;
$$;

ALTER FUNCTION ai_storage_private.micros(p_time timestamp with time zone) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION micros(p_time timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.micros(p_time timestamp with time zone) IS 'A time as microseconds since 1970, the form in which it is hashed.';

--
-- Name: model_content(double precision, bigint, timestamp with time zone, timestamp with time zone, jsonb, jsonb, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select coalesce(encode(float8send(p_mse), 'hex'), '')
        || '|' || coalesce(p_training_samples::text, '')
        || '|' || ai_storage_private.micros(p_created_at)
        || '|' || ai_storage_private.micros(p_saved_at)
        || '|' || p_metrics || '|' || p_metadata
        || coalesce('|' || p_saved_by, '');
$$;

ALTER FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) IS 'What the digest of a saved version is made of: p_created_at is the model''s.';

--
-- Name: name_columns(text, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.name_columns(p_table_name text, p_of_key boolean) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_columns text;
begin
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
    from pg_attribute as a
    join pg_index as i
        on i.indrelid = a.attrelid
        and i.indisprimary
    where a.attrelid = to_regclass('ai_storage_private.' || quote_ident(p_table_name))
      and a.attnum > 0
      and not a.attisdropped
      and (not p_of_key or a.attnum = any (i.indkey::smallint[]))
      and p_table_name in (
          'ai_progress_tenant', 'progress_version', 'artifact_blob', 'artifact_chunk',
          'artifact_upload', 'model_artifact', 'deleted_model', 'idempotency_key', 'model_share',
          'share_end', 'share_decline'
      );
    if v_columns is null then
        raise exception using
            errcode = '42704',
            message = 'rows of this table are not copied',
            hint = 'Name a table as list_rows() does.';
    end if;
    return v_columns;
end;
$$;

ALTER FUNCTION ai_storage_private.name_columns(p_table_name text, p_of_key boolean) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION name_columns(p_table_name text, p_of_key boolean); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.name_columns(p_table_name text, p_of_key boolean) IS 'The columns of a table that is copied, or those of its primary key, joined by commas. Raises 42704.';

--
-- Name: name_wrong_metric(jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.name_wrong_metric(p_metrics jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select coalesce(
        (
            select format('Metric %s is not a finite number.', to_json(left(m.name, 255)))
            from jsonb_each(
                case jsonb_typeof(p_metrics) when 'object' then p_metrics else '{}' end
            ) as m (name, value)
            where jsonb_typeof(m.value) <> 'number'
               or not ai_storage_private.is_metrics(jsonb_build_object('m', m.value))
            order by m.name collate "C"
            limit 1
        ),
        'It is not such an object, or a name is not one.'
    );
$$;

ALTER FUNCTION ai_storage_private.name_wrong_metric(p_metrics jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION name_wrong_metric(p_metrics jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.name_wrong_metric(p_metrics jsonb) IS 'What to tell about metrics that is_metrics() refused: the name of the first wrong one.';

--
-- Name: next_owner(text[], text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.next_owner(p_patterns text[], p_from text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return (
        select min(o.owner_key)
        from unnest(p_patterns) as t (pattern)
        cross join lateral (
            select s.owner_key
            from ai_storage_private.model_share as s
            where s.target = t.pattern
              and s.owner_key >= p_from
            order by s.owner_key
            limit 1
        ) as o
    );
end;
$$;

ALTER FUNCTION ai_storage_private.next_owner(p_patterns text[], p_from text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION next_owner(p_patterns text[], p_from text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.next_owner(p_patterns text[], p_from text) IS 'The first owner, from a key on, with a grant to any of the patterns.';

--
-- Name: open_shared_artifact(ai_storage_private.acting_tenant, text, text, text, bigint, boolean); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version, p_as_of
    );
begin
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
    version := v_artifact.version;
    for_version := v_artifact.for_version;
    blob_id := v_artifact.blob_id;
    sha256 := v_artifact.sha256;
    size_bytes := v_artifact.size_bytes;
    media_type := v_artifact.media_type;
    put_at := v_artifact.put_at;
end;
$$;

ALTER FUNCTION ai_storage_private.open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) IS 'open_artifact for a model of another tenant, which has to be shared for execute. Raises 25006, TN101, TN204.';

--
-- Name: page_received(text[], text, text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
begin
    if p_model_name is not null then
        select array_agg(m.owner_key order by m.owner_key), array_agg(p_model_name)
        into owners, names
        from (
            select distinct f.owner_key
            from unnest(p_patterns) as t (pattern)
            cross join lateral (
                select s.owner_key
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.model_name = p_model_name
                  and s.owner_key > p_after_owner
                order by s.owner_key
                limit 100
            ) as f
            order by f.owner_key
            limit 100
        ) as m;
    elsif p_owner is not null then
        select array_agg(p_owner), array_agg(m.model_name order by m.model_name)
        into owners, names
        from (
            select distinct f.model_name
            from unnest(p_patterns) as t (pattern)
            cross join lateral (
                select s.model_name
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.owner_key = p_owner
                  and s.model_name > p_after_name
                order by s.model_name
                limit 100
            ) as f
            order by f.model_name
            limit 100
        ) as m;
    else
        -- Of each owner the first 100 models, found from its first 1,000 grants to a pattern: what
        -- one owner shares unasked neither slows nor hides the others.
        select array_agg(m.owner_key), array_agg(m.model_name)
        into owners, names
        from (
            with recursive owner (owner_key) as (
                select ai_storage_private.next_owner(p_patterns, p_after_owner)
                union all
                -- No key holds a blank, so this is what follows it.
                select ai_storage_private.next_owner(p_patterns, o.owner_key || ' ')
                from owner as o
                where o.owner_key is not null
            )
            select o.owner_key, f.model_name
            from owner as o
            cross join lateral (
                select distinct g.model_name
                from unnest(p_patterns) as t (pattern)
                cross join lateral (
                    select n.model_name
                    from (
                        select s.model_name, s.expires_at
                        from ai_storage_private.model_share as s
                        where s.target = t.pattern
                          and s.owner_key = o.owner_key
                        order by s.model_name
                        limit 1000
                    ) as n
                    where n.expires_at is null
                       or n.expires_at > clock_timestamp()
                    limit 100
                ) as g
                order by g.model_name
                limit 100
            ) as f
            where (o.owner_key, f.model_name) > (p_after_owner, p_after_name)
            limit 100
        ) as m;
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]) IS 'Up to 100 models behind a cursor, by owner and name, on which grants to any of the patterns may be in force: all of a name, all of an owner, or some of each owner.';

--
-- Name: parse_artifact(text, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text) RETURNS record
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    if jsonb_typeof(p_item) = 'string' then
        upload_id := p_item #>> '{}';
        return;
    end if;
    if jsonb_typeof(p_item) = 'object'
        and p_item - array['upload', 'content', 'media_type'] = '{}'
        and p_item ? 'upload' <> (p_item ? 'content')
        and jsonb_typeof(coalesce(p_item -> 'upload', p_item -> 'content')) = 'string'
        and coalesce(jsonb_typeof(p_item -> 'media_type'), 'string') = 'string'
    then
        begin
            upload_id := p_item ->> 'upload';
            content := decode(p_item ->> 'content', 'base64');
            media_type := p_item ->> 'media_type';
            return;
        exception
            when invalid_parameter_value then
                null; -- not base64
        end;
    end if;
    raise exception using
        errcode = '22023',
        message = 'invalid artifacts',
        detail = format('The artifact is %s.', quote_ident(p_artifact_name)),
        hint = 'Artifacts are one object: by name either the id of a staged upload, or an object '
            'with upload (such an id) or content (bytes in base64), and with or without '
            'media_type.';
end;
$$;

ALTER FUNCTION ai_storage_private.parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text) IS 'One artifact of a save: an upload''s id or bytes. Raises 22023.';

--
-- Name: pass_gate(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.pass_gate(p_tenant_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    -- A lock on the row, so that a snapshot from before a rule was changed is refused with 40001.
    perform from ai_storage_private.retention_gate as g
    for share;
    perform ai_storage_private.check_hold(array[
        t.org_id, t.server_id, t.project_id, t.environment, t.code_hash
    ])
    from ai_storage_private.tenant as t
    where t.tenant_id = p_tenant_id;
end;
$$;

ALTER FUNCTION ai_storage_private.pass_gate(p_tenant_id bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION pass_gate(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.pass_gate(p_tenant_id bigint) IS 'The last step of a deletion: keeps rules from being changed until this transaction ends, and refuses it when a hold was set since it began. Raises TN501.';

--
-- Name: promotion_sources(text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.promotion_sources(p_token text, p_key text) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
declare
    v_claims jsonb;
begin
    -- Only a token that is genuine and of this tenant says anything; a key has colons.
    if p_token is null or strpos(p_token, ':') > 0 then
        return '{}'::text[];
    end if;
    if p_key is distinct from (ai_storage_private.verify_token(p_token)).isolation_key then
        return '{}'::text[];
    end if;
    v_claims := convert_from(
        ai_storage_private.decode_base64url(split_part(p_token, '.', 2)), 'UTF8'
    )::jsonb;
    if jsonb_typeof(v_claims -> 'from') = 'string' then
        return array[v_claims ->> 'from'];
    end if;
    return array(
        select c.code
        from jsonb_array_elements_text(v_claims -> 'from') as c (code)
    );
end;
$$;

ALTER FUNCTION ai_storage_private.promotion_sources(p_token text, p_key text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION promotion_sources(p_token text, p_key text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.promotion_sources(p_token text, p_key text) IS 'The code versions that a token of a tenant may promote from: its claim from; none for a key. Raises TN002, TN003, TN005.';

--
-- Name: prove_event(bigint, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
    v_event  ai_storage_private.audit_event;
    v_leaves bytea[];
begin
    select e.* into v_event
    from ai_storage_private.audit_event as e
    where e.tenant_id = p_tenant_id
      and e.event_id = p_event_id;
    if not found then
        raise exception using
            errcode = 'TN401',
            message = 'no such sealed event',
            hint = 'Take the event_id of a sealed event from audit_trail().';
    end if;
    v_leaves := array(
        select e.leaf_hash
        from ai_storage_private.audit_event as e
        where e.tenant_id = p_tenant_id
          and e.seal_number = v_event.seal_number
        order by e.leaf_index
    );
    return ai_storage_private.render_event(v_event)
        || jsonb_build_object(
            'path', ai_storage_private.merkle_paths(v_leaves, array[v_event.leaf_index]) -> 0,
            'seal', (
                select s.line
                from ai_storage_private.render_seals(p_tenant_id, v_event.seal_number) as s
            )
        );
end;
$$;

ALTER FUNCTION ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION prove_event(p_tenant_id bigint, p_event_id uuid); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid) IS 'One sealed event with its path to the root of its seal, the seal, and the seal''s path to its checkpoint. Under row level security it sees what its caller''s policies show. Raises TN401.';

--
-- Name: reaching(text, text, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.reaching(p_receiver text, p_owner text, p_model_name text) RETURNS SETOF ai_storage_private.model_share
    LANGUAGE plpgsql STABLE ROWS 10
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
begin
    -- 32 grants for each pattern, the nearest to the owner first: whoever passes a model on to me a
    -- thousand times neither hides the others nor makes me read all of them.
    return query
    select f.*
    from ai_storage_private.in_force(
        array(
            select g.share_id
            from unnest(ai_storage_private.target_patterns(string_to_array(p_receiver, ':')))
                as t (pattern)
            cross join lateral (
                select s.share_id
                from ai_storage_private.model_share as s
                where s.target = t.pattern
                  and s.owner_key = p_owner
                  and s.model_name = p_model_name
                order by cardinality(s.ancestors)
                limit 32
            ) as g
        ),
        p_receiver
    ) as f
    where f.owner_key <> p_receiver;
end;
$$;

ALTER FUNCTION ai_storage_private.reaching(p_receiver text, p_owner text, p_model_name text) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION reaching(p_receiver text, p_owner text, p_model_name text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.reaching(p_receiver text, p_owner text, p_model_name text) IS 'The grants on one model that count for a receiver.';

--
-- Name: read_own_rows(bigint, text, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb) RETURNS SETOF jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'
    AS $_$
begin
    return query execute format(
        'select to_jsonb(r) '
            'from ai_storage_private.%1$I as r '
            'join jsonb_populate_recordset(null::ai_storage_private.%1$I, $2) as k using (%2$s) '
            'where r.tenant_id = $1',
        p_table_name, ai_storage_private.name_columns(p_table_name, p_of_key => true)
    )
    using p_tenant_id, p_row_ids;
end;
$_$;

ALTER FUNCTION ai_storage_private.read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb) IS 'Rows of the tenant of the context, by their keys. Raises 42704.';

--
-- Name: read_shared_artifact(ai_storage_private.acting_tenant, text, text, text, bigint, boolean, bigint, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer) RETURNS bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version, p_as_of
    );
    v_content  bytea;
begin
    v_content := ai_storage_private.join_chunks(
        v_share.tenant_id, v_artifact.blob_id, p_offset,
        least(coalesce(p_length, v_artifact.size_bytes), v_artifact.size_bytes - p_offset)
    );
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
    return v_content;
end;
$$;

ALTER FUNCTION ai_storage_private.read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer) IS 'read_artifact for a model of another tenant, which has to be shared for execute. Raises 25006, TN101, TN204.';

--
-- Name: read_shared_chunks(ai_storage_private.acting_tenant, text, text, text, bigint, boolean, integer, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer) RETURNS SETOF bytea
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_context  constant text := current_setting('app.tenant_context', true);
    v_share    constant ai_storage_private.model_share := ai_storage_private.borrow(
        p_tenant, p_owner collate "C", p_model_name collate "C", 'execute'
    );
    v_artifact constant record := ai_storage_private.find_shared_artifact(
        v_share, p_artifact_name, p_version, p_as_of
    );
begin
    return query
    select c.content
    from ai_storage_private.artifact_chunk as c
    where c.tenant_id = v_share.tenant_id
      and c.blob_id = v_artifact.blob_id
      and c.chunk_number >= p_first
      and c.chunk_number < p_first::bigint + p_count
    order by c.chunk_number;
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'read artifact', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[v_artifact.version], array[p_model_name]
    );
end;
$$;

ALTER FUNCTION ai_storage_private.read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer) IS 'read_chunks for a model of another tenant, which has to be shared for execute. Raises 25006, TN101, TN204.';

--
-- Name: record_artifact_change(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_artifact_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_event_id uuid;
begin
    if tg_op = 'DELETE' or (
        tg_op = 'UPDATE'
        and (new.tenant_id, new.model_id, new.version, new.artifact_name)
            <> (old.tenant_id, old.model_id, old.version, old.artifact_name)
    ) then
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete artifact', old.model_id, old.version,
            p_detail => jsonb_build_object('artifact_name', old.artifact_name)
        );
    end if;
    if tg_op <> 'DELETE' then
        v_event_id := ai_storage_private.record_event(
            new.tenant_id, 'put artifact', new.model_id, new.version,
            (
                select ai_storage_private.artifact_content(
                    b.sha256, b.size_bytes, new.put_at, new.media_type
                )
                from ai_storage_private.artifact_blob as b
                where b.tenant_id = new.tenant_id
                  and b.blob_id = new.blob_id
            ),
            jsonb_build_object('artifact_name', new.artifact_name)
        );
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_artifact_change() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_artifact_change(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_artifact_change() IS 'Trigger: one event per change of an artifact, whoever made it, with a digest of its sha256, size and media type.';

--
-- Name: record_change(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "IntervalStyle" TO 'postgres'
    SET extra_float_digits TO '1'
    AS $$
declare
    v_filled constant text[] := string_to_array(tg_argv[2], ',');
    v_old    jsonb;
    v_new    jsonb;
    v_row    jsonb;
begin
    if tg_op in ('UPDATE', 'DELETE') then
        v_old := to_jsonb(old);
    end if;
    if tg_op in ('INSERT', 'UPDATE') then
        v_new := to_jsonb(new);
    end if;
    -- Filling these columns for the first time has no event: that of the insert covers it.
    if v_old -> v_filled[1] = 'null' and v_new -> v_filled[1] <> 'null'
        and v_old - v_filled = v_new - v_filled
    then
        return null;
    end if;
    -- A row that somebody gave to another tenant has an event in both logs.
    for v_row in
        select coalesce(v_new, v_old, '{}')
        union all
        select v_old
        where v_old -> 'tenant_id' <> v_new -> 'tenant_id'
    loop
        perform ai_storage_private.record_event(
            coalesce((v_row ->> 'tenant_id')::bigint, 0), lower(tg_op) || ' ' || tg_argv[0],
            (v_row ->> 'model_id')::uuid, (v_row ->> 'version')::bigint,
            v_row::text,
            -- The trigger names the columns that may be told.
            (
                select coalesce(jsonb_object_agg(c.name, v_row -> c.name), '{}')
                from unnest(string_to_array(tg_argv[1], ',')) as c (name)
                where v_row ? c.name
            )
        );
    end loop;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_change() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_change(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_change() IS 'Trigger: one event per changed row, or per TRUNCATE, with a digest of the whole row. Its arguments: what the row is, the columns that go into the event, and those that are filled once without another event, the first of them from null. A row without tenant_id goes to the operator''s log.';

--
-- Name: record_changes(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_changes() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform ai_storage_private.record_event(
        c.tenant_id, lower(tg_op) || ' ' || tg_argv[0],
        p_detail => jsonb_build_object('rows', c.rows)
    )
    from (
        select r.tenant_id, count(*) as rows
        from changed as r
        group by r.tenant_id
    ) as c;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_changes() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_changes(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_changes() IS 'Trigger: one event per statement and tenant, with the number of rows. Its argument: what the rows are.';

--
-- Name: record_event(bigint, text, uuid, bigint, text, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid DEFAULT NULL::uuid, p_version bigint DEFAULT NULL::bigint, p_content text DEFAULT NULL::text, p_detail jsonb DEFAULT '{}'::jsonb) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_now      constant timestamptz := clock_timestamp();
    v_salt     constant uuid := gen_random_uuid();
    -- Microseconds, then chance: ids are in the order of their time.
    v_event_id constant uuid := encode(
        int8send((extract(epoch from v_now) * 1000000)::bigint)
            || substr(uuid_send(gen_random_uuid()), 9),
        'hex'
    )::uuid;
    v_context  constant text := current_setting('app.tenant_context', true);
    -- What another tenant does is in this log too, but not as whom and with what it does it.
    v_is_other   boolean := p_tenant_id > 0
        and split_part(v_context, '|', 4) <> ''
        and split_part(v_context, '|', 3) <> p_tenant_id::text;
    v_credential text := 'none';
    v_actor      text;
    v_detail     text;
    v_durable    constant text := ai_storage_private.keep_durable();
begin
    -- A tenant that is being registered has no id in its context yet.
    if v_is_other and split_part(v_context, '|', 3) = '0' then
        v_is_other := not exists (
            select from ai_storage_private.tenant as t
            where t.tenant_id = p_tenant_id
              and t.isolation_key = split_part(v_context, '|', 4)
        );
    end if;
    if current_user <> 'ai_storage_operator' then
        perform ai_storage_private.require_owner();
    end if;
    -- Whoever may write a tenant's row has a verified context; without one it was by hand.
    if v_is_other then
        v_credential := 'shared';
    elsif p_tenant_id > 0 then
        v_credential := coalesce(nullif(split_part(v_context, '|', 6), ''), 'none');
        -- A token's: 'token', its kid, and its sub if it has one.
        if v_credential like 'token % %' then
            if split_part(v_context, '|', 3) = p_tenant_id::text then
                v_actor := convert_from(
                    ai_storage_private.decode_base64url(split_part(v_credential, ' ', 3)), 'UTF8'
                );
            end if;
            v_credential := 'token ' || split_part(v_credential, ' ', 2);
        end if;
    end if;
    v_detail := jsonb_strip_nulls(
        p_detail || jsonb_build_object(
            'application',
            case when v_is_other is not true
                then nullif(current_setting('application_name'), '')
            end,
            'actor', v_actor
        )
    )::text;
    insert into ai_storage_private.audit_pending (
        tenant_id, event_id, recorded_at, version, model_id, action, login, credential,
        content_digest, detail_digest, salt, detail
    )
    values (
        p_tenant_id, v_event_id, v_now, p_version, p_model_id, p_action,
        case when v_is_other then 'another tenant' else session_user::text end, v_credential,
        sha256(uuid_send(v_salt) || convert_to(p_content, 'UTF8')),
        sha256(uuid_send(v_salt) || convert_to(v_detail, 'UTF8')),
        v_salt, v_detail
    );
    return v_event_id;
end;
$$;

ALTER FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb) IS 'Writes one event and returns its id. p_content: kept as a digest only. p_detail: names, which an erasure takes. The sub of the caller''s token is the actor, in its own log only.';

--
-- Name: record_model_change(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_model_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_detail   jsonb;
    v_event_id uuid;
begin
    if tg_op = 'DELETE' then
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete model', old.model_id, old.version,
            p_detail => jsonb_build_object('model_name', old.model_name)
        );
        return null;
    end if;
    if tg_op = 'UPDATE' and (new.model_id <> old.model_id or new.tenant_id <> old.tenant_id) then
        -- By hand: the model that was there is gone.
        v_event_id := ai_storage_private.record_event(
            old.tenant_id, 'delete model', old.model_id, old.version,
            p_detail => jsonb_build_object('model_name', old.model_name)
        );
    end if;
    v_detail := jsonb_build_object('model_name', new.model_name);
    -- write_progress() inserts a new model as version 1 and renumbers it at once when its name was
    -- deleted before. The first number never had a version; 'gone' tells verify_audit(). In an IF
    -- of its own, since an expression with a subquery runs as a query, in every save.
    if tg_op = 'UPDATE' and new.updated_at = old.updated_at then
        if not exists (
            select from ai_storage_private.progress_version as v
            where v.tenant_id = old.tenant_id
              and v.model_id = old.model_id
              and v.version = old.version
        ) then
            v_detail := v_detail || jsonb_build_object(
                'gone', int8multirange(int8range(old.version, old.version, '[]'))
            );
        end if;
    end if;
    v_event_id := ai_storage_private.record_event(
        new.tenant_id, 'save model', new.model_id, new.version,
        ai_storage_private.model_content(
            new.mse, new.training_samples, new.created_at, new.updated_at,
            new.metrics, new.metadata, new.saved_by
        ),
        v_detail
    );
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_model_change() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_model_change(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_model_change() IS 'Trigger: one event per change of a model, whoever made it.';

--
-- Name: record_swept_versions(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_swept_versions() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_model    record;
begin
    for v_model in
        select
            v.tenant_id, v.model_id, range_agg(int8range(v.version, v.version, '[]')) as versions
        from gone as v
        group by v.tenant_id, v.model_id
    loop
        -- What goes with its model has the event of the model.
        if exists (
            select from ai_storage_private.ai_progress_tenant as p
            where p.tenant_id = v_model.tenant_id
              and p.model_id = v_model.model_id
        ) then
            perform ai_storage_private.record_event(
                v_model.tenant_id, 'delete version', v_model.model_id,
                p_detail => jsonb_build_object('gone', v_model.versions)
            );
        end if;
    end loop;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_swept_versions() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_swept_versions(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_swept_versions() IS 'Trigger: one event for each model that lost versions and is still there.';

--
-- Name: record_use(text, ai_storage_private.acting_tenant, bigint[], text[], uuid[], bigint[], text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    if current_setting('transaction_read_only') = 'on' then
        raise exception using
            errcode = '25006',
            message = 'the use of a shared model is logged, and this transaction is read-only',
            hint = 'Use a read-write transaction.';
    end if;
    -- Both sides are told: the owner who used it, the user whose it was. A user that never wrote
    -- has no log.
    return (
        select count(ai_storage_private.record_event(
            side.tenant_id, p_action, used.model_id, used.version,
            p_detail => jsonb_build_object('model_name', used.model_name, side.role, side.other_key)
        ))
        from unnest(p_owner_ids, p_owner_keys, p_model_ids, p_versions, p_names)
            as used (owner_id, owner_key, model_id, version, model_name)
        cross join lateral (
            values
                (used.owner_id, 'user', p_tenant.isolation_key),
                (p_tenant.tenant_id, 'owner', used.owner_key)
        ) as side (tenant_id, role, other_key)
        where side.tenant_id > 0
    );
end;
$$;

ALTER FUNCTION ai_storage_private.record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]) IS 'Writes the events of using shared models, one for each side, and returns how many. Raises 25006.';

--
-- Name: record_version(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.record_version() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_model ai_storage_private.ai_progress_tenant;
begin
    select p.* into v_model
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = new.tenant_id
      and p.model_id = new.model_id;
    if not found then
        perform ai_storage_private.record_event(
            new.tenant_id, 'insert version', new.model_id, new.version
        );
    -- The model's event covers a version that equals its current state. An older one is a copy of
    -- write_rows(), and is logged as the save that it was.
    elsif row(
            v_model.tenant_id, v_model.model_id, v_model.version, v_model.mse,
            v_model.training_samples, v_model.updated_at, v_model.saved_by, v_model.metrics,
            v_model.metadata
        )::ai_storage_private.progress_version <> new
    then
        perform ai_storage_private.record_event(
            new.tenant_id, 'save model', new.model_id, new.version,
            ai_storage_private.model_content(
                new.mse, new.training_samples, v_model.created_at, new.saved_at,
                new.metrics, new.metadata, new.saved_by
            ),
            jsonb_build_object('model_name', v_model.model_name)
        );
    end if;
    return null;
end;
$$;

ALTER FUNCTION ai_storage_private.record_version() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION record_version(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.record_version() IS 'Trigger: an event for a version that is not what its model is now.';

--
-- Name: refuse_artifact(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.refuse_artifact() RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
    raise exception using
        errcode = 'TN204',
        message = 'no such artifact',
        hint = 'list_artifacts() shows which versions have it, and p_as_of asks for the last one '
            'up to a version; one of another tenant has to be shared with you for execute.';
end;
$$;

ALTER FUNCTION ai_storage_private.refuse_artifact() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION refuse_artifact(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.refuse_artifact() IS 'Refuses to tell of an artifact, whether the version, the name or the right is missing. Raises TN204.';

--
-- Name: refuse_old_snapshot(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.refuse_old_snapshot() RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception using
            errcode = '25000',
            message = 'this works under read committed only',
            hint = 'Begin the transaction with isolation level read committed.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.refuse_old_snapshot() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION refuse_old_snapshot(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.refuse_old_snapshot() IS 'Refuses a transaction that does not see what others committed meanwhile. Raises 25000.';

--
-- Name: render_checkpoint(ai_storage_private.audit_checkpoint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
    select jsonb_build_object(
        'kind', 'checkpoint',
        'checkpoint_number', p_checkpoint.checkpoint_number,
        'created_at', ai_storage_private.micros(p_checkpoint.created_at),
        'root', encode(p_checkpoint.root, 'hex'),
        'previous_hash', encode(p_checkpoint.previous_hash, 'hex'),
        'checkpoint_hash', encode(p_checkpoint.checkpoint_hash, 'hex')
    );
$$;

ALTER FUNCTION ai_storage_private.render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint) IS 'A checkpoint as a line of a bundle. It tells nothing of a tenant.';

--
-- Name: audit_event; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.audit_event (
    tenant_id bigint NOT NULL,
    event_id uuid NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    version bigint,
    seal_number bigint NOT NULL,
    leaf_index integer NOT NULL,
    model_id uuid,
    action text NOT NULL COLLATE pg_catalog."C",
    login text NOT NULL COLLATE pg_catalog."C",
    credential text NOT NULL COLLATE pg_catalog."C",
    content_digest bytea,
    detail_digest bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    salt uuid,
    detail text COLLATE pg_catalog."C",
    CONSTRAINT audit_event_recorded_at_finite CHECK (isfinite(recorded_at))
);

ALTER TABLE ONLY ai_storage_private.audit_event FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.audit_event OWNER TO ai_storage_owner;

--
-- Name: TABLE audit_event; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.audit_event IS 'Events under a seal. A row changes no more but for an erasure.';

--
-- Name: COLUMN audit_event.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.tenant_id IS 'Whose log it is in; 0: the operator''s.';

--
-- Name: COLUMN audit_event.event_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.event_id IS 'Id of the event; ids are in the order of time.';

--
-- Name: COLUMN audit_event.recorded_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.recorded_at IS 'When it happened, by the clock and not by the transaction.';

--
-- Name: COLUMN audit_event.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.version IS 'The model''s version, or null.';

--
-- Name: COLUMN audit_event.seal_number; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.seal_number IS 'The seal that covers it.';

--
-- Name: COLUMN audit_event.leaf_index; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.leaf_index IS 'Its place under the seal, from 0.';

--
-- Name: COLUMN audit_event.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.model_id IS 'The model, or null.';

--
-- Name: COLUMN audit_event.action; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.action IS 'What happened, such as save model.';

--
-- Name: COLUMN audit_event.login; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.login IS 'The login that did it.';

--
-- Name: COLUMN audit_event.credential; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.credential IS 'key, token and its kid, operator, shared for what another tenant did, or none for a change by hand.';

--
-- Name: COLUMN audit_event.content_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.content_digest IS 'sha256 of salt and content, or null.';

--
-- Name: COLUMN audit_event.detail_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.detail_digest IS 'sha256 of salt and detail.';

--
-- Name: COLUMN audit_event.leaf_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.leaf_hash IS 'Its leaf in the tree of the seal.';

--
-- Name: COLUMN audit_event.salt; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.salt IS 'What keeps the digests from being guessed; null after an erasure.';

--
-- Name: COLUMN audit_event.detail; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_event.detail IS 'Names, as JSON; null after an erasure.';

--
-- Name: render_event(ai_storage_private.audit_event); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.render_event(p_event ai_storage_private.audit_event) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    AS $$
    select jsonb_build_object(
        'kind', 'event',
        'tenant_id', p_event.tenant_id,
        'seal_number', p_event.seal_number,
        'leaf_index', p_event.leaf_index,
        'event_id', p_event.event_id,
        'recorded_at', ai_storage_private.micros(p_event.recorded_at),
        'action', p_event.action,
        'model_id', p_event.model_id,
        'version', p_event.version,
        'login', p_event.login,
        'credential', p_event.credential,
        'content_digest', encode(p_event.content_digest, 'hex'),
        'detail_digest', encode(p_event.detail_digest, 'hex'),
        'leaf_hash', encode(p_event.leaf_hash, 'hex'),
        'salt', replace(p_event.salt::text, '-', ''),
        'detail', p_event.detail
    );
$$;

ALTER FUNCTION ai_storage_private.render_event(p_event ai_storage_private.audit_event) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION render_event(p_event ai_storage_private.audit_event); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.render_event(p_event ai_storage_private.audit_event) IS 'An event as a line of a bundle; times in microseconds since 1970, digests in hexadecimal.';

--
-- Name: render_seals(bigint, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.render_seals(p_tenant_id bigint, p_seal_number bigint DEFAULT NULL::bigint) RETURNS TABLE(seal_number bigint, line jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    -- A checkpoint's tree is built once for all of the tenant's seals under it. Of other tenants'
    -- seals the paths tell hashes, and about how many there are.
    return query
    with wanted as (
        select w.*
        from ai_storage_private.audit_seal as w
        where w.tenant_id = p_tenant_id
          and w.seal_number = coalesce(p_seal_number, w.seal_number)
    ),
    tree as (
        select
            array_agg(n.seal_hash order by n.place) as hashes,
            array_agg(n.place order by n.place) filter (where n.is_wanted) as places,
            array_agg(n.seal_number order by n.place) filter (where n.is_wanted) as numbers
        from (
            select
                a.checkpoint_number,
                a.seal_number,
                a.seal_hash,
                (row_number() over (
                    partition by a.checkpoint_number order by a.tenant_id, a.seal_number
                ) - 1)::integer as place,
                a.tenant_id = p_tenant_id
                    and a.seal_number = coalesce(p_seal_number, a.seal_number) as is_wanted
            from ai_storage_private.audit_checkpoint as c
            join ai_storage_private.audit_seal as a on a.checkpoint_number = c.checkpoint_number
            where c.checkpoint_number in (select w.checkpoint_number from wanted as w)
        ) as n
        group by n.checkpoint_number
    )
    select
        w.seal_number,
        jsonb_build_object(
            'kind', 'seal',
            'tenant_id', w.tenant_id,
            'seal_number', w.seal_number,
            'checkpoint_number', w.checkpoint_number,
            'sealed_at', ai_storage_private.micros(w.sealed_at),
            'event_count', w.event_count,
            'root', encode(w.root, 'hex'),
            'previous_hash', encode(w.previous_hash, 'hex'),
            'seal_hash', encode(w.seal_hash, 'hex'),
            'path', p.path
        )
    from wanted as w
    left join (
        select u.seal_number, u.path
        from tree as t
        cross join lateral rows from (
            unnest(t.numbers),
            jsonb_array_elements(ai_storage_private.merkle_paths(t.hashes, t.places))
        ) as u (seal_number, path)
    ) as p on p.seal_number = w.seal_number;
end;
$$;

ALTER FUNCTION ai_storage_private.render_seals(p_tenant_id bigint, p_seal_number bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION render_seals(p_tenant_id bigint, p_seal_number bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.render_seals(p_tenant_id bigint, p_seal_number bigint) IS 'One seal or all of a tenant as lines of a bundle, with their paths to their checkpoints'' roots; path is null while there is no checkpoint over it.';

--
-- Name: render_target(jsonb, text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.render_target(p_target jsonb, p_level text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $$
declare
    v_alias  constant jsonb := '{
        "orgId": "org_id", "serverId": "server_id", "projectId": "project_id",
        "environment": "environment", "codeHash": "code_hash"
    }'::jsonb;
    v_names  constant text[] := '{org_id,server_id,project_id,environment,code_hash}'::text[];
    v_levels text[] := p_level;
    v_seen   text[] := '{}'::text[];
    v_entry  record;
    v_name   text;
begin
    if jsonb_typeof(p_target) is distinct from 'object' then
        raise exception using
            errcode = 'TN301',
            message = 'invalid target',
            hint = 'A target is an object with any of org_id, server_id, project_id, environment, '
                'code_hash; each is a value or *.';
    end if;
    for v_entry in select e.key, e.value from jsonb_each(p_target) as e loop
        v_name := coalesce(v_alias ->> v_entry.key, v_entry.key);
        if v_name <> all (v_names)
            or v_name = any (v_seen)
            or jsonb_typeof(v_entry.value) <> 'string'
        then
            raise exception using
                errcode = 'TN301',
                message = 'invalid target',
                hint = 'A target is an object with any of org_id, server_id, project_id, '
                    'environment, code_hash, each once; each is a value or *.';
        end if;
        v_seen := v_seen || v_name;
        v_levels[array_position(v_names, v_name)] := v_entry.value #>> '{}';
    end loop;
    if not ai_storage_private.is_tenant_pattern(array_to_string(v_levels, ':')) then
        raise exception using
            errcode = 'TN301',
            message = 'invalid target',
            hint = 'Each level is *, or has 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -';
    end if;
    return array_to_string(v_levels, ':');
end;
$$;

ALTER FUNCTION ai_storage_private.render_target(p_target jsonb, p_level text[]) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION render_target(p_target jsonb, p_level text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.render_target(p_target jsonb, p_level text[]) IS 'Renders a target as a pattern. A level it does not name is the sharer''s own. Raises TN301.';

--
-- Name: render_time(timestamp with time zone); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.render_time(p_time timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
$$;

ALTER FUNCTION ai_storage_private.render_time(p_time timestamp with time zone) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION render_time(p_time timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.render_time(p_time timestamp with time zone) IS 'A time as text, whatever the session''s time zone.';

--
-- Name: report_models(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.report_models() RETURNS TABLE(id uuid, model_name text, isolation_key text, tenant_context jsonb, access_permissions text[], mse double precision, training_samples bigint, metadata jsonb, created_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_tenant ai_storage_private.tenant;
begin
    select t.* into v_tenant
    from ai_storage_private.tenant as t
    where t.tenant_id = ai_storage_private.current_tenant_id()
      -- A credential in p_as opens one call; only set_tenant opens the view.
      and t.isolation_key = ai_storage.current_tenant();
    return query
    select
        p.model_id,
        p.model_name,
        v_tenant.isolation_key,
        jsonb_build_object(
            'orgId', v_tenant.org_id,
            'serverId', v_tenant.server_id,
            'projectId', v_tenant.project_id,
            'environment', v_tenant.environment,
            'codeHash', v_tenant.code_hash
        ),
        '{read,execute,write,share}'::text[],
        p.mse,
        p.training_samples,
        p.metadata,
        p.created_at
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = v_tenant.tenant_id;
end;
$$;

ALTER FUNCTION ai_storage_private.report_models() OWNER TO ai_storage_owner;

--
-- Name: FUNCTION report_models(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.report_models() IS 'The rows of the view ai_storage.ai_progress_tenant.';

--
-- Name: require_owner(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.require_owner() RETURNS void
    LANGUAGE plpgsql STABLE
    AS $$
begin
    -- A restore without owners and rights leaves every function to whoever restored, often a
    -- superuser, and open to PUBLIC.
    if current_user <> 'ai_storage_operator' then
        raise exception using
            errcode = '55000',
            message = 'this database was restored without its owners',
            hint = 'An administrator restores it again, roles first, without --no-owner and '
                '--no-acl.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.require_owner() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION require_owner(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.require_owner() IS 'Refuses to go on as anybody but ai_storage_operator. Every function that reads or writes more than one tenant calls it, those for tenants in enter(), those that write in record_event(). Raises 55000.';

--
-- Name: restore_context(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.restore_context(p_context text) RETURNS text
    LANGUAGE plpgsql
    AS $$
begin
    return set_config('app.tenant_context', p_context, true);
end;
$$;

ALTER FUNCTION ai_storage_private.restore_context(p_context text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION restore_context(p_context text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.restore_context(p_context text) IS 'Puts back the context that there was before a function lent models or acted for another tenant.';

--
-- Name: save_version(ai_storage_private.acting_tenant, text, double precision, bigint, jsonb, jsonb, bigint, text, text, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb DEFAULT '{}'::jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_saved       record;
    v_request     jsonb;
    v_digest      bytea;
    v_sent_digest bytea; -- only with artifacts
    v_first       ai_storage_private.idempotency_key;
begin
    if p_artifacts <> '{}' and p_owner <> p_tenant.isolation_key then
        raise exception using
            errcode = '22023',
            message = 'artifacts of a shared model',
            hint = 'The bytes of a model lie with its owner: only the owner saves artifacts with '
                'it. Save the state without them.';
    end if;
    if p_idempotency_key is null then
        if coalesce(p_owner, p_tenant.isolation_key) = p_tenant.isolation_key then
            v_saved := ai_storage_private.write_progress(
                p_tenant.tenant_id, p_model_name, p_mse, p_training_samples,
                p_metrics, p_metadata, p_expected_version
            );
            if p_artifacts <> '{}' then
                perform ai_storage_private.attach_artifacts(
                    p_tenant.tenant_id, p_model_name, v_saved.version, p_artifacts
                );
            end if;
        else
            v_saved := ai_storage_private.write_shared(
                p_tenant, p_owner, p_model_name, p_mse, p_training_samples,
                p_metrics, p_metadata, p_expected_version
            );
        end if;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return;
    end if;

    if ai_storage_private.is_name(p_idempotency_key) is not true then
        raise exception using
            errcode = '22023',
            message = 'invalid idempotency key',
            hint = 'A key has 1 to 255 characters and no control character.';
    end if;
    perform ai_storage_private.check_progress(
        p_model_name, p_mse, p_training_samples, p_metrics, p_metadata, p_expected_version
    );
    v_request := jsonb_build_array(
        p_model_name, encode(float8send(p_mse), 'hex'), p_training_samples,
        coalesce(p_metrics, '{}'), coalesce(p_metadata, '{}'), p_expected_version, p_owner
    );
    if p_artifacts <> '{}' then
        -- A repetition has the same contents in other uploads, or names those that are used up.
        v_sent_digest := sha256(convert_to((v_request || p_artifacts)::text, 'UTF8'));
        v_request := v_request
            || ai_storage_private.digest_artifacts(p_tenant.tenant_id, p_artifacts);
    end if;
    v_digest := sha256(convert_to(v_request::text, 'UTF8'));

    -- The key comes first: a twin of this request waits here until the first has committed, then
    -- repeats its answer.
    insert into ai_storage_private.idempotency_key (
        tenant_id, saved_at, idempotency_key, request_digest, sent_digest
    )
    values (
        p_tenant.tenant_id, clock_timestamp(), p_idempotency_key, v_digest, v_sent_digest
    )
    on conflict do nothing;

    if found then
        v_saved := ai_storage_private.save_version(
            p_tenant, p_model_name, p_mse, p_training_samples,
            p_metrics, p_metadata, p_expected_version, null, p_owner, p_artifacts
        );
        update ai_storage_private.idempotency_key as k set
            version  = v_saved.version,
            created  = v_saved.created,
            saved_at = v_saved.saved_at
        where k.tenant_id = p_tenant.tenant_id
          and k.idempotency_key = p_idempotency_key;
        version := v_saved.version;
        created := v_saved.created;
        saved_at := v_saved.saved_at;
        return;
    end if;

    select k.* into v_first
    from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant.tenant_id
      and k.idempotency_key = p_idempotency_key;
    if v_first.request_digest is distinct from v_digest
        and (v_first.sent_digest = v_sent_digest) is not true
    then
        raise exception using
            errcode = 'TN103',
            message = 'this idempotency key belongs to another request',
            hint = 'Repeat a request unchanged, or choose a new key for a new one.';
    end if;
    version := v_first.version;
    created := v_first.created;
    saved_at := v_first.saved_at;
end;
$$;

ALTER FUNCTION ai_storage_private.save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) IS 'One save, of an own model or of a shared one, with an idempotency key or without: a repeated request returns the first answer and writes nothing. Raises 22023, 54000, TN101, TN102, TN103, TN201.';

--
-- Name: seal_events(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.seal_events(p_limit bigint DEFAULT NULL::bigint) RETURNS TABLE(events bigint, seals bigint)
    LANGUAGE plpgsql
    AS $$
declare
    v_now        constant timestamptz := clock_timestamp();
    v_refused    bigint;
    v_checkpoint bigint;
begin
    perform ai_storage_private.keep_durable();
    select s.last_value into v_refused
    from ai_storage_private.refused_credential as s
    where s.is_called;
    update ai_storage_private.refusal_report as r set
        reported = v_refused
    where r.reported < v_refused;
    if found then
        perform ai_storage_private.record_event(
            0, 'refuse credentials', p_detail => jsonb_build_object('in_all', v_refused)
        );
    end if;
    select coalesce(max(c.checkpoint_number), 0) + 1 into v_checkpoint
    from ai_storage_private.audit_checkpoint as c;

    -- One statement reads the queue once. While somebody keeps an old snapshot open, its dead rows
    -- stay, and each read passes all of them.
    with taken as materialized (
        delete from ai_storage_private.audit_pending as p
        where p.ctid = any (array(
            select q.ctid
            from ai_storage_private.audit_pending as q
            limit p_limit
        ))
        returning p.*
    ),
    next_seal as materialized (
        select
            t.tenant_id,
            coalesce(l.seal_number, 0) + 1 as seal_number,
            coalesce(l.seal_hash, decode(repeat('00', 32), 'hex')) as previous_hash
        from (select distinct d.tenant_id from taken as d) as t
        left join lateral (
            select s.seal_number, s.seal_hash
            from ai_storage_private.audit_seal as s
            where s.tenant_id = t.tenant_id
            order by s.seal_number desc
            limit 1
        ) as l on true
    ),
    moved as (
        insert into ai_storage_private.audit_event (
            tenant_id, event_id, recorded_at, version, seal_number, leaf_index, model_id,
            action, login, credential, content_digest, detail_digest, leaf_hash, salt, detail
        )
        select
            p.tenant_id, p.event_id, p.recorded_at, p.version, p.seal_number, p.leaf_index,
            p.model_id, p.action, p.login, p.credential, p.content_digest, p.detail_digest,
            ai_storage_private.leaf_hash(
                p.tenant_id, p.event_id, p.seal_number, p.leaf_index, p.recorded_at, p.action,
                p.model_id, p.version, p.credential, p.content_digest, p.detail_digest, p.login
            ),
            p.salt, p.detail
        from (
            select
                t.*,
                n.seal_number,
                (row_number() over (partition by t.tenant_id order by t.event_id) - 1)::integer
                    as leaf_index
            from taken as t
            join next_seal as n on n.tenant_id = t.tenant_id
        ) as p
        returning tenant_id, leaf_index, leaf_hash
    ),
    sealed as (
        insert into ai_storage_private.audit_seal (
            tenant_id, seal_number, checkpoint_number, sealed_at, event_count,
            root, previous_hash, seal_hash
        )
        select
            n.tenant_id, n.seal_number, v_checkpoint, v_now, m.event_count, m.root, n.previous_hash,
            ai_storage_private.seal_hash((
                n.tenant_id, n.seal_number, v_checkpoint, v_now, m.event_count,
                m.root, n.previous_hash, null
            )::ai_storage_private.audit_seal)
        from next_seal as n
        join (
            select
                e.tenant_id,
                count(*)::integer as event_count,
                ai_storage_private.merkle_root(
                    array_agg(e.leaf_hash order by e.leaf_index)
                ) as root
            from moved as e
            group by e.tenant_id
        ) as m on m.tenant_id = n.tenant_id
        returning event_count
    )
    select coalesce(sum(s.event_count), 0), count(*) into events, seals
    from sealed as s;
    return next;
exception
    when unique_violation then
        raise exception using
            errcode = '23505',
            message = 'an event or a seal that was to be written is in the log already',
            hint = 'The log was written by hand. Run verify_all_audit() to find the place.';
end;
$$;

ALTER FUNCTION ai_storage_private.seal_events(p_limit bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION seal_events(p_limit bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.seal_events(p_limit bigint) IS 'Seals what is pending, at most p_limit events of it, for whoever has the turn. Raises 23505.';

--
-- Name: seal_hash(ai_storage_private.audit_seal); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select sha256(convert_to(
        'seal|' || p_seal.tenant_id || '|' || p_seal.seal_number
            || '|' || p_seal.checkpoint_number
            || '|' || ai_storage_private.micros(p_seal.sealed_at)
            || '|' || p_seal.event_count
            || '|' || encode(p_seal.root, 'hex') || '|' || encode(p_seal.previous_hash, 'hex'),
        'UTF8'
    ));
$$;

ALTER FUNCTION ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION seal_hash(p_seal ai_storage_private.audit_seal); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal) IS 'The hash of a seal, which the next seal of the tenant and a checkpoint carry on.';

--
-- Name: set_context(text, ai_storage_private.acting_tenant, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text DEFAULT NULL::text) RETURNS text
    LANGUAGE plpgsql
    AS $$
declare
    v_payload constant text := ai_storage_private.context_payload(
        p_scope, p_tenant.tenant_id, p_tenant.isolation_key,
        p_tenant.expires_at, p_tenant.credential, p_lent
    );
    v_context text;
begin
    select ai_storage_private.sign_context(s.inner_key, s.outer_key, v_payload) into v_context
    from ai_storage_private.context_secret as s;
    if not found then
        raise exception using
            errcode = '55000',
            message = 'this database has no secret to sign contexts with',
            hint = 'It was restored without one. An administrator makes a new one: select '
                'ai_storage.renew_context_secret().';
    end if;
    return set_config('app.tenant_context', v_context, true);
end;
$$;

ALTER FUNCTION ai_storage_private.set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text) IS 'Signs a context and sets it for the rest of this transaction. Raises 55000.';

--
-- Name: shown_version(ai_storage_private.model_share, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.shown_version(p_share ai_storage_private.model_share, p_version bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
begin
    -- A pinned grant shows its version, whatever else there is.
    if p_share.pinned_version is not null then
        return case when p_version = p_share.pinned_version or p_version is null
            then p_share.pinned_version
        end;
    end if;
    return (
        select v.version
        from ai_storage_private.ai_progress_tenant as p
        join ai_storage_private.progress_version as v
            on v.tenant_id = p.tenant_id
            and v.model_id = p.model_id
            and v.version = coalesce(p_version, p.version)
        where p.tenant_id = p_share.tenant_id
          and p.model_id = p_share.model_id
          and v.tenant_id = p_share.tenant_id
    );
end;
$$;

ALTER FUNCTION ai_storage_private.shown_version(p_share ai_storage_private.model_share, p_version bigint) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION shown_version(p_share ai_storage_private.model_share, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.shown_version(p_share ai_storage_private.model_share, p_version bigint) IS 'The version of a model lent to this transaction that a caller means, null for one that there is not or that its grant does not show.';

--
-- Name: sign_context(bytea, bytea, text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select ai_storage_private.context_mac(p_inner_key, p_outer_key, p_payload) || '|' || p_payload;
$$;

ALTER FUNCTION ai_storage_private.sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text) IS 'p_payload behind its MAC and |. Null without keys, which are those of context_secret.';

--
-- Name: stays_inside(ai_storage_private.model_share); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.stays_inside(p_share ai_storage_private.model_share) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    select not exists (
        select from ai_storage_private.model_share as s
        where s.tenant_id = p_share.tenant_id
          and s.share_id = any (p_share.ancestors || p_share.share_id)
          and (
              split_part(s.sharer_key, ':', 1) <> split_part(s.owner_key, ':', 1)
              or split_part(s.target, ':', 1) <> split_part(s.owner_key, ':', 1)
          )
    );
$$;

ALTER FUNCTION ai_storage_private.stays_inside(p_share ai_storage_private.model_share) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION stays_inside(p_share ai_storage_private.model_share); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.stays_inside(p_share ai_storage_private.model_share) IS 'Whether a grant, and each grant that it derives from, stays within the owner''s organisation.';

--
-- Name: summarize_shares(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.summarize_shares() RETURNS SETOF jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
begin
    return query
    select jsonb_build_object(
        'owner', s.owner_key,
        'target', s.target,
        'permissions', s.permissions,
        'models', count(distinct (s.tenant_id, s.model_id)),
        'expires_at', case when bool_and(s.expires_at is not null) then
            ai_storage_private.render_time(max(s.expires_at))
        end
    )
    from ai_storage_private.model_share as s
    group by s.owner_key, s.target, s.permissions;
end;
$$;

ALTER FUNCTION ai_storage_private.summarize_shares() OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION summarize_shares(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.summarize_shares() IS 'Who shares with whom, without the models'' names: one line per owner, target and permissions. expires_at: when the last of them ends, or null.';

--
-- Name: sweep_blobs(bigint, uuid[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
declare
    v_blob_ids uuid[];
begin
    -- Lock first, look then: whoever puts the same content meanwhile updates its row.
    v_blob_ids := array(
        select b.blob_id
        from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and b.blob_id = any (p_blob_ids)
        order by b.blob_id
        for update
    );
    v_blob_ids := array(
        select b.blob_id
        from unnest(v_blob_ids) as b (blob_id)
        where not exists (
            select from ai_storage_private.model_artifact as a
            where a.tenant_id = p_tenant_id
              and a.blob_id = b.blob_id
        )
    );
    delete from ai_storage_private.artifact_blob as b
    where b.tenant_id = p_tenant_id
      and b.blob_id = any (v_blob_ids);
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_blob_ids);
    return cardinality(v_blob_ids)::bigint;
end;
$$;

ALTER FUNCTION ai_storage_private.sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]) IS 'Deletes those of some contents that no artifact names. Returns how many.';

--
-- Name: sweep_shares(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.sweep_shares() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_count bigint;
begin
    delete from ai_storage_private.model_share as s
    where s.share_id = any (array(
        select d.share_id
        from ai_storage_private.model_share as d
        where not exists (
            select from ai_storage_private.in_force(array[d.share_id], null)
        )
        for update skip locked
    ));
    get diagnostics v_count = row_count;
    -- A grant's id is never given again.
    delete from ai_storage_private.share_end as e
    where e.share_id = any (array(
        select d.share_id
        from ai_storage_private.share_end as d
        where not exists (
            select from ai_storage_private.model_share as s
            where s.share_id = d.share_id
        )
        for update skip locked
    ));
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage_private.sweep_shares() OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION sweep_shares(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.sweep_shares() IS 'Deletes the grants that are over, such as expired ones. Returns how many.';

--
-- Name: sweep_tenant(bigint, text, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_now       constant timestamptz := clock_timestamp();
    v_rule      record;
    v_rule_then record;
    v_subjects  text[];
    v_last      bigint;
begin
    versions := 0;
    events := 0;
    select r.* into v_rule
    from ai_storage_private.list_effective_rules() as r
    where r.tenant_id = p_tenant_id;
    if v_rule.is_held then
        return;
    end if;
    perform ai_storage_private.act_for(p_tenant_id, p_isolation_key);
    perform ai_storage_private.sweep_uploads(p_tenant_id);
    if coalesce(v_rule.keep_versions::text, v_rule.keep_versions_for::text) is not null then
        versions := ai_storage_private.sweep_versions(
            p_tenant_id, v_rule.keep_versions, v_now - v_rule.keep_versions_for, p_limit
        );
    end if;
    if v_rule.keep_events_for is not null then
        -- Read before the rows: an event that is sealed after that describes something newer.
        select max(s.seal_number) into v_last
        from ai_storage_private.audit_seal as s
        where s.tenant_id = p_tenant_id;
        -- Comparing a row with the log needs the salt and the names of its event.
        v_subjects := array(
            select s
            from ai_storage_private.list_subjects(p_tenant_id) as s
        );
        update ai_storage_private.audit_event as e set
            salt   = null,
            detail = null
        where e.tenant_id = p_tenant_id
          and e.seal_number <= v_last
          and e.recorded_at < v_now - v_rule.keep_events_for
          and e.salt is not null
          and not exists (
              select from unnest(v_subjects) as s (subject)
              where s.subject = ai_storage_private.event_subject(
                  e.action, e.model_id, e.version, e.detail::jsonb
              )
          );
        get diagnostics events = row_count;
    end if;
    if versions + events > 0 then
        perform ai_storage_private.record_event(
            p_tenant_id, 'apply retention',
            p_detail => jsonb_build_object('versions', versions, 'events', events)
        );
    end if;

    -- Once more, now that no rule can be changed before the commit.
    perform ai_storage_private.pass_gate(p_tenant_id);
    select r.* into v_rule_then
    from ai_storage_private.list_effective_rules() as r
    where r.tenant_id = p_tenant_id;
    if v_rule_then is distinct from v_rule then
        raise exception using
            errcode = '40001',
            message = 'the rule of the tenant was changed meanwhile',
            hint = 'Repeat the call.';
    end if;
end;
$$;

ALTER FUNCTION ai_storage_private.sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint) IS 'Deletes what the rules keep no longer of one tenant, at most p_limit versions, and turns the context to it. Raises 40001 and TN501 when a rule was changed meanwhile.';

--
-- Name: sweep_uploads(bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.sweep_uploads(p_tenant_id bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_upload_ids uuid[];
begin
    if ai_storage_private.is_held(p_tenant_id) then
        return 0::bigint;
    end if;
    v_upload_ids := array(
        select u.upload_id
        from ai_storage_private.artifact_upload as u
        where u.tenant_id = p_tenant_id
          and u.touched_at < clock_timestamp() - interval '1 day'
        for update skip locked
    );
    delete from ai_storage_private.artifact_chunk as c
    where c.tenant_id = p_tenant_id
      and c.blob_id = any (v_upload_ids);
    delete from ai_storage_private.artifact_upload as u
    where u.tenant_id = p_tenant_id
      and u.upload_id = any (v_upload_ids);
    return cardinality(v_upload_ids)::bigint;
end;
$$;

ALTER FUNCTION ai_storage_private.sweep_uploads(p_tenant_id bigint) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION sweep_uploads(p_tenant_id bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.sweep_uploads(p_tenant_id bigint) IS 'Deletes the abandoned uploads of the tenant that the context names. Returns how many.';

--
-- Name: sweep_versions(bigint, integer, timestamp with time zone, integer); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_model_ids uuid[];
    v_versions  bigint[];
    v_blob_ids  uuid[];
    v_count     bigint;
begin
    -- All but the current version may go. The owner's versions and those of others are counted
    -- apart, so a receiver that may write pushes out none of the owner's. Whoever is deleting a
    -- model, or sharing a version by its number, holds it: nobody is waited for, what is held goes
    -- the next time.
    select array_agg(h.model_id), array_agg(h.version)
    into v_model_ids, v_versions
    from (
        select v.model_id, v.version
        from ai_storage_private.progress_version as v
        join (
            select
                w.model_id,
                w.version,
                row_number() over (
                    partition by w.model_id, w.saved_by is null order by w.version desc
                ) as place,
                max(w.version) over (partition by w.model_id) as current_version
            from ai_storage_private.progress_version as w
            where w.tenant_id = p_tenant_id
        ) as o
            on o.model_id = v.model_id
            and o.version = v.version
        where v.tenant_id = p_tenant_id
          and o.version < o.current_version
          and (o.place > p_keep_versions or v.saved_at < p_before)
        limit p_limit
        for update of v skip locked
    ) as h;
    -- A later snapshot: it shows whatever was shared by its number before it was held.
    select array_agg(h.model_id), array_agg(h.version)
    into v_model_ids, v_versions
    from unnest(v_model_ids, v_versions) as h (model_id, version)
    where not exists (
        select from ai_storage_private.model_share as s
        where s.tenant_id = p_tenant_id
          and s.model_id = h.model_id
          and s.pinned_version = h.version
    );
    delete from ai_storage_private.progress_version as v
    using unnest(v_model_ids, v_versions) as h (model_id, version)
    where v.tenant_id = p_tenant_id
      and v.model_id = h.model_id
      and v.version = h.version;
    get diagnostics v_count = row_count;

    -- An artifact goes with the versions for which it held, once it was put again.
    delete from ai_storage_private.model_artifact as a
    using (
        select
            m.model_id,
            m.artifact_name,
            m.version,
            lead(m.version) over (
                partition by m.model_id, m.artifact_name order by m.version
            ) as next_version
        from ai_storage_private.model_artifact as m
        where m.tenant_id = p_tenant_id
    ) as o
    where a.tenant_id = p_tenant_id
      and a.model_id = o.model_id
      and a.artifact_name = o.artifact_name
      and a.version = o.version
      and o.next_version is not null
      and not exists (
          select from ai_storage_private.progress_version as v
          where v.tenant_id = p_tenant_id
            and v.model_id = o.model_id
            and v.version >= o.version
            and v.version < o.next_version
      );
    v_blob_ids := array(
        select b.blob_id
        from ai_storage_private.artifact_blob as b
        where b.tenant_id = p_tenant_id
          and not exists (
              select from ai_storage_private.model_artifact as a
              where a.tenant_id = p_tenant_id
                and a.blob_id = b.blob_id
          )
    );
    perform ai_storage_private.sweep_blobs(p_tenant_id, v_blob_ids);

    delete from ai_storage_private.idempotency_key as k
    where k.tenant_id = p_tenant_id
      and k.saved_at < p_before;
    return v_count;
end;
$$;

ALTER FUNCTION ai_storage_private.sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer) IS 'Deletes what a rule keeps no longer of the tenant that the context names: versions beyond the newest p_keep_versions of the owner and of others, and versions and idempotency keys from before p_before; null: no limit. At most p_limit versions; returns how many.';

--
-- Name: take_turn(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.take_turn() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    perform ai_storage_private.refuse_old_snapshot();
    -- Writers do not wait for this lock.
    lock table ai_storage_private.refusal_report in share update exclusive mode;
end;
$$;

ALTER FUNCTION ai_storage_private.take_turn() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION take_turn(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.take_turn() IS 'Lets one of those who seal and chain work at a time, on what the others committed. Raises 25000.';

--
-- Name: target_patterns(text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.target_patterns(p_level text[]) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE
    AS $$
begin
    return array(
        select o || ':' || s || ':' || p || ':' || e || ':' || c
        from unnest(array[p_level[1], '*']) as o,
             unnest(array[p_level[2], '*']) as s,
             unnest(array[p_level[3], '*']) as p,
             unnest(array[p_level[4], '*']) as e,
             unnest(array[p_level[5], '*']) as c
    );
end;
$$;

ALTER FUNCTION ai_storage_private.target_patterns(p_level text[]) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION target_patterns(p_level text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.target_patterns(p_level text[]) IS 'The 32 targets that cover a tenant: each of its levels as it is, or *.';

--
-- Name: trusted_context(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.trusted_context() RETURNS text
    LANGUAGE plpgsql
    AS $$
begin
    if ai_storage_private.verified_context() is null then
        return set_config('app.tenant_context', '', true);
    end if;
    return current_setting('app.tenant_context', true);
end;
$$;

ALTER FUNCTION ai_storage_private.trusted_context() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION trusted_context(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.trusted_context() IS 'The current context, for a function that acts for other tenants and restores it. Clears one whose signature is not valid, since record_event() reads its fields without checking.';

--
-- Name: used_patterns(text[]); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.used_patterns(p_level text[]) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return array(
        select t.pattern
        from unnest(ai_storage_private.target_patterns(p_level)) as t (pattern)
        where exists (
            select from ai_storage_private.model_share as s
            where s.target = t.pattern
        )
    );
end;
$$;

ALTER FUNCTION ai_storage_private.used_patterns(p_level text[]) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION used_patterns(p_level text[]); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.used_patterns(p_level text[]) IS 'Those of a tenant''s 32 targets that any grant has.';

--
-- Name: verified_context(); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.verified_context() RETURNS text[]
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    AS $$
declare
    v_context   constant text := current_setting('app.tenant_context', true);
    v_inner_key bytea;
    v_outer_key bytea;
    v_field     text[];
begin
    -- After a transaction that set it, the setting reads '' and not null. Both mean: no tenant.
    if coalesce(v_context, '') = '' then
        return null;
    end if;
    select s.inner_key, s.outer_key into v_inner_key, v_outer_key
    from ai_storage_private.context_secret as s;
    v_field := string_to_array(substr(v_context, 66), '|');
    -- The MAC is computed outside the query, whose expressions PostgreSQL prepares anew in each
    -- statement. A context is valid in one transaction of one backend, and until its token expires.
    -- CASE keeps the order: no field is read before it is verified.
    return case
        when ai_storage_private.sign_context(v_inner_key, v_outer_key, substr(v_context, 66))
            is distinct from v_context then null
        when v_field[6] <> pg_backend_pid()::text
            or v_field[7] <> extract(epoch from now())::text then null
        when v_field[4] = '' or extract(epoch from clock_timestamp()) < v_field[4]::numeric
            then v_field
    end;
end;
$$;

ALTER FUNCTION ai_storage_private.verified_context() OWNER TO ai_storage_operator;

--
-- Name: FUNCTION verified_context(); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.verified_context() IS 'The fields of this transaction''s context (scope, tenant_id, isolation key, expiry, credential, backend, transaction), or null when there is none that can be believed.';

--
-- Name: verify_token(text); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_operator
--

CREATE FUNCTION ai_storage_private.verify_token(p_token text) RETURNS ai_storage_private.acting_tenant
    LANGUAGE plpgsql
    AS $$
declare
    v_part      constant text[] := string_to_array(p_token, '.');
    v_now       constant numeric := extract(epoch from clock_timestamp());
    v_header    jsonb;
    v_claims    jsonb;
    v_twice     bigint; -- how many names stand twice
    v_exp       numeric;
    v_kid       text; -- of the key in use that the header names
    v_audience  text;
    v_inner_pad bytea;
    v_outer_pad bytea;
    v_tenant    ai_storage_private.acting_tenant;
begin
    if length(p_token) <= 4096
        and cardinality(v_part) = 3
        and ai_storage_private.is_base64url(v_part[1])
        and ai_storage_private.is_base64url(v_part[2])
        and ai_storage_private.is_base64url(v_part[3])
        and length(v_part[3]) = 43
    then
        begin
            -- One query, since each takes its time to begin; each text is decoded and read once.
            select
                j.header,
                j.claims,
                -- jsonb keeps one of two equal names; a second one would be a second meaning.
                (
                    select sum(n.more)
                    from (
                        select json_object_keys(j.header_text::json), 1
                        union all
                        select json_object_keys(j.claims_text::json), 1
                        union all
                        select jsonb_object_keys(j.header), -1
                        union all
                        select jsonb_object_keys(j.claims), -1
                    ) as n (name, more)
                ),
                k.kid,
                k.audience,
                k.inner_pad,
                k.outer_pad
            into v_header, v_claims, v_twice, v_kid, v_audience, v_inner_pad, v_outer_pad
            from (
                select
                    t.header_text,
                    t.claims_text,
                    t.header_text::jsonb as header,
                    t.claims_text::jsonb as claims
                from (
                    select
                        convert_from(ai_storage_private.decode_base64url(v_part[1]), 'UTF8'),
                        convert_from(ai_storage_private.decode_base64url(v_part[2]), 'UTF8')
                    offset 0
                ) as t (header_text, claims_text)
                offset 0
            ) as j
            left join ai_storage_private.signing_key as k
                on k.kid = j.header ->> 'kid'
                and k.retired_at is null;
        exception
            -- Not UTF-8, not JSON, no objects, or a number that jsonb does not hold.
            when data_exception then
                v_twice := null;
        end;
    end if;
    if v_twice is distinct from 0
        or v_header ->> 'alg' is distinct from 'HS256'
        or coalesce(v_header ->> 'typ', 'JWT') <> 'JWT'
        or v_header ? 'crit'
        or jsonb_typeof(v_header -> 'kid') is distinct from 'string'
        or jsonb_typeof(v_claims -> 'exp') is distinct from 'number'
        or coalesce(jsonb_typeof(v_claims -> 'nbf'), 'number') <> 'number'
        or coalesce(jsonb_typeof(v_claims -> 'key'), 'string') <> 'string'
        or coalesce(jsonb_typeof(v_claims -> 'org'), 'string') <> 'string'
        or coalesce(jsonb_typeof(v_claims -> 'srv'), 'string') <> 'string'
        or coalesce(jsonb_typeof(v_claims -> 'prj'), 'string') <> 'string'
        or coalesce(jsonb_typeof(v_claims -> 'env'), 'string') <> 'string'
        or coalesce(jsonb_typeof(v_claims -> 'code'), 'string') <> 'string'
        or (v_claims ? 'from' and not ai_storage_private.is_code_list(v_claims -> 'from'))
        or coalesce(jsonb_typeof(v_claims -> 'sub'), 'string') <> 'string'
        or length(v_claims ->> 'sub') not between 1 and 255
        or v_claims ->> 'sub' ~ E'[\\x01-\\x1f\\x7f-\\x9f]'
    then
        perform ai_storage_private.count_refusal();
        raise exception using
            errcode = 'TN002',
            message = 'malformed credential',
            hint = 'A credential is an isolation key, or a JWT signed with HS256 that names its '
                'kid and has exp, aud and the claims of one tenant; sub, if there is one, has 1 to '
                '255 characters and no control characters.';
    end if;

    -- Digests are compared, so that the time tells nothing about the signature. Without a key the
    -- work is the same, and so is the time.
    if sha256(ai_storage_private.decode_base64url(v_part[3])) is distinct from sha256(sha256(
            coalesce(v_outer_pad, repeat('-', 64)::bytea) || sha256(
                coalesce(v_inner_pad, repeat('-', 64)::bytea)
                    || convert_to(v_part[1] || '.' || v_part[2], 'UTF8')
            )
        ))
        or v_kid is null
        or (
            v_claims -> 'aud' = to_jsonb(v_audience)
            or (jsonb_typeof(v_claims -> 'aud') = 'array' and v_claims -> 'aud' ? v_audience)
        ) is not true
    then
        perform ai_storage_private.count_refusal();
        raise exception using
            errcode = 'TN003',
            message = 'this token is not valid here',
            hint = 'Check the signing key (kid and secret) and the audience: list_signing_keys().';
    end if;
    v_exp := (v_claims -> 'exp')::numeric;
    -- 10 seconds for the clock of who minted it; exp has none, so that no token outlives its end.
    if v_exp <= v_now
        or v_exp > v_now + 86400 + 10
        or (v_claims -> 'nbf')::numeric > v_now + 10
    then
        perform ai_storage_private.count_refusal();
        raise exception using
            errcode = 'TN005',
            message = 'token is expired, not yet valid, or valid for too long',
            hint = 'Get a new one. exp lies at most 24 hours ahead and nbf not ahead; clocks may '
                'differ by 10 seconds.';
    end if;

    -- A claim that is missing makes the key null, one with a colon in it gives it a sixth level:
    -- neither is a key.
    if not v_claims ? 'key' then
        v_tenant.levels := array[
            v_claims ->> 'org', v_claims ->> 'srv', v_claims ->> 'prj',
            v_claims ->> 'env', v_claims ->> 'code'
        ];
        v_tenant.isolation_key := v_tenant.levels[1] || ':' || v_tenant.levels[2]
            || ':' || v_tenant.levels[3] || ':' || v_tenant.levels[4] || ':' || v_tenant.levels[5];
    elsif not v_claims ?| '{org,srv,prj,env,code}' then
        v_tenant.isolation_key := v_claims ->> 'key';
        v_tenant.levels := string_to_array(v_tenant.isolation_key, ':');
    end if;
    -- Encoded: no bar, which the context has between its fields, and no blank.
    v_tenant.credential := concat_ws(
        ' ', 'token', v_kid,
        ai_storage_private.encode_base64url(convert_to(v_claims ->> 'sub', 'UTF8'))
    );
    v_tenant.expires_at := v_exp::text;
    return v_tenant;
end;
$$;

ALTER FUNCTION ai_storage_private.verify_token(p_token text) OWNER TO ai_storage_operator;

--
-- Name: FUNCTION verify_token(p_token text); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_operator
--

COMMENT ON FUNCTION ai_storage_private.verify_token(p_token text) IS 'Verifies a signed token and returns the tenant it names, with the kid, the sub if it has one, and the end of its time; the caller checks that the key is one. Raises TN002, TN003, TN005.';

--
-- Name: write_batch(bigint, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.write_batch(p_tenant_id bigint, p_items jsonb) RETURNS TABLE(model_name text, version bigint, created boolean, saved_at timestamp with time zone)
    LANGUAGE plpgsql
    SET enable_nestloop TO 'off'
    AS $$
declare
    v_now      constant timestamptz := clock_timestamp();
    -- The items, a column each, in the order of names.
    v_place    bigint[];
    v_name     text[];
    v_mse      double precision[];
    v_samples  bigint[];
    v_metrics  jsonb[];
    v_metadata jsonb[];
    v_expected bigint[];
    v_created  boolean[];
    v_model_id uuid[]; -- of the model there is, or a new one; null: not at the expected version
    v_updated  bigint;
    v_inserted bigint;
    v_kept     bigint;
    v_number   bigint;
    v_saved    record;
begin
    -- The models there are get locked in the order of names, and new ones are inserted in it, so
    -- two batches with the same names do not wait for each other crosswise.
    with item as materialized (
        select i.*
        from rows from (
            jsonb_to_recordset(p_items) as (
                model_name       text,
                mse              double precision,
                training_samples numeric,
                metrics          jsonb,
                metadata         jsonb,
                expected_version numeric
            )
        ) with ordinality as i
    ),
    present as materialized (
        select p.model_name, p.model_id, p.version
        from ai_storage_private.ai_progress_tenant as p
        where p.tenant_id = p_tenant_id
          and p.model_name = any (array(select i.model_name from item as i))
        order by p.model_name
        for update
    )
    select
        array_agg(i.ordinality),
        array_agg(i.model_name),
        array_agg(i.mse),
        array_agg(i.training_samples::bigint),
        array_agg(coalesce(i.metrics, '{}')),
        array_agg(coalesce(i.metadata, '{}')),
        array_agg(i.expected_version::bigint),
        array_agg(i.model_id is null),
        array_agg(case
            when i.expected_version <> coalesce(i.version, 0) then null
            else coalesce(i.model_id, gen_random_uuid())
        end)
    into
        v_place, v_name, v_mse, v_samples, v_metrics, v_metadata, v_expected, v_created, v_model_id
    from (
        select i.*, p.model_id, p.version
        from item as i
        left join present as p on p.model_name = i.model_name
        order by i.model_name collate "C"
    ) as i;

    perform ai_storage_private.check_progress(
        i.model_name, i.mse, i.training_samples, i.metrics, i.metadata, i.expected_version
    )
    from unnest(v_name, v_mse, v_samples, v_metrics, v_metadata, v_expected)
        as i (model_name, mse, training_samples, metrics, metadata, expected_version);

    update ai_storage_private.ai_progress_tenant as p set
        version          = p.version + 1,
        mse              = i.mse,
        training_samples = i.training_samples,
        metrics          = i.metrics,
        metadata         = i.metadata,
        updated_at       = greatest(p.updated_at, v_now),
        saved_by         = null
    from unnest(v_model_id, v_mse, v_samples, v_metrics, v_metadata)
        as i (model_id, mse, training_samples, metrics, metadata)
    where p.tenant_id = p_tenant_id
      and p.model_id = any (v_model_id)
      and p.model_id = i.model_id;
    get diagnostics v_updated = row_count;

    insert into ai_storage_private.ai_progress_tenant (
        tenant_id, model_id, version, mse, training_samples,
        created_at, updated_at, model_name, metrics, metadata
    )
    select
        p_tenant_id, i.model_id, 1, i.mse, i.training_samples,
        v_now, v_now, i.model_name, i.metrics, i.metadata
    from unnest(v_model_id, v_mse, v_samples, v_name, v_metrics, v_metadata, v_created)
        as i (model_id, mse, training_samples, model_name, metrics, metadata, created)
    where i.created
      and i.model_id is not null
    order by i.model_name collate "C"
    on conflict do nothing;
    get diagnostics v_inserted = row_count;

    -- Only now, when the names are ours, is it certain who had them before.
    if v_inserted > 0 then
        update ai_storage_private.ai_progress_tenant as p set
            version = d.last_version + 1
        from unnest(v_model_id, v_created) as i (model_id, created)
        cross join ai_storage_private.deleted_model as d
        where p.tenant_id = p_tenant_id
          and p.model_id = any (v_model_id)
          and p.model_id = i.model_id
          and i.created
          and d.tenant_id = p_tenant_id
          and d.model_name = any (v_name)
          and d.model_name = p.model_name;
    end if;

    -- All of them are locked: what they hold is what was saved.
    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, metrics, metadata
    )
    select
        p.tenant_id, p.model_id, p.version, p.mse, p.training_samples,
        p.updated_at, p.metrics, p.metadata
    from ai_storage_private.ai_progress_tenant as p
    where p.tenant_id = p_tenant_id
      and p.model_id = any (v_model_id)
    on conflict do nothing;
    get diagnostics v_kept = row_count;
    if v_kept <> v_updated + v_inserted then
        raise exception using
            errcode = '23505',
            message = 'a version that was to be saved is in the history already',
            hint = 'Somebody wrote into progress_version by hand; the audit trail tells who.';
    end if;

    -- Left over: what is not at the expected version, and names that somebody took meanwhile.
    if v_kept < cardinality(v_name) then
        for v_number in
            select i.number
            from unnest(v_model_id) with ordinality as i (model_id, number)
            where not exists (
                select from ai_storage_private.ai_progress_tenant as p
                where p.tenant_id = p_tenant_id
                  and p.model_id = any (v_model_id)
                  and p.model_id = i.model_id
            )
            order by i.number
        loop
            v_saved := ai_storage_private.write_progress(
                p_tenant_id, v_name[v_number], v_mse[v_number], v_samples[v_number],
                v_metrics[v_number], v_metadata[v_number], v_expected[v_number]
            );
            v_created[v_number] := v_saved.created;
        end loop;
    end if;

    return query
    select i.model_name, p.version, i.created, p.updated_at
    from unnest(v_place, v_name, v_created) as i (place, model_name, created)
    join ai_storage_private.ai_progress_tenant as p
        on p.tenant_id = p_tenant_id
        and p.model_name = any (v_name)
        and p.model_name = i.model_name
    order by i.place;
end;
$$;

ALTER FUNCTION ai_storage_private.write_batch(p_tenant_id bigint, p_items jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION write_batch(p_tenant_id bigint, p_items jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.write_batch(p_tenant_id bigint, p_items jsonb) IS 'write_progress() for many models at once, each named once, in a few statements. p_items: as is_item() wants them; the fields idempotency_key and owner are not looked at. READ COMMITTED only. Raises 22023, 23505, TN102.';

--
-- Name: write_chunks(bigint, uuid, integer, bytea); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    insert into ai_storage_private.artifact_chunk (
        tenant_id, blob_id, chunk_number, sha256, content
    )
    select p_tenant_id, p_blob_id, p_first + c.place, sha256(c.content), c.content
    from (
        select n.place, substr(p_content, n.place * 1048576 + 1, 1048576) as content
        from generate_series(0, (length(p_content) - 1) / 1048576) as n (place)
        offset 0 -- cut each chunk once
    ) as c
    where length(c.content) > 0
    on conflict do nothing;
end;
$$;

ALTER FUNCTION ai_storage_private.write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea) IS 'Writes bytes as chunks, from the number p_first on.';

--
-- Name: write_own_rows(bigint, text, jsonb, jsonb); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $_$
declare
    v_key     constant text := ai_storage_private.name_columns(p_table_name, p_of_key => true);
    v_columns constant text := ai_storage_private.name_columns(p_table_name, p_of_key => false);
begin
    if p_table_name = 'artifact_chunk' and exists (
        select from jsonb_populate_recordset(null::ai_storage_private.artifact_chunk, p_rows) as c
        where c.sha256 is distinct from sha256(c.content)
    ) then
        raise exception using
            errcode = '22023',
            message = 'the bytes of a chunk do not match their digest',
            hint = 'Pass rows as read_rows() returned them.';
    end if;
    execute format(
        'delete from ai_storage_private.%1$I '
            'where tenant_id = $1 and (%2$s) in ('
            'select %2$s from jsonb_populate_recordset(null::ai_storage_private.%1$I, $2))',
        p_table_name, v_key
    )
    using p_tenant_id, p_gone;
    execute format(
        'insert into ai_storage_private.%1$I '
            'select * from jsonb_populate_recordset(null::ai_storage_private.%1$I, $1) '
            'on conflict (%2$s) do update set (%3$s) = row(excluded.*)',
        p_table_name, v_key, v_columns
    )
    using p_rows;
end;
$_$;

ALTER FUNCTION ai_storage_private.write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb) IS 'Deletes and writes rows of the tenant of the context; policies refuse rows of others. Raises 22023, 42704.';

--
-- Name: write_progress(bigint, text, double precision, bigint, jsonb, jsonb, bigint, text, uuid); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE FUNCTION ai_storage_private.write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text DEFAULT NULL::text, p_model_id uuid DEFAULT NULL::uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql
    AS $$
declare
    v_metrics  constant jsonb := coalesce(p_metrics, '{}');
    v_metadata constant jsonb := coalesce(p_metadata, '{}');
    v_now      constant timestamptz := clock_timestamp();
    v_valid    boolean;
    v_model_id uuid;
begin
    -- Assigned, since PERFORM would run a query.
    v_valid := ai_storage_private.check_progress(
        p_model_name, p_mse, p_training_samples, v_metrics, v_metadata, p_expected_version
    );

    -- Two writers may meet at each step, so a step that finds the model changed under it goes round
    -- again.
    loop
        if p_expected_version is distinct from 0 then
            update ai_storage_private.ai_progress_tenant as p set
                version          = p.version + 1,
                mse              = p_mse,
                training_samples = p_training_samples,
                metrics          = v_metrics,
                metadata         = v_metadata,
                updated_at       = greatest(p.updated_at, v_now),
                saved_by         = p_saved_by
            where p.tenant_id = p_tenant_id
              and p.model_name = p_model_name
              and (p_expected_version is null or p.version = p_expected_version)
              and (p_model_id is null or p.model_id = p_model_id)
            returning p.model_id, p.version, p.updated_at
            into v_model_id, version, saved_at;

            created := false;
            exit when v_model_id is not null;
        end if;

        if p_model_id is null and coalesce(p_expected_version, 0) = 0 then
            -- A transaction of these levels does not see that the name was deleted since it began.
            -- To claim the name makes PostgreSQL notice, and refuse with 40001.
            if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
                insert into ai_storage_private.deleted_model (
                    tenant_id, last_version, deleted_at, model_name
                )
                values (p_tenant_id, 0, v_now, p_model_name)
                on conflict do nothing;
            end if;
            v_model_id := gen_random_uuid();
            insert into ai_storage_private.ai_progress_tenant (
                tenant_id, model_id, version, mse, training_samples,
                created_at, updated_at, saved_by, model_name, metrics, metadata
            )
            values (
                p_tenant_id, v_model_id, 1, p_mse, p_training_samples,
                v_now, v_now, p_saved_by, p_model_name, v_metrics, v_metadata
            )
            on conflict do nothing;
            if found then
                -- Only now, when the name is ours, is it certain who had it before.
                update ai_storage_private.ai_progress_tenant as p set
                    version = d.last_version + 1
                from ai_storage_private.deleted_model as d
                where p.tenant_id = p_tenant_id
                  and p.model_id = v_model_id
                  and d.tenant_id = p_tenant_id
                  and d.model_name = p_model_name
                returning p.version
                into version;
                version := coalesce(version, 1);
                created := true;
                saved_at := v_now;
                exit;
            end if;
        end if;

        if p_expected_version is not null then
            raise exception using
                errcode = 'TN102',
                message = 'the model is not at the expected version',
                detail = coalesce(
                    (
                        select format(
                            'Expected version %s, current version %s.',
                            p_expected_version, p.version
                        )
                        from ai_storage_private.ai_progress_tenant as p
                        where p.tenant_id = p_tenant_id
                          and p.model_name = p_model_name
                    ),
                    format('Expected version %s, but there is no such model.', p_expected_version)
                ),
                hint = 'Load the model again, decide what to keep, and save with the version you '
                    'loaded.';
        end if;
        if p_model_id is not null then
            -- Deleted while we waited for it. Another model of that name is not the one we mean.
            raise exception using
                errcode = 'TN101',
                message = 'no such model',
                hint = 'Check the name and the owner; a model of another tenant has to be shared '
                    'with you.';
        end if;
    end loop;

    insert into ai_storage_private.progress_version (
        tenant_id, model_id, version, mse, training_samples, saved_at, saved_by, metrics, metadata
    )
    values (
        p_tenant_id, v_model_id, version, p_mse, p_training_samples,
        saved_at, p_saved_by, v_metrics, v_metadata
    );
end;
$$;

ALTER FUNCTION ai_storage_private.write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) OWNER TO ai_storage_owner;

--
-- Name: FUNCTION write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON FUNCTION ai_storage_private.write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) IS 'Checks one model state and writes it as the next version. With write_batch() the only writer of ai_progress_tenant and progress_version. p_model_id: only this model, for a borrower. Raises 22023, TN101, TN102.';

--
-- Name: write_shared(ai_storage_private.acting_tenant, text, text, double precision, bigint, jsonb, jsonb, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    SET lock_timeout TO '2s'
    AS $$
declare
    v_context constant text := current_setting('app.tenant_context', true);
    v_share   constant ai_storage_private.model_share
        := ai_storage_private.borrow(p_tenant, p_owner, p_model_name, 'write');
begin
    select w.version, w.created, w.saved_at
    into version, created, saved_at
    from ai_storage_private.write_progress(
        v_share.tenant_id, p_model_name, p_mse, p_training_samples, p_metrics, p_metadata,
        p_expected_version, p_tenant.isolation_key, v_share.model_id
    ) as w;
    perform ai_storage_private.hurry();
    perform ai_storage_private.restore_context(v_context);
    perform ai_storage_private.record_use(
        'write model', p_tenant, array[v_share.tenant_id], array[p_owner],
        array[v_share.model_id], array[version], array[p_model_name]
    );
end;
$$;

ALTER FUNCTION ai_storage_private.write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) IS 'write_progress for a model of another tenant, which has to be shared for writing, also when the transaction commits. Raises 22023, 55P03, TN101, TN102.';

--
-- Name: write_shares(ai_storage_private.model_share, ai_storage_private.acting_tenant, text[], text[], timestamp with time zone, bigint); Type: FUNCTION; Schema: ai_storage_private; Owner: ai_storage_sharing
--

CREATE FUNCTION ai_storage_private.write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) RETURNS TABLE(share_id uuid, target text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'notice'
    AS $$
declare
    v_org       constant text := p_sharer.levels[1];
    v_ancestors constant uuid[] := array_remove(p_held.ancestors || p_held.share_id, null);
    v_given     uuid[] := '{}'::uuid[];
    v_given_to  text[] := '{}'::text[];
    v_before    uuid[];
    v_kept      uuid[];
    v_kept_to   text[];
    v_left      text[];
begin
    -- Around again when my other sessions give the same.
    loop
        v_before := array(
            select s.share_id
            from ai_storage_private.model_share as s
            where s.tenant_id = p_held.tenant_id
              and s.model_id = p_held.model_id
              and s.sharer_id = p_sharer.tenant_id
              and s.share_id <> all (v_given)
        );
        -- What is the same already stays, with all that was passed on from it.
        select v_given || array_agg(f.share_id), v_given_to || array_agg(f.target)
        into v_kept, v_kept_to
        from ai_storage_private.in_force(v_before, null) as f
        where f.target <> all (p_targets)
           or (
               f.permissions = p_permissions
               and f.expires_at is not distinct from p_expires_at
               and f.pinned_version is not distinct from p_version
               and f.ancestors = v_ancestors
           );
        -- In one order, so that two sessions of mine do not wait for each other.
        v_left := array(
            select t.target
            from unnest(p_targets) as t (target)
            where t.target <> all (v_kept_to)
            order by t.target
        );
        exit when v_left = '{}';
        if cardinality(v_kept) + cardinality(v_left) > 1000 then
            raise exception using
                errcode = 'TN305',
                message = 'too many grants on one model',
                hint = 'A sharer has up to 1,000 grants on a model. End some, or name a wider '
                    'target with *.';
        end if;
        delete from ai_storage_private.model_share as s
        where s.share_id = any (v_before)
          and s.share_id <> all (v_kept);
        with given as (
            insert into ai_storage_private.model_share as s (
                tenant_id, share_id, model_id, sharer_id, pinned_version, created_at, expires_at,
                model_name, owner_key, sharer_key, target, permissions, ancestors, sharer_ids,
                permit_ids
            )
            select
                p_held.tenant_id, gen_random_uuid(), p_held.model_id, p_sharer.tenant_id,
                p_version, clock_timestamp(), p_expires_at, p_held.model_name, p_held.owner_key,
                p_sharer.isolation_key, t.target, p_permissions, v_ancestors,
                p_held.sharer_ids || p_sharer.tenant_id,
                p_held.permit_ids || array(
                    select p.permit_id
                    from ai_storage_private.external_sharing_permit as p
                    where p.org_id = v_org
                      and p.to_org_id = split_part(t.target, ':', 1)
                      and p.permit_id <> all (p_held.permit_ids)
                )
            from unnest(v_left) as t (target)
            on conflict on constraint model_share_once_unique do nothing
            returning s.share_id, s.target
        )
        select v_given || array_agg(g.share_id), v_given_to || array_agg(g.target)
        into v_given, v_given_to
        from given as g;
    end loop;
    -- Not read again from the table: another session of mine may have ended one meanwhile.
    return query
    select v_kept[array_position(v_kept_to, t.target)], t.target
    from unnest(p_targets) with ordinality as t (target, place)
    order by t.place;
end;
$$;

ALTER FUNCTION ai_storage_private.write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) OWNER TO ai_storage_sharing;

--
-- Name: FUNCTION write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint); Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_sharing
--

COMMENT ON FUNCTION ai_storage_private.write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) IS 'Writes the grants of one call, in place of those that the same sharer gave to the same targets, and deletes those of its grants on the model that count no more. Raises TN305.';

--
-- Name: ai_progress_tenant; Type: VIEW; Schema: ai_storage; Owner: ai_storage_owner
--

CREATE VIEW ai_storage.ai_progress_tenant WITH (security_barrier='true') AS
 SELECT id,
    model_name,
    isolation_key,
    tenant_context,
    access_permissions,
    mse,
    training_samples,
    metadata,
    created_at
   FROM ai_storage_private.report_models() r(id, model_name, isolation_key, tenant_context, access_permissions, mse, training_samples, metadata, created_at);

ALTER VIEW ai_storage.ai_progress_tenant OWNER TO ai_storage_owner;

--
-- Name: VIEW ai_progress_tenant; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON VIEW ai_storage.ai_progress_tenant IS 'The models of the tenant that set_tenant set for this transaction; empty without one. For reporting, by members of ai_storage_sql.';

--
-- Name: COLUMN ai_progress_tenant.id; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.id IS 'Random id of the model.';

--
-- Name: COLUMN ai_progress_tenant.model_name; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.model_name IS 'Name of the model.';

--
-- Name: COLUMN ai_progress_tenant.isolation_key; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.isolation_key IS 'The tenant''s isolation key.';

--
-- Name: COLUMN ai_progress_tenant.tenant_context; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.tenant_context IS 'The five levels as an object: orgId, serverId, projectId, environment, codeHash.';

--
-- Name: COLUMN ai_progress_tenant.access_permissions; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.access_permissions IS 'What the tenant may do with the model.';

--
-- Name: COLUMN ai_progress_tenant.mse; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.mse IS 'Mean squared error, or null.';

--
-- Name: COLUMN ai_progress_tenant.training_samples; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.training_samples IS 'Samples trained on, or null.';

--
-- Name: COLUMN ai_progress_tenant.metadata; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.metadata IS 'Anything else that was saved.';

--
-- Name: COLUMN ai_progress_tenant.created_at; Type: COMMENT; Schema: ai_storage; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage.ai_progress_tenant.created_at IS 'When the model was first saved.';

--
-- Name: _yoyo_log; Type: TABLE; Schema: ai_storage_migration; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_migration._yoyo_log (
    id character varying(36) NOT NULL,
    migration_hash character varying(64),
    migration_id character varying(255),
    operation character varying(10),
    username character varying(255),
    hostname character varying(255),
    comment character varying(255),
    created_at_utc timestamp without time zone
);

ALTER TABLE ai_storage_migration._yoyo_log OWNER TO ai_storage_owner;

--
-- Name: _yoyo_migration; Type: TABLE; Schema: ai_storage_migration; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_migration._yoyo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied_at_utc timestamp without time zone
);

ALTER TABLE ai_storage_migration._yoyo_migration OWNER TO ai_storage_owner;

--
-- Name: _yoyo_version; Type: TABLE; Schema: ai_storage_migration; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_migration._yoyo_version (
    version integer NOT NULL,
    installed_at_utc timestamp without time zone
);

ALTER TABLE ai_storage_migration._yoyo_version OWNER TO ai_storage_owner;

--
-- Name: applied_file; Type: TABLE; Schema: ai_storage_migration; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_migration.applied_file (
    path text NOT NULL,
    sha256 text NOT NULL,
    release text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE ai_storage_migration.applied_file OWNER TO ai_storage_owner;

--
-- Name: artifact_blob; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.artifact_blob (
    tenant_id bigint NOT NULL,
    blob_id uuid NOT NULL,
    size_bytes bigint NOT NULL,
    put_at timestamp with time zone NOT NULL,
    sha256 bytea NOT NULL,
    CONSTRAINT artifact_blob_size_not_negative CHECK ((size_bytes >= 0))
);

ALTER TABLE ONLY ai_storage_private.artifact_blob FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.artifact_blob OWNER TO ai_storage_owner;

--
-- Name: TABLE artifact_blob; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.artifact_blob IS 'Contents, once each in a tenant.';

--
-- Name: COLUMN artifact_blob.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_blob.tenant_id IS 'The tenant that has it.';

--
-- Name: COLUMN artifact_blob.blob_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_blob.blob_id IS 'Random id of the content.';

--
-- Name: COLUMN artifact_blob.size_bytes; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_blob.size_bytes IS 'How many bytes it is.';

--
-- Name: COLUMN artifact_blob.put_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_blob.put_at IS 'When it was last put.';

--
-- Name: COLUMN artifact_blob.sha256; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_blob.sha256 IS 'Of the bytes; above 1 MiB of the sha256s of the chunks.';

--
-- Name: artifact_chunk; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.artifact_chunk (
    tenant_id bigint NOT NULL,
    blob_id uuid NOT NULL,
    chunk_number integer NOT NULL,
    sha256 bytea NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT artifact_chunk_size CHECK (((length(content) >= 1) AND (length(content) <= 1048576)))
);
ALTER TABLE ONLY ai_storage_private.artifact_chunk ALTER COLUMN content SET STORAGE EXTERNAL;

ALTER TABLE ONLY ai_storage_private.artifact_chunk FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.artifact_chunk OWNER TO ai_storage_owner;

--
-- Name: TABLE artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.artifact_chunk IS 'The bytes: chunks of 1 MiB, the last of a content smaller.';

--
-- Name: COLUMN artifact_chunk.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_chunk.tenant_id IS 'The tenant that has them.';

--
-- Name: COLUMN artifact_chunk.blob_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_chunk.blob_id IS 'The content or upload.';

--
-- Name: COLUMN artifact_chunk.chunk_number; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_chunk.chunk_number IS 'Its number, from 0.';

--
-- Name: COLUMN artifact_chunk.sha256; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_chunk.sha256 IS 'Of these bytes.';

--
-- Name: COLUMN artifact_chunk.content; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_chunk.content IS 'The bytes.';

--
-- Name: artifact_limit; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.artifact_limit (
    max_bytes bigint NOT NULL,
    CONSTRAINT artifact_limit_positive CHECK ((max_bytes > 0))
);

ALTER TABLE ONLY ai_storage_private.artifact_limit FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.artifact_limit OWNER TO ai_storage_owner;

--
-- Name: TABLE artifact_limit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.artifact_limit IS 'How large one artifact may be: one row.';

--
-- Name: COLUMN artifact_limit.max_bytes; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.artifact_limit.max_bytes IS 'The most bytes.';

--
-- Name: audit_pending; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.audit_pending (
    tenant_id bigint NOT NULL,
    event_id uuid NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    version bigint,
    model_id uuid,
    action text NOT NULL COLLATE pg_catalog."C",
    login text NOT NULL COLLATE pg_catalog."C",
    credential text NOT NULL COLLATE pg_catalog."C",
    content_digest bytea,
    detail_digest bytea NOT NULL,
    salt uuid,
    detail text COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.audit_pending FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.audit_pending OWNER TO ai_storage_owner;

--
-- Name: TABLE audit_pending; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.audit_pending IS 'Events that no seal covers yet.';

--
-- Name: COLUMN audit_pending.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.tenant_id IS 'Whose log it is in; 0: the operator''s.';

--
-- Name: COLUMN audit_pending.event_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.event_id IS 'Id of the event; ids are in the order of time.';

--
-- Name: COLUMN audit_pending.recorded_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.recorded_at IS 'When it happened, by the clock and not by the transaction.';

--
-- Name: COLUMN audit_pending.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.version IS 'The model''s version, or null.';

--
-- Name: COLUMN audit_pending.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.model_id IS 'The model, or null.';

--
-- Name: COLUMN audit_pending.action; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.action IS 'What happened, such as save model.';

--
-- Name: COLUMN audit_pending.login; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.login IS 'The login that did it.';

--
-- Name: COLUMN audit_pending.credential; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.credential IS 'key, token and its kid, operator, shared for what another tenant did, or none for a change by hand.';

--
-- Name: COLUMN audit_pending.content_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.content_digest IS 'sha256 of salt and content, or null.';

--
-- Name: COLUMN audit_pending.detail_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.detail_digest IS 'sha256 of salt and detail.';

--
-- Name: COLUMN audit_pending.salt; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.salt IS 'What keeps the digests from being guessed; null after an erasure.';

--
-- Name: COLUMN audit_pending.detail; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.audit_pending.detail IS 'Names, as JSON; null after an erasure.';

--
-- Name: cell; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.cell (
    cell_name text NOT NULL COLLATE pg_catalog."C",
    is_here boolean NOT NULL,
    takes_new boolean NOT NULL,
    CONSTRAINT cell_cell_name_valid CHECK ((cell_name ~ '^[A-Za-z0-9._-]{1,63}$'::text))
);

ALTER TABLE ONLY ai_storage_private.cell FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.cell OWNER TO ai_storage_owner;

--
-- Name: TABLE cell; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.cell IS 'The cells that divide the organisations among them. Empty: this server is alone.';

--
-- Name: COLUMN cell.cell_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.cell.cell_name IS 'Name of the cell: 1 to 63 characters out of A-Z a-z 0-9 . _ -';

--
-- Name: COLUMN cell.is_here; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.cell.is_here IS 'Whether this database is the cell.';

--
-- Name: COLUMN cell.takes_new; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.cell.takes_new IS 'Whether new organisations live in it.';

--
-- Name: context_secret; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.context_secret (
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL,
    CONSTRAINT context_secret_block_size CHECK (((length(inner_key) = 64) AND (length(outer_key) = 64)))
);

ALTER TABLE ONLY ai_storage_private.context_secret FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.context_secret OWNER TO ai_storage_owner;

--
-- Name: TABLE context_secret; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.context_secret IS 'The one secret that signs transaction contexts. Never leaves the database except in a dump.';

--
-- Name: COLUMN context_secret.inner_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.context_secret.inner_key IS 'Key of the inner hash, 64 random bytes.';

--
-- Name: COLUMN context_secret.outer_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.context_secret.outer_key IS 'Key of the outer hash, 64 random bytes.';

--
-- Name: deleted_model; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.deleted_model (
    tenant_id bigint NOT NULL,
    last_version bigint NOT NULL,
    deleted_at timestamp with time zone NOT NULL,
    model_name text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.deleted_model FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.deleted_model OWNER TO ai_storage_owner;

--
-- Name: TABLE deleted_model; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.deleted_model IS 'The last version of each deleted name, so that no version is ever given twice; 0 for a name that was only claimed.';

--
-- Name: COLUMN deleted_model.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.deleted_model.tenant_id IS 'The tenant that owned the model.';

--
-- Name: COLUMN deleted_model.last_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.deleted_model.last_version IS 'The last version that was given.';

--
-- Name: COLUMN deleted_model.deleted_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.deleted_model.deleted_at IS 'When the model was deleted.';

--
-- Name: COLUMN deleted_model.model_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.deleted_model.model_name IS 'The name that was deleted.';

--
-- Name: erasure_certificate; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.erasure_certificate (
    certificate_id uuid NOT NULL,
    event_id uuid NOT NULL,
    erased_at timestamp with time zone NOT NULL,
    statement text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.erasure_certificate FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.erasure_certificate OWNER TO ai_storage_owner;

--
-- Name: TABLE erasure_certificate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.erasure_certificate IS 'What was erased, and when.';

--
-- Name: COLUMN erasure_certificate.certificate_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.erasure_certificate.certificate_id IS 'Id of the certificate.';

--
-- Name: COLUMN erasure_certificate.event_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.erasure_certificate.event_id IS 'The event in the operator''s log that holds the statement''s digest.';

--
-- Name: COLUMN erasure_certificate.erased_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.erasure_certificate.erased_at IS 'When it was erased.';

--
-- Name: COLUMN erasure_certificate.statement; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.erasure_certificate.statement IS 'What was erased, as JSON text: pattern, reason, and each tenant with its counts.';

--
-- Name: external_sharing_permit; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.external_sharing_permit (
    permit_id uuid DEFAULT gen_random_uuid() NOT NULL,
    org_id text NOT NULL COLLATE pg_catalog."C",
    to_org_id text NOT NULL COLLATE pg_catalog."C",
    permitted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    permitted_by name DEFAULT SESSION_USER NOT NULL
);

ALTER TABLE ONLY ai_storage_private.external_sharing_permit FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.external_sharing_permit OWNER TO ai_storage_owner;

--
-- Name: TABLE external_sharing_permit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.external_sharing_permit IS 'Which organisation may share models with which other.';

--
-- Name: COLUMN external_sharing_permit.permit_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.external_sharing_permit.permit_id IS 'Random id: a permit given again is another one.';

--
-- Name: COLUMN external_sharing_permit.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.external_sharing_permit.org_id IS 'The organisation that shares.';

--
-- Name: COLUMN external_sharing_permit.to_org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.external_sharing_permit.to_org_id IS 'The organisation that receives.';

--
-- Name: COLUMN external_sharing_permit.permitted_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.external_sharing_permit.permitted_at IS 'Since when.';

--
-- Name: COLUMN external_sharing_permit.permitted_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.external_sharing_permit.permitted_by IS 'The login that permitted it.';

--
-- Name: home; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.home (
    org_id text NOT NULL COLLATE pg_catalog."C",
    cell_name text NOT NULL COLLATE pg_catalog."C",
    is_moving boolean NOT NULL
);

ALTER TABLE ONLY ai_storage_private.home FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.home OWNER TO ai_storage_owner;

--
-- Name: TABLE home; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.home IS 'Where organisations live.';

--
-- Name: COLUMN home.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.home.org_id IS 'Level 1 of the organisation''s tenants.';

--
-- Name: COLUMN home.cell_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.home.cell_name IS 'The cell that the organisation lives in.';

--
-- Name: COLUMN home.is_moving; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.home.is_moving IS 'Whether the organisation is being moved: every cell refuses its calls.';

--
-- Name: idempotency_key; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.idempotency_key (
    tenant_id bigint NOT NULL,
    version bigint,
    saved_at timestamp with time zone NOT NULL,
    created boolean,
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    request_digest bytea NOT NULL,
    sent_digest bytea
);

ALTER TABLE ONLY ai_storage_private.idempotency_key FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.idempotency_key OWNER TO ai_storage_owner;

--
-- Name: TABLE idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.idempotency_key IS 'First answers of saves that carried an idempotency key.';

--
-- Name: COLUMN idempotency_key.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.tenant_id IS 'The tenant that saved.';

--
-- Name: COLUMN idempotency_key.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.version IS 'Version in the first answer; null while that save is still running.';

--
-- Name: COLUMN idempotency_key.saved_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.saved_at IS 'Time in the first answer.';

--
-- Name: COLUMN idempotency_key.created; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.created IS 'Whether the first save created the model.';

--
-- Name: COLUMN idempotency_key.idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.idempotency_key IS 'The key, 1 to 255 characters, chosen by the caller.';

--
-- Name: COLUMN idempotency_key.request_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.request_digest IS 'sha256 of the first request: tells a repetition from another request.';

--
-- Name: COLUMN idempotency_key.sent_digest; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.idempotency_key.sent_digest IS 'For a save with artifacts, sha256 of the first request with the ids of its uploads.';

--
-- Name: login_authorization; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.login_authorization (
    login_name name NOT NULL,
    org_id text NOT NULL COLLATE pg_catalog."C",
    server_id text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    code_hash text NOT NULL COLLATE pg_catalog."C",
    token_only boolean NOT NULL,
    authorized_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    authorized_by name DEFAULT SESSION_USER NOT NULL
);

ALTER TABLE ONLY ai_storage_private.login_authorization FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.login_authorization OWNER TO ai_storage_owner;

--
-- Name: TABLE login_authorization; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.login_authorization IS 'Which login may name which tenants. Each level is a value or *, which stands for any.';

--
-- Name: COLUMN login_authorization.login_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.login_name IS 'The login role, as session_user shows it.';

--
-- Name: COLUMN login_authorization.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.org_id IS 'An organisation, or *.';

--
-- Name: COLUMN login_authorization.server_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.server_id IS 'A server, or *.';

--
-- Name: COLUMN login_authorization.project_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.project_id IS 'A project, or *.';

--
-- Name: COLUMN login_authorization.environment; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.environment IS 'An environment, or *.';

--
-- Name: COLUMN login_authorization.code_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.code_hash IS 'A code version, or *.';

--
-- Name: COLUMN login_authorization.token_only; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.token_only IS 'True: an isolation key is not enough, the login has to present a signed token.';

--
-- Name: COLUMN login_authorization.authorized_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.authorized_at IS 'When the authorisation was given.';

--
-- Name: COLUMN login_authorization.authorized_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.login_authorization.authorized_by IS 'The login that gave it.';

--
-- Name: model_artifact; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.model_artifact (
    tenant_id bigint NOT NULL,
    model_id uuid NOT NULL,
    version bigint NOT NULL,
    blob_id uuid NOT NULL,
    put_at timestamp with time zone NOT NULL,
    artifact_name text NOT NULL COLLATE pg_catalog."C",
    media_type text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.model_artifact FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.model_artifact OWNER TO ai_storage_owner;

--
-- Name: TABLE model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.model_artifact IS 'Names for contents: which bytes belong to a version of a model.';

--
-- Name: COLUMN model_artifact.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.tenant_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN model_artifact.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.model_id IS 'The model.';

--
-- Name: COLUMN model_artifact.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.version IS 'The model''s version that it belongs to.';

--
-- Name: COLUMN model_artifact.blob_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.blob_id IS 'The content.';

--
-- Name: COLUMN model_artifact.put_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.put_at IS 'When it was put.';

--
-- Name: COLUMN model_artifact.artifact_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.artifact_name IS 'Its name in the model, 1 to 255 characters.';

--
-- Name: COLUMN model_artifact.media_type; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.model_artifact.media_type IS 'What the bytes are.';

--
-- Name: progress_version; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.progress_version (
    tenant_id bigint NOT NULL,
    model_id uuid NOT NULL,
    version bigint NOT NULL,
    mse double precision,
    training_samples bigint,
    saved_at timestamp with time zone NOT NULL,
    saved_by text COLLATE pg_catalog."C",
    metrics jsonb NOT NULL,
    metadata jsonb NOT NULL
);

ALTER TABLE ONLY ai_storage_private.progress_version FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.progress_version OWNER TO ai_storage_owner;

--
-- Name: TABLE progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.progress_version IS 'Every saved version of every model: the training curve.';

--
-- Name: COLUMN progress_version.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.tenant_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN progress_version.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.model_id IS 'The model.';

--
-- Name: COLUMN progress_version.version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.version IS 'The version, from 1.';

--
-- Name: COLUMN progress_version.mse; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.mse IS 'Mean squared error of this version, or null.';

--
-- Name: COLUMN progress_version.training_samples; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.training_samples IS 'Samples trained on up to this version, or null.';

--
-- Name: COLUMN progress_version.saved_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.saved_at IS 'When this version was saved.';

--
-- Name: COLUMN progress_version.saved_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.saved_by IS 'Isolation key of the tenant that saved it, or null for the owner.';

--
-- Name: COLUMN progress_version.metrics; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.metrics IS 'Further measures of this version.';

--
-- Name: COLUMN progress_version.metadata; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.progress_version.metadata IS 'Metadata of this version.';

--
-- Name: quota; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.quota (
    org_id text NOT NULL COLLATE pg_catalog."C",
    server_id text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    code_hash text NOT NULL COLLATE pg_catalog."C",
    max_models bigint,
    max_bytes bigint,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    set_by name DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT quota_bytes_not_negative CHECK ((max_bytes >= 0)),
    CONSTRAINT quota_models_not_negative CHECK ((max_models >= 0))
);

ALTER TABLE ONLY ai_storage_private.quota FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.quota OWNER TO ai_storage_owner;

--
-- Name: TABLE quota; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.quota IS 'How much the tenants of a pattern may keep in an organisation.';

--
-- Name: COLUMN quota.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.org_id IS 'Level 1 of the pattern, or *: each organisation by itself.';

--
-- Name: COLUMN quota.server_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.server_id IS 'Level 2 of the pattern, or *.';

--
-- Name: COLUMN quota.project_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.project_id IS 'Level 3 of the pattern, or *.';

--
-- Name: COLUMN quota.environment; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.environment IS 'Level 4 of the pattern, or *.';

--
-- Name: COLUMN quota.code_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.code_hash IS 'Level 5 of the pattern, or *.';

--
-- Name: COLUMN quota.max_models; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.max_models IS 'The most models; null: no limit.';

--
-- Name: COLUMN quota.max_bytes; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.max_bytes IS 'The most bytes of artifacts and uploads; null: no limit.';

--
-- Name: COLUMN quota.set_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.set_at IS 'When the quota was set.';

--
-- Name: COLUMN quota.set_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota.set_by IS 'The login that set it.';

--
-- Name: quota_use; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.quota_use (
    org_id text NOT NULL COLLATE pg_catalog."C",
    server_id text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    code_hash text NOT NULL COLLATE pg_catalog."C",
    models bigint NOT NULL,
    bytes bigint NOT NULL
)
WITH (fillfactor='50');

ALTER TABLE ONLY ai_storage_private.quota_use FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.quota_use OWNER TO ai_storage_owner;

--
-- Name: TABLE quota_use; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.quota_use IS 'What an organisation''s tenants of a pattern keep, for the patterns of quotas. The row of no organisation is changed with each quota, so that an older snapshot is noticed.';

--
-- Name: COLUMN quota_use.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.org_id IS 'The organisation.';

--
-- Name: COLUMN quota_use.server_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.server_id IS 'Level 2 of the pattern, or *.';

--
-- Name: COLUMN quota_use.project_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.project_id IS 'Level 3 of the pattern, or *.';

--
-- Name: COLUMN quota_use.environment; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.environment IS 'Level 4 of the pattern, or *.';

--
-- Name: COLUMN quota_use.code_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.code_hash IS 'Level 5 of the pattern, or *.';

--
-- Name: COLUMN quota_use.models; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.models IS 'How many models there are.';

--
-- Name: COLUMN quota_use.bytes; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.quota_use.bytes IS 'How many bytes artifacts and uploads have; a content that a tenant has twice counts once.';

--
-- Name: refusal_report; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.refusal_report (
    reported bigint NOT NULL
);

ALTER TABLE ONLY ai_storage_private.refusal_report FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.refusal_report OWNER TO ai_storage_owner;

--
-- Name: TABLE refusal_report; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.refusal_report IS 'How many refused credentials the log has told of so far.';

--
-- Name: COLUMN refusal_report.reported; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.refusal_report.reported IS 'The count that the last event told.';

--
-- Name: refused_credential; Type: SEQUENCE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE SEQUENCE ai_storage_private.refused_credential
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE ai_storage_private.refused_credential OWNER TO ai_storage_owner;

--
-- Name: retention_gate; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.retention_gate (
    changed_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY ai_storage_private.retention_gate FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.retention_gate OWNER TO ai_storage_owner;

--
-- Name: TABLE retention_gate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.retention_gate IS 'One row, where rules and deletions meet: whoever changes a rule locks it exclusively, whoever deletes locks it for share when it commits.';

--
-- Name: COLUMN retention_gate.changed_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_gate.changed_at IS 'When a rule was last changed.';

--
-- Name: retention_rule; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.retention_rule (
    org_id text NOT NULL COLLATE pg_catalog."C",
    server_id text NOT NULL COLLATE pg_catalog."C",
    project_id text NOT NULL COLLATE pg_catalog."C",
    environment text NOT NULL COLLATE pg_catalog."C",
    code_hash text NOT NULL COLLATE pg_catalog."C",
    keep_versions integer,
    keep_versions_for interval,
    keep_events_for interval,
    legal_hold boolean NOT NULL,
    set_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    set_by name DEFAULT SESSION_USER NOT NULL,
    CONSTRAINT retention_rule_events_for_positive CHECK ((keep_events_for > '00:00:00'::interval)),
    CONSTRAINT retention_rule_keeps_the_current CHECK ((keep_versions > 0)),
    CONSTRAINT retention_rule_versions_for_positive CHECK ((keep_versions_for > '00:00:00'::interval))
);

ALTER TABLE ONLY ai_storage_private.retention_rule FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.retention_rule OWNER TO ai_storage_owner;

--
-- Name: TABLE retention_rule; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.retention_rule IS 'How long the data of the tenants of a pattern is kept.';

--
-- Name: COLUMN retention_rule.org_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.org_id IS 'Level 1 of the pattern, or *.';

--
-- Name: COLUMN retention_rule.server_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.server_id IS 'Level 2 of the pattern, or *.';

--
-- Name: COLUMN retention_rule.project_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.project_id IS 'Level 3 of the pattern, or *.';

--
-- Name: COLUMN retention_rule.environment; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.environment IS 'Level 4 of the pattern, or *.';

--
-- Name: COLUMN retention_rule.code_hash; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.code_hash IS 'Level 5 of the pattern, or *.';

--
-- Name: COLUMN retention_rule.keep_versions; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.keep_versions IS 'How many versions of a model are kept at most; null: all.';

--
-- Name: COLUMN retention_rule.keep_versions_for; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.keep_versions_for IS 'How long a version is kept that is no longer the current one; null: for ever.';

--
-- Name: COLUMN retention_rule.keep_events_for; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.keep_events_for IS 'How long events keep salt and detail; null: for ever.';

--
-- Name: COLUMN retention_rule.legal_hold; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.legal_hold IS 'Whether nothing of these tenants may be deleted or erased.';

--
-- Name: COLUMN retention_rule.set_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.set_at IS 'When the rule was set.';

--
-- Name: COLUMN retention_rule.set_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.retention_rule.set_by IS 'The login that set it.';

--
-- Name: share_decline; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.share_decline (
    tenant_id bigint NOT NULL,
    owner_id bigint NOT NULL,
    model_id uuid NOT NULL,
    sharer_id bigint NOT NULL,
    declined_at timestamp with time zone NOT NULL,
    model_name text NOT NULL COLLATE pg_catalog."C",
    owner_key text NOT NULL COLLATE pg_catalog."C",
    sharer_key text NOT NULL COLLATE pg_catalog."C",
    receiver_key text NOT NULL COLLATE pg_catalog."C"
);

ALTER TABLE ONLY ai_storage_private.share_decline FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.share_decline OWNER TO ai_storage_owner;

--
-- Name: TABLE share_decline; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.share_decline IS 'Models that a tenant does not want from a sharer, whatever that one grants later.';

--
-- Name: COLUMN share_decline.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.tenant_id IS 'The tenant that declined.';

--
-- Name: COLUMN share_decline.owner_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.owner_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN share_decline.model_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.model_id IS 'The model as it was then.';

--
-- Name: COLUMN share_decline.sharer_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.sharer_id IS 'The tenant whose grants are declined.';

--
-- Name: COLUMN share_decline.declined_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.declined_at IS 'Since when.';

--
-- Name: COLUMN share_decline.model_name; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.model_name IS 'The model, by name: a later one of that name is declined too.';

--
-- Name: COLUMN share_decline.owner_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.owner_key IS 'Isolation key of the owner.';

--
-- Name: COLUMN share_decline.sharer_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.sharer_key IS 'Isolation key of the sharer.';

--
-- Name: COLUMN share_decline.receiver_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_decline.receiver_key IS 'Isolation key of the tenant that declined.';

--
-- Name: share_end; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.share_end (
    tenant_id bigint NOT NULL,
    share_id uuid NOT NULL,
    ended_by bigint NOT NULL,
    ended_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY ai_storage_private.share_end FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.share_end OWNER TO ai_storage_owner;

--
-- Name: TABLE share_end; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.share_end IS 'Grants that a tenant above their sharer ended. apply_retention() deletes them with the grant.';

--
-- Name: COLUMN share_end.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_end.tenant_id IS 'The tenant that owns the model.';

--
-- Name: COLUMN share_end.share_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_end.share_id IS 'The grant.';

--
-- Name: COLUMN share_end.ended_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_end.ended_by IS 'The tenant that ended it.';

--
-- Name: COLUMN share_end.ended_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.share_end.ended_at IS 'When.';

--
-- Name: signing_key; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.signing_key (
    kid text NOT NULL COLLATE pg_catalog."C",
    audience text NOT NULL COLLATE pg_catalog."C",
    inner_pad bytea NOT NULL,
    outer_pad bytea NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by name DEFAULT SESSION_USER NOT NULL,
    retired_at timestamp with time zone,
    CONSTRAINT signing_key_pad_size CHECK (((length(inner_pad) = 64) AND (length(outer_pad) = 64)))
);

ALTER TABLE ONLY ai_storage_private.signing_key FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.signing_key OWNER TO ai_storage_owner;

--
-- Name: TABLE signing_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.signing_key IS 'Keys that sign tokens. Only the functions that verify tokens read them.';

--
-- Name: COLUMN signing_key.kid; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.kid IS 'Name of the key, in the header of a token.';

--
-- Name: COLUMN signing_key.audience; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.audience IS 'What a token has to name as aud.';

--
-- Name: COLUMN signing_key.inner_pad; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.inner_pad IS 'The secret, padded to 64 bytes, xor 0x36: the inner key of HMAC.';

--
-- Name: COLUMN signing_key.outer_pad; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.outer_pad IS 'The secret, padded to 64 bytes, xor 0x5c: the outer key of HMAC.';

--
-- Name: COLUMN signing_key.created_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.created_at IS 'Since when.';

--
-- Name: COLUMN signing_key.created_by; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.created_by IS 'The login that made it.';

--
-- Name: COLUMN signing_key.retired_at; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.signing_key.retired_at IS 'Since when its tokens are refused, or null.';

--
-- Name: tenant_cache_key; Type: TABLE; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TABLE ai_storage_private.tenant_cache_key (
    tenant_id bigint NOT NULL,
    cache_key bytea NOT NULL,
    CONSTRAINT tenant_cache_key_size CHECK ((length(cache_key) = 32))
);

ALTER TABLE ONLY ai_storage_private.tenant_cache_key FORCE ROW LEVEL SECURITY;

ALTER TABLE ai_storage_private.tenant_cache_key OWNER TO ai_storage_owner;

--
-- Name: TABLE tenant_cache_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TABLE ai_storage_private.tenant_cache_key IS 'Keys that seal what a cache outside the database keeps for a tenant.';

--
-- Name: COLUMN tenant_cache_key.tenant_id; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant_cache_key.tenant_id IS 'The tenant.';

--
-- Name: COLUMN tenant_cache_key.cache_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON COLUMN ai_storage_private.tenant_cache_key.cache_key IS '32 random bytes; an erasure destroys them.';

--
-- Name: _yoyo_log _yoyo_log_pkey; Type: CONSTRAINT; Schema: ai_storage_migration; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_migration._yoyo_log
    ADD CONSTRAINT _yoyo_log_pkey PRIMARY KEY (id);

--
-- Name: _yoyo_migration _yoyo_migration_pkey; Type: CONSTRAINT; Schema: ai_storage_migration; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_migration._yoyo_migration
    ADD CONSTRAINT _yoyo_migration_pkey PRIMARY KEY (migration_hash);

--
-- Name: _yoyo_version _yoyo_version_pkey; Type: CONSTRAINT; Schema: ai_storage_migration; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_migration._yoyo_version
    ADD CONSTRAINT _yoyo_version_pkey PRIMARY KEY (version);

--
-- Name: applied_file applied_file_pk; Type: CONSTRAINT; Schema: ai_storage_migration; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_migration.applied_file
    ADD CONSTRAINT applied_file_pk PRIMARY KEY (path);

--
-- Name: ai_progress_tenant ai_progress_tenant_model_name_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.ai_progress_tenant
    ADD CONSTRAINT ai_progress_tenant_model_name_unique UNIQUE (tenant_id, model_name);

--
-- Name: ai_progress_tenant ai_progress_tenant_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.ai_progress_tenant
    ADD CONSTRAINT ai_progress_tenant_pk PRIMARY KEY (tenant_id, model_id);

--
-- Name: artifact_blob artifact_blob_content_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.artifact_blob
    ADD CONSTRAINT artifact_blob_content_unique UNIQUE (tenant_id, sha256, size_bytes);

--
-- Name: artifact_blob artifact_blob_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.artifact_blob
    ADD CONSTRAINT artifact_blob_pk PRIMARY KEY (tenant_id, blob_id);

--
-- Name: artifact_chunk artifact_chunk_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.artifact_chunk
    ADD CONSTRAINT artifact_chunk_pk PRIMARY KEY (tenant_id, blob_id, chunk_number);

--
-- Name: artifact_upload artifact_upload_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.artifact_upload
    ADD CONSTRAINT artifact_upload_pk PRIMARY KEY (tenant_id, upload_id);

--
-- Name: audit_checkpoint audit_checkpoint_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.audit_checkpoint
    ADD CONSTRAINT audit_checkpoint_pk PRIMARY KEY (checkpoint_number);

--
-- Name: audit_event audit_event_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.audit_event
    ADD CONSTRAINT audit_event_pk PRIMARY KEY (tenant_id, event_id);

--
-- Name: audit_event audit_event_place_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.audit_event
    ADD CONSTRAINT audit_event_place_unique UNIQUE (tenant_id, seal_number, leaf_index);

--
-- Name: audit_pending audit_pending_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.audit_pending
    ADD CONSTRAINT audit_pending_pk PRIMARY KEY (tenant_id, event_id);

--
-- Name: audit_seal audit_seal_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.audit_seal
    ADD CONSTRAINT audit_seal_pk PRIMARY KEY (tenant_id, seal_number);

--
-- Name: cell cell_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.cell
    ADD CONSTRAINT cell_pk PRIMARY KEY (cell_name);

--
-- Name: deleted_model deleted_model_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.deleted_model
    ADD CONSTRAINT deleted_model_pk PRIMARY KEY (tenant_id, model_name);

--
-- Name: erasure_certificate erasure_certificate_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.erasure_certificate
    ADD CONSTRAINT erasure_certificate_pk PRIMARY KEY (certificate_id);

--
-- Name: external_sharing_permit external_sharing_permit_id_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.external_sharing_permit
    ADD CONSTRAINT external_sharing_permit_id_unique UNIQUE (permit_id);

--
-- Name: external_sharing_permit external_sharing_permit_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.external_sharing_permit
    ADD CONSTRAINT external_sharing_permit_pk PRIMARY KEY (org_id, to_org_id);

--
-- Name: home home_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.home
    ADD CONSTRAINT home_pk PRIMARY KEY (org_id);

--
-- Name: idempotency_key idempotency_key_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.idempotency_key
    ADD CONSTRAINT idempotency_key_pk PRIMARY KEY (tenant_id, idempotency_key);

--
-- Name: login_authorization login_authorization_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.login_authorization
    ADD CONSTRAINT login_authorization_pk PRIMARY KEY (login_name, org_id, server_id, project_id, environment, code_hash);

--
-- Name: model_artifact model_artifact_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.model_artifact
    ADD CONSTRAINT model_artifact_pk PRIMARY KEY (tenant_id, model_id, artifact_name, version);

--
-- Name: model_share model_share_once_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.model_share
    ADD CONSTRAINT model_share_once_unique UNIQUE (tenant_id, model_id, sharer_id, target);

--
-- Name: model_share model_share_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.model_share
    ADD CONSTRAINT model_share_pk PRIMARY KEY (share_id);

--
-- Name: progress_version progress_version_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.progress_version
    ADD CONSTRAINT progress_version_pk PRIMARY KEY (tenant_id, model_id, version);

--
-- Name: quota quota_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.quota
    ADD CONSTRAINT quota_pk PRIMARY KEY (org_id, server_id, project_id, environment, code_hash);

--
-- Name: quota_use quota_use_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.quota_use
    ADD CONSTRAINT quota_use_pk PRIMARY KEY (org_id, server_id, project_id, environment, code_hash);

--
-- Name: retention_rule retention_rule_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.retention_rule
    ADD CONSTRAINT retention_rule_pk PRIMARY KEY (org_id, server_id, project_id, environment, code_hash);

--
-- Name: share_decline share_decline_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.share_decline
    ADD CONSTRAINT share_decline_pk PRIMARY KEY (tenant_id, owner_id, model_name, sharer_id);

--
-- Name: share_end share_end_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.share_end
    ADD CONSTRAINT share_end_pk PRIMARY KEY (share_id, ended_by);

--
-- Name: signing_key signing_key_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.signing_key
    ADD CONSTRAINT signing_key_pk PRIMARY KEY (kid);

--
-- Name: tenant_cache_key tenant_cache_key_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.tenant_cache_key
    ADD CONSTRAINT tenant_cache_key_pk PRIMARY KEY (tenant_id);

--
-- Name: tenant tenant_isolation_key_unique; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.tenant
    ADD CONSTRAINT tenant_isolation_key_unique UNIQUE (isolation_key);

--
-- Name: tenant tenant_pk; Type: CONSTRAINT; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ONLY ai_storage_private.tenant
    ADD CONSTRAINT tenant_pk PRIMARY KEY (tenant_id);

--
-- Name: artifact_limit_single; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX artifact_limit_single ON ai_storage_private.artifact_limit USING btree ((true));

--
-- Name: audit_seal_checkpoint; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX audit_seal_checkpoint ON ai_storage_private.audit_seal USING btree (checkpoint_number, tenant_id, seal_number);

--
-- Name: cell_here; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX cell_here ON ai_storage_private.cell USING btree (is_here) WHERE is_here;

--
-- Name: cell_takes_new; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX cell_takes_new ON ai_storage_private.cell USING btree (takes_new) WHERE takes_new;

--
-- Name: context_secret_single; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX context_secret_single ON ai_storage_private.context_secret USING btree ((true));

--
-- Name: model_artifact_blob; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX model_artifact_blob ON ai_storage_private.model_artifact USING btree (tenant_id, blob_id);

--
-- Name: model_share_given; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX model_share_given ON ai_storage_private.model_share USING btree (sharer_id, owner_key, model_name);

--
-- Name: model_share_named; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX model_share_named ON ai_storage_private.model_share USING btree (target, model_name, owner_key);

--
-- Name: model_share_received; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX model_share_received ON ai_storage_private.model_share USING btree (target, owner_key, model_name, cardinality(ancestors));

--
-- Name: refusal_report_single; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX refusal_report_single ON ai_storage_private.refusal_report USING btree ((true));

--
-- Name: retention_gate_single; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE UNIQUE INDEX retention_gate_single ON ai_storage_private.retention_gate USING btree ((true));

--
-- Name: share_decline_from; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX share_decline_from ON ai_storage_private.share_decline USING btree (owner_id, model_name, sharer_id, receiver_key);

--
-- Name: share_end_tenant; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX share_end_tenant ON ai_storage_private.share_end USING btree (tenant_id);

--
-- Name: tenant_moved; Type: INDEX; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE INDEX tenant_moved ON ai_storage_private.tenant USING btree (org_id) WHERE (moved_to IS NOT NULL);

--
-- Name: progress_version check_shared_write; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE CONSTRAINT TRIGGER check_shared_write AFTER INSERT ON ai_storage_private.progress_version DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.saved_by IS NOT NULL) AND (CURRENT_USER = 'ai_storage_sharing'::name))) EXECUTE FUNCTION ai_storage_private.check_shared_write();

--
-- Name: TRIGGER check_shared_write ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER check_shared_write ON ai_storage_private.progress_version IS 'What a borrower saved is checked again when it commits.';

--
-- Name: artifact_chunk count_bytes; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER count_bytes AFTER INSERT OR DELETE ON ai_storage_private.artifact_chunk FOR EACH ROW EXECUTE FUNCTION ai_storage_private.count_bytes();

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ALWAYS TRIGGER count_bytes;

--
-- Name: TRIGGER count_bytes ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER count_bytes ON ai_storage_private.artifact_chunk IS 'Bytes of artifacts and uploads count for the quotas.';

--
-- Name: ai_progress_tenant count_deleted_models; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER count_deleted_models AFTER DELETE ON ai_storage_private.ai_progress_tenant REFERENCING OLD TABLE AS model FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.count_models();

ALTER TABLE ai_storage_private.ai_progress_tenant ENABLE ALWAYS TRIGGER count_deleted_models;

--
-- Name: TRIGGER count_deleted_models ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER count_deleted_models ON ai_storage_private.ai_progress_tenant IS 'Deleted models count for the quotas no longer.';

--
-- Name: ai_progress_tenant count_new_models; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER count_new_models AFTER INSERT ON ai_storage_private.ai_progress_tenant REFERENCING NEW TABLE AS model FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.count_models();

ALTER TABLE ai_storage_private.ai_progress_tenant ENABLE ALWAYS TRIGGER count_new_models;

--
-- Name: TRIGGER count_new_models ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER count_new_models ON ai_storage_private.ai_progress_tenant IS 'New models count for the quotas; a new version of one does not.';

--
-- Name: ai_progress_tenant forget_model; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER forget_model AFTER DELETE ON ai_storage_private.ai_progress_tenant FOR EACH ROW EXECUTE FUNCTION ai_storage_private.forget_model();

--
-- Name: TRIGGER forget_model ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER forget_model ON ai_storage_private.ai_progress_tenant IS 'Clears what belongs to a deleted model and remembers its last version.';

--
-- Name: artifact_upload keep_held; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE CONSTRAINT TRIGGER keep_held AFTER DELETE ON ai_storage_private.artifact_upload DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((old.received_bytes > 0)) EXECUTE FUNCTION ai_storage_private.keep_held();

ALTER TABLE ai_storage_private.artifact_upload ENABLE ALWAYS TRIGGER keep_held;

--
-- Name: TRIGGER keep_held ON artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER keep_held ON ai_storage_private.artifact_upload IS 'Bytes that a hold keeps are not deleted; those that became a content are no longer counted.';

--
-- Name: model_artifact keep_held; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE CONSTRAINT TRIGGER keep_held AFTER DELETE ON ai_storage_private.model_artifact DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ai_storage_private.keep_held();

ALTER TABLE ai_storage_private.model_artifact ENABLE ALWAYS TRIGGER keep_held;

--
-- Name: TRIGGER keep_held ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER keep_held ON ai_storage_private.model_artifact IS 'An artifact that a hold keeps is not deleted.';

--
-- Name: progress_version keep_held; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE CONSTRAINT TRIGGER keep_held AFTER DELETE ON ai_storage_private.progress_version DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ai_storage_private.keep_held();

ALTER TABLE ai_storage_private.progress_version ENABLE ALWAYS TRIGGER keep_held;

--
-- Name: TRIGGER keep_held ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER keep_held ON ai_storage_private.progress_version IS 'A version that a hold keeps is not deleted.';

--
-- Name: model_artifact keep_replaced; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE CONSTRAINT TRIGGER keep_replaced AFTER UPDATE ON ai_storage_private.model_artifact DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.blob_id <> new.blob_id) OR (old.media_type <> new.media_type))) EXECUTE FUNCTION ai_storage_private.keep_held();

ALTER TABLE ai_storage_private.model_artifact ENABLE ALWAYS TRIGGER keep_replaced;

--
-- Name: TRIGGER keep_replaced ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER keep_replaced ON ai_storage_private.model_artifact IS 'An artifact that a hold keeps is not replaced.';

--
-- Name: model_artifact record_artifact_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_artifact_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.model_artifact FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_artifact_change();

ALTER TABLE ai_storage_private.model_artifact ENABLE ALWAYS TRIGGER record_artifact_change;

--
-- Name: TRIGGER record_artifact_change ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_artifact_change ON ai_storage_private.model_artifact IS 'One event per change of an artifact.';

--
-- Name: artifact_blob record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.artifact_blob FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('content', 'size_bytes');

ALTER TABLE ai_storage_private.artifact_blob ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON artifact_blob; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.artifact_blob IS 'One event per change.';

--
-- Name: artifact_chunk record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER UPDATE ON ai_storage_private.artifact_chunk FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('chunk', '');

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.artifact_chunk IS 'One event per change: a chunk is never rewritten.';

--
-- Name: artifact_limit record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.artifact_limit FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('artifact limit', 'max_bytes');

ALTER TABLE ai_storage_private.artifact_limit ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON artifact_limit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.artifact_limit IS 'One event per change.';

--
-- Name: artifact_upload record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.artifact_upload FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('upload', 'artifact_name');

ALTER TABLE ai_storage_private.artifact_upload ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.artifact_upload IS 'One event per change.';

--
-- Name: cell record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.cell FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('cell', 'cell_name,is_here,takes_new');

ALTER TABLE ai_storage_private.cell ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON cell; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.cell IS 'One event per change.';

--
-- Name: context_secret record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.context_secret FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('context secret', '');

ALTER TABLE ai_storage_private.context_secret ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON context_secret; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.context_secret IS 'One event per change.';

--
-- Name: deleted_model record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.deleted_model FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('deleted model', 'model_name,last_version,deleted_at');

ALTER TABLE ai_storage_private.deleted_model ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON deleted_model; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.deleted_model IS 'One event per change.';

--
-- Name: erasure_certificate record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.erasure_certificate FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('erasure certificate', 'certificate_id');

ALTER TABLE ai_storage_private.erasure_certificate ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON erasure_certificate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.erasure_certificate IS 'One event per change.';

--
-- Name: external_sharing_permit record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.external_sharing_permit FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('external sharing permit', 'org_id,to_org_id');

ALTER TABLE ai_storage_private.external_sharing_permit ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON external_sharing_permit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.external_sharing_permit IS 'One event per change.';

--
-- Name: home record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.home FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('home', 'org_id,cell_name,is_moving');

ALTER TABLE ai_storage_private.home ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON home; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.home IS 'One event per change.';

--
-- Name: idempotency_key record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR UPDATE ON ai_storage_private.idempotency_key FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('idempotency key', '', 'version,created,saved_at');

ALTER TABLE ai_storage_private.idempotency_key ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.idempotency_key IS 'One event per key, before its save, and per change of its answer.';

--
-- Name: login_authorization record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.login_authorization FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('authorization', 'login_name,org_id,server_id,project_id,environment,code_hash,token_only');

ALTER TABLE ai_storage_private.login_authorization ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON login_authorization; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.login_authorization IS 'One event per change.';

--
-- Name: model_share record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.model_share FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('share', 'share_id,model_name,sharer_key,target,permissions,pinned_version,expires_at');

ALTER TABLE ai_storage_private.model_share ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.model_share IS 'One event per change.';

--
-- Name: progress_version record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER UPDATE ON ai_storage_private.progress_version FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('version', '');

ALTER TABLE ai_storage_private.progress_version ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.progress_version IS 'One event per change: a version is never rewritten.';

--
-- Name: quota record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.quota FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('quota', 'org_id,server_id,project_id,environment,code_hash,max_models,max_bytes');

ALTER TABLE ai_storage_private.quota ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON quota; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.quota IS 'One event per change.';

--
-- Name: retention_rule record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.retention_rule FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('retention rule', 'org_id,server_id,project_id,environment,code_hash,keep_versions,keep_versions_for,keep_events_for,legal_hold');

ALTER TABLE ai_storage_private.retention_rule ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON retention_rule; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.retention_rule IS 'One event per change.';

--
-- Name: share_decline record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.share_decline FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('share decline', 'model_name,owner_key,sharer_key');

ALTER TABLE ai_storage_private.share_decline ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON share_decline; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.share_decline IS 'One event per change.';

--
-- Name: share_end record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.share_end FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('share end', 'share_id');

ALTER TABLE ai_storage_private.share_end ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON share_end; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.share_end IS 'One event per change.';

--
-- Name: signing_key record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.signing_key FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('signing key', 'kid,audience,retired_at');

ALTER TABLE ai_storage_private.signing_key ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON signing_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.signing_key IS 'One event per change.';

--
-- Name: tenant record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.tenant FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('tenant', '');

ALTER TABLE ai_storage_private.tenant ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.tenant IS 'One event per change.';

--
-- Name: tenant_cache_key record_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.tenant_cache_key FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_change('cache key', '');

ALTER TABLE ai_storage_private.tenant_cache_key ENABLE ALWAYS TRIGGER record_change;

--
-- Name: TRIGGER record_change ON tenant_cache_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_change ON ai_storage_private.tenant_cache_key IS 'One event per change.';

--
-- Name: idempotency_key record_changes; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_changes AFTER DELETE ON ai_storage_private.idempotency_key REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_changes('idempotency key');

ALTER TABLE ai_storage_private.idempotency_key ENABLE ALWAYS TRIGGER record_changes;

--
-- Name: TRIGGER record_changes ON idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_changes ON ai_storage_private.idempotency_key IS 'One event per statement.';

--
-- Name: artifact_chunk record_deletes; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_deletes AFTER DELETE ON ai_storage_private.artifact_chunk REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_changes('chunk');

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ALWAYS TRIGGER record_deletes;

--
-- Name: TRIGGER record_deletes ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_deletes ON ai_storage_private.artifact_chunk IS 'One event per statement.';

--
-- Name: artifact_chunk record_inserts; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_inserts AFTER INSERT ON ai_storage_private.artifact_chunk REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_changes('chunk');

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ALWAYS TRIGGER record_inserts;

--
-- Name: TRIGGER record_inserts ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_inserts ON ai_storage_private.artifact_chunk IS 'One event per statement.';

--
-- Name: ai_progress_tenant record_model_change; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_model_change AFTER INSERT OR DELETE OR UPDATE ON ai_storage_private.ai_progress_tenant FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_model_change();

ALTER TABLE ai_storage_private.ai_progress_tenant ENABLE ALWAYS TRIGGER record_model_change;

--
-- Name: TRIGGER record_model_change ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_model_change ON ai_storage_private.ai_progress_tenant IS 'One event per change of a model.';

--
-- Name: progress_version record_swept_versions; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_swept_versions AFTER DELETE ON ai_storage_private.progress_version REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_swept_versions();

ALTER TABLE ai_storage_private.progress_version ENABLE ALWAYS TRIGGER record_swept_versions;

--
-- Name: TRIGGER record_swept_versions ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_swept_versions ON ai_storage_private.progress_version IS 'One event for each model that lost versions and is still there.';

--
-- Name: ai_progress_tenant record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.ai_progress_tenant FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('ai_progress_tenant', '');

ALTER TABLE ai_storage_private.ai_progress_tenant ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.ai_progress_tenant IS 'One event per TRUNCATE.';

--
-- Name: artifact_blob record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.artifact_blob FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('artifact_blob', '');

ALTER TABLE ai_storage_private.artifact_blob ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON artifact_blob; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.artifact_blob IS 'One event per TRUNCATE.';

--
-- Name: artifact_chunk record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.artifact_chunk FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('artifact_chunk', '');

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.artifact_chunk IS 'One event per TRUNCATE.';

--
-- Name: artifact_limit record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.artifact_limit FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('artifact_limit', '');

ALTER TABLE ai_storage_private.artifact_limit ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON artifact_limit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.artifact_limit IS 'One event per TRUNCATE.';

--
-- Name: artifact_upload record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.artifact_upload FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('artifact_upload', '');

ALTER TABLE ai_storage_private.artifact_upload ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.artifact_upload IS 'One event per TRUNCATE.';

--
-- Name: cell record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.cell FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('cell', '');

ALTER TABLE ai_storage_private.cell ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON cell; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.cell IS 'One event per TRUNCATE.';

--
-- Name: context_secret record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.context_secret FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('context_secret', '');

ALTER TABLE ai_storage_private.context_secret ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON context_secret; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.context_secret IS 'One event per TRUNCATE.';

--
-- Name: deleted_model record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.deleted_model FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('deleted_model', '');

ALTER TABLE ai_storage_private.deleted_model ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON deleted_model; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.deleted_model IS 'One event per TRUNCATE.';

--
-- Name: erasure_certificate record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.erasure_certificate FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('erasure_certificate', '');

ALTER TABLE ai_storage_private.erasure_certificate ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON erasure_certificate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.erasure_certificate IS 'One event per TRUNCATE.';

--
-- Name: external_sharing_permit record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.external_sharing_permit FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('external_sharing_permit', '');

ALTER TABLE ai_storage_private.external_sharing_permit ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON external_sharing_permit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.external_sharing_permit IS 'One event per TRUNCATE.';

--
-- Name: home record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.home FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('home', '');

ALTER TABLE ai_storage_private.home ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON home; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.home IS 'One event per TRUNCATE.';

--
-- Name: idempotency_key record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.idempotency_key FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('idempotency_key', '');

ALTER TABLE ai_storage_private.idempotency_key ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.idempotency_key IS 'One event per TRUNCATE.';

--
-- Name: login_authorization record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.login_authorization FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('login_authorization', '');

ALTER TABLE ai_storage_private.login_authorization ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON login_authorization; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.login_authorization IS 'One event per TRUNCATE.';

--
-- Name: model_artifact record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.model_artifact FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('model_artifact', '');

ALTER TABLE ai_storage_private.model_artifact ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.model_artifact IS 'One event per TRUNCATE.';

--
-- Name: model_share record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.model_share FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('model_share', '');

ALTER TABLE ai_storage_private.model_share ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.model_share IS 'One event per TRUNCATE.';

--
-- Name: progress_version record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.progress_version FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('progress_version', '');

ALTER TABLE ai_storage_private.progress_version ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.progress_version IS 'One event per TRUNCATE.';

--
-- Name: quota record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.quota FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('quota', '');

ALTER TABLE ai_storage_private.quota ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON quota; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.quota IS 'One event per TRUNCATE.';

--
-- Name: retention_rule record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.retention_rule FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('retention_rule', '');

ALTER TABLE ai_storage_private.retention_rule ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON retention_rule; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.retention_rule IS 'One event per TRUNCATE.';

--
-- Name: share_decline record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.share_decline FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('share_decline', '');

ALTER TABLE ai_storage_private.share_decline ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON share_decline; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.share_decline IS 'One event per TRUNCATE.';

--
-- Name: share_end record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.share_end FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('share_end', '');

ALTER TABLE ai_storage_private.share_end ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON share_end; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.share_end IS 'One event per TRUNCATE.';

--
-- Name: signing_key record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.signing_key FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('signing_key', '');

ALTER TABLE ai_storage_private.signing_key ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON signing_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.signing_key IS 'One event per TRUNCATE.';

--
-- Name: tenant record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.tenant FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('tenant', '');

ALTER TABLE ai_storage_private.tenant ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.tenant IS 'One event per TRUNCATE.';

--
-- Name: tenant_cache_key record_truncate; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_truncate AFTER TRUNCATE ON ai_storage_private.tenant_cache_key FOR EACH STATEMENT EXECUTE FUNCTION ai_storage_private.record_change('tenant_cache_key', '');

ALTER TABLE ai_storage_private.tenant_cache_key ENABLE ALWAYS TRIGGER record_truncate;

--
-- Name: TRIGGER record_truncate ON tenant_cache_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_truncate ON ai_storage_private.tenant_cache_key IS 'One event per TRUNCATE.';

--
-- Name: progress_version record_version; Type: TRIGGER; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE TRIGGER record_version AFTER INSERT ON ai_storage_private.progress_version FOR EACH ROW EXECUTE FUNCTION ai_storage_private.record_version();

ALTER TABLE ai_storage_private.progress_version ENABLE ALWAYS TRIGGER record_version;

--
-- Name: TRIGGER record_version ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON TRIGGER record_version ON ai_storage_private.progress_version IS 'One event per version that is not what its model is now.';

--
-- Name: ai_progress_tenant; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.ai_progress_tenant ENABLE ROW LEVEL SECURITY;

--
-- Name: artifact_blob; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.artifact_blob ENABLE ROW LEVEL SECURITY;

--
-- Name: artifact_chunk; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.artifact_chunk ENABLE ROW LEVEL SECURITY;

--
-- Name: artifact_limit; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.artifact_limit ENABLE ROW LEVEL SECURITY;

--
-- Name: artifact_upload; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.artifact_upload ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_checkpoint; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.audit_checkpoint ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_event; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.audit_event ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_pending; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.audit_pending ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_seal; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.audit_seal ENABLE ROW LEVEL SECURITY;

--
-- Name: cell; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.cell ENABLE ROW LEVEL SECURITY;

--
-- Name: context_secret; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.context_secret ENABLE ROW LEVEL SECURITY;

--
-- Name: deleted_model; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.deleted_model ENABLE ROW LEVEL SECURITY;

--
-- Name: erasure_certificate; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.erasure_certificate ENABLE ROW LEVEL SECURITY;

--
-- Name: external_sharing_permit; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.external_sharing_permit ENABLE ROW LEVEL SECURITY;

--
-- Name: home; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.home ENABLE ROW LEVEL SECURITY;

--
-- Name: idempotency_key; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.idempotency_key ENABLE ROW LEVEL SECURITY;

--
-- Name: login_authorization; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.login_authorization ENABLE ROW LEVEL SECURITY;

--
-- Name: model_artifact; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.model_artifact ENABLE ROW LEVEL SECURITY;

--
-- Name: model_share; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.model_share ENABLE ROW LEVEL SECURITY;

--
-- Name: model_share operator_counts_external_shares; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_counts_external_shares ON ai_storage_private.model_share FOR SELECT TO ai_storage_operator USING (((split_part(target, ':'::text, 1) <> split_part(sharer_key, ':'::text, 1)) OR (permit_ids <> '{}'::uuid[])));

--
-- Name: POLICY operator_counts_external_shares ON model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_counts_external_shares ON ai_storage_private.model_share IS 'Reports tell administrators which grants leave an organisation.';

--
-- Name: quota_use operator_counts_use; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_counts_use ON ai_storage_private.quota_use TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_counts_use ON quota_use; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_counts_use ON ai_storage_private.quota_use IS 'A total is of many tenants, none of whom sees it.';

--
-- Name: login_authorization operator_keeps_authorizations; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_authorizations ON ai_storage_private.login_authorization TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_authorizations ON login_authorization; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_authorizations ON ai_storage_private.login_authorization IS 'Authorisations are checked by enter() and changed by authorize_login() and deauthorize_login() only.';

--
-- Name: cell operator_keeps_cells; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_cells ON ai_storage_private.cell TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_cells ON cell; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_cells ON ai_storage_private.cell IS 'The directory is one for all; administrators set it.';

--
-- Name: erasure_certificate operator_keeps_certificates; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_certificates ON ai_storage_private.erasure_certificate TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_certificates ON erasure_certificate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_certificates ON ai_storage_private.erasure_certificate IS 'A certificate names all tenants of an erasure; erase_tenant() writes it, nothing changes it.';

--
-- Name: audit_checkpoint operator_keeps_checkpoints; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_checkpoints ON ai_storage_private.audit_checkpoint TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_checkpoints ON audit_checkpoint; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_checkpoints ON ai_storage_private.audit_checkpoint IS 'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

--
-- Name: home operator_keeps_homes; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_homes ON ai_storage_private.home TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_homes ON home; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_homes ON ai_storage_private.home IS 'Administrators keep the directory. Tenants learn only their own cell, from home().';

--
-- Name: quota operator_keeps_quotas; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_quotas ON ai_storage_private.quota TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_quotas ON quota; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_quotas ON ai_storage_private.quota IS 'Quotas cover many tenants; administrators set and drop them, tenants do not see them.';

--
-- Name: retention_rule operator_keeps_rules; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_rules ON ai_storage_private.retention_rule TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_rules ON retention_rule; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_rules ON ai_storage_private.retention_rule IS 'Rules cover many tenants; administrators set and drop them, tenants do not see them.';

--
-- Name: audit_seal operator_keeps_seals; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_seals ON ai_storage_private.audit_seal TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_seals ON audit_seal; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_seals ON ai_storage_private.audit_seal IS 'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

--
-- Name: signing_key operator_keeps_signing_keys; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_keeps_signing_keys ON ai_storage_private.signing_key TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_keeps_signing_keys ON signing_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_keeps_signing_keys ON ai_storage_private.signing_key IS 'Keys are made, used and retired by the functions of this file only.';

--
-- Name: artifact_limit operator_limits_artifacts; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_limits_artifacts ON ai_storage_private.artifact_limit TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_limits_artifacts ON artifact_limit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_limits_artifacts ON ai_storage_private.artifact_limit IS 'The limit is one for all; administrators set it.';

--
-- Name: retention_gate operator_passes_the_gate; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_passes_the_gate ON ai_storage_private.retention_gate TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_passes_the_gate ON retention_gate; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_passes_the_gate ON ai_storage_private.retention_gate IS 'The gate is one for all; it holds nothing of anybody.';

--
-- Name: external_sharing_permit operator_permits_sharing; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_permits_sharing ON ai_storage_private.external_sharing_permit TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_permits_sharing ON external_sharing_permit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_permits_sharing ON ai_storage_private.external_sharing_permit IS 'Permits are given and taken back by administrators only.';

--
-- Name: audit_pending operator_records_events; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_records_events ON ai_storage_private.audit_pending TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_records_events ON audit_pending; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_records_events ON ai_storage_private.audit_pending IS 'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

--
-- Name: tenant operator_registers_tenants; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_registers_tenants ON ai_storage_private.tenant TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_registers_tenants ON tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_registers_tenants ON ai_storage_private.tenant IS 'enter() finds or registers a tenant before there is a context to compare with.';

--
-- Name: refusal_report operator_reports_refusals; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_reports_refusals ON ai_storage_private.refusal_report TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_reports_refusals ON refusal_report; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_reports_refusals ON ai_storage_private.refusal_report IS 'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

--
-- Name: audit_event operator_seals_events; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_seals_events ON ai_storage_private.audit_event TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_seals_events ON audit_event; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_seals_events ON ai_storage_private.audit_event IS 'record_event() writes, seal_audit() seals, create_checkpoint() chains; nothing else does.';

--
-- Name: context_secret operator_signs_contexts; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_signs_contexts ON ai_storage_private.context_secret TO ai_storage_operator USING (true) WITH CHECK (true);

--
-- Name: POLICY operator_signs_contexts ON context_secret; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_signs_contexts ON ai_storage_private.context_secret IS 'Only the functions that sign and verify a context read the secret, and one renews it; the tables'' owner cannot.';

--
-- Name: artifact_upload operator_sweeps_uploads; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY operator_sweeps_uploads ON ai_storage_private.artifact_upload FOR SELECT TO ai_storage_operator USING (true);

--
-- Name: POLICY operator_sweeps_uploads ON artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY operator_sweeps_uploads ON ai_storage_private.artifact_upload IS 'apply_retention() sees who has abandoned uploads.';

--
-- Name: progress_version; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.progress_version ENABLE ROW LEVEL SECURITY;

--
-- Name: quota; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.quota ENABLE ROW LEVEL SECURITY;

--
-- Name: quota_use; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.quota_use ENABLE ROW LEVEL SECURITY;

--
-- Name: refusal_report; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.refusal_report ENABLE ROW LEVEL SECURITY;

--
-- Name: retention_gate; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.retention_gate ENABLE ROW LEVEL SECURITY;

--
-- Name: retention_rule; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.retention_rule ENABLE ROW LEVEL SECURITY;

--
-- Name: share_decline; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.share_decline ENABLE ROW LEVEL SECURITY;

--
-- Name: share_end; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.share_end ENABLE ROW LEVEL SECURITY;

--
-- Name: share_end sharing_ends_grants; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_ends_grants ON ai_storage_private.share_end TO ai_storage_sharing USING (true) WITH CHECK (true);

--
-- Name: POLICY sharing_ends_grants ON share_end; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_ends_grants ON ai_storage_private.share_end IS 'The sharing functions end grants of others, and see which have ended.';

--
-- Name: share_decline sharing_matches_declines; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_matches_declines ON ai_storage_private.share_decline TO ai_storage_sharing USING (true) WITH CHECK (true);

--
-- Name: POLICY sharing_matches_declines ON share_decline; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_matches_declines ON ai_storage_private.share_decline IS 'The sharing functions match declines from both ends: as sharer and as receiver.';

--
-- Name: model_share sharing_matches_grants; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_matches_grants ON ai_storage_private.model_share TO ai_storage_sharing USING (true) WITH CHECK (true);

--
-- Name: POLICY sharing_matches_grants ON model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_matches_grants ON ai_storage_private.model_share IS 'The sharing functions match grants with a caller from both ends: as sharer and as receiver.';

--
-- Name: external_sharing_permit sharing_reads_permits; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_reads_permits ON ai_storage_private.external_sharing_permit FOR SELECT TO ai_storage_sharing USING (true);

--
-- Name: POLICY sharing_reads_permits ON external_sharing_permit; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_reads_permits ON ai_storage_private.external_sharing_permit IS 'The sharing functions ask whether a grant may leave its organisation.';

--
-- Name: model_artifact sharing_sees_lent_artifacts; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_sees_lent_artifacts ON ai_storage_private.model_artifact FOR SELECT TO ai_storage_sharing USING ((model_id = ANY (( SELECT ai_storage_private.lent_ids() AS lent_ids)::uuid[])));

--
-- Name: POLICY sharing_sees_lent_artifacts ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_sees_lent_artifacts ON ai_storage_private.model_artifact IS 'The sharing functions see the artifacts of the models just lent, and no others of anybody.';

--
-- Name: artifact_chunk sharing_sees_lent_bytes; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_sees_lent_bytes ON ai_storage_private.artifact_chunk FOR SELECT TO ai_storage_sharing USING ((blob_id = ANY (( SELECT ai_storage_private.lent_ids() AS lent_ids)::uuid[])));

--
-- Name: POLICY sharing_sees_lent_bytes ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_sees_lent_bytes ON ai_storage_private.artifact_chunk IS 'The sharing functions see the bytes of the content just lent, and no others of anybody.';

--
-- Name: artifact_blob sharing_sees_lent_contents; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_sees_lent_contents ON ai_storage_private.artifact_blob FOR SELECT TO ai_storage_sharing USING ((blob_id = ANY (( SELECT ai_storage_private.lent_ids() AS lent_ids)::uuid[])));

--
-- Name: POLICY sharing_sees_lent_contents ON artifact_blob; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_sees_lent_contents ON ai_storage_private.artifact_blob IS 'The sharing functions see the content just lent, and no other of anybody.';

--
-- Name: ai_progress_tenant sharing_sees_lent_models; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_sees_lent_models ON ai_storage_private.ai_progress_tenant TO ai_storage_sharing USING ((model_id = ANY (( SELECT ai_storage_private.lent_ids() AS lent_ids)::uuid[]))) WITH CHECK (((tenant_id = ANY (ai_storage_private.lent_tenant_ids())) AND (model_id = ANY (ai_storage_private.lent_ids()))));

--
-- Name: POLICY sharing_sees_lent_models ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_sees_lent_models ON ai_storage_private.ai_progress_tenant IS 'The sharing functions see the models just lent to this transaction, and no others of anybody.';

--
-- Name: progress_version sharing_sees_lent_versions; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY sharing_sees_lent_versions ON ai_storage_private.progress_version TO ai_storage_sharing USING ((model_id = ANY (( SELECT ai_storage_private.lent_ids() AS lent_ids)::uuid[]))) WITH CHECK (((tenant_id = ANY (ai_storage_private.lent_tenant_ids())) AND (model_id = ANY (ai_storage_private.lent_ids()))));

--
-- Name: POLICY sharing_sees_lent_versions ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY sharing_sees_lent_versions ON ai_storage_private.progress_version IS 'The sharing functions see the versions of the models just lent, and no others of anybody.';

--
-- Name: signing_key; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.signing_key ENABLE ROW LEVEL SECURITY;

--
-- Name: tenant; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.tenant ENABLE ROW LEVEL SECURITY;

--
-- Name: tenant_cache_key; Type: ROW SECURITY; Schema: ai_storage_private; Owner: ai_storage_owner
--

ALTER TABLE ai_storage_private.tenant_cache_key ENABLE ROW LEVEL SECURITY;

--
-- Name: model_artifact tenant_keeps_its_artifacts; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_artifacts ON ai_storage_private.model_artifact TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_artifacts ON model_artifact; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_artifacts ON ai_storage_private.model_artifact IS 'A tenant sees and changes its own artifacts and no others.';

--
-- Name: artifact_chunk tenant_keeps_its_bytes; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_bytes ON ai_storage_private.artifact_chunk TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_bytes ON artifact_chunk; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_bytes ON ai_storage_private.artifact_chunk IS 'A tenant sees and changes its own bytes and no others.';

--
-- Name: tenant_cache_key tenant_keeps_its_cache_key; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_cache_key ON ai_storage_private.tenant_cache_key TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_cache_key ON tenant_cache_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_cache_key ON ai_storage_private.tenant_cache_key IS 'A tenant has its own cache key and no other.';

--
-- Name: artifact_blob tenant_keeps_its_contents; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_contents ON ai_storage_private.artifact_blob TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_contents ON artifact_blob; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_contents ON ai_storage_private.artifact_blob IS 'A tenant sees and changes its own contents and no others.';

--
-- Name: share_decline tenant_keeps_its_declines; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_declines ON ai_storage_private.share_decline TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_declines ON share_decline; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_declines ON ai_storage_private.share_decline IS 'A tenant exports what it declined, and a move copies it.';

--
-- Name: deleted_model tenant_keeps_its_deletions; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_deletions ON ai_storage_private.deleted_model TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_deletions ON deleted_model; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_deletions ON ai_storage_private.deleted_model IS 'A tenant sees which of its own names were deleted and no others.';

--
-- Name: idempotency_key tenant_keeps_its_idempotency_keys; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_idempotency_keys ON ai_storage_private.idempotency_key TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_idempotency_keys ON idempotency_key; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_idempotency_keys ON ai_storage_private.idempotency_key IS 'A tenant sees and changes its own idempotency keys and no others.';

--
-- Name: ai_progress_tenant tenant_keeps_its_models; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_models ON ai_storage_private.ai_progress_tenant TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_models ON ai_progress_tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_models ON ai_storage_private.ai_progress_tenant IS 'A tenant sees and changes its own models and no others.';

--
-- Name: artifact_upload tenant_keeps_its_uploads; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_uploads ON ai_storage_private.artifact_upload TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_uploads ON artifact_upload; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_uploads ON ai_storage_private.artifact_upload IS 'A tenant sees and changes its own uploads and no others.';

--
-- Name: progress_version tenant_keeps_its_versions; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_keeps_its_versions ON ai_storage_private.progress_version TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_keeps_its_versions ON progress_version; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_keeps_its_versions ON ai_storage_private.progress_version IS 'A tenant sees and changes the versions of its own models and no others.';

--
-- Name: model_share tenant_rules_its_shares; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_rules_its_shares ON ai_storage_private.model_share TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_rules_its_shares ON model_share; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_rules_its_shares ON ai_storage_private.model_share IS 'A tenant sees and ends the grants on its own models.';

--
-- Name: share_end tenant_sees_its_ends; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_sees_its_ends ON ai_storage_private.share_end TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id())) WITH CHECK ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_sees_its_ends ON share_end; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_sees_its_ends ON ai_storage_private.share_end IS 'verify_audit() compares them with the log, and a move copies them.';

--
-- Name: audit_event tenant_sees_its_events; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_sees_its_events ON ai_storage_private.audit_event FOR SELECT TO ai_storage_owner USING (((tenant_id = ai_storage_private.current_tenant_id()) AND (tenant_id > 0)));

--
-- Name: POLICY tenant_sees_its_events ON audit_event; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_sees_its_events ON ai_storage_private.audit_event IS 'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of the operator''s log, and see none.';

--
-- Name: audit_pending tenant_sees_its_pending_events; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_sees_its_pending_events ON ai_storage_private.audit_pending FOR SELECT TO ai_storage_owner USING (((tenant_id = ai_storage_private.current_tenant_id()) AND (tenant_id > 0)));

--
-- Name: POLICY tenant_sees_its_pending_events ON audit_pending; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_sees_its_pending_events ON ai_storage_private.audit_pending IS 'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of the operator''s log, and see none.';

--
-- Name: audit_seal tenant_sees_its_seals; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_sees_its_seals ON ai_storage_private.audit_seal FOR SELECT TO ai_storage_owner USING (((tenant_id = ai_storage_private.current_tenant_id()) AND (tenant_id > 0)));

--
-- Name: POLICY tenant_sees_its_seals ON audit_seal; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_sees_its_seals ON ai_storage_private.audit_seal IS 'A tenant sees its own log and changes nothing in it. Tenants that never wrote have the id of the operator''s log, and see none.';

--
-- Name: tenant tenant_sees_itself; Type: POLICY; Schema: ai_storage_private; Owner: ai_storage_owner
--

CREATE POLICY tenant_sees_itself ON ai_storage_private.tenant FOR SELECT TO ai_storage_owner USING ((tenant_id = ai_storage_private.current_tenant_id()));

--
-- Name: POLICY tenant_sees_itself ON tenant; Type: COMMENT; Schema: ai_storage_private; Owner: ai_storage_owner
--

COMMENT ON POLICY tenant_sees_itself ON ai_storage_private.tenant IS 'A tenant sees its own entry in the registry and no other.';

--
-- Name: SCHEMA ai_storage; Type: ACL; Schema: -; Owner: ai_storage_owner
--

GRANT ALL ON SCHEMA ai_storage TO ai_storage_sharing;
GRANT ALL ON SCHEMA ai_storage TO ai_storage_operator;
GRANT USAGE ON SCHEMA ai_storage TO ai_storage_app;
GRANT USAGE ON SCHEMA ai_storage TO ai_storage_admin;
GRANT USAGE ON SCHEMA ai_storage TO ai_storage_auditor;
GRANT USAGE ON SCHEMA ai_storage TO ai_storage_sql;

--
-- Name: SCHEMA ai_storage_private; Type: ACL; Schema: -; Owner: ai_storage_owner
--

GRANT ALL ON SCHEMA ai_storage_private TO ai_storage_sharing;
GRANT ALL ON SCHEMA ai_storage_private TO ai_storage_operator;

--
-- Name: FUNCTION abort_artifact(p_upload_id uuid, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.abort_artifact(p_upload_id uuid, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.abort_artifact(p_upload_id uuid, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION adopt_signing_key(p_kid text, p_secret text, p_audience text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.adopt_signing_key(p_kid text, p_secret text, p_audience text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.adopt_signing_key(p_kid text, p_secret text, p_audience text) TO ai_storage_admin;

--
-- Name: FUNCTION adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.adopt_tenant(p_isolation_key text, p_tenant_id bigint, p_registered_at timestamp with time zone) TO ai_storage_admin;

--
-- Name: FUNCTION allow_external_sharing(p_org_id text, p_to_org_id text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.allow_external_sharing(p_org_id text, p_to_org_id text) TO ai_storage_admin;

--
-- Name: FUNCTION append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.append_artifact(p_upload_id uuid, p_offset bigint, p_content bytea, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION apply_retention(p_after text, p_limit integer); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.apply_retention(p_after text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.apply_retention(p_after text, p_limit integer) TO ai_storage_admin;

--
-- Name: FUNCTION audit_proof(p_event_id uuid, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.audit_proof(p_event_id uuid, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.audit_proof(p_event_id uuid, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.audit_trail(p_since timestamp with time zone, p_until timestamp with time zone, p_action text, p_after text, p_limit integer, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION authorize_login(p_login text, p_pattern text, p_token_only boolean); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.authorize_login(p_login text, p_pattern text, p_token_only boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.authorize_login(p_login text, p_pattern text, p_token_only boolean) TO ai_storage_admin;

--
-- Name: FUNCTION begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.begin_artifact(p_model_name text, p_artifact_name text, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION break_glass(p_pattern text, p_reason text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.break_glass(p_pattern text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.break_glass(p_pattern text, p_reason text) TO ai_storage_admin;

--
-- Name: FUNCTION changes(p_after text, p_limit integer, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.changes(p_after text, p_limit integer, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.changes(p_after text, p_limit integer, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION clear_tenant(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.clear_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.clear_tenant() TO ai_storage_app;
GRANT ALL ON FUNCTION ai_storage.clear_tenant() TO ai_storage_sql;

--
-- Name: FUNCTION collect_evidence(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.collect_evidence() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.collect_evidence() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.collect_evidence() TO ai_storage_auditor;

--
-- Name: FUNCTION compliance_report(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.compliance_report() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.compliance_report() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.compliance_report() TO ai_storage_auditor;

--
-- Name: FUNCTION create_checkpoint(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.create_checkpoint() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.create_checkpoint() TO ai_storage_admin;

--
-- Name: FUNCTION create_signing_key(p_kid text, p_audience text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.create_signing_key(p_kid text, p_audience text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.create_signing_key(p_kid text, p_audience text) TO ai_storage_admin;

--
-- Name: FUNCTION current_tenant(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.current_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.current_tenant() TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage.current_tenant() TO ai_storage_app;
GRANT ALL ON FUNCTION ai_storage.current_tenant() TO ai_storage_sql;

--
-- Name: FUNCTION deauthorize_login(p_login text, p_pattern text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.deauthorize_login(p_login text, p_pattern text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.deauthorize_login(p_login text, p_pattern text) TO ai_storage_admin;

--
-- Name: FUNCTION decline_share(p_share_id uuid, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage.decline_share(p_share_id uuid, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.decline_share(p_share_id uuid, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.delete_artifact(p_model_name text, p_artifact_name text, p_version bigint, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION delete_progress(p_model_name text, p_expected_version bigint, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.delete_progress(p_model_name text, p_expected_version bigint, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.delete_progress(p_model_name text, p_expected_version bigint, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION digest_organisation(p_org_id text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.digest_organisation(p_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.digest_organisation(p_org_id text) TO ai_storage_admin;

--
-- Name: FUNCTION drop_quota(p_pattern text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.drop_quota(p_pattern text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.drop_quota(p_pattern text) TO ai_storage_admin;

--
-- Name: FUNCTION drop_retention(p_pattern text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.drop_retention(p_pattern text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.drop_retention(p_pattern text) TO ai_storage_admin;

--
-- Name: FUNCTION erase_tenant(p_pattern text, p_reason text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.erase_tenant(p_pattern text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.erase_tenant(p_pattern text, p_reason text) TO ai_storage_admin;

--
-- Name: FUNCTION erasure_certificate(p_certificate_id uuid); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.erasure_certificate(p_certificate_id uuid) TO ai_storage_auditor;

--
-- Name: FUNCTION export_audit(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.export_audit(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.export_audit(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION export_tenant(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.export_tenant(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.export_tenant(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION export_tenant_audit(p_isolation_key text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.export_tenant_audit(p_isolation_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.export_tenant_audit(p_isolation_key text) TO ai_storage_admin;

--
-- Name: FUNCTION finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.finish_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION forbid_external_sharing(p_org_id text, p_to_org_id text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.forbid_external_sharing(p_org_id text, p_to_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.forbid_external_sharing(p_org_id text, p_to_org_id text) TO ai_storage_admin;

--
-- Name: FUNCTION get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.get_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION has_permission(p_owner text, p_model_name text, p_permission text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.has_permission(p_owner text, p_model_name text, p_permission text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.has_permission(p_owner text, p_model_name text, p_permission text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION hold_organisation(p_org_id text, p_cell_name text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.hold_organisation(p_org_id text, p_cell_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.hold_organisation(p_org_id text, p_cell_name text) TO ai_storage_admin;

--
-- Name: FUNCTION home(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.home(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.home(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION import_tenant(p_records jsonb, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.import_tenant(p_records jsonb, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.import_tenant(p_records jsonb, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION is_isolation_key(p_key text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.is_isolation_key(p_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.is_isolation_key(p_key text) TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage.is_isolation_key(p_key text) TO ai_storage_app;

--
-- Name: FUNCTION isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage.isolation_key(p_org_id text, p_server_id text, p_project_id text, p_environment text, p_code_hash text) TO ai_storage_app;

--
-- Name: FUNCTION list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_artifacts(p_model_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION list_authorizations(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_authorizations() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_authorizations() TO ai_storage_admin;

--
-- Name: FUNCTION list_cells(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_cells() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_cells() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_cells() TO ai_storage_auditor;

--
-- Name: FUNCTION list_code_versions(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.list_code_versions(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_code_versions(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION list_erasures(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_erasures() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_erasures() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_erasures() TO ai_storage_auditor;

--
-- Name: FUNCTION list_external_sharing(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_external_sharing() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_external_sharing() TO ai_storage_admin;

--
-- Name: FUNCTION list_homes(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_homes() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_homes() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_homes() TO ai_storage_auditor;

--
-- Name: FUNCTION list_quotas(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_quotas() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_quotas() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_quotas() TO ai_storage_auditor;

--
-- Name: FUNCTION list_received_shares(p_owner text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage.list_received_shares(p_owner text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_received_shares(p_owner text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION list_retention(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_retention() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_retention() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_retention() TO ai_storage_auditor;

--
-- Name: FUNCTION list_rows(p_isolation_key text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_rows(p_isolation_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_rows(p_isolation_key text) TO ai_storage_admin;

--
-- Name: FUNCTION list_shares(p_model_name text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage.list_shares(p_model_name text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_shares(p_model_name text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION list_signing_keys(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_signing_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_signing_keys() TO ai_storage_admin;

--
-- Name: FUNCTION list_tenants(p_pattern text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.list_tenants(p_pattern text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_tenants(p_pattern text) TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.list_tenants(p_pattern text) TO ai_storage_auditor;

--
-- Name: FUNCTION list_uploads(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.list_uploads(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.list_uploads(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.load_history(p_model_name text, p_owner text, p_before_version bigint, p_limit integer, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.load_progress(p_model_name text, p_scope text, p_after text, p_limit integer, p_owner text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION metrics(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.metrics() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.metrics() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.metrics() TO ai_storage_auditor;

--
-- Name: FUNCTION open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.open_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_as_of boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION open_organisation(p_org_id text, p_digest text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.open_organisation(p_org_id text, p_digest text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.open_organisation(p_org_id text, p_digest text) TO ai_storage_admin;

--
-- Name: FUNCTION parse_isolation_key(p_key text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.parse_isolation_key(p_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.parse_isolation_key(p_key text) TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage.parse_isolation_key(p_key text) TO ai_storage_app;

--
-- Name: FUNCTION promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.promote_progress(p_from_code_hash text, p_model_name text, p_with_history boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.put_artifact(p_model_name text, p_artifact_name text, p_content bytea, p_media_type text, p_version bigint, p_expected_version bigint, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.read_artifact(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_offset bigint, p_length integer, p_as_of boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.read_chunks(p_model_name text, p_artifact_name text, p_owner text, p_version bigint, p_first integer, p_count integer, p_as_of boolean, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.read_rows(p_isolation_key text, p_table_name text, p_row_ids jsonb) TO ai_storage_admin;

--
-- Name: FUNCTION release_organisation(p_org_id text, p_cell_name text, p_digest text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.release_organisation(p_org_id text, p_cell_name text, p_digest text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.release_organisation(p_org_id text, p_cell_name text, p_digest text) TO ai_storage_admin;

--
-- Name: FUNCTION renew_context_secret(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.renew_context_secret() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.renew_context_secret() TO ai_storage_admin;

--
-- Name: FUNCTION report_backup(p_taken_at timestamp with time zone, p_location text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.report_backup(p_taken_at timestamp with time zone, p_location text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.report_backup(p_taken_at timestamp with time zone, p_location text) TO ai_storage_admin;

--
-- Name: FUNCTION retire_signing_key(p_kid text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.retire_signing_key(p_kid text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.retire_signing_key(p_kid text) TO ai_storage_admin;

--
-- Name: FUNCTION revoke_share(p_share_id uuid, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage.revoke_share(p_share_id uuid, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.revoke_share(p_share_id uuid, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.save_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION save_progress_batch(p_items jsonb, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.save_progress_batch(p_items jsonb, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.save_progress_batch(p_items jsonb, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION seal_audit(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.seal_audit() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.seal_audit() TO ai_storage_admin;

--
-- Name: FUNCTION set_artifact_limit(p_max_bytes bigint); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_artifact_limit(p_max_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_artifact_limit(p_max_bytes bigint) TO ai_storage_admin;

--
-- Name: FUNCTION set_cells(p_cells text[], p_here text, p_takes_new text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_cells(p_cells text[], p_here text, p_takes_new text) TO ai_storage_admin;

--
-- Name: FUNCTION set_home(p_org_id text, p_cell_name text, p_is_moving boolean); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_home(p_org_id text, p_cell_name text, p_is_moving boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_home(p_org_id text, p_cell_name text, p_is_moving boolean) TO ai_storage_admin;

--
-- Name: FUNCTION set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_quota(p_pattern text, p_max_models bigint, p_max_bytes bigint) TO ai_storage_admin;

--
-- Name: FUNCTION set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_retention(p_pattern text, p_keep_versions integer, p_keep_versions_for interval, p_keep_events_for interval, p_legal_hold boolean) TO ai_storage_admin;

--
-- Name: FUNCTION set_tenant(p_credential text); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.set_tenant(p_credential text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.set_tenant(p_credential text) TO ai_storage_app;
GRANT ALL ON FUNCTION ai_storage.set_tenant(p_credential text) TO ai_storage_sql;

--
-- Name: FUNCTION share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.share_model(p_model_name text, p_targets jsonb, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint, p_owner text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.stage_artifact(p_upload_id uuid, p_size_bytes bigint, p_sha256 text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION tenant_stats(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.tenant_stats(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.tenant_stats(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage.unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.unshare_model(p_model_name text, p_targets jsonb, p_owner text, p_as text) TO ai_storage_app;

--
-- Name: FUNCTION verify_all_audit(); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.verify_all_audit() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.verify_all_audit() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.verify_all_audit() TO ai_storage_auditor;

--
-- Name: FUNCTION verify_audit(p_as text); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.verify_audit(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.verify_audit(p_as text) TO ai_storage_app;

--
-- Name: FUNCTION version(); Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage.version() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.version() TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage.version() TO ai_storage_app;
GRANT ALL ON FUNCTION ai_storage.version() TO ai_storage_admin;
GRANT ALL ON FUNCTION ai_storage.version() TO ai_storage_auditor;
GRANT ALL ON FUNCTION ai_storage.version() TO ai_storage_sql;

--
-- Name: FUNCTION write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb); Type: ACL; Schema: ai_storage; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage.write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage.write_rows(p_isolation_key text, p_table_name text, p_rows jsonb, p_gone jsonb) TO ai_storage_admin;

--
-- Name: FUNCTION act_for(p_tenant_id bigint, p_isolation_key text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.act_for(p_tenant_id bigint, p_isolation_key text) FROM PUBLIC;

--
-- Name: TABLE tenant; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.tenant TO ai_storage_operator;

--
-- Name: COLUMN tenant.moved_to; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT UPDATE(moved_to) ON TABLE ai_storage_private.tenant TO ai_storage_operator;

--
-- Name: FUNCTION act_for_tenant(p_isolation_key text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.act_for_tenant(p_isolation_key text) FROM PUBLIC;

--
-- Name: FUNCTION artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.artifact_content(p_sha256 bytea, p_size_bytes bigint, p_put_at timestamp with time zone, p_media_type text) TO ai_storage_sharing;

--
-- Name: FUNCTION artifact_limit(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.artifact_limit() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.artifact_limit() TO ai_storage_owner;

--
-- Name: FUNCTION attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.attach_artifacts(p_tenant_id bigint, p_model_name text, p_version bigint, p_artifacts jsonb) FROM PUBLIC;

--
-- Name: FUNCTION attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.attach_blob(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_blob_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.attach_content(p_tenant_id bigint, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_content bytea, OUT sha256 text, OUT size_bytes bigint, OUT is_new boolean) FROM PUBLIC;

--
-- Name: TABLE artifact_upload; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage_private.artifact_upload TO ai_storage_operator;

--
-- Name: FUNCTION attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.attach_upload(p_upload ai_storage_private.artifact_upload, p_model_id uuid, p_version bigint, p_artifact_name text, p_media_type text, p_sha256 bytea) FROM PUBLIC;

--
-- Name: TABLE model_share; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage_private.model_share TO ai_storage_operator;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.model_share TO ai_storage_sharing;

--
-- Name: FUNCTION borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.borrow(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) FROM PUBLIC;

--
-- Name: FUNCTION cache_key(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.cache_key(p_tenant_id bigint) FROM PUBLIC;

--
-- Name: FUNCTION check_artifact(p_artifact_name text, p_media_type text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_artifact(p_artifact_name text, p_media_type text) FROM PUBLIC;

--
-- Name: FUNCTION check_artifacts(p_artifacts jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_artifacts(p_artifacts jsonb) FROM PUBLIC;

--
-- Name: FUNCTION check_cell(p_cell_name text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_cell(p_cell_name text) FROM PUBLIC;

--
-- Name: FUNCTION check_controls(p_only_quick boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_controls(p_only_quick boolean) FROM PUBLIC;

--
-- Name: FUNCTION check_credential(p_credential text, p_scope text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_credential(p_credential text, p_scope text) FROM PUBLIC;

--
-- Name: FUNCTION check_events(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_events(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_events(p_tenant_id bigint) TO ai_storage_owner;

--
-- Name: FUNCTION check_hold(p_levels text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_hold(p_levels text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_hold(p_levels text[]) TO ai_storage_owner;

--
-- Name: FUNCTION check_home(p_org_id text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_home(p_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_home(p_org_id text) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.check_home(p_org_id text) TO ai_storage_sharing;

--
-- Name: FUNCTION check_log(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_log(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_log(p_tenant_id bigint) TO ai_storage_owner;

--
-- Name: FUNCTION check_pattern(p_pattern text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_pattern(p_pattern text) FROM PUBLIC;

--
-- Name: FUNCTION check_permission(p_permission text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_permission(p_permission text) FROM PUBLIC;

--
-- Name: FUNCTION check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_progress(p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint) TO ai_storage_sharing;

--
-- Name: FUNCTION check_reason(p_reason text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_reason(p_reason text) FROM PUBLIC;

--
-- Name: TABLE audit_seal; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.audit_seal TO ai_storage_operator;

--
-- Name: FUNCTION check_seal(p_seal ai_storage_private.audit_seal); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_seal(p_seal ai_storage_private.audit_seal) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_seal(p_seal ai_storage_private.audit_seal) TO ai_storage_owner;

--
-- Name: FUNCTION check_seals(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.check_seals(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_seals(p_tenant_id bigint) TO ai_storage_owner;

--
-- Name: FUNCTION check_shared_write(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_shared_write() FROM PUBLIC;

--
-- Name: FUNCTION check_size(p_size_bytes bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_size(p_size_bytes bigint) FROM PUBLIC;

--
-- Name: FUNCTION check_targets(p_targets jsonb, p_level text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_targets(p_targets jsonb, p_level text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_targets(p_targets jsonb, p_level text[]) TO ai_storage_sharing;

--
-- Name: FUNCTION check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_upload(p_upload ai_storage_private.artifact_upload, p_size_bytes bigint, p_sha256 text) FROM PUBLIC;

--
-- Name: FUNCTION check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.check_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) TO ai_storage_sharing;

--
-- Name: TABLE audit_checkpoint; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.audit_checkpoint TO ai_storage_operator;

--
-- Name: FUNCTION checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.checkpoint_hash(p_checkpoint ai_storage_private.audit_checkpoint) FROM PUBLIC;

--
-- Name: FUNCTION close_gate(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.close_gate() FROM PUBLIC;

--
-- Name: FUNCTION compare_models(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.compare_models() FROM PUBLIC;

--
-- Name: FUNCTION compliance_status(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.compliance_status() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.compliance_status() TO ai_storage_owner;

--
-- Name: FUNCTION content_sha256(p_chunks bytea[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.content_sha256(p_chunks bytea[]) FROM PUBLIC;

--
-- Name: FUNCTION context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.context_mac(p_inner_key bytea, p_outer_key bytea, p_payload text) FROM PUBLIC;

--
-- Name: FUNCTION context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.context_payload(p_scope text, p_tenant_id bigint, p_isolation_key text, p_expires_at text, p_credential text, p_lent text) FROM PUBLIC;

--
-- Name: FUNCTION copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.copy_artifacts(p_from_context text, p_from_tenant_id bigint, p_from_model_id uuid, p_from_version bigint, p_to_context text, p_to_tenant_id bigint, p_to_model_id uuid, p_to_version bigint) FROM PUBLIC;

--
-- Name: TABLE ai_progress_tenant; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,UPDATE ON TABLE ai_storage_private.ai_progress_tenant TO ai_storage_sharing;

--
-- Name: FUNCTION copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.copy_model(p_from_context text, p_source ai_storage_private.acting_tenant, p_model ai_storage_private.ai_progress_tenant, p_to_context text, p_target ai_storage_private.acting_tenant, p_with_history boolean) FROM PUBLIC;

--
-- Name: FUNCTION count_bytes(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.count_bytes() FROM PUBLIC;

--
-- Name: FUNCTION count_line(p_share_ids uuid[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.count_line(p_share_ids uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION count_models(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.count_models() FROM PUBLIC;

--
-- Name: FUNCTION count_permitted(p_permit_ids uuid[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.count_permitted(p_permit_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.count_permitted(p_permit_ids uuid[]) TO ai_storage_operator;

--
-- Name: FUNCTION count_received(p_tenant ai_storage_private.acting_tenant); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.count_received(p_tenant ai_storage_private.acting_tenant) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.count_received(p_tenant ai_storage_private.acting_tenant) TO ai_storage_owner;

--
-- Name: FUNCTION count_refusal(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.count_refusal() FROM PUBLIC;

--
-- Name: FUNCTION count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.count_use(p_tenant_id bigint, p_models bigint, p_bytes bigint) TO ai_storage_owner;

--
-- Name: FUNCTION covered_tenants(p_pattern text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.covered_tenants(p_pattern text) FROM PUBLIC;

--
-- Name: FUNCTION covers_version(p_levels text[], p_code_hash text, p_sources text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.covers_version(p_levels text[], p_code_hash text, p_sources text[]) FROM PUBLIC;

--
-- Name: FUNCTION current_credential(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.current_credential() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.current_credential() TO ai_storage_owner;

--
-- Name: FUNCTION current_tenant_id(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.current_tenant_id() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.current_tenant_id() TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.current_tenant_id() TO ai_storage_sharing;

--
-- Name: FUNCTION decode_base64url(p_text text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.decode_base64url(p_text text) FROM PUBLIC;

--
-- Name: FUNCTION digest_artifacts(p_tenant_id bigint, p_artifacts jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.digest_artifacts(p_tenant_id bigint, p_artifacts jsonb) FROM PUBLIC;

--
-- Name: FUNCTION digest_content(p_content bytea); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.digest_content(p_content bytea) FROM PUBLIC;

--
-- Name: FUNCTION encode_base64url(p_bytes bytea); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.encode_base64url(p_bytes bytea) FROM PUBLIC;

--
-- Name: FUNCTION end_upload(p_tenant_id bigint, p_upload_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.end_upload(p_tenant_id bigint, p_upload_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION enter(p_as text, p_register boolean, p_scope text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.enter(p_as text, p_register boolean, p_scope text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.enter(p_as text, p_register boolean, p_scope text) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.enter(p_as text, p_register boolean, p_scope text) TO ai_storage_sharing;

--
-- Name: FUNCTION enter_code_version(p_code_hash text, p_as text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.enter_code_version(p_code_hash text, p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.enter_code_version(p_code_hash text, p_as text) TO ai_storage_owner;

--
-- Name: FUNCTION erase_content(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.erase_content(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.erase_content(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION erase_shares(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.erase_shares(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.erase_shares(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.event_subject(p_action text, p_model_id uuid, p_version bigint, p_detail jsonb) TO ai_storage_sharing;

--
-- Name: FUNCTION find_acts(p_action text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.find_acts(p_action text) FROM PUBLIC;

--
-- Name: FUNCTION find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.find_artifact(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) FROM PUBLIC;

--
-- Name: FUNCTION find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.find_shared_artifact(p_share ai_storage_private.model_share, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) FROM PUBLIC;

--
-- Name: FUNCTION find_tenant(p_levels text[], p_register boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.find_tenant(p_levels text[], p_register boolean) FROM PUBLIC;

--
-- Name: FUNCTION find_unlogged(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.find_unlogged(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.find_unlogged(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION find_unlogged_artifact(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.find_unlogged_artifact(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.find_unlogged_artifact(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION find_unlogged_model(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.find_unlogged_model(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.find_unlogged_model(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION find_unlogged_row(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.find_unlogged_row(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.find_unlogged_row(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION forget_artifacts(p_tenant_id bigint, p_model_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.forget_artifacts(p_tenant_id bigint, p_model_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION forget_model(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.forget_model() FROM PUBLIC;

--
-- Name: FUNCTION forget_shares(p_tenant_id bigint, p_model_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.forget_shares(p_tenant_id bigint, p_model_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION grants_on(p_patterns text[], p_owners text[], p_names text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.grants_on(p_patterns text[], p_owners text[], p_names text[]) FROM PUBLIC;

--
-- Name: FUNCTION has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.has_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permission text) TO ai_storage_owner;

--
-- Name: FUNCTION hmac_pad(p_secret bytea, p_pad integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.hmac_pad(p_secret bytea, p_pad integer) FROM PUBLIC;

--
-- Name: FUNCTION hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.hold_grant(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) TO ai_storage_owner;

--
-- Name: FUNCTION hold_model(p_tenant_id bigint, p_model_name text, p_version bigint, p_expected_version bigint, OUT model_id uuid, OUT version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.hold_model(p_tenant_id bigint, p_model_name text, p_version bigint, p_expected_version bigint, OUT model_id uuid, OUT version bigint) FROM PUBLIC;

--
-- Name: FUNCTION hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.hold_own(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_version bigint) FROM PUBLIC;

--
-- Name: FUNCTION hold_upload(p_tenant_id bigint, p_upload_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.hold_upload(p_tenant_id bigint, p_upload_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.hold_version(p_tenant_id bigint, p_model_id uuid, p_version bigint) FROM PUBLIC;

--
-- Name: FUNCTION hurry(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.hurry() FROM PUBLIC;

--
-- Name: FUNCTION import_artifact(p_tenant_id bigint, p_record jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_artifact(p_tenant_id bigint, p_record jsonb) FROM PUBLIC;

--
-- Name: FUNCTION import_chunk(p_tenant_id bigint, p_record jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_chunk(p_tenant_id bigint, p_record jsonb) FROM PUBLIC;

--
-- Name: FUNCTION import_deletion(p_tenant_id bigint, p_record jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_deletion(p_tenant_id bigint, p_record jsonb) FROM PUBLIC;

--
-- Name: FUNCTION import_id(p_sha256 text, p_size_bytes bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_id(p_sha256 text, p_size_bytes bigint) FROM PUBLIC;

--
-- Name: FUNCTION import_key(p_tenant_id bigint, p_record jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_key(p_tenant_id bigint, p_record jsonb) FROM PUBLIC;

--
-- Name: FUNCTION import_version(p_tenant_id bigint, p_record jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.import_version(p_tenant_id bigint, p_record jsonb) FROM PUBLIC;

--
-- Name: FUNCTION in_force(p_share_ids uuid[], p_receiver text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.in_force(p_share_ids uuid[], p_receiver text) FROM PUBLIC;

--
-- Name: FUNCTION is_base64url(p_text text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.is_base64url(p_text text) FROM PUBLIC;

--
-- Name: FUNCTION is_code_list(p_claim jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.is_code_list(p_claim jsonb) FROM PUBLIC;

--
-- Name: FUNCTION is_held(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.is_held(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.is_held(p_tenant_id bigint) TO ai_storage_owner;

--
-- Name: FUNCTION is_item(p_item jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_item(p_item jsonb) FROM PUBLIC;

--
-- Name: FUNCTION is_metadata(p_metadata jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_metadata(p_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.is_metadata(p_metadata jsonb) TO ai_storage_sharing;

--
-- Name: FUNCTION is_metrics(p_metrics jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_metrics(p_metrics jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.is_metrics(p_metrics jsonb) TO ai_storage_sharing;

--
-- Name: FUNCTION is_name(p_name text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_name(p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.is_name(p_name text) TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage_private.is_name(p_name text) TO ai_storage_sharing;

--
-- Name: FUNCTION is_past(p_time timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_past(p_time timestamp with time zone) FROM PUBLIC;

--
-- Name: FUNCTION is_tenant_pattern(p_pattern text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) TO ai_storage_operator;
GRANT ALL ON FUNCTION ai_storage_private.is_tenant_pattern(p_pattern text) TO ai_storage_sharing;

--
-- Name: FUNCTION join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.join_chunks(p_tenant_id bigint, p_blob_id uuid, p_offset bigint, p_length bigint) TO ai_storage_sharing;

--
-- Name: FUNCTION keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.keep_blob(p_tenant_id bigint, p_blob_id uuid, p_sha256 bytea, p_size_bytes bigint) FROM PUBLIC;

--
-- Name: FUNCTION keep_durable(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.keep_durable() FROM PUBLIC;

--
-- Name: FUNCTION keep_held(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.keep_held() FROM PUBLIC;

--
-- Name: FUNCTION keep_signing_key(p_kid text, p_audience text, p_secret text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.keep_signing_key(p_kid text, p_audience text, p_secret text) FROM PUBLIC;

--
-- Name: FUNCTION leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.leaf_hash(p_tenant_id bigint, p_event_id uuid, p_seal_number bigint, p_leaf_index integer, p_recorded_at timestamp with time zone, p_action text, p_model_id uuid, p_version bigint, p_credential text, p_content_digest bytea, p_detail_digest bytea, p_login text) TO ai_storage_owner;

--
-- Name: FUNCTION lend(p_tenant_ids bigint[], p_model_ids uuid[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.lend(p_tenant_ids bigint[], p_model_ids uuid[]) TO ai_storage_sharing;

--
-- Name: FUNCTION lent_ids(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.lent_ids() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.lent_ids() TO ai_storage_sharing;

--
-- Name: FUNCTION lent_tenant_ids(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.lent_tenant_ids() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.lent_tenant_ids() TO ai_storage_sharing;

--
-- Name: FUNCTION list_bundle(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_bundle(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_bundle(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION list_checkpoints(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.list_checkpoints() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_checkpoints() TO ai_storage_owner;

--
-- Name: FUNCTION list_controls(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.list_controls() FROM PUBLIC;

--
-- Name: FUNCTION list_covered_versions(p_as text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.list_covered_versions(p_as text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_covered_versions(p_as text) TO ai_storage_owner;

--
-- Name: FUNCTION list_effective_rules(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.list_effective_rules() FROM PUBLIC;

--
-- Name: FUNCTION list_events(p_tenant_id bigint, p_actions text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_events(p_tenant_id bigint, p_actions text) FROM PUBLIC;

--
-- Name: FUNCTION list_last_events(p_tenant_id bigint, p_actions text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_last_events(p_tenant_id bigint, p_actions text) FROM PUBLIC;

--
-- Name: FUNCTION list_logged_rows(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_logged_rows(p_tenant_id bigint) FROM PUBLIC;

--
-- Name: FUNCTION list_own_rows(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_own_rows(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_own_rows(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_shared_artifacts(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_version bigint, p_as_of boolean) TO ai_storage_owner;

--
-- Name: FUNCTION list_subjects(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.list_subjects(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.list_subjects(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION list_tenant_quotas(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.list_tenant_quotas(p_tenant_id bigint) FROM PUBLIC;

--
-- Name: FUNCTION load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.load_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_after_owner text, p_after_name text, p_limit integer) TO ai_storage_owner;

--
-- Name: FUNCTION load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.load_shared_history(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_before_version bigint, p_limit integer) TO ai_storage_owner;

--
-- Name: FUNCTION lock_models(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.lock_models(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.lock_models(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION lock_quotas(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.lock_quotas() FROM PUBLIC;

--
-- Name: FUNCTION may_receive(p_org_id text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.may_receive(p_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.may_receive(p_org_id text) TO ai_storage_owner;

--
-- Name: FUNCTION may_share_with(p_org_id text, p_to_org_id text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.may_share_with(p_org_id text, p_to_org_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.may_share_with(p_org_id text, p_to_org_id text) TO ai_storage_owner;

--
-- Name: FUNCTION may_write(p_owner_id bigint, p_model_id uuid, p_receiver text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.may_write(p_owner_id bigint, p_model_id uuid, p_receiver text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.may_write(p_owner_id bigint, p_model_id uuid, p_receiver text) TO ai_storage_owner;

--
-- Name: FUNCTION measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.measure_tenant(p_tenant_id bigint, OUT models bigint, OUT bytes bigint) TO ai_storage_operator;

--
-- Name: FUNCTION merkle_paths(p_leaf bytea[], p_indexes integer[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.merkle_paths(p_leaf bytea[], p_indexes integer[]) TO ai_storage_owner;

--
-- Name: FUNCTION merkle_root(p_leaf bytea[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.merkle_root(p_leaf bytea[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.merkle_root(p_leaf bytea[]) TO ai_storage_owner;

--
-- Name: FUNCTION micros(p_time timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.micros(p_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.micros(p_time timestamp with time zone) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.micros(p_time timestamp with time zone) TO ai_storage_sharing;

--
-- Name: FUNCTION model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.model_content(p_mse double precision, p_training_samples bigint, p_created_at timestamp with time zone, p_saved_at timestamp with time zone, p_metrics jsonb, p_metadata jsonb, p_saved_by text) TO ai_storage_sharing;

--
-- Name: FUNCTION name_columns(p_table_name text, p_of_key boolean); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.name_columns(p_table_name text, p_of_key boolean) FROM PUBLIC;

--
-- Name: FUNCTION name_wrong_metric(p_metrics jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.name_wrong_metric(p_metrics jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.name_wrong_metric(p_metrics jsonb) TO ai_storage_sharing;

--
-- Name: FUNCTION next_owner(p_patterns text[], p_from text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.next_owner(p_patterns text[], p_from text) FROM PUBLIC;

--
-- Name: FUNCTION open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.open_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, OUT version bigint, OUT for_version bigint, OUT blob_id uuid, OUT sha256 bytea, OUT size_bytes bigint, OUT media_type text, OUT put_at timestamp with time zone) TO ai_storage_owner;

--
-- Name: FUNCTION page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.page_received(p_patterns text[], p_owner text, p_model_name text, p_after_owner text, p_after_name text, OUT owners text[], OUT names text[]) FROM PUBLIC;

--
-- Name: FUNCTION parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.parse_artifact(p_artifact_name text, p_item jsonb, OUT upload_id text, OUT content bytea, OUT media_type text) FROM PUBLIC;

--
-- Name: FUNCTION pass_gate(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.pass_gate(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.pass_gate(p_tenant_id bigint) TO ai_storage_owner;

--
-- Name: FUNCTION promotion_sources(p_token text, p_key text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.promotion_sources(p_token text, p_key text) FROM PUBLIC;

--
-- Name: FUNCTION prove_event(p_tenant_id bigint, p_event_id uuid); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.prove_event(p_tenant_id bigint, p_event_id uuid) TO ai_storage_operator;

--
-- Name: FUNCTION reaching(p_receiver text, p_owner text, p_model_name text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.reaching(p_receiver text, p_owner text, p_model_name text) FROM PUBLIC;

--
-- Name: FUNCTION read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.read_own_rows(p_tenant_id bigint, p_table_name text, p_row_ids jsonb) TO ai_storage_operator;

--
-- Name: FUNCTION read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.read_shared_artifact(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_offset bigint, p_length integer) TO ai_storage_owner;

--
-- Name: FUNCTION read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.read_shared_chunks(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_artifact_name text, p_version bigint, p_as_of boolean, p_first integer, p_count integer) TO ai_storage_owner;

--
-- Name: FUNCTION record_artifact_change(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_artifact_change() FROM PUBLIC;

--
-- Name: FUNCTION record_change(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_change() FROM PUBLIC;

--
-- Name: FUNCTION record_changes(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_changes() FROM PUBLIC;

--
-- Name: FUNCTION record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.record_event(p_tenant_id bigint, p_action text, p_model_id uuid, p_version bigint, p_content text, p_detail jsonb) TO ai_storage_sharing;

--
-- Name: FUNCTION record_model_change(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_model_change() FROM PUBLIC;

--
-- Name: FUNCTION record_swept_versions(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_swept_versions() FROM PUBLIC;

--
-- Name: FUNCTION record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.record_use(p_action text, p_tenant ai_storage_private.acting_tenant, p_owner_ids bigint[], p_owner_keys text[], p_model_ids uuid[], p_versions bigint[], p_names text[]) TO ai_storage_sharing;

--
-- Name: FUNCTION record_version(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.record_version() FROM PUBLIC;

--
-- Name: FUNCTION refuse_artifact(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.refuse_artifact() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.refuse_artifact() TO ai_storage_sharing;

--
-- Name: FUNCTION refuse_old_snapshot(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.refuse_old_snapshot() FROM PUBLIC;

--
-- Name: FUNCTION render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.render_checkpoint(p_checkpoint ai_storage_private.audit_checkpoint) FROM PUBLIC;

--
-- Name: TABLE audit_event; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.audit_event TO ai_storage_operator;

--
-- Name: COLUMN audit_event.salt; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT UPDATE(salt) ON TABLE ai_storage_private.audit_event TO ai_storage_operator;

--
-- Name: COLUMN audit_event.detail; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT UPDATE(detail) ON TABLE ai_storage_private.audit_event TO ai_storage_operator;

--
-- Name: FUNCTION render_event(p_event ai_storage_private.audit_event); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.render_event(p_event ai_storage_private.audit_event) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.render_event(p_event ai_storage_private.audit_event) TO ai_storage_owner;

--
-- Name: FUNCTION render_seals(p_tenant_id bigint, p_seal_number bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.render_seals(p_tenant_id bigint, p_seal_number bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.render_seals(p_tenant_id bigint, p_seal_number bigint) TO ai_storage_owner;

--
-- Name: FUNCTION render_target(p_target jsonb, p_level text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.render_target(p_target jsonb, p_level text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.render_target(p_target jsonb, p_level text[]) TO ai_storage_sharing;

--
-- Name: FUNCTION render_time(p_time timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.render_time(p_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.render_time(p_time timestamp with time zone) TO ai_storage_sharing;

--
-- Name: FUNCTION report_models(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.report_models() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.report_models() TO ai_storage_sql;

--
-- Name: FUNCTION require_owner(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.require_owner() FROM PUBLIC;

--
-- Name: FUNCTION restore_context(p_context text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.restore_context(p_context text) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.restore_context(p_context text) TO ai_storage_owner;
GRANT ALL ON FUNCTION ai_storage_private.restore_context(p_context text) TO ai_storage_sharing;

--
-- Name: FUNCTION save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.save_version(p_tenant ai_storage_private.acting_tenant, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_idempotency_key text, p_owner text, p_artifacts jsonb, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) FROM PUBLIC;

--
-- Name: FUNCTION seal_events(p_limit bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.seal_events(p_limit bigint) FROM PUBLIC;

--
-- Name: FUNCTION seal_hash(p_seal ai_storage_private.audit_seal); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.seal_hash(p_seal ai_storage_private.audit_seal) TO ai_storage_owner;

--
-- Name: FUNCTION set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.set_context(p_scope text, p_tenant ai_storage_private.acting_tenant, p_lent text) FROM PUBLIC;

--
-- Name: FUNCTION shown_version(p_share ai_storage_private.model_share, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.shown_version(p_share ai_storage_private.model_share, p_version bigint) FROM PUBLIC;

--
-- Name: FUNCTION sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.sign_context(p_inner_key bytea, p_outer_key bytea, p_payload text) FROM PUBLIC;

--
-- Name: FUNCTION stays_inside(p_share ai_storage_private.model_share); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.stays_inside(p_share ai_storage_private.model_share) FROM PUBLIC;

--
-- Name: FUNCTION summarize_shares(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.summarize_shares() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.summarize_shares() TO ai_storage_operator;

--
-- Name: FUNCTION sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.sweep_blobs(p_tenant_id bigint, p_blob_ids uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION sweep_shares(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.sweep_shares() FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.sweep_shares() TO ai_storage_operator;

--
-- Name: FUNCTION sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.sweep_tenant(p_tenant_id bigint, p_isolation_key text, p_limit integer, OUT versions bigint, OUT events bigint) FROM PUBLIC;

--
-- Name: FUNCTION sweep_uploads(p_tenant_id bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.sweep_uploads(p_tenant_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.sweep_uploads(p_tenant_id bigint) TO ai_storage_operator;

--
-- Name: FUNCTION sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.sweep_versions(p_tenant_id bigint, p_keep_versions integer, p_before timestamp with time zone, p_limit integer) TO ai_storage_operator;

--
-- Name: FUNCTION take_turn(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.take_turn() FROM PUBLIC;

--
-- Name: FUNCTION target_patterns(p_level text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.target_patterns(p_level text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.target_patterns(p_level text[]) TO ai_storage_sharing;

--
-- Name: FUNCTION trusted_context(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.trusted_context() FROM PUBLIC;

--
-- Name: FUNCTION used_patterns(p_level text[]); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.used_patterns(p_level text[]) FROM PUBLIC;

--
-- Name: FUNCTION verified_context(); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.verified_context() FROM PUBLIC;

--
-- Name: FUNCTION verify_token(p_token text); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_operator
--

REVOKE ALL ON FUNCTION ai_storage_private.verify_token(p_token text) FROM PUBLIC;

--
-- Name: FUNCTION write_batch(p_tenant_id bigint, p_items jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.write_batch(p_tenant_id bigint, p_items jsonb) FROM PUBLIC;

--
-- Name: FUNCTION write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.write_chunks(p_tenant_id bigint, p_blob_id uuid, p_first integer, p_content bytea) FROM PUBLIC;

--
-- Name: FUNCTION write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.write_own_rows(p_tenant_id bigint, p_table_name text, p_rows jsonb, p_gone jsonb) TO ai_storage_operator;

--
-- Name: FUNCTION write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

REVOKE ALL ON FUNCTION ai_storage_private.write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.write_progress(p_tenant_id bigint, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, p_saved_by text, p_model_id uuid, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) TO ai_storage_sharing;

--
-- Name: FUNCTION write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.write_shared(p_tenant ai_storage_private.acting_tenant, p_owner text, p_model_name text, p_mse double precision, p_training_samples bigint, p_metrics jsonb, p_metadata jsonb, p_expected_version bigint, OUT version bigint, OUT created boolean, OUT saved_at timestamp with time zone) TO ai_storage_owner;

--
-- Name: FUNCTION write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint); Type: ACL; Schema: ai_storage_private; Owner: ai_storage_sharing
--

REVOKE ALL ON FUNCTION ai_storage_private.write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION ai_storage_private.write_shares(p_held ai_storage_private.model_share, p_sharer ai_storage_private.acting_tenant, p_targets text[], p_permissions text[], p_expires_at timestamp with time zone, p_version bigint) TO ai_storage_owner;

--
-- Name: TABLE ai_progress_tenant; Type: ACL; Schema: ai_storage; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage.ai_progress_tenant TO ai_storage_sql;

--
-- Name: TABLE artifact_blob; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage_private.artifact_blob TO ai_storage_sharing;

--
-- Name: TABLE artifact_chunk; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage_private.artifact_chunk TO ai_storage_sharing;

--
-- Name: TABLE artifact_limit; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,UPDATE ON TABLE ai_storage_private.artifact_limit TO ai_storage_operator;

--
-- Name: TABLE audit_pending; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE ON TABLE ai_storage_private.audit_pending TO ai_storage_operator;

--
-- Name: TABLE cell; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.cell TO ai_storage_operator;

--
-- Name: TABLE context_secret; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,TRUNCATE ON TABLE ai_storage_private.context_secret TO ai_storage_operator;

--
-- Name: TABLE erasure_certificate; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.erasure_certificate TO ai_storage_operator;

--
-- Name: TABLE external_sharing_permit; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE ON TABLE ai_storage_private.external_sharing_permit TO ai_storage_operator;
GRANT SELECT ON TABLE ai_storage_private.external_sharing_permit TO ai_storage_sharing;

--
-- Name: TABLE home; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.home TO ai_storage_operator;

--
-- Name: TABLE login_authorization; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.login_authorization TO ai_storage_operator;

--
-- Name: TABLE model_artifact; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT ON TABLE ai_storage_private.model_artifact TO ai_storage_sharing;

--
-- Name: TABLE progress_version; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT ON TABLE ai_storage_private.progress_version TO ai_storage_sharing;

--
-- Name: TABLE quota; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.quota TO ai_storage_operator;

--
-- Name: TABLE quota_use; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.quota_use TO ai_storage_operator;

--
-- Name: TABLE refusal_report; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,UPDATE ON TABLE ai_storage_private.refusal_report TO ai_storage_operator;

--
-- Name: SEQUENCE refused_credential; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,USAGE ON SEQUENCE ai_storage_private.refused_credential TO ai_storage_operator;

--
-- Name: TABLE retention_gate; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,UPDATE ON TABLE ai_storage_private.retention_gate TO ai_storage_operator;

--
-- Name: TABLE retention_rule; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.retention_rule TO ai_storage_operator;

--
-- Name: TABLE share_decline; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE ON TABLE ai_storage_private.share_decline TO ai_storage_sharing;

--
-- Name: TABLE share_end; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE ai_storage_private.share_end TO ai_storage_sharing;

--
-- Name: TABLE signing_key; Type: ACL; Schema: ai_storage_private; Owner: ai_storage_owner
--

GRANT SELECT,INSERT,UPDATE ON TABLE ai_storage_private.signing_key TO ai_storage_operator;

--
-- PostgreSQL database dump complete
--

