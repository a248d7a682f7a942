<?php // PHP with PDO:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE php session.php
const OWNER = 'acme:mcp-1:shop:production:abc123', READER = 'acme:mcp-2:shop:production:abc123';
const STRANGER = 'globex:mcp-1:shop:production:abc123';
const NOT_AUTHORIZED = 'TN003', MODEL_NOT_FOUND = 'TN101', VERSION_CONFLICT = 'TN102';

$url = parse_url(getenv('DATABASE_URL'));
$options = 'dbname=' . trim($url['path'], '/') . ';' . strtr($url['query'] ?? '', '&', ';');
$db = new PDO("pgsql:host={$url['host']};port={$url['port']};$options", rawurldecode($url['user']), rawurldecode($url['pass']));

function call(string $sql, array $values): array
{
    $statement = $GLOBALS['db']->prepare($sql);
    $statement->execute($values);
    return $statement->fetchAll(PDO::FETCH_OBJ);
}

/** Save the model, and return its new version. $expected: the version it was made from. $owner: whose model it is. */
function save(string $as, float $mse, float $accuracy, ?int $expected = null, ?string $owner = null): int
{
    return call("select version from ai_storage.save_progress('classifier', :mse, p_metrics => :metrics,
        p_expected_version => :expected, p_owner => :owner, p_as => :as)",
        compact('mse', 'expected', 'owner', 'as') + ['metrics' => json_encode(['accuracy' => $accuracy])])[0]->version;
}

/** The tenant's models and those shared with it. */
function load(string $as): array
{
    return call("select model_name, version, mse, metrics->>'accuracy' as accuracy, owner_key
        from ai_storage.load_progress(p_as => :as)", compact('as'));
}

/** Do what the database is to refuse, and return the SQLSTATE. Any other error goes on. */
function refused(string $sqlstate, callable $work): string
{
    try {
        $work();
    } catch (PDOException $error) {
        return $error->getCode() === $sqlstate ? $sqlstate : throw $error;
    }
    throw new LogicException("was not refused with $sqlstate");
}

printf("saved classifier version %d\n", save(OWNER, 0.31, 0.87));
printf("saved classifier version %d\n", save(OWNER, 0.27, 0.91));
[$model] = load(OWNER);
printf("loaded %s version %d, mse %s, accuracy %s\n", $model->model_name, $model->version, $model->mse, $model->accuracy);
$conflict = refused(VERSION_CONFLICT, fn() => save(OWNER, 0.22, 0.94, expected: 1));
[$model] = load(OWNER);
$version = save(OWNER, 0.22, 0.94, expected: $model->version);
printf("conflict %s: loaded version %d again, saved version %d\n", $conflict, $model->version, $version);
[$shared] = call("select target from ai_storage.share_model('classifier', :targets, :permissions, p_as => :as)",
    ['targets' => json_encode([['server_id' => 'mcp-2']]), 'permissions' => '{read}', 'as' => OWNER]);
printf("shared with %s\n", $shared->target);
[$model] = load(READER);
printf("mcp-2 loaded %s version %d of %s\n", $model->model_name, $model->version, $model->owner_key);
printf("mcp-2 may not write it: %s\n", refused(MODEL_NOT_FOUND, fn() => save(READER, 0.2, 0.95, owner: OWNER)));
printf("globex is not for this login: %s\n", refused(NOT_AUTHORIZED, fn() => load(STRANGER)));
[$revoked] = call("select ai_storage.unshare_model('classifier', p_as => :as) as n", ['as' => OWNER]);
printf("revoked %d share\nmcp-2 loaded %d models\n", $revoked->n, count(load(READER)));
