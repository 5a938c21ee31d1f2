package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/integration/kit"
	migrations "github.com/outbox-relay/relay/sql"
)

// addPastWeeks makes weeks as they are left after a long time: from so many weeks ago to so many.
func (m marks) addPastWeeks(from, to int) {
	m.t.Helper()
	m.exec(fmt.Sprintf(`DO $$
DECLARE
    monday timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    week interval := interval '168 hours';
BEGIN
    ALTER TABLE inbox DETACH PARTITION inbox_past;
    FOR n IN REVERSE %d .. 3 LOOP
        IF n >= %d THEN
            EXECUTE format('CREATE TABLE %%I PARTITION OF inbox FOR VALUES FROM (%%L) TO (%%L)',
                to_char((monday - n * week) AT TIME ZONE 'UTC', '"inbox_"YYYYMMDD'),
                inbox_floor(monday - n * week), inbox_floor(monday - (n - 1) * week));
        ELSE
            EXECUTE format('CREATE TABLE %%I PARTITION OF inbox FOR VALUES FROM (%%L) TO (%%L)',
                'inbox_gap_' || n, inbox_floor(monday - n * week), inbox_floor(monday - (n - 1) * week));
        END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_past FOR VALUES FROM (MINVALUE) TO (%%L)', inbox_floor(monday - %d * week));
END $$`, from, to, from))
}

func TestEmptyWeeksOfLongAgoAreDroppedAndTheirRangeStays(t *testing.T) {
	m := newMarks(t)
	m.addPastWeeks(40, 3)
	m.add("reports", "900 days", "1 day", 5)    // in inbox_past
	m.add("reports", "210 days", "200 days", 5) // 30 weeks ago: kept forever
	keeps := m.in("210 days")
	if swept := m.sweep(); swept.Dropped != 0 {
		t.Errorf("before it is proven that inbox_past fits its new range: %+v", swept)
	}
	dropped := m.sweep().Dropped
	if dropped < 9 || dropped > 11 {
		t.Errorf("dropped %d weeks, want those before %s", dropped, keeps)
	}
	var first string
	if err := m.conn.QueryRow(t.Context(), `SELECT partition::text FROM inbox_weeks() LIMIT 1`).Scan(&first); err != nil || first != keeps {
		t.Errorf("the first week is %s (%v), want %s", first, err, keeps)
	}
	m.add("reports", "270 days", "1 day", 5)
	if n := m.count("inbox_past"); n != 10 {
		t.Errorf("inbox_past has %d marks, want 10", n)
	}
	if swept := m.sweep(); swept.Dropped != 0 || len(swept.Blocked) != 0 {
		t.Errorf("with nothing to drop: %+v", swept)
	}
	if n := m.count("pg_constraint WHERE conname = 'inbox_past_bound'"); n != 0 {
		t.Error("the proof was left behind")
	}
}

// cutWeeks takes away the weeks that begin so many weeks from now, as if they had never been added.
func (m marks) cutWeeks(from int) {
	m.t.Helper()
	m.exec(fmt.Sprintf(`DO $$
DECLARE
    bound uuid;
    week record;
BEGIN
    SELECT min(upper::text)::uuid INTO bound FROM inbox_weeks() WHERE ends_at > now() + %d * interval '168 hours';
    ALTER TABLE inbox DETACH PARTITION inbox_ahead;
    FOR week IN SELECT * FROM inbox_weeks() WHERE upper > bound LOOP
        EXECUTE format('DROP TABLE %%s', week.partition);
    END LOOP;
    EXECUTE format('ALTER TABLE inbox ATTACH PARTITION inbox_ahead
        FOR VALUES FROM (%%L) TO (''80000000-0000-0000-0000-000000000000'')', bound);
END $$`, from))
}

