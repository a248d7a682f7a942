-- Signed tokens: a credential that cannot be guessed, for logins whose SQL may be injected.
--
-- A token is a JWT (RFC 7519) signed with HS256 (RFC 7515) under a key that only this file's
-- functions read. Any JWT library mints one: header alg and kid; claims aud, exp, and the tenant as
-- org, srv, prj, env, code or as one key; sub may name who acts, for the log, and from the code
-- versions that it may promote from. HMAC is two sha256 over padded keys, so the pads are kept and
-- no extension is needed.
--
-- Reading is strict: one spelling of base64url, no claim twice, no algorithm but HS256. What is
-- wrong before the signature fits is told as malformed, what is wrong with it as not authorised;
-- only a token that was ours is told that its time is over.
--
-- Table: signing_key (0004_token). Errors: 22023, 23505, TN002, TN003, TN005.

set local role ai_storage_owner;

comment on table ai_storage_private.signing_key is
    'Keys that sign tokens. Only the functions that verify tokens read them.';
comment on column ai_storage_private.signing_key.kid is
    'Name of the key, in the header of a token.';
comment on column ai_storage_private.signing_key.audience is 'What a token has to name as aud.';
comment on column ai_storage_private.signing_key.inner_pad is
    'The secret, padded to 64 bytes, xor 0x36: the inner key of HMAC.';
comment on column ai_storage_private.signing_key.outer_pad is
    'The secret, padded to 64 bytes, xor 0x5c: the outer key of HMAC.';
comment on column ai_storage_private.signing_key.created_at is 'Since when.';
comment on column ai_storage_private.signing_key.created_by is 'The login that made it.';
comment on column ai_storage_private.signing_key.retired_at is
    'Since when its tokens are refused, or null.';

set local role ai_storage_operator;

create or replace function ai_storage_private.encode_base64url(p_bytes bytea)
returns text
language sql
immutable
parallel safe
as $fn$
    select translate(rtrim(encode(p_bytes, 'base64'), '='), E'+/\n', '-_');
$fn$;
comment on function ai_storage_private.encode_base64url(bytea) is
    'base64url without padding, as JWT wants it (RFC 7515, section 2).';

create or replace function ai_storage_private.decode_base64url(p_text text)
returns bytea
language sql
immutable
parallel safe
as $fn$
    select decode(
        rpad(translate(p_text, '-_', '+/'), (length(p_text) + 3) / 4 * 4, '='), 'base64'
    );
$fn$;
comment on function ai_storage_private.decode_base64url(text) is
    'The inverse of encode_base64url; it also takes other spellings of the last character.';

create or replace function ai_storage_private.is_base64url(p_text text)
returns boolean
language sql
immutable
parallel safe
as $fn$
    -- The bits that the last character has to spare are zero.
    select p_text ~ '^[A-Za-z0-9_-]+$' and case length(p_text) % 4
        when 0 then true
        when 2 then strpos('AQgw', right(p_text, 1)) > 0
        when 3 then strpos('AEIMQUYcgkosw048', right(p_text, 1)) > 0
        else false
    end;
$fn$;
comment on function ai_storage_private.is_base64url(text) is
    'True for base64url without padding in its only spelling, the one that encode_base64url gives.';

create or replace function ai_storage_private.hmac_pad(p_secret bytea, p_pad integer)
returns bytea
language plpgsql
immutable
parallel safe
as $fn$
declare
    v_pad bytea := decode(repeat(lpad(to_hex(p_pad), 2, '0'), 64), 'hex');
begin
    for i in 0 .. length(p_secret) - 1 loop
        v_pad := set_byte(v_pad, i, get_byte(p_secret, i) # p_pad);
    end loop;
    return v_pad;
end;
$fn$;
comment on function ai_storage_private.hmac_pad(bytea, integer) is
    'A secret of up to 64 bytes, padded and xored, as RFC 2104 begins.';

create or replace function ai_storage_private.is_code_list(p_claim jsonb)
returns boolean
language sql
immutable
parallel safe
as $fn$
    select count(*) between 1 and 32
        and bool_and(
            jsonb_typeof(c.code) = 'string'
            and c.code #>> '{}' ~ '^[A-Za-z0-9._+@~=/-]{1,63}$'
        )
    from jsonb_array_elements(
        case jsonb_typeof(p_claim) when 'array' then p_claim else jsonb_build_array(p_claim) end
    ) as c (code);
$fn$;
comment on function ai_storage_private.is_code_list(jsonb) is
    'True for a code version, or 1 to 32 of them in an array; false for anything else.';

create or replace function ai_storage_private.verify_token(p_token text)
returns ai_storage_private.acting_tenant
language plpgsql
volatile
as $fn$
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
$fn$;
comment on function ai_storage_private.verify_token(text) is
    'Verifies a signed token and returns the tenant it names, with the kid, the sub if it has one, '
    'and the end of its time; the caller checks that the key is one. Raises TN002, TN003, TN005.';

create or replace function ai_storage_private.promotion_sources(p_token text, p_key text)
returns text[]
language plpgsql
volatile
as $fn$
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
$fn$;
comment on function ai_storage_private.promotion_sources(text, text) is
    'The code versions that a token of a tenant may promote from: its claim from; none for a key. '
    'Raises TN002, TN003, TN005.';

-- Keys --------------------------------------------------------------------------------------------

create or replace function ai_storage_private.keep_signing_key(
    p_kid      text,
    p_audience text,
    p_secret   text
)
returns void
language plpgsql
volatile
as $fn$
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
$fn$;
comment on function ai_storage_private.keep_signing_key(text, text, text) is
    'Adds a key that signs tokens. Raises 22023, 23505.';

create or replace function ai_storage.create_signing_key(
    p_kid      text default null,
    p_audience text default null
)
returns table (kid text, secret text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
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
$fn$;
comment on function ai_storage.create_signing_key(text, text) is
    'Makes a key that signs tokens and returns it. The secret is shown this once; its characters '
    'are the key, as any JWT library takes it. p_kid: null makes one up. p_audience: what tokens '
    'name as aud; null for the name of the database. Several keys are valid side by side, to '
    'rotate them. Raises 22023, 23505.';

create or replace function ai_storage.retire_signing_key(p_kid text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set client_min_messages = notice
as $fn$
begin
    update ai_storage_private.signing_key as k set
        retired_at = clock_timestamp()
    where k.kid = p_kid collate "C"
      and k.retired_at is null;
    return found;
end;
$fn$;
comment on function ai_storage.retire_signing_key(text) is
    'Refuses the tokens of a key from the next transaction on; end the sessions that keep an older '
    'snapshot. Returns false when there is no such key in use.';

create or replace function ai_storage.list_signing_keys()
returns table (
    kid        text,
    audience   text,
    created_at timestamptz,
    created_by text,
    retired_at timestamptz
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
    select k.kid, k.audience, k.created_at, k.created_by::text, k.retired_at
    from ai_storage_private.signing_key as k
    order by k.created_at, k.kid;
end;
$fn$;
comment on function ai_storage.list_signing_keys() is
    'The keys that sign tokens, retired ones too, without their secrets.';

-- Policies ----------------------------------------------------------------------------------------

set local role ai_storage_owner;

drop policy if exists operator_keeps_signing_keys on ai_storage_private.signing_key;
create policy operator_keeps_signing_keys on ai_storage_private.signing_key
    to ai_storage_operator
    using (true)
    with check (true);
comment on policy operator_keeps_signing_keys on ai_storage_private.signing_key is
    'Keys are made, used and retired by the functions of this file only.';
