package outboxread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/position"
)

// withAggregates makes business rows to lock, named a, b and c.
func withAggregates(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn := outboxtest.Open(t, url)
	outboxtest.Exec(t, conn, `CREATE TABLE aggregates (name text PRIMARY KEY, version int NOT NULL DEFAULT 0);
		INSERT INTO aggregates (name) VALUES ('a'), ('b'), ('c')`)
	return conn
}

// take locks an aggregate as a writer does: by an update of its row.
func take(t outboxtest.TB, conn *pgx.Conn, name string) {
	t.Helper()
	outboxtest.Exec(t, conn, `UPDATE aggregates SET version = version + 1 WHERE name = $1`, name)
}

func takeXid(t outboxtest.TB, conn *pgx.Conn) {
	t.Helper()
	outboxtest.Exec(t, conn, `SELECT pg_current_xact_id()`)
}

func TestRolledBackRowsNeverAppear(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, one, two := followAll(t, url), outboxtest.Open(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, one, `BEGIN`)
	outboxtest.Insert(t, one, "a", "lost")
	outboxtest.Insert(t, two, "b", "kept")
	expectValues(t, f.catchUp(t), "kept")
	outboxtest.Exec(t, one, `ROLLBACK`)
	outboxtest.Insert(t, two, "b", "kept too")
	outboxtest.Exec(t, two, `BEGIN`)
	outboxtest.Insert(t, two, "b", "before the savepoint")
	outboxtest.Exec(t, two, `SAVEPOINT s`)
	outboxtest.Insert(t, two, "b", "lost with the savepoint")
	outboxtest.Exec(t, two, `ROLLBACK TO s`)
	outboxtest.Insert(t, two, "b", "after the savepoint")
	outboxtest.Exec(t, two, `COMMIT`)
	expectValues(t, f.catchUp(t), "kept too", "before the savepoint", "after the savepoint")
	expectValues(t, followAll(t, url).catchUp(t), "kept", "kept too", "before the savepoint", "after the savepoint")
}

func TestAnOpenTransactionLosesNothingAndDelaysNobody(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, slow, quick := followAll(t, url), outboxtest.Open(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, slow, `BEGIN`)
	outboxtest.Insert(t, slow, "slow", "slow 1")
	for i := range 20 {
		value := fmt.Sprintf("quick %d", i)
		outboxtest.Insert(t, quick, "quick", value)
		expectValues(t, f.catchUp(t), value)
	}
	outboxtest.Insert(t, slow, "slow", "slow 2")
	outboxtest.Exec(t, slow, `COMMIT`)
	expectValues(t, f.catchUp(t), "slow 1", "slow 2")
	expectValues(t, f.catchUp(t))
}

// The transaction that takes its xid first locks the aggregate last. Ordered by xact_id, its event
// would come first.
func TestOrderIsThatOfTheLocksNotOfTheXids(t *testing.T) {
	for name, read := range map[string]func(*follower){
		"in one window":               func(*follower) {},
		"with a read between the two": func(f *follower) { f.catchUp(t) },
	} {
		t.Run(name, func(t *testing.T) {
			url := outboxtest.Database(t)
			withAggregates(t, url)
			f, one, two := followAll(t, url), outboxtest.Open(t, url), outboxtest.Open(t, url)
			outboxtest.Exec(t, one, `BEGIN`)
			takeXid(t, one)
			outboxtest.Exec(t, two, `BEGIN`)
			take(t, two, "a")
			outboxtest.Insert(t, two, "a", "first")
			outboxtest.Exec(t, two, `COMMIT`)
			read(f)
			take(t, one, "a")
			outboxtest.Insert(t, one, "a", "second")
			outboxtest.Exec(t, one, `COMMIT`)
			f.catchUp(t)
			expectValues(t, values(f.seen), "first", "second")
		})
	}
}

func TestOrderHoldsThroughSavepoints(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	withAggregates(t, url)
	f, one, two := followAll(t, url), outboxtest.Open(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, one, `BEGIN; SAVEPOINT early`)
	takeXid(t, one)
	take(t, one, "a")
	outboxtest.Insert(t, one, "a", "undone")
	outboxtest.Exec(t, one, `ROLLBACK TO early`) // frees the aggregate
	outboxtest.Exec(t, two, `BEGIN; SAVEPOINT s`)
	take(t, two, "a")
	outboxtest.Insert(t, two, "a", "first")
	outboxtest.Exec(t, two, `RELEASE s; SAVEPOINT t`)
	outboxtest.Insert(t, two, "a", "second")
	outboxtest.Exec(t, two, `COMMIT`)
	outboxtest.Exec(t, one, `SAVEPOINT late`)
	take(t, one, "a")
	outboxtest.Insert(t, one, "a", "third")
	outboxtest.Exec(t, one, `COMMIT`)
	expectValues(t, f.catchUp(t), "first", "second", "third")
}

