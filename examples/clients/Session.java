// Java with JDBC:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE java -cp postgresql.jar Session.java
import java.net.URI;
import java.sql.*;

class Session {
    static final String OWNER = "acme:mcp-1:shop:production:abc123", READER = "acme:mcp-2:shop:production:abc123",
            STRANGER = "globex:mcp-1:shop:production:abc123";
    static final String NOT_AUTHORIZED = "TN003", MODEL_NOT_FOUND = "TN101", VERSION_CONFLICT = "TN102";
    // The expected version is the one that the new one was made from, the owner whose model it is. Null: any, the tenant.
    static final String SAVE = "select version from ai_storage.save_progress('classifier', ?, p_metrics => ?::jsonb,"
            + " p_expected_version => ?, p_owner => ?, p_as => ?)";
    static final String LOAD = "select version, mse, metrics->>'accuracy' as accuracy, owner_key"
            + " from ai_storage.load_progress(p_as => ?)";
    static Connection connection;

    /** The rows of a call, at the first one; the statement is closed with them, or with the connection. */
    static ResultSet call(String sql, Object... values) throws SQLException {
        var statement = connection.prepareStatement(sql);
        for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
        var rows = statement.executeQuery();
        rows.next();
        return rows;
    }

    /** Make a call that the database is to refuse, and return the SQLSTATE. Any other error goes on. */
    static String refused(String sqlstate, String sql, Object... values) throws SQLException {
        try (var rows = call(sql, values)) {
            throw new IllegalStateException("was not refused with " + sqlstate);
        } catch (SQLException error) {
            if (!sqlstate.equals(error.getSQLState())) throw error;
            return sqlstate;
        }
    }

    public static void main(String[] arguments) throws SQLException {
        var out = System.out;
        var url = URI.create(System.getenv("DATABASE_URL"));
        var login = url.getUserInfo().split(":", 2);
        var server = url.getRawSchemeSpecificPart().replaceFirst("^.*@", "");
        connection = DriverManager.getConnection("jdbc:postgresql://" + server, login[0], login[1]);
        for (var row : new Object[][] {{0.31, "{\"accuracy\": 0.87}"}, {0.27, "{\"accuracy\": 0.91}"}})
            out.printf("saved classifier version %d%n", call(SAVE, row[0], row[1], null, null, OWNER).getLong("version"));
        var model = call(LOAD, OWNER);
        out.printf("loaded classifier version %d, mse %s, accuracy %s%n",
                model.getLong("version"), model.getDouble("mse"), model.getString("accuracy"));
        var conflict = refused(VERSION_CONFLICT, SAVE, 0.22, "{\"accuracy\": 0.94}", 1L, null, OWNER);
        var current = call(LOAD, OWNER).getLong("version");
        var saved = call(SAVE, 0.22, "{\"accuracy\": 0.94}", current, null, OWNER).getLong("version");
        out.printf("conflict %s: loaded version %d again, saved version %d%n", conflict, current, saved);
        out.printf("shared with %s%n", call("select target from ai_storage.share_model('classifier', ?::jsonb, ?, p_as => ?)",
                "[{\"server_id\": \"mcp-2\"}]", new String[] {"read"}, OWNER).getString("target"));
        model = call(LOAD, READER);
        out.printf("mcp-2 loaded classifier version %d of %s%n", model.getLong("version"), model.getString("owner_key"));
        out.printf("mcp-2 may not write it: %s%n", refused(MODEL_NOT_FOUND, SAVE, 0.2, "{}", null, OWNER, READER));
        out.printf("globex is not for this login: %s%n", refused(NOT_AUTHORIZED, LOAD, STRANGER));
        out.printf("revoked %d share%n", call("select ai_storage.unshare_model('classifier', p_as => ?)", OWNER).getInt(1));
        out.printf("mcp-2 loaded %d models%n", call(LOAD, READER).getRow());
    }
}
