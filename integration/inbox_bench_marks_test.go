//go:build bench

package integration

import (
	"fmt"
	"testing"
	"time"
)

// Marks of weeks make the inbox no slower. RELAY_TEST_BENCH_MARKS is the largest number of them, 50 million unless set: it is
// measured at a fiftieth, a fifth and all of it, with a partition for each week, and beside the bare write in every round.
func TestBenchInboxWithMillionsOfMarks(t *testing.T) {
	most := benchNumber(t, "RELAY_TEST_BENCH_MARKS", 50_000_000)
	rounds := benchNumber(t, "RELAY_TEST_BENCH_ROUNDS", 7)
	b := newInboxBench(t)
	b.weekly()
	type cost struct{ single, batch ratios }
	var costs []cost
	filled := 0
	for _, marks := range []int{most / 50, most / 5, most} {
		b.fill(filled, marks)
		filled = marks
		t.Logf("%d marks: %s", marks, b.sizes())
		sides := []side{b.bare(), b.handle(), b.bareBatch(100), b.handleBatch(100)}
		rates := b.beside(rounds, 1, sides...)
		t.Logf("%d marks, one at a time%s", marks, table(rates, sides...))
		costs = append(costs, cost{ratiosOf(rates, sides[1], sides[0]), ratiosOf(rates, sides[3], sides[2])})
	}
	for i, c := range costs[1:] {
		const within = 0.9
		single, batch := c.single.median()/costs[0].single.median(), c.batch.median()/costs[0].batch.median()
		t.Logf("step %d beside the first: Handle %.2f, HandleBatch %.2f", i+1, single, batch)
		if single < within || batch < within {
			t.Errorf("more marks make the inbox slower: Handle %.2f, HandleBatch %.2f of what it was", single, batch)
		}
	}
}

// markWeeks is how many weeks the marks are spread over.
const markWeeks = 8

// weekly makes a partition for each week of the past ones, as they are where the inbox has run for that long, and for some to come.
func (b *inboxBench) weekly() {
	b.t.Helper()
	b.run(`DO $$
DECLARE
    first timestamptz := date_trunc('week', now()) - ` + fmt.Sprint(markWeeks) + ` * interval '1 week';
BEGIN
    ALTER TABLE inbox DETACH PARTITION inbox_past;
    ALTER TABLE inbox DETACH PARTITION inbox_ahead;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_past FOR VALUES FROM (MINVALUE) TO (%L)', inbox_floor(first));
    FOR w IN 0..` + fmt.Sprint(markWeeks+3) + ` LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF inbox FOR VALUES FROM (%L) TO (%L)',
            'inbox_' || to_char(first + w * interval '1 week', 'YYYYMMDD'), inbox_floor(first + w * interval '1 week'),
            inbox_floor(first + (w + 1) * interval '1 week'));
    END LOOP;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_ahead FOR VALUES FROM (%L) TO (%L)',
        inbox_floor(first + ` + fmt.Sprint(markWeeks+4) + ` * interval '1 week'), '80000000-0000-0000-0000-000000000000');
END $$`)
}

// fill adds marks until there are so many, of four sources, spread over the weeks before now.
func (b *inboxBench) fill(from, to int) {
	b.t.Helper()
	began := time.Now()
	const step = 1_000_000
	for ; from < to; from += step {
		b.run(fmt.Sprintf(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
SELECT 'billing', 'source' || n %% 4, (lpad(to_hex(ms), 12, '0') || '7' || substr(r, 1, 3) || 'a' || substr(r, 4, 15))::uuid, to_timestamp(ms / 1000.0)
FROM (SELECT n, md5(n::text) AS r, (extract(epoch FROM now() - interval '%[3]d weeks' * (1 - (n %% %[2]d)::float8 / %[2]d)) * 1000)::bigint AS ms
      FROM generate_series(%[1]d, %[4]d) n) made`, from, step, markWeeks, min(to, from+step)-1))
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
