# Ruby with pg:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE ruby session.rb
require "json"
require "pg"

OWNER = "acme:mcp-1:shop:production:abc123"
READER = "acme:mcp-2:shop:production:abc123"
STRANGER = "globex:mcp-1:shop:production:abc123"
NOT_AUTHORIZED, MODEL_NOT_FOUND, VERSION_CONFLICT = "TN003", "TN101", "TN102"

DB = PG.connect(ENV.fetch("DATABASE_URL"))
ARRAY = PG::TextEncoder::Array.new

# Save the model, and return its new version. expected: the version it was made from. owner: whose model it is.
def save(tenant, mse, accuracy, expected: nil, owner: nil)
  DB.exec_params(<<~SQL, [mse, { accuracy: accuracy }.to_json, expected, owner, tenant])[0]["version"]
    select version from ai_storage.save_progress('classifier', $1, p_metrics => $2,
      p_expected_version => $3, p_owner => $4, p_as => $5)
  SQL
end

# The tenant's models and those shared with it.
def load(tenant)
  DB.exec_params(<<~SQL, [tenant]).to_a
    select model_name, version, mse, metrics->>'accuracy' as accuracy, owner_key
      from ai_storage.load_progress(p_as => $1)
  SQL
end

# Do what the database is to refuse, and return the SQLSTATE. Any other error goes on.
def refused(sqlstate)
  yield
rescue PG::ServerError => error
  error.result.error_field(PG::PG_DIAG_SQLSTATE) == sqlstate ? sqlstate : raise
else
  raise "was not refused with #{sqlstate}"
end

puts "saved classifier version #{save(OWNER, 0.31, 0.87)}"
puts "saved classifier version #{save(OWNER, 0.27, 0.91)}"
model = load(OWNER).first
puts "loaded #{model["model_name"]} version #{model["version"]}, mse #{model["mse"]}, accuracy #{model["accuracy"]}"

conflict = refused(VERSION_CONFLICT) { save(OWNER, 0.22, 0.94, expected: 1) }
current = load(OWNER).first["version"]
puts "conflict #{conflict}: loaded version #{current} again, saved version #{save(OWNER, 0.22, 0.94, expected: current)}"

shared = DB.exec_params("select target from ai_storage.share_model('classifier', $1, $2, p_as => $3)",
                        [[{ server_id: "mcp-2" }].to_json, ARRAY.encode(["read"]), OWNER])
puts "shared with #{shared[0]["target"]}"
model = load(READER).first
puts "mcp-2 loaded #{model["model_name"]} version #{model["version"]} of #{model["owner_key"]}"
puts "mcp-2 may not write it: #{refused(MODEL_NOT_FOUND) { save(READER, 0.2, 0.95, owner: OWNER) }}"
puts "globex is not for this login: #{refused(NOT_AUTHORIZED) { load(STRANGER) }}"
revoked = DB.exec_params("select ai_storage.unshare_model('classifier', p_as => $1) as shares", [OWNER])
puts "revoked #{revoked[0]["shares"]} share"
puts "mcp-2 loaded #{load(READER).size} models"
