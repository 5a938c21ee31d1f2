package outbox

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
)

func TestUUIDv7FunctionMakesValidUUIDsWithTheTimeOfTheServer(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	var before, after time.Time
	var ids []uuid.UUID
	if err := conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&before); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "SELECT outbox_uuidv7() FROM generate_series(1, 20000)")
	if err != nil {
		t.Fatal(err)
	}
	ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&after); err != nil {
		t.Fatal(err)
	}
	seen := make(map[uuid.UUID]bool)
	var ones, zeros [16]byte
	for i := range zeros {
		zeros[i] = 0xff
	}
	for _, id := range ids {
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%v has version %v and variant %v", id, id.Version(), id.Variant())
		}
		seconds, nanoseconds := id.Time().UnixTime()
		at := time.Unix(seconds, nanoseconds)
		if at.Before(before.Truncate(time.Millisecond)) || at.After(after) {
			t.Fatalf("%v was made at %v, between %v and %v", id, at, before, after)
		}
		if seen[id] {
			t.Fatalf("%v came twice", id)
		}
		seen[id] = true
		for i := range id {
			ones[i] |= id[i]
			zeros[i] &= id[i]
		}
	}
	// All bits after the time are random but those of the version and the variant.
	if want := []byte{0x7f, 0xff, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}; !bytes.Equal(ones[6:], want) {
		t.Errorf("bits that are ever 1: %x, want %x", ones[6:], want)
	}
	if want := []byte{0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(zeros[6:], want) {
		t.Errorf("bits that are always 1: %x, want %x", zeros[6:], want)
	}
}

// outboxRow is a row as tests compare it.
type outboxRow struct {
	MsgID         uuid.UUID
	AggregateType string
	AggregateID   string
	Type          string
	Topic         *string
	Payload       []byte
	Headers       map[string]string
}

func outboxRows(t testing.TB, conn *pgx.Conn) []outboxRow {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT msg_id, aggregate_type, aggregate_id, type, topic, payload, headers FROM outbox ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outboxRow])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWriteFunctionsStoreWhatTheyAreGiven(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	for _, c := range []struct {
		call    string
		payload []byte
		headers int
		topic   string
	}{
		{`outbox_write('order', '1', 'T', '{"a": "ü"}')`, []byte(`{"a": "ü"}`), 0, ""},
		{`outbox_write('order', '1', 'T', NULL)`, nil, 0, ""},
		{`outbox_write('order', '1', 'T', 'null')`, []byte("null"), 0, ""},
		{`outbox_write('order', '1', 'T', jsonb_build_object('n', 1.50), '{"k": "v"}', 'events')`, []byte(`{"n": 1.50}`), 1, "events"},
		{`outbox_write('order', '1', 'T', '[]', topic => 'events')`, []byte(`[]`), 0, "events"},
		{`outbox_write_bytes('order', '1', 'T', '\x00ff80')`, []byte{0, 0xff, 0x80}, 0, ""},
		{`outbox_write_bytes('order', '1', 'T', NULL)`, nil, 0, ""},
		{`outbox_write_bytes('order', '1', 'T', '', headers => '{"k": "v"}')`, []byte{}, 1, ""},
		{`outbox_write_bytes(aggregate_type => 'order', aggregate_id => '1', type => 'T', payload => 'x')`, []byte("x"), 0, ""},
	} {
		var id uuid.UUID
		if err := conn.QueryRow(t.Context(), "SELECT "+c.call).Scan(&id); err != nil {
			t.Errorf("%s: %v", c.call, err)
			continue
		}
		rows := outboxRows(t, conn)
		row := rows[len(rows)-1]
		if row.MsgID != id || row.AggregateType != "order" || row.AggregateID != "1" || row.Type != "T" {
			t.Errorf("%s returned %v and wrote %+v", c.call, id, row)
		}
		if !bytes.Equal(row.Payload, c.payload) || (row.Payload == nil) != (c.payload == nil) {
			t.Errorf("%s: payload %q, want %q", c.call, row.Payload, c.payload)
		}
		if len(row.Headers) != c.headers || (row.Topic == nil) != (c.topic == "") || row.Topic != nil && *row.Topic != c.topic {
			t.Errorf("%s: headers %v, topic %v", c.call, row.Headers, row.Topic)
		}
	}
	if _, err := conn.Exec(t.Context(), "SELECT outbox_write('', '1', 'T', '{}')"); kit.SQLState(err) != "23514" {
		t.Errorf("an empty aggregate type: %v", err)
	}
}

// A trigger runs with the search_path of the role that changes the business table.
func TestWriteFunctionsFindTheirTableFromAnySearchPath(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	kit.Script(t, conn, `
		CREATE TABLE orders (id int, state text);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM public.outbox_write('order', NEW.id::text, 'OrderChanged', to_jsonb(NEW));
			RETURN NULL;
		END $$;
		CREATE TRIGGER tell AFTER INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION tell();
		CREATE TEMPORARY TABLE outbox (LIKE outbox INCLUDING ALL);
		CREATE SCHEMA other;
		CREATE TABLE other.outbox (LIKE public.outbox INCLUDING ALL);
		CREATE FUNCTION other.outbox_uuidv7() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
		SET search_path = other;
		INSERT INTO public.orders VALUES (7, 'new');
		UPDATE public.orders SET state = 'paid';
		SELECT public.outbox_write_bytes('order', '8', 'T', 'x');
		DROP TABLE pg_temp.outbox;
		DROP SCHEMA other CASCADE;
		SET search_path = public`)
	var got []string
	for _, row := range outboxRows(t, conn) {
		got = append(got, row.AggregateID+" "+string(row.Payload))
	}
	if len(got) != 3 || got[0] != `7 {"id": 7, "state": "new"}` || got[1] != `7 {"id": 7, "state": "paid"}` || got[2] != "8 x" {
		t.Errorf("rows %q", got)
	}
}

func TestLockAggregateIsHeldByOneTransactionUntilItEnds(t *testing.T) {
	url := kit.Database(t)
	holder, other := kit.Connect(t, url), kit.Connect(t, url)
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT outbox_lock_aggregate('order', '42'), outbox_lock_aggregate('order', '42')"); err != nil {
		t.Fatal(err)
	}
	kit.Script(t, other, "SET lock_timeout = '50ms'")
	lock := func(aggregateType, aggregateID any) string {
		_, err := other.Exec(t.Context(), "SELECT outbox_lock_aggregate($1, $2)", aggregateType, aggregateID)
		if state := kit.SQLState(err); state != "" || err == nil {
			return state
		}
		t.Fatal(err)
		return ""
	}
	const lockNotAvailable, nullNotAllowed = "55P03", "22004"
	if state := lock("order", "42"); state != lockNotAvailable {
		t.Errorf("a second transaction got SQLSTATE %q, want %s", state, lockNotAvailable)
	}
	for _, free := range [][2]string{{"orde", "r42"}, {"order4", "2"}, {"42", "order"}, {"order", "43"}, {"Order", "42"}, {"", "order42"}} {
		if state := lock(free[0], free[1]); state != "" {
			t.Errorf("(%q, %q) is held with (order, 42): SQLSTATE %s", free[0], free[1], state)
		}
	}
	for _, null := range [][2]any{{nil, "42"}, {"order", nil}} {
		if state := lock(null[0], null[1]); state != nullNotAllowed {
			t.Errorf("%v: SQLSTATE %q, want %s", null, state, nullNotAllowed)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := lock("order", "42"); state != "" {
		t.Errorf("after the commit: SQLSTATE %s", state)
	}
}
