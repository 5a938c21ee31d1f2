package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/integration/kit"
)

// marks is a database with the tables of the inbox, and an inbox on it.
type marks struct {
	*inbox.Inbox[pgx.Tx]
	t    testing.TB
	conn *pgx.Conn
	url  string
}

func newMarks(t testing.TB) marks {
	t.Helper()
	url := kit.InboxDatabase(t)
	return marks{openInbox(t, url), t, kit.Connect(t, url), url}
}

func openInbox(t testing.TB, url string) *inbox.Inbox[pgx.Tx] {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (m marks) exec(query string, args ...any) {
	m.t.Helper()
	if _, err := m.conn.Exec(m.t.Context(), query, args...); err != nil {
		m.t.Fatalf("%s: %v", query, err)
	}
}

// add writes n marks of a consumer whose ids were made at one time, and which were handled at
// another; both are told by how long ago.
func (m marks) add(consumer, made, handled string, n int) {
	m.t.Helper()
	m.exec(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
		SELECT $1, 'orders', (left(inbox_floor(now() - $2::interval)::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid,
		       now() - $3::interval FROM generate_series(1, $4)`, consumer, made, handled, n)
}

// in returns the partition of ids that were made so long ago.
func (m marks) in(made string) (partition string) {
	m.t.Helper()
	err := m.conn.QueryRow(m.t.Context(), `SELECT partition::text FROM inbox_weeks()
		WHERE inbox_floor(now() - $1::interval) >= lower AND inbox_floor(now() - $1::interval) < upper`, made).Scan(&partition)
	if err != nil {
		m.t.Fatal(err)
	}
	return partition
}

func (m marks) count(where string) int64 {
	m.t.Helper()
	return kit.Number(m.t, m.conn, "SELECT count(*) FROM "+where)
}

func (m marks) retain(d time.Duration) {
	m.t.Helper()
	if err := m.Retain(m.t.Context(), d); err != nil {
		m.t.Fatal(err)
	}
}

func (m marks) sweep() inbox.Swept {
	m.t.Helper()
	swept, err := m.Sweep(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	return swept
}

func TestEveryIDHasAPlaceAndIsUniqueThere(t *testing.T) {
	m := newMarks(t)
	ids := []string{
		"00000000-0000-7000-8000-000000000000", // of 1970
		"01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111",
		"7fffffff-ffff-7fff-bfff-ffffffffffff", // of the year 6429
		"1", "order/4711", "f47ac10b-58cc-4372-a567-0e02b2c3d479",
	}
	for i := -120; i < 120; i++ { // weeks
		ids = append(ids, fmt.Sprintf("%s-7000-8000-000000000000", floorOf(time.Now().AddDate(0, 0, 7*i))))
	}
	for _, id := range ids {
		for _, want := range []bool{true, false} {
			var fresh bool
			if err := m.conn.QueryRow(t.Context(), `SELECT inbox_accept('billing', 'orders', $1)`, id).Scan(&fresh); err != nil || fresh != want {
				t.Fatalf("id %s: %v, %v; want %v", id, fresh, err, want)
			}
		}
	}
	if n := kit.Number(t, m.conn, `SELECT count(*) FROM inbox_weeks()`); n != 55 {
		t.Errorf("there are %d weeks, want two before this one and 52 after it", n)
	}
}

// floorOf is the first 13 characters of a UUIDv7 of a time.
func floorOf(at time.Time) string {
	digits := fmt.Sprintf("%012x", at.UnixMilli())
	return digits[:8] + "-" + digits[8:]
}

func TestAWeekIsEmptiedOnceNobodyNeedsAMarkInIt(t *testing.T) {
	m := newMarks(t)
	week := m.in("14 days")
	m.add("billing", "14 days", "13 days", 100)
	m.add("billing", "1 day", "1 day", 100)
	if swept := m.sweep(); swept.Emptied != nil || m.count("inbox") != 200 {
		t.Fatalf("without a retention: %+v", swept)
	}
	m.retain(12 * time.Hour)

	m.add("reports", "14 days", "13 days", 1)
	if swept := m.sweep(); swept.Emptied != nil {
		t.Fatalf("with a mark of a consumer that keeps them forever: %+v", swept)
	}
	m.exec(`DELETE FROM inbox WHERE consumer = 'reports'`)

	m.add("billing", "14 days", "11 hours", 1)
	if swept := m.sweep(); swept.Emptied != nil {
		t.Fatalf("with a late message that was marked a moment ago: %+v", swept)
	}
	m.exec(`UPDATE inbox SET handled_at = now() - interval '12 hours 1 second' WHERE handled_at = (SELECT max(handled_at) FROM ` + week + `)`)

	if swept := m.sweep(); !slices.Equal(swept.Emptied, []string{week}) || m.count(week) != 0 || m.count("inbox") != 100 {
		t.Errorf("once all are old: %+v", swept)
	}
	m.add("billing", "14 days", "0", 1)
	if m.count(week) != 1 {
		t.Error("the week takes no marks any more")
	}
}

// Two consumers share a week: it follows the longer of the two retentions.
func TestAWeekGoesByTheLongestRetentionInIt(t *testing.T) {
	m := newMarks(t)
	m.add("billing", "14 days", "13 days", 10)
	m.add("reports", "14 days", "13 days", 10)
	m.retain(time.Hour)
	m.exec(`SELECT inbox_retain('reports', '14 days')`)
	if swept := m.sweep(); swept.Emptied != nil {
		t.Errorf("%+v", swept)
	}
	m.exec(`SELECT inbox_retain('reports', '1 day')`)
	if swept := m.sweep(); len(swept.Emptied) != 1 {
		t.Errorf("%+v", swept)
	}
}

// A mark that comes between the look and the lock is not lost: who looks, looks again under the
// lock.
func TestAMarkThatComesWhileAWeekIsEmptiedStays(t *testing.T) {
	m := newMarks(t)
	m.add("billing", "14 days", "13 days", 10)
	m.retain(time.Hour)
	writer, err := kit.Connect(t, m.url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := floorOf(time.Now().AddDate(0, 0, -14)) + "-7000-8000-000000000000"
	if _, err := writer.Exec(t.Context(), `SELECT inbox_accept('billing', 'orders', $1)`, id); err != nil {
		t.Fatal(err)
	}
	if swept := m.sweep(); swept.Emptied != nil || !slices.Equal(swept.Blocked, []string{"empty a partition"}) {
		t.Fatalf("while a transaction writes to the week: %+v", swept)
	}
	week := m.in("14 days") // asked now: once the sweep waits for the week, to read its bounds waits behind it
	m.exec(`ALTER FUNCTION inbox_empty_week() SET lock_timeout = '30s'`)
	done := make(chan error, 1)
	var swept inbox.Swept
	go func() {
		var err error
		swept, err = m.Sweep(t.Context())
		done <- err
	}()
	awaitTrue(t, m.conn, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = '`+week+`'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	if err := errors.Join(writer.Commit(t.Context()), <-done); err != nil {
		t.Fatal(err)
	}
	if swept.Emptied != nil || m.count("inbox") != 11 {
		t.Errorf("%d marks are left: %+v", m.count("inbox"), swept)
	}
}

// awaitTrue asks again and again, on a connection that no other process uses, until the answer is
// true.
func awaitTrue(t testing.TB, conn *pgx.Conn, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var is bool
		if err := conn.QueryRow(ctx, query).Scan(&is); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if is {
			return
		}
	}
}

func TestOldMarksOutsideTheWeeksAreDeletedInBatches(t *testing.T) {
	m := newMarks(t)
	const many = 12_000
	for _, consumer := range []string{"billing", "reports"} {
		m.add(consumer, "700 days", "60 days", many)
		m.add(consumer, "-3000 days", "60 days", 10)
		m.exec(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
			SELECT $1, 'orders', inbox_key('order ' || n), now() - n * interval '1 day' FROM generate_series(1, 100) AS n`, consumer)
	}
	m.retain(30 * 24 * time.Hour)
	var partition string
	var deleted int64
	if err := m.conn.QueryRow(t.Context(), `SELECT * FROM inbox_delete_marks(100)`).Scan(&partition, &deleted); err != nil {
		t.Fatal(err)
	}
	if deleted == 0 || deleted > 64*300 || deleted == many+10+70 {
		t.Errorf("one batch deleted %d from %s", deleted, partition)
	}
	swept := m.sweep()
	if total := swept.Deleted + deleted; total != many+10+71 {
		t.Errorf("deleted %d marks, want %d", total, many+10+71)
	}
	if n := m.count("inbox WHERE consumer = 'reports'"); n != many+10+100 {
		t.Errorf("of a consumer without a retention %d marks are left", n)
	}
	if n := m.count("inbox WHERE consumer = 'billing' AND handled_at > now() - interval '30 days'"); n != 29 {
		t.Errorf("%d young marks are left, want 29", n)
	}
	if n := m.count("inbox_sweeps WHERE next_at BETWEEN now() + interval '1 hour' AND now() + interval '31 days' AND next_block = 0"); n != 3 {
		t.Errorf("%d searches have ended and tell when the next one is worth while, want 3", n)
	}
	m.retain(20 * 24 * time.Hour) // what is due when was said by another retention
	if swept := m.sweep(); swept.Deleted != 10 {
		t.Errorf("with a shorter retention: %+v", swept)
	}
}

// A week that is long past and holds marks that one consumer keeps is searched for those that none
// does.
func TestOldMarksGoFromAWeekThatIsKeptByOthers(t *testing.T) {
	m := newMarks(t)
	m.addPastWeeks(30, 20)
	m.add("billing", "180 days", "170 days", 500)
	m.add("reports", "180 days", "170 days", 500)
	m.retain(24 * time.Hour)
	if swept := m.sweep(); swept.Emptied != nil || swept.Deleted != 500 || m.count(m.in("180 days")) != 500 {
		t.Errorf("%+v", swept)
	}
}

func TestStartedMarksGoWithTheirMessages(t *testing.T) {
	m := newMarks(t)
	m.exec(`INSERT INTO inbox_started (consumer, source, msg_id, started_at)
		SELECT 'billing', 'orders', inbox_key(id), now() - at FROM (VALUES
			('handled', interval '1 minute'), ('parked', '1 minute'), ('runs', '1 minute'),
			('gone', '40 days'), ('parked long ago', '40 days')) AS s (id, at)`)
	m.exec(`SELECT inbox_accept('billing', 'orders', id) FROM unnest(ARRAY['handled', 'parked', 'parked long ago']) AS id`)
	m.exec(`WITH key AS (INSERT INTO inbox_parked_keys (consumer, topic, key) VALUES ('billing', 'orders', 'k') RETURNING id)
		INSERT INTO inbox_parked (key_id, source, msg_id, type, partition, "offset", header_names, header_values, cause)
		SELECT key.id, 'orders', p.id, 'Placed', 0, 1, '{}', '{}', 'crash' FROM key, unnest(ARRAY['parked', 'parked long ago']) AS p (id)`)
	m.retain(30 * 24 * time.Hour)
	if swept := m.sweep(); swept.Started != 2 {
		t.Errorf("%+v", swept)
	}
	left := `inbox_started WHERE msg_id IN (inbox_key('parked'), inbox_key('parked long ago'), inbox_key('runs'))`
	if n := m.count(left); n != 3 || m.count("inbox_started") != 3 {
		t.Errorf("%d of those that are needed are left, want 3", n)
	}
}
