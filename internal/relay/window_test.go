package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/position"
)

// withAggregates makes business rows to lock, named a, b and c.
func withAggregates(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn := open(t, url)
	exec(t, conn, `CREATE TABLE aggregates (name text PRIMARY KEY, version int NOT NULL DEFAULT 0);
		INSERT INTO aggregates (name) VALUES ('a'), ('b'), ('c')`)
	return conn
}

// take locks an aggregate as a writer does: by an update of its row.
func take(t failer, conn *pgx.Conn, name string) {
	t.Helper()
	exec(t, conn, `UPDATE aggregates SET version = version + 1 WHERE name = $1`, name)
}

func takeXid(t failer, conn *pgx.Conn) { t.Helper(); exec(t, conn, `SELECT pg_current_xact_id()`) }

func TestRolledBackRowsNeverAppear(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, one, two := followAll(t, url), open(t, url), open(t, url)
	exec(t, one, `BEGIN`)
	insert(t, one, "a", "lost")
	insert(t, two, "b", "kept")
	expectValues(t, f.catchUp(t), "kept")
	exec(t, one, `ROLLBACK`)
	insert(t, two, "b", "kept too")
	exec(t, two, `BEGIN`)
	insert(t, two, "b", "before the savepoint")
	exec(t, two, `SAVEPOINT s`)
	insert(t, two, "b", "lost with the savepoint")
	exec(t, two, `ROLLBACK TO s`)
	insert(t, two, "b", "after the savepoint")
	exec(t, two, `COMMIT`)
	expectValues(t, f.catchUp(t), "kept too", "before the savepoint", "after the savepoint")
	expectValues(t, followAll(t, url).catchUp(t), "kept", "kept too", "before the savepoint", "after the savepoint")
}

func TestAnOpenTransactionLosesNothingAndDelaysNobody(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, slow, quick := followAll(t, url), open(t, url), open(t, url)
	exec(t, slow, `BEGIN`)
	insert(t, slow, "slow", "slow 1")
	for i := range 20 {
		value := fmt.Sprintf("quick %d", i)
		insert(t, quick, "quick", value)
		expectValues(t, f.catchUp(t), value)
	}
	insert(t, slow, "slow", "slow 2")
	exec(t, slow, `COMMIT`)
	expectValues(t, f.catchUp(t), "slow 1", "slow 2")
	expectValues(t, f.catchUp(t))
}

// The transaction that takes its xid first takes the aggregate last. Ordered by xact_id, its event would come first.
func TestOrderIsThatOfTheLocksNotOfTheXids(t *testing.T) {
	for name, read := range map[string]func(*follower){
		"in one window":               func(*follower) {},
		"with a read between the two": func(f *follower) { f.catchUp(t) },
	} {
		t.Run(name, func(t *testing.T) {
			url := newDatabase(t)
			withAggregates(t, url)
			f, one, two := followAll(t, url), open(t, url), open(t, url)
			exec(t, one, `BEGIN`)
			takeXid(t, one)
			exec(t, two, `BEGIN`)
			take(t, two, "a")
			insert(t, two, "a", "first")
			exec(t, two, `COMMIT`)
			read(f)
			take(t, one, "a")
			insert(t, one, "a", "second")
			exec(t, one, `COMMIT`)
			f.catchUp(t)
			expectValues(t, values(f.seen), "first", "second")
		})
	}
}

func TestOrderHoldsThroughSavepoints(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	withAggregates(t, url)
	f, one, two := followAll(t, url), open(t, url), open(t, url)
	exec(t, one, `BEGIN; SAVEPOINT early`)
	takeXid(t, one)
	take(t, one, "a")
	insert(t, one, "a", "undone")
	exec(t, one, `ROLLBACK TO early`) // frees the aggregate
	exec(t, two, `BEGIN; SAVEPOINT s`)
	take(t, two, "a")
	insert(t, two, "a", "first")
	exec(t, two, `RELEASE s; SAVEPOINT t`)
	insert(t, two, "a", "second")
	exec(t, two, `COMMIT`)
	exec(t, one, `SAVEPOINT late`)
	take(t, one, "a")
	insert(t, one, "a", "third")
	exec(t, one, `COMMIT`)
	expectValues(t, f.catchUp(t), "first", "second", "third")
}

func TestOrderHoldsThroughPreparedTransactions(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	withAggregates(t, url)
	f, one, two := followAll(t, url), open(t, url), open(t, url)
	exec(t, one, `BEGIN`)
	takeXid(t, one)
	exec(t, two, `BEGIN`)
	take(t, two, "a")
	insert(t, two, "a", "first")
	exec(t, two, `PREPARE TRANSACTION 'order-two'`)
	insert(t, two, "b", "unrelated")
	expectValues(t, f.catchUp(t), "unrelated")
	exec(t, two, `COMMIT PREPARED 'order-two'`)
	take(t, one, "a")
	insert(t, one, "a", "second")
	exec(t, one, `PREPARE TRANSACTION 'order-one'`)
	expectValues(t, f.catchUp(t), "first")
	exec(t, two, `COMMIT PREPARED 'order-one'`)
	expectValues(t, f.catchUp(t), "second")
}

func values(events []event) []string {
	var list []string
	for _, e := range events {
		list = append(list, e.value)
	}
	return list
}