func TestOrderHoldsThroughPreparedTransactions(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	withAggregates(t, url)
	f, one, two := followAll(t, url), outboxtest.Open(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, one, `BEGIN`)
	takeXid(t, one)
	outboxtest.Exec(t, two, `BEGIN`)
	take(t, two, "a")
	outboxtest.Insert(t, two, "a", "first")
	outboxtest.Exec(t, two, `PREPARE TRANSACTION 'order-two'`)
	outboxtest.Insert(t, two, "b", "unrelated")
	expectValues(t, f.catchUp(t), "unrelated")
	outboxtest.Exec(t, two, `COMMIT PREPARED 'order-two'`)
	take(t, one, "a")
	outboxtest.Insert(t, one, "a", "second")
	outboxtest.Exec(t, one, `PREPARE TRANSACTION 'order-one'`)
	expectValues(t, f.catchUp(t), "first")
	outboxtest.Exec(t, two, `COMMIT PREPARED 'order-one'`)
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
	url := outboxtest.Database(t)
	f, early, late := follow(t, url, position.Position{From: position.Beginning}, 7, 8<<20), outboxtest.Open(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, early, `BEGIN`)
	outboxtest.Insert(t, early, "early", "e0") // the least id, with an xid that runs while others commit
	for i := range 30 {
		outboxtest.Insert(t, late, "late", fmt.Sprintf("l%d", i))
	}
	if got := len(f.catchUp(t)); got != 30 {
		t.Fatalf("read %d of the 30 rows that had committed", got)
	}
	outboxtest.Exec(t, late, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		SELECT 'order', 'late', 'Changed', convert_to('m' || n, 'UTF8') FROM generate_series(0, 19) n`)
	outboxtest.Exec(t, early, `COMMIT`)
	got := f.catchUp(t)
	if len(got) != 21 || got[0] != "e0" || got[20] != "m19" {
		t.Errorf("read %q", got)
	}
}

func TestRowsThatCommitWhileAWindowIsDrainedComeInTheNext(t *testing.T) {
	url := outboxtest.Database(t)
	f, conn := follow(t, url, position.Position{From: position.Beginning}, 2, 8<<20), outboxtest.Open(t, url)
	for _, v := range []string{"1", "2", "3", "4", "5"} {
		outboxtest.Insert(t, conn, "a", v)
	}
	f.step(t)
	if !f.at.Open() {
		t.Fatalf("five rows with pages of two left no window open: %+v", f.at)
	}
	outboxtest.Insert(t, conn, "a", "6")
	f.catchUp(t)
	expectValues(t, values(f.seen), "1", "2", "3", "4", "5", "6")
}

func TestPagesAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, conn := follow(t, url, position.Position{From: position.Beginning}, 5000, 4096), outboxtest.Open(t, url)
	var want []string
	for _, size := range []int{10, 3000, 3000, 20_000, 10, 10, 9000, 1, 4000, 4000} {
		value := strings.Repeat("x", size)
		want = append(want, value)
		outboxtest.Insert(t, conn, "a", value)
	}
	// step itself checks the bounds: a larger row goes alone.
	f.catchUp(t)
	expectValues(t, values(f.seen), want...)
}

func TestAReadThatIsCancelledIsAnError(t *testing.T) {
	f := followAll(t, outboxtest.Database(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.reader.Next(ctx, f.at); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestARowThatCannotBeSentIsAFaultOfItsPage(t *testing.T) {
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	outboxtest.Insert(t, conn, "a", "good")
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', 'a', 'T', 'no such topic!')`)
	outboxtest.Insert(t, conn, "a", "behind")
	p, err := f.reader.Next(t.Context(), f.at)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Records) != 3 || len(p.Faults) != 1 || p.Faults[0].At != 1 || !strings.Contains(p.Faults[0].Err.Error(), "no such topic!") {
		t.Fatalf("%d records, faults %+v", len(p.Records), p.Faults)
	}
	if p.Window.To.IsZero() || p.After.From.String() != p.Window.To.String() {
		t.Errorf("the window is %+v, and the progress after it %+v", p.Window, p.After)
	}
}

func TestOpenReaderSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Exec(t, conn, `CREATE SCHEMA billing; CREATE TABLE billing.outbox (LIKE public.outbox INCLUDING ALL)`)
	o := readerOf(url)
	o.Table = "billing.outbox"
	reader, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("a table with its schema: %v", err)
	}
	reader.Close()
	elsewhere := o
	elsewhere.Table = "nowhere.outbox"
	if _, err := Open(t.Context(), elsewhere); err == nil || !strings.Contains(err.Error(), "nowhere.outbox") {
		t.Errorf("a missing table: %v", err)
	}
	outboxtest.Exec(t, conn, `ALTER TABLE billing.outbox DROP COLUMN headers`)
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "headers") {
		t.Errorf("a missing column: %v", err)
	}
}

func TestTheReaderCannotWrite(t *testing.T) {
	url := outboxtest.Database(t)
	f := followAll(t, url)
	if _, err := f.reader.conn.Exec(t.Context(), `DELETE FROM outbox`); err == nil {
		t.Error("the reader's session may write")
	}
}

// Payloads of every byte, empty ones and tombstones come out as they went in.
func TestPayloadsAreKeptByteForByte(t *testing.T) {
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := [][]byte{every, {}, nil, bytes.Repeat([]byte{0}, 300_000)}
	for _, payload := range want {
		outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'ключ', 'T', $1)`, payload)
	}
	p, err := f.reader.Next(t.Context(), f.at)
	if err != nil || len(p.Records) != len(want) {
		t.Fatalf("read %d rows, %v", len(p.Records), err)
	}
	for i, r := range p.Records {
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
