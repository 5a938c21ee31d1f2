package outboxread

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// event is one row as it would be published.
type event struct {
	id         int64
	key, value string
}

// follower reads an outbox as session.read does. Every progress passes through an encoded
// checkpoint before it is used, as it does in a takeover.
type follower struct {
	reader *Reader
	at     position.Position
	seen   []event
	// stops are the places where a takeover could have started, and how much had been published
	// there.
	stops []stop
}

type stop struct {
	at   position.Position
	seen int
}

// readerOf are the options of a reader of the table outbox.
func readerOf(url string) Options {
	return Options{
		Lane: "outbox", Table: "outbox", Rows: 5000, Bytes: 8 << 20, Records: records,
		Database: &pg.Database{URL: func() (string, error) { return url, nil }, Beside: "relay_lanes"},
		Clock:    NewClock(ClockOptions{Logger: slog.New(slog.DiscardHandler), Read: func(string, time.Duration) {}}),
		Foreign:  func(xid, xmax uint64) error { return fmt.Errorf("%w: %d of %d", errForeign, xid, xmax) },
	}
}

var errForeign = errors.New("a row of another transaction")

// records are the options of the records that tests make.
var records = RecordOptions{Source: "app", Route: "outbox.event.{aggregate_type}", ContentType: "application/json"}

// follow opens a reader of the table outbox at a progress. A page holds at most rows rows and size
// bytes.
func follow(t testing.TB, url string, at position.Position, rows, size int) *follower {
	t.Helper()
	o := readerOf(url)
	o.Bytes = size
	reader, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	reader.maxRows = rows
	t.Cleanup(reader.Close)
	return &follower{reader: reader, at: at}
}

// followAll starts at the beginning of the outbox with pages of the default size.
func followAll(t testing.TB, url string) *follower {
	t.Helper()
	return follow(t, url, position.Position{From: position.Beginning}, 5000, 8<<20)
}

// step reads one page, checks that it is well formed, and reports whether the outbox had nothing
// more.
func (f *follower) step(t outboxtest.TB) (idle bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	before := f.at
	p, err := f.reader.Next(ctx, before)
	if err != nil {
		t.Fatalf("read after %+v: %v", before, err)
	}
	if len(p.Records) != len(p.IDs) {
		t.Fatalf("%d records with %d ids", len(p.Records), len(p.IDs))
	}
	if most := f.reader.maxRows; len(p.Records) > most {
		t.Fatalf("a page of %d rows, the most is %d", len(p.Records), most)
	}
	// What the relay adds to the last row is not known before the row is decoded.
	const ownBytes = 200
	if len(p.Records) > 1 && p.Bytes > f.reader.maxBytes+ownBytes {
		t.Fatalf("a page of %d rows holds %d bytes, the most is %d", len(p.Records), p.Bytes, f.reader.maxBytes)
	}
	if !slices.IsSorted(p.IDs) {
		t.Fatalf("a page is not in the order of its ids: %v", p.IDs)
	}
	if before.Open() && len(p.IDs) > 0 && p.IDs[0] <= before.LastID {
		t.Fatalf("a page starts at id %d, behind %d", p.IDs[0], before.LastID)
	}
	if before.Open() && p.After.Open() && !reflect.DeepEqual(before.To, p.After.To) {
		t.Fatalf("an open window was replaced: %+v became %+v", before, p.After)
	}
	if before.Open() && !p.After.Open() && !reflect.DeepEqual(p.After.From, before.To) {
		t.Fatalf("the window %+v was closed at %+v", before, p.After)
	}
	for i := range p.Records {
		f.seen = append(f.seen, event{p.IDs[i], string(p.Records[i].Key), string(p.Records[i].Value)})
	}
	f.at = throughCheckpoint(t, p.After)
	f.stops = append(f.stops, stop{f.at, len(f.seen)})
	idle = len(p.Records) == 0 && !p.After.Open() && !before.Open()
	f.reader.Put(p)
	return idle
}

// catchUp reads until nothing is left and returns the values read on the way.
func (f *follower) catchUp(t outboxtest.TB) []string {
	t.Helper()
	from := len(f.seen)
	for pages := 0; !f.step(t); pages++ {
		if pages > 10_000 {
			t.Fatalf("there is no end to the pages; the last one left %+v", f.at)
		}
	}
	var values []string
	for _, e := range f.seen[from:] {
		values = append(values, e.value)
	}
	return values
}

// throughCheckpoint is the progress as the next owner would read it.
func throughCheckpoint(t outboxtest.TB, p position.Position) position.Position {
	t.Helper()
	value, err := json.Marshal(p)
	if err != nil {
		t.Fatalf("encode %+v: %v", p, err)
	}
	var back position.Position
	if err := json.Unmarshal(value, &back); err != nil {
		t.Fatalf("decode %s: %v", value, err)
	}
	return back
}

// now is the progress of a lane that has published everything up to this moment.
func now(t outboxtest.TB, f *follower) position.Position {
	t.Helper()
	s, err := position.ParseSnapshot(outboxtest.Query[string](t, f.reader.conn, `SELECT pg_current_snapshot()::text`))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return position.Position{From: s}
}

func expectValues(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}
