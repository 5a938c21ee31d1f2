package outboxread

import (
	"encoding/json"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
)

// A takeover asks for the newest transaction of the table: by its number, not by its text, and
// without reading the table.
func TestTheNewestTransactionIsFoundInTheIndex(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	outboxtest.Unguard(t, conn)
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, xact_id)
SELECT 'order', 'x', 'T', (90 + n)::text::xid8 FROM generate_series(1, 20) n`)
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, xact_id)
SELECT 'order', 'x', 'T', '50' FROM generate_series(1, 20000)`)
	if xmax, last, err := Newest(t.Context(), f.reader.conn, "outbox"); err != nil || last != 110 || xmax <= 110 {
		t.Errorf("got %d of %d, %v; want the newest to be 110", last, xmax, err)
	}
	results, err := f.reader.conn.PgConn().Exec(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+newestQuery("outbox")).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan outboxtest.Plan }
	if err := json.Unmarshal(results[0].Rows[0][0], &plans); err != nil {
		t.Fatal(err)
	}
	if plan := plans[0].Plan; plan.Buffers() > 10 {
		t.Errorf("the newest of 20,020 rows touches %d buffers", plan.Buffers())
	}
}
