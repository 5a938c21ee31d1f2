package relay

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/position"
)

// event is one row as it would be published.
type event struct {
	id         int64
	key, value string
}

// follower reads an outbox as session.read does. Every progress passes through an encoded checkpoint before it is used, as
// it does in a takeover.
type follower struct {
	reader *windowReader
	at     position.Position
	seen   []event
	// stops are the places where a takeover could have started, and how much had been published there.
	stops []stop
}

type stop struct {
	at   position.Position
	seen int
}

// follow opens a reader of the table outbox at a progress. A page holds at most rows rows and size bytes.
func follow(t testing.TB, url string, at position.Position, rows, size int) *follower {
	t.Helper()
	cfg := Config{DatabaseURL: url, Brokers: []string{"unused:1"}, Name: "test", BatchBytes: size}.WithDefaults()
	reader, err := openReader(t.Context(), &cfg, cfg.Lanes[0])
	if err != nil {
		t.Fatal(err)
	}
	reader.maxRows = rows
	t.Cleanup(reader.close)
	return &follower{reader: reader, at: at}
}

// followAll starts at the beginning of the outbox with pages of the default size.
func followAll(t testing.TB, url string) *follower {
	t.Helper()
	return follow(t, url, position.Position{From: position.Beginning}, 5000, 8<<20)
}

// step reads one page, checks that it is well formed, and reports whether the outbox had nothing more.
func (f *follower) step(t failer) (idle bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	before := f.at
	p, err := f.reader.next(ctx, before)
	if err != nil {
		t.Fatalf("read after %+v: %v", before, err)
	}
	if len(p.records) != len(p.ids) {
		t.Fatalf("%d records with %d ids", len(p.records), len(p.ids))
	}
	if most := f.reader.maxRows; len(p.records) > most {
		t.Fatalf("a page of %d rows, the most is %d", len(p.records), most)
	}
	// What the relay adds to the last row is not known before the row is decoded.
	const ownBytes = 200
	if len(p.records) > 1 && p.bytes > f.reader.maxBytes+ownBytes {
		t.Fatalf("a page of %d rows holds %d bytes, the most is %d", len(p.records), p.bytes, f.reader.maxBytes)
	}
	if !slices.IsSorted(p.ids) {
		t.Fatalf("a page is not in the order of its ids: %v", p.ids)
	}
	if before.Open() && len(p.ids) > 0 && p.ids[0] <= before.LastID {
		t.Fatalf("a page starts at id %d, behind %d", p.ids[0], before.LastID)
	}
	if before.Open() && p.after.Open() && !reflect.DeepEqual(before.To, p.after.To) {
		t.Fatalf("an open window was replaced: %+v became %+v", before, p.after)
	}
	if before.Open() && !p.after.Open() && !reflect.DeepEqual(p.after.From, before.To) {
		t.Fatalf("the window %+v was closed at %+v", before, p.after)
	}
	for i := range p.records {
		f.seen = append(f.seen, event{p.ids[i], string(p.records[i].Key), string(p.records[i].Value)})
	}
	f.at = throughCheckpoint(t, p.after)
	f.stops = append(f.stops, stop{f.at, len(f.seen)})
	idle = len(p.records) == 0 && !p.after.Open() && !before.Open()
	f.reader.put(p)
	return idle
}

// catchUp reads until nothing is left and returns the values read on the way.
func (f *follower) catchUp(t failer) []string {
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
func throughCheckpoint(t failer, p position.Position) position.Position {
	t.Helper()
	value, err := checkpoint.Record{Version: checkpoint.Version, Lane: "outbox", Seq: 1, Position: p}.Encode()
	if err != nil {
		t.Fatalf("encode %+v: %v", p, err)
	}
	c, err := checkpoint.Decode(value)
	if err != nil {
		t.Fatalf("decode %s: %v", value, err)
	}
	return c.Position
}

// now is the progress of a lane that has published everything up to this moment.
func now(t failer, f *follower) position.Position {
	t.Helper()
	s, err := position.ParseSnapshot(query[string](t, f.reader.conn, `SELECT pg_current_snapshot()::text`))
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