func TestAWindowOfManyPagesStartsAtItsLeastID(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, early, late := follow(t, url, position.Position{From: position.Beginning}, 7, 8<<20), open(t, url), open(t, url)
	exec(t, early, `BEGIN`)
	insert(t, early, "early", "e0") // the least id, with an xid that runs while others commit
	for i := range 30 {
		insert(t, late, "late", fmt.Sprintf("l%d", i))
	}
	if got := len(f.catchUp(t)); got != 30 {
		t.Fatalf("read %d of the 30 rows that had committed", got)
	}
	exec(t, late, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		SELECT 'order', 'late', 'Changed', convert_to('m' || n, 'UTF8') FROM generate_series(0, 19) n`)
	exec(t, early, `COMMIT`)
	got := f.catchUp(t)
	if len(got) != 21 || got[0] != "e0" || got[20] != "m19" {
		t.Errorf("read %q", got)
	}
}

func TestRowsThatCommitWhileAWindowIsDrainedComeInTheNext(t *testing.T) {
	url := newDatabase(t)
	f, conn := follow(t, url, position.Position{From: position.Beginning}, 2, 8<<20), open(t, url)
	for _, v := range []string{"1", "2", "3", "4", "5"} {
		insert(t, conn, "a", v)
	}
	f.step(t)
	if !f.at.Open() {
		t.Fatalf("five rows with pages of two left no window open: %+v", f.at)
	}
	insert(t, conn, "a", "6")
	f.catchUp(t)
	expectValues(t, values(f.seen), "1", "2", "3", "4", "5", "6")
}

func TestPagesAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, conn := follow(t, url, position.Position{From: position.Beginning}, 5000, 4096), open(t, url)
	var want []string
	for _, size := range []int{10, 3000, 3000, 20_000, 10, 10, 9000, 1, 4000, 4000} {
		value := strings.Repeat("x", size)
		want = append(want, value)
		insert(t, conn, "a", value)
	}
	// step itself checks the bounds: a larger row goes alone.
	f.catchUp(t)
	expectValues(t, values(f.seen), want...)
}

func TestAReadThatIsCancelledIsAnError(t *testing.T) {
	f := followAll(t, newDatabase(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.reader.next(ctx, f.at); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestARowThatCannotBeSentIsAFaultOfItsPage(t *testing.T) {
	url := newDatabase(t)
	f, conn := followAll(t, url), open(t, url)
	insert(t, conn, "a", "good")
	exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', 'a', 'T', 'no such topic!')`)
	insert(t, conn, "a", "behind")
	p, err := f.reader.next(t.Context(), f.at)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.records) != 3 || len(p.faults) != 1 || p.faults[0].at != 1 || !strings.Contains(p.faults[0].err.Error(), "no such topic!") {
		t.Fatalf("%d records, faults %+v", len(p.records), p.faults)
	}
	if p.window.To.IsZero() || p.after.From.String() != p.window.To.String() {
		t.Errorf("the window is %+v, and the progress after it %+v", p.window, p.after)
	}
}

func TestOpenReaderSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	conn := open(t, url)
	exec(t, conn, `CREATE SCHEMA billing; CREATE TABLE billing.outbox (LIKE public.outbox INCLUDING ALL)`)
	cfg := Config{DatabaseURL: url, Brokers: []string{"unused:1"}, Name: "test"}.WithDefaults()
	reader, err := openReader(t.Context(), &cfg, Lane{Name: "billing", Table: "billing.outbox"})
	if err != nil {
		t.Fatalf("a table with its schema: %v", err)
	}
	reader.close()
	if _, err := openReader(t.Context(), &cfg, Lane{Name: "x", Table: "nowhere.outbox"}); err == nil || !strings.Contains(err.Error(), "nowhere.outbox") {
		t.Errorf("a missing table: %v", err)
	}
	exec(t, conn, `ALTER TABLE billing.outbox DROP COLUMN headers`)
	if _, err := openReader(t.Context(), &cfg, Lane{Name: "x", Table: "billing.outbox"}); err == nil || !strings.Contains(err.Error(), "headers") {
		t.Errorf("a missing column: %v", err)
	}
}

func TestTheReaderCannotWrite(t *testing.T) {
	url := newDatabase(t)
	f := followAll(t, url)
	if _, err := f.reader.conn.Exec(t.Context(), `DELETE FROM outbox`); err == nil {
		t.Error("the reader's session may write")
	}
}

// Payloads of every byte, empty ones and tombstones come out as they went in.
func TestPayloadsAreKeptByteForByte(t *testing.T) {
	url := newDatabase(t)
	f, conn := followAll(t, url), open(t, url)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := [][]byte{every, {}, nil, bytes.Repeat([]byte{0}, 300_000)}
	for _, payload := range want {
		exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'ключ', 'T', $1)`, payload)
	}
	p, err := f.reader.next(t.Context(), f.at)
	if err != nil || len(p.records) != len(want) {
		t.Fatalf("read %d rows, %v", len(p.records), err)
	}
	for i, r := range p.records {
		if !bytes.Equal(r.Value, want[i]) || (r.Value == nil) != (want[i] == nil) || string(r.Key) != "ключ" {
			t.Errorf("row %d: %d bytes (nil: %t), key %q", i, len(r.Value), r.Value == nil, r.Key)
		}
		names := make([]string, 0, ownHeaders)
		for _, h := range r.Headers {
			names = append(names, h.Key)
		}
		if want := []string{"msg_id", "source", "type", "aggregate_type", "content-type", "created_at"}; !slices.Equal(names, want) {
			t.Errorf("headers %q, want %q", names, want)
		}
	}
}