func TestWeeksAreAddedInTimeAndTakeWhatBelongsIntoThem(t *testing.T) {
	m := newMarks(t)
	m.cutWeeks(30)
	if swept := m.sweep(); swept.Added != 0 {
		t.Errorf("with 30 weeks ahead: %+v", swept)
	}
	m.cutWeeks(20)
	m.add("billing", "-300 days", "0", 20) // 43 weeks from now
	m.add("billing", "-900 days", "0", 20)
	if n := m.count("inbox_ahead"); n != 40 {
		t.Fatalf("inbox_ahead has %d marks, want 40", n)
	}
	reader, err := kit.Connect(t, m.url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), `SELECT inbox_accept('billing', 'orders', '1')`); err != nil {
		t.Fatal(err)
	}
	if swept := m.sweep(); swept.Added != 0 || !slices.Equal(swept.Blocked, []string{"add partitions"}) {
		t.Errorf("while a transaction is open: %+v", swept)
	}
	if err := reader.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var full bool
	if err := m.conn.QueryRow(t.Context(), `SELECT inbox_add_weeks(26, 0) IS NULL`).Scan(&full); err != nil || !full {
		t.Errorf("where too much would have to move: %v, %v", full, err)
	}
	if swept := m.sweep(); swept.Added != 32 && swept.Added != 31 {
		t.Errorf("%+v", swept)
	}
	if ahead, week := m.count("inbox_ahead"), m.count(m.in("-300 days")); ahead != 20 || week != 20 {
		t.Errorf("inbox_ahead has %d marks and the week %d, want 20 and 20", ahead, week)
	}
}

// Messages of every age are accepted while weeks are added, emptied and dropped beside them: no
// insert fails, and none is accepted twice.
func TestAcceptingGoesOnWhilePartitionsChange(t *testing.T) {
	m := newMarks(t)
	m.addPastWeeks(40, 3)
	m.cutWeeks(20)
	m.retain(time.Hour)
	m.add("billing", "14 days", "2 hours", 1000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	accepted := make(chan error, 1)
	rounds := 0
	go func() {
		accepted <- func() error {
			conn, err := pgx.Connect(ctx, m.url)
			if err != nil {
				return err
			}
			for ; ctx.Err() == nil; rounds++ {
				var fresh, again int
				err := conn.QueryRow(context.WithoutCancel(ctx), `WITH ids AS MATERIALIZED (
						SELECT left(inbox_floor(now() + n * interval '168 hours')::text, 14) || '7' || right(gen_random_uuid()::text, 21) AS id
						  FROM generate_series(-30, 60) AS n WHERE n <> -2)
					SELECT sum(inbox_accept('reports', 'orders', id)::int), sum(inbox_accept('reports', 'orders', id)::int)
					  FROM ids`).Scan(&fresh, &again)
				if err != nil || fresh != 90 || again != 0 {
					why := fmt.Errorf("%d of 90 were accepted, and %d of them twice", fresh, again)
					return errors.Join(err, why, conn.Close(context.WithoutCancel(ctx)))
				}
			}
			return conn.Close(context.WithoutCancel(ctx))
		}()
	}()
	var total inbox.Swept
	for range 50 {
		swept := m.sweep()
		total.Added, total.Dropped = total.Added+swept.Added, total.Dropped+swept.Dropped
		total.Emptied = append(total.Emptied, swept.Emptied...)
	}
	stop()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	t.Logf("%d rounds; %+v", rounds, total)
	if n := m.count("inbox WHERE consumer = 'reports'"); n != int64(rounds)*90 {
		t.Errorf("%d marks are there, want %d", n, rounds*90)
	}
	if total.Added == 0 || total.Dropped == 0 || len(total.Emptied) != 1 {
		t.Errorf("not every kind of change happened meanwhile: %+v", total)
	}
}

// The way back keeps every mark.
func TestTheRetentionOfTheInboxGoesThereAndBackWithTheMarks(t *testing.T) {
	m := newMarks(t)
	add := func() {
		for _, made := range []string{"900 days", "14 days", "0", "-100 days", "-9000 days"} {
			m.add("billing", made, "1 day", 3)
		}
		m.exec(`INSERT INTO inbox (consumer, source, msg_id)
			SELECT 'billing', 'orders', inbox_key(gen_random_uuid()::text) FROM generate_series(1, 3)`)
	}
	add()
	retention := migrations.Inbox()[1]
	m.exec(retention.Down)
	if n := m.count("inbox"); n != 18 || m.count("pg_inherits WHERE inhparent = 'inbox'::regclass") != 3 {
		t.Errorf("%d marks are left, want 18 in three partitions", n)
	}
	add()
	m.exec(retention.Up)
	if all, past, ahead := m.count("inbox"), m.count("inbox_past"), m.count("inbox_ahead"); all != 36 || past != 6 || ahead != 6 {
		t.Errorf("%d marks, %d of them in inbox_past and %d in inbox_ahead; want 36, 6 and 6", all, past, ahead)
	}
}
