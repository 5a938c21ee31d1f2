package outboxtest

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	migrations "github.com/outbox-relay/relay/sql"
)

// Unguard removes what refuses rows of other transactions, for tests of what happens if they
// came in all the same.
func Unguard(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Exec(t, conn, `ALTER DOMAIN outbox_xact_id DROP CONSTRAINT IF EXISTS outbox_xact_id_must_be_of_this_transaction`)
	Exec(t, conn, `ALTER TABLE outbox DISABLE TRIGGER outbox_own_transaction`)
}

// Partition gives the database the partitioned layout, with partitions of so many rows.
func Partition(t testing.TB, conn *pgx.Conn, rows int) {
	t.Helper()
	Exec(t, conn, fmt.Sprintf(`SET outbox.partition_rows = %d`, rows))
	for _, step := range migrations.Partitioned() {
		Exec(t, conn, step.Up)
	}
}

// Events writes so many events in one transaction.
func Events(t testing.TB, conn *pgx.Conn, n int) {
	t.Helper()
	Exec(t, conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		SELECT 'order', 'o-' || n %% 5, 'Changed', convert_to('v' || n, 'UTF8') FROM generate_series(1, %d) n`, n))
}

// ForeignRows are ways by which a row gets the id of a transaction that has not ended, while the
// relay runs.
func ForeignRows(t *testing.T, url string, conn *pgx.Conn) map[string]string {
	running := Open(t, url)
	Exec(t, running, `BEGIN; SELECT pg_current_xact_id()`)
	now := Query[uint64](t, conn, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`)
	return map[string]string{
		"of the future":        fmt.Sprint(now + 1_000_000),
		"of one that runs now": Query[string](t, running, `SELECT pg_current_xact_id()::text`),
	}
}
