-- The schemas, and which release of the package a database runs. Everything in sql/ is current
-- state: it can be applied again at any time and changes nothing the second time.

set local role ai_storage_owner;

comment on schema ai_storage is
    'The API of tenant-ai-storage: functions, and one view for reporting. A grant on this schema '
    'is a grant on the API.';
comment on schema ai_storage_private is
    'Tables, triggers and helpers of tenant-ai-storage. No application role has any right here.';
comment on schema ai_storage_migration is
    'The installer''s own ledger: which migrations and which files of sql/ were applied. Holds no '
    'tenant data.';

create or replace function ai_storage.version()
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $fn$
    select '0.1.0';
$fn$;
comment on function ai_storage.version() is
    'Returns the release of tenant-ai-storage that this database runs, as major.minor.patch.';
