package outboxread

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// An address may lead to several servers, one after the other: rows of one must not go out under
// the intents of another.
func TestTheReaderMustBeOnTheServerOfTheLanesSession(t *testing.T) {
	url := outboxtest.Database(t)
	f := followAll(t, url)
	server, err := pg.Identify(t.Context(), outboxtest.Open(t, url))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.reader.CheckServer(t.Context(), server); err != nil {
		t.Errorf("the same server: %v", err)
	}
	for name, change := range map[string]func(*pg.Server){
		"another cluster":  func(s *pg.Server) { s.SystemIdentifier = "1" },
		"another database": func(s *pg.Server) { s.DatabaseOID++ },
		"a promotion":      func(s *pg.Server) { s.Timeline++ },
		"a restart":        func(s *pg.Server) { s.Started = s.Started.Add(-time.Second) },
	} {
		other := server
		change(&other)
		if err := f.reader.CheckServer(t.Context(), other); err == nil || !strings.Contains(err.Error(), "two different servers") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A snapshot older than the last one comes from a server that lags: its rows may be ones that were
// published already.
func TestASnapshotThatGoesBackwardsIsRefused(t *testing.T) {
	f := followAll(t, outboxtest.Database(t))
	ahead := f.at
	ahead.From = position.Snapshot{Xmin: 1 << 40, Xmax: 1 << 40}
	if _, err := f.reader.Next(t.Context(), ahead); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("got %v", err)
	}
}

// A page, a window and a backlog of many pages: each row that is read is judged, wherever it
// stands.
func TestEveryRowThatIsReadIsChecked(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 5000} { // of a page
		url := outboxtest.Database(t)
		conn := outboxtest.Open(t, url)
		outboxtest.Unguard(t, conn)
		for name, xid := range outboxtest.ForeignRows(t, url, conn) {
			f := follow(t, url, position.Position{From: position.Beginning}, rows, 8<<20)
			f.catchUp(t)
			outboxtest.Exec(t, conn, `DELETE FROM outbox`)
			outboxtest.Events(t, conn, 10)
			outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, xact_id) VALUES ('order', 'foreign', 'T', $1::text::xid8)`, xid)
			outboxtest.Events(t, conn, 10)
			var err error
			for range 100 {
				var p *Page
				if p, err = f.reader.Next(t.Context(), f.at); err != nil {
					break
				}
				for i := range p.Records {
					if string(p.Records[i].Key) == "foreign" {
						t.Errorf("pages of %d rows, a row %s: it is in a page", rows, name)
					}
				}
				f.at = p.After
				f.reader.Put(p)
			}
			if !errors.Is(err, errForeign) || !strings.Contains(err.Error(), xid) {
				t.Errorf("pages of %d rows, a row %s: %v", rows, name, err)
			}
			outboxtest.Exec(t, conn, `DELETE FROM outbox WHERE aggregate_id = 'foreign'`)
			f.catchUp(t)
		}
	}
}

// Each kind of read notices by itself, in the very statement that reads.
func TestEveryReadNoticesAnotherTable(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Exec(t, conn, `CREATE TABLE outbox2 (LIKE outbox INCLUDING ALL)`)
	for range 30 {
		outboxtest.Insert(t, conn, "a", "b")
	}
	outboxtest.Exec(t, conn, `INSERT INTO outbox2 OVERRIDING SYSTEM VALUE SELECT * FROM outbox`)
	whole := follow(t, url, position.Position{From: position.Beginning}, 10, 1<<20)
	whole.reader.o.OID = outboxtest.Query[uint32](t, conn, `SELECT 'outbox'::regclass::oid`)
	whole.step(t) // opens a window, and drains the first page
	if !whole.at.Open() {
		t.Fatalf("no window is open at %+v", whole.at)
	}
	// A tail that fits in a page, and one that finds nothing.
	small := follow(t, url, position.Position{From: position.Beginning}, 100, 1<<20)
	small.reader.o.OID = whole.reader.o.OID
	small.step(t)
	outboxtest.Exec(t, conn, `BEGIN; ALTER TABLE outbox RENAME TO outbox3; ALTER TABLE outbox2 RENAME TO outbox; COMMIT`)
	for name, at := range map[string]position.Position{"tail": {From: position.Beginning}, "drain": whole.at} {
		if page, err := whole.reader.Next(t.Context(), at); !errors.Is(err, pg.ErrSwapped) {
			t.Errorf("%s: got %+v, %v", name, page, err)
		}
	}
	for name, at := range map[string]position.Position{"a page": {From: position.Beginning}, "nothing": small.at} {
		if page, err := small.reader.Next(t.Context(), at); !errors.Is(err, pg.ErrSwapped) {
			t.Errorf("a tail of %s: got %+v, %v", name, page, err)
		}
	}
	outboxtest.Exec(t, conn, `BEGIN; ALTER TABLE outbox RENAME TO outbox2; ALTER TABLE outbox3 RENAME TO outbox; COMMIT`)
	for !whole.step(t) {
	}
	if len(whole.seen) != 30 {
		t.Errorf("%d rows were read", len(whole.seen))
	}
}

// A window is being drained when ids begin again: every new row is published once.
func TestIDsMayBeginAgainInsideAWindow(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Events(t, conn, 20)
	f := follow(t, url, position.Position{From: position.Beginning}, 5, 8<<20)
	for !f.at.Open() {
		f.step(t)
	}
	outboxtest.Exec(t, conn, `TRUNCATE outbox RESTART IDENTITY`)
	outboxtest.Insert(t, conn, "new", "new 1")
	outboxtest.Insert(t, conn, "new", "new 2")
	expectValues(t, f.catchUp(t), "new 1", "new 2")
}
