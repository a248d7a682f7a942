#!/usr/bin/env bash
# psql 16 or newer:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE bash session.sh
set -euo pipefail

# psql takes a URL as an argument only, and everybody on the machine can read those. So its password goes another way.
if [[ $DATABASE_URL =~ ^([a-z]+://[^:/@]*):([^@]*)@(.*)$ ]]; then
    printf -v PGPASSWORD %b "${BASH_REMATCH[2]//%/\\x}"
    export PGPASSWORD
    DATABASE_URL=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    export DATABASE_URL
fi

# \bind sends values as parameters, and \gset keeps the answer's columns as variables.
psql "$DATABASE_URL" --no-psqlrc --quiet --set=ON_ERROR_STOP=on --set=VERBOSITY=sqlstate <<'SQL'
\set owner acme:mcp-1:shop:production:abc123
\set reader acme:mcp-2:shop:production:abc123
\set stranger globex:mcp-1:shop:production:abc123
-- Parameters: mse, metrics, the version it was made from ('': any), whose model it is ('': the tenant's), the tenant.
\set save 'select version from ai_storage.save_progress(\'classifier\', $1, p_metrics => $2,'
\set save :save ' p_expected_version => nullif($3, \'\')::bigint, p_owner => nullif($4, \'\'), p_as => $5)'
\set load 'select model_name, version, mse, metrics->>\'accuracy\' as accuracy, owner_key'
\set load :load ' from ai_storage.load_progress(p_as => $1)'

:save \bind 0.31 '{"accuracy": 0.87}' '' '' :owner \gset
\echo saved classifier version :version
:save \bind 0.27 '{"accuracy": 0.91}' '' '' :owner \gset
\echo saved classifier version :version
:load \bind :owner \gset
\echo loaded :model_name version :version, mse :mse, accuracy :accuracy

-- Where the database is to refuse, go on after the error, and look at its SQLSTATE.
\set ON_ERROR_STOP off
:save \bind 0.22 '{"accuracy": 0.94}' 1 '' :owner \gset
\set ON_ERROR_STOP on
\if :ERROR
    \set conflict :SQLSTATE
    :load \bind :owner \gset
    \set loaded :version
    :save \bind 0.22 '{"accuracy": 0.94}' :loaded '' :owner \gset
    \echo conflict :conflict: loaded version :loaded again, saved version :version
\endif

select target from ai_storage.share_model('classifier', $1, $2, p_as => $3)
    \bind '[{"server_id": "mcp-2"}]' '{read}' :owner \gset
\echo shared with :target
:load \bind :reader \gset
\echo mcp-2 loaded :model_name version :version of :owner_key
\set ON_ERROR_STOP off
:save \bind 0.2 '{"accuracy": 0.95}' '' :owner :reader \gset
\echo mcp-2 may not write it: :SQLSTATE
:load \bind :stranger \gset
\echo globex is not for this login: :SQLSTATE
\set ON_ERROR_STOP on

select ai_storage.unshare_model('classifier', p_as => $1) as shares \bind :owner \gset
\echo revoked :shares share
:load \bind :reader \g /dev/null
\echo mcp-2 loaded :ROW_COUNT models
SQL
