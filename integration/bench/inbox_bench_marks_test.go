//go:build bench

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
)

// Marks of weeks make the inbox no slower: three databases with more and more of them, with a
// partition for each week, measured in turn in the same rounds. RELAY_TEST_BENCH_MARKS is the
// largest number of them, 50 million unless set; the others have a fiftieth and a fifth of it.
func TestBenchInboxWithMillionsOfMarks(t *testing.T) {
	most := kit.NumberOf(t, "RELAY_TEST_BENCH_MARKS", 50_000_000)
	rounds := kit.NumberOf(t, "RELAY_TEST_BENCH_ROUNDS", 9)
	var single, batched []side
	var first *inboxBench
	for _, marks := range []int{most / 50, most / 5, most} {
		b := newInboxBench(t)
		b.weekly()
		b.fill(marks)
		t.Logf("%d marks: %s", marks, b.sizes())
		one, many := b.handle(), b.handleBatch(100)
		one.name += fmt.Sprintf(", %d marks", marks)
		many.name += fmt.Sprintf(", %d marks", marks)
		single, batched = append(single, one), append(batched, many)
		if first == nil {
			first = b
		}
	}
	for _, goroutines := range []int{1, 16} {
		for _, sides := range [][]side{single, batched} {
			rates := first.beside(rounds, goroutines, sides...)
			t.Logf("%d at once: median of %d rounds, ratios to the first%s", goroutines, rounds, table(rates, sides...))
			for _, s := range sides[1:] {
				atLeast(t, s.name, ratiosOf(rates, s, sides[0]), 0.9)
			}
		}
	}
}

// markWeeks is how many weeks the marks are spread over.
const markWeeks = 8

// weekly makes partitions for weeks before the first one, as they are where the inbox has run for
// that long.
func (b *inboxBench) weekly() {
	b.t.Helper()
	b.run(fmt.Sprintf(`DO $$
DECLARE
    first timestamptz := (SELECT min(ends_at) - interval '1 week' FROM inbox_weeks());
BEGIN
    ALTER TABLE inbox DETACH PARTITION inbox_past;
    FOR w IN 1..%[1]d LOOP
        EXECUTE format('CREATE TABLE %%I PARTITION OF inbox FOR VALUES FROM (%%L) TO (%%L)',
            to_char((first - w * interval '1 week') AT TIME ZONE 'UTC', '"inbox_"YYYYMMDD'),
            inbox_floor(first - w * interval '1 week'), inbox_floor(first - (w - 1) * interval '1 week'));
    END LOOP;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_past FOR VALUES FROM (MINVALUE) TO (%%L)', inbox_floor(first - %[1]d * interval '1 week'));
END $$`, markWeeks))
}

// fill adds marks of four sources, spread over the weeks before now.
func (b *inboxBench) fill(marks int) {
	b.t.Helper()
	began := time.Now()
	const step = 1_000_000
	for from := 0; from < marks; from += step {
		b.run(fmt.Sprintf(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
SELECT 'billing', 'source' || n %% 4, (lpad(to_hex(ms), 12, '0') || '7' || substr(r, 1, 3) || 'a' || substr(r, 4, 15))::uuid, to_timestamp(ms / 1000.0)
FROM (SELECT n, md5(n::text) AS r, (extract(epoch FROM now() - interval '%[3]d weeks' * (1 - (n %% %[2]d)::float8 / %[2]d)) * 1000)::bigint AS ms
      FROM generate_series(%[1]d, %[4]d) n) made`, from, step, markWeeks, min(marks, from+step)-1))
	}
	b.run("VACUUM ANALYZE inbox")
	b.run("CHECKPOINT")
	b.t.Logf("filled in %v", time.Since(began).Round(time.Second))
}

// run runs a statement that may take long.
func (b *inboxBench) run(statement string) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), statement); err != nil {
		b.t.Fatalf("%.60q: %v", statement, err)
	}
}

// sizes are those of all marks.
func (b *inboxBench) sizes() string {
	b.t.Helper()
	var heap, indexes int64
	var partitions int
	err := b.pool.QueryRow(b.t.Context(), `SELECT sum(pg_relation_size(relid)), sum(pg_indexes_size(relid)), count(*)
FROM pg_partition_tree('inbox') WHERE isleaf`).Scan(&heap, &indexes, &partitions)
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprintf("%d MB of rows and %d MB of index in %d partitions", heap>>20, indexes>>20, partitions)
}
