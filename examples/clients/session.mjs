// Node with pg:  npm install && DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE node session.mjs
import pg from 'pg';

const OWNER = 'acme:mcp-1:shop:production:abc123', READER = 'acme:mcp-2:shop:production:abc123';
const STRANGER = 'globex:mcp-1:shop:production:abc123';
const NOT_AUTHORIZED = 'TN003', MODEL_NOT_FOUND = 'TN101', VERSION_CONFLICT = 'TN102';

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();

/** Save the model, and return its new version. expected: the version it was made from. owner: whose model it is. */
async function save(tenant, mse, accuracy, { expected = null, owner = null } = {}) {
  const { rows } = await client.query(
    `select version from ai_storage.save_progress('classifier', $1, p_metrics => $2,
       p_expected_version => $3, p_owner => $4, p_as => $5)`,
    [mse, { accuracy }, expected, owner, tenant]);
  return rows[0].version;
}

/** The tenant's models and those shared with it. */
async function load(tenant) {
  return (await client.query(
    `select model_name, version, mse, metrics->>'accuracy' as accuracy, owner_key
       from ai_storage.load_progress(p_as => $1)`, [tenant])).rows;
}

/** Do what the database is to refuse, and return the SQLSTATE. Any other error goes on. */
async function refused(sqlstate, work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === sqlstate) return sqlstate;
    throw error;
  }
  throw new Error(`was not refused with ${sqlstate}`);
}

console.log(`saved classifier version ${await save(OWNER, 0.31, 0.87)}`);
console.log(`saved classifier version ${await save(OWNER, 0.27, 0.91)}`);
let [model] = await load(OWNER);
console.log(`loaded ${model.model_name} version ${model.version}, mse ${model.mse}, accuracy ${model.accuracy}`);
const conflict = await refused(VERSION_CONFLICT, () => save(OWNER, 0.22, 0.94, { expected: 1 }));
[model] = await load(OWNER);
const version = await save(OWNER, 0.22, 0.94, { expected: model.version });
console.log(`conflict ${conflict}: loaded version ${model.version} again, saved version ${version}`);

const shared = await client.query(
  "select target from ai_storage.share_model('classifier', $1, $2, p_as => $3)",
  [JSON.stringify([{ server_id: 'mcp-2' }]), ['read'], OWNER]);
console.log(`shared with ${shared.rows[0].target}`);
[model] = await load(READER);
console.log(`mcp-2 loaded ${model.model_name} version ${model.version} of ${model.owner_key}`);
console.log(`mcp-2 may not write it: ${await refused(MODEL_NOT_FOUND, () => save(READER, 0.2, 0.95, { owner: OWNER }))}`);
console.log(`globex is not for this login: ${await refused(NOT_AUTHORIZED, () => load(STRANGER))}`);

const revoked = await client.query("select ai_storage.unshare_model('classifier', p_as => $1) as shares", [OWNER]);
console.log(`revoked ${revoked.rows[0].shares} share`);
console.log(`mcp-2 loaded ${(await load(READER)).length} models`);
await client.end();
