package outboxread

import (
	"fmt"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
)

// Through the partitions the reads keep to the indexes of the plain table, whatever the statistics.
func TestPlansHoldOnPartitionsWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.FillRetainedPartitions(t, conn)
	f := followAll(t, url)
	check := func(t *testing.T) {
		next := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan", "auto"} {
			outboxtest.Exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
			for _, at := range [][2]string{{next, "{}"}, {next, "{5000,15000,19000}"}, {"1", "{}"}, {"10000", "{9000,9001,9999}"}} {
				tail := outboxtest.Explain(t, f.reader.conn, false, tailStatement, at[0], at[1], "1001")
				tail.ExpectPartitionScans(t, "xact_id", true, "xact_id")
				least := outboxtest.Explain(t, f.reader.conn, false, leastStatement, at[0], at[1], next+":"+next+":", "150000")
				least.ExpectPartitionScans(t, "xact_id", false, "xact_id")
				page := outboxtest.Explain(t, f.reader.conn, false, pageStatement, "1:1:", next+":"+next+":", "100000", "1000")
				page.ExpectPartitionScans(t, "pkey", false, "id")
			}
		}
	}
	t.Run("none", check)
	outboxtest.Exec(t, conn, `ANALYZE outbox`)
	t.Run("fresh", check)
	outboxtest.Exec(t, conn, `VACUUM (ANALYZE) outbox`)
	t.Run("fresh and vacuumed", check)
	outboxtest.Exec(t, conn, `DELETE FROM outbox WHERE id > 10`)
	t.Run("of a table that was once full", check)
}

// A page reads the partitions that hold it, not those before it; an idle tail read looks into each
// index once.
func TestReadsOfPartitionsTouchNoMoreThanTheyReturn(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.FillRetainedPartitions(t, conn)
	f := followAll(t, url)
	outboxtest.Exec(t, conn, `VACUUM (ANALYZE) outbox`)
	all := outboxtest.Query[int](t, conn, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass`)
	at := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		outboxtest.Exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
		for _, xip := range []string{"{}", "{" + at + "}"} {
			idle := outboxtest.Explain(t, f.reader.conn, true, tailStatement, at, xip, "1001")
			if idle.Buffers() > 6*all || idle.Rows != 1 {
				t.Errorf("%s: an idle tail read with %s touches %d buffers of %d partitions for %v rows", mode, xip, idle.Buffers(), all, idle.Rows)
			}
			t.Logf("%s: an idle tail read of %d partitions touches %d buffers", mode, all, idle.Buffers())
		}
		page := outboxtest.Explain(t, f.reader.conn, true, pageStatement, "1:1:", at+":"+at+":", "100000", "1000")
		if page.Buffers() > 150 || page.Rows != 1000 {
			t.Errorf("%s: a page of 1000 rows touches %d buffers for %v rows", mode, page.Buffers(), page.Rows)
		}
	}
}

// A tail read is the read of the hot path: what partitions add to it.
func BenchmarkTailRead(b *testing.B) {
	for _, partitions := range []int{0, 4, 30, 100} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			url := outboxtest.Database(b)
			conn := outboxtest.Open(b, url)
			if partitions > 0 {
				outboxtest.Partition(b, conn, 1000)
				outboxtest.Exec(b, conn, fmt.Sprintf(`SELECT outbox_add_partition(100) FROM generate_series(5, %d)`, partitions))
			}
			outboxtest.Exec(b, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'order', 'x', 'T' FROM generate_series(1, 900)`)
			f := followAll(b, url)
			at := now(b, f)
			b.ResetTimer()
			for range b.N {
				p, err := f.reader.Next(b.Context(), at)
				if err != nil {
					b.Fatal(err)
				}
				f.reader.Put(p)
			}
		})
	}
}
