// Go with lib/pq:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE go run session.go
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"github.com/lib/pq"
	"os"
)

const (
	owner, reader                                 = "acme:mcp-1:shop:production:abc123", "acme:mcp-2:shop:production:abc123"
	notAuthorized, modelNotFound, versionConflict = "TN003", "TN101", "TN102"
	// Parameters: mse, metrics, the version it was made from, whose model it is (nil: any, the tenant's), the tenant.
	save = `select version from ai_storage.save_progress('classifier', $1, p_metrics => $2,
		p_expected_version => $3, p_owner => $4, p_as => $5)`
	load  = `select version, mse, metrics->>'accuracy', owner_key from ai_storage.load_progress(p_as => $1)`
	share = `select target from ai_storage.share_model('classifier', $1, $2, p_as => $3)`
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// refused returns the SQLSTATE of a call that the database is to refuse. Any other end is a panic.
func refused(sqlstate pq.ErrorCode, err error) pq.ErrorCode {
	if refusal := (*pq.Error)(nil); errors.As(err, &refusal) && refusal.Code == sqlstate {
		return sqlstate
	}
	panic(fmt.Errorf("was not refused with %s: %w", sqlstate, err))
}

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL"))
	must(err)
	var version, loaded, revoked, visible int64
	var mse, accuracy, from, target string
	must(db.QueryRow(save, 0.31, `{"accuracy": 0.87}`, nil, nil, owner).Scan(&version))
	must(db.QueryRow(save, 0.27, `{"accuracy": 0.91}`, nil, nil, owner).Scan(&loaded))
	fmt.Printf("saved classifier version %d\nsaved classifier version %d\n", version, loaded)
	must(db.QueryRow(load, owner).Scan(&version, &mse, &accuracy, &from))
	fmt.Printf("loaded classifier version %d, mse %s, accuracy %s\n", version, mse, accuracy)
	conflict := refused(versionConflict, db.QueryRow(save, 0.22, `{"accuracy": 0.94}`, 1, nil, owner).Err())
	must(db.QueryRow(load, owner).Scan(&loaded, &mse, &accuracy, &from))
	must(db.QueryRow(save, 0.22, `{"accuracy": 0.94}`, loaded, nil, owner).Scan(&version))
	fmt.Printf("conflict %s: loaded version %d again, saved version %d\n", conflict, loaded, version)
	must(db.QueryRow(share, `[{"server_id": "mcp-2"}]`, pq.Array([]string{"read"}), owner).Scan(&target))
	fmt.Println("shared with", target)
	must(db.QueryRow(load, reader).Scan(&version, &mse, &accuracy, &from))
	fmt.Printf("mcp-2 loaded classifier version %d of %s\n", version, from)
	fmt.Println("mcp-2 may not write it:", refused(modelNotFound, db.QueryRow(save, 0.2, `{}`, nil, owner, reader).Err()))
	fmt.Println("globex is not for this login:", refused(notAuthorized, db.QueryRow(load, "globex:mcp-1:shop:production:abc123").Err()))
	must(db.QueryRow("select ai_storage.unshare_model('classifier', p_as => $1)", owner).Scan(&revoked))
	must(db.QueryRow("select count(*) from ai_storage.load_progress(p_as => $1)", reader).Scan(&visible))
	fmt.Printf("revoked %d share\nmcp-2 loaded %d models\n", revoked, visible)
}
