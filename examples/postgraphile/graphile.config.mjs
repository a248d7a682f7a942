// DATABASE_URL is that of the application's login. What it may not call is not shown: PostGraphile asks for its rights.
import { defaultMaskError } from 'postgraphile/grafserv';
import { GraphQLError } from 'postgraphile/graphql';
import { makePgService } from 'postgraphile/adaptors/pg';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';

/** Errors of ours hold no values, so their text and SQLSTATE go to the client. Any other one stays in the server's log. */
function maskError(error) {
  const { code, hint, message } = error.originalError ?? {};
  if (!/^TN\d{3}$/.test(code ?? '')) return defaultMaskError(error);
  return new GraphQLError(message, { path: error.path, extensions: { code, hint } });
}

export default {
  extends: [PostGraphileAmberPreset],
  pgServices: [makePgService({ connectionString: process.env.DATABASE_URL, schemas: ['ai_storage'] })],
  grafserv: { host: '127.0.0.1', port: Number(process.env.PORT ?? 5678), graphiql: false, watch: false, maskError },
};
