package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/outboxsql"
)

// writing is a way to write events: a library and a driver. It writes in its own transaction, or in
// one that is rolled back.
type writing struct {
	name   string
	insert func(t testing.TB, cfg *outbox.Config, commit bool, messages ...outbox.Message) ([]uuid.UUID, error)
}

// writings are all the ways into the database: every query mode of pgx, and both drivers of
// database/sql.
func writings(t *testing.T, address string) []writing {
	t.Helper()
	var all []writing
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		all = append(all, writing{"pgx " + mode.String(), throughPgx(conn)})
	}
	for _, way := range []struct{ driver, setting string }{
		{"pgx", ""}, {"pgx", "default_query_exec_mode=simple_protocol"}, {"postgres", ""}, {"postgres", "binary_parameters=yes"},
	} {
		db, err := sql.Open(way.driver, withSetting(t, address, way.setting))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		all = append(all, writing{strings.TrimSpace("database/sql " + way.driver + " " + way.setting), throughSQL(db)})
	}
	return all
}

// withSetting adds name=value to the query of a URL.
func withSetting(t *testing.T, address, setting string) string {
	t.Helper()
	if setting == "" {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(setting, "=")
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

func throughPgx(conn *pgx.Conn) func(testing.TB, *outbox.Config, bool, ...outbox.Message) ([]uuid.UUID, error) {
	return func(t testing.TB, cfg *outbox.Config, commit bool, messages ...outbox.Message) (ids []uuid.UUID, err error) {
		w, err := outbox.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids, err = w.Insert(t.Context(), tx, messages...)
		end := tx.Rollback
		if commit && err == nil {
			end = tx.Commit
		}
		return ids, errors.Join(err, end(t.Context()))
	}
}

func throughSQL(db *sql.DB) func(testing.TB, *outbox.Config, bool, ...outbox.Message) ([]uuid.UUID, error) {
	return func(t testing.TB, cfg *outbox.Config, commit bool, messages ...outbox.Message) (ids []uuid.UUID, err error) {
		w, err := outboxsql.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids, err = w.Insert(t.Context(), tx, messages...)
		end := tx.Rollback
		if commit && err == nil {
			end = tx.Commit
		}
		return ids, errors.Join(err, end())
	}
}

// differs says how a row differs from the message that it was made of, or nothing.
func differs(row outboxRow, m outbox.Message, id uuid.UUID) string {
	var topic string
	if row.Topic != nil {
		topic = *row.Topic
	}
	switch {
	case row.MsgID != id || m.ID != uuid.Nil && m.ID != id:
		return fmt.Sprintf("id %v, returned %v, given %v", row.MsgID, id, m.ID)
	case row.AggregateType != m.AggregateType || row.AggregateID != m.AggregateID || row.Type != m.Type || topic != m.Topic:
		return fmt.Sprintf("%+v of %+v", row, m)
	case string(row.Payload) != string(m.Payload) || (row.Payload == nil) != (m.Payload == nil):
		return fmt.Sprintf("payload %q (nil: %v) of %q (nil: %v)", row.Payload, row.Payload == nil, m.Payload, m.Payload == nil)
	case !maps.Equal(row.Headers, m.Headers) || (row.Headers == nil) != (len(m.Headers) == 0):
		return fmt.Sprintf("headers %q of %q", row.Headers, m.Headers)
	}
	return ""
}

func truncate(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "TRUNCATE outbox"); err != nil {
		t.Fatal(err)
	}
}

func TestEveryWayOfWritingStoresTheMessagesByteForByteInOrder(t *testing.T) {
	url := kit.Database(t)
	reader := kit.Connect(t, url)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	messages := []outbox.Message{
		{AggregateType: "order", AggregateID: "1", Type: "T", Payload: []byte(`{"a": "ü"}`)},
		{AggregateType: "order", AggregateID: "1", Type: "T", Payload: nil},
		{AggregateType: "order", AggregateID: "1", Type: "T", Payload: []byte{}},
		{AggregateType: "order", AggregateID: "1", Type: "T", Payload: every, ID: uuid.MustParse("00000000-0000-4000-8000-000000000001")},
		{AggregateType: `Odd " type \`, AggregateID: "NULL", Type: "{,}\n\t'$1'", Topic: "events", Payload: []byte(`\x00`)},
		{AggregateType: "order", AggregateID: "ключ 鍵 🚀 \u2028", Type: "T", Headers: map[string]string{
			"content-type": "text/plain", "traceparent": "", `quote " \ `: "<&>\x01\x7f\u2028🚀", "NULL": "NULL",
		}},
	}
	for _, w := range writings(t, url) {
		t.Run(w.name, func(t *testing.T) {
			truncate(t, reader)
			ids, err := w.insert(t, nil, true, messages...)
			if err != nil {
				t.Fatal(err)
			}
			rows := outboxRows(t, reader)
			if len(rows) != len(messages) || len(ids) != len(messages) {
				t.Fatalf("%d rows and %d ids for %d messages", len(rows), len(ids), len(messages))
			}
			for i, row := range rows {
				if difference := differs(row, messages[i], ids[i]); difference != "" {
					t.Errorf("message %d: %s", i, difference)
				}
			}
			// A message alone takes its own statement.
			for i, m := range messages {
				truncate(t, reader)
				ids, err := w.insert(t, nil, true, m)
				if err != nil {
					t.Fatal(err)
				}
				rows := outboxRows(t, reader)
				if len(rows) != 1 || len(ids) != 1 {
					t.Fatalf("%d rows and %d ids for message %d", len(rows), len(ids), i)
				}
				if difference := differs(rows[0], m, ids[0]); difference != "" {
					t.Errorf("message %d alone: %s", i, difference)
				}
			}
		})
	}
}

func TestAnyMessageThatPassesTheRulesComesBackAsItWas(t *testing.T) {
	url := kit.Database(t)
	reader := kit.Connect(t, url)
	ways := writings(t, url)
	text := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 1, 40, 255)
	name := text.Filter(func(s string) bool {
		return !slices.Contains([]string{"msg_id", "source", "type", "aggregate_type", "created_at"}, s)
	})
	message := rapid.Custom(func(t *rapid.T) outbox.Message {
		return outbox.Message{
			AggregateType: text.Draw(t, "aggregate type"), AggregateID: text.Draw(t, "aggregate id"), Type: text.Draw(t, "type"),
			Topic:   rapid.StringMatching(`[a-zA-Z0-9_-]{1,40}`).Draw(t, "topic"),
			Payload: rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Just([]byte(nil))).Draw(t, "payload"),
			Headers: rapid.MapOfN(name, rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 })), 0, 4).Draw(t, "headers"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		truncate(t, reader)
		messages := rapid.SliceOfN(message, 1, 20).Draw(rt, "messages")
		way := rapid.SampledFrom(ways).Draw(rt, "way")
		ids, err := way.insert(t, nil, true, messages...)
		if err != nil {
			rt.Fatal(err)
		}
		rows := outboxRows(t, reader)
		if len(rows) != len(messages) {
			rt.Fatalf("%s: %d rows of %d messages", way.name, len(rows), len(messages))
		}
		for i, row := range rows {
			if difference := differs(row, messages[i], ids[i]); difference != "" {
				rt.Fatalf("%s: message %d: %s", way.name, i, difference)
			}
		}
	})
}

// Many messages in one call, while others write at the same time, with settings that tempt the
// planner away from the order: each call's rows have ids in the order of its arguments.
func TestIDsRiseInTheOrderOfTheArguments(t *testing.T) {
	url := kit.Database(t)
	reader := kit.Connect(t, url)
	kit.Script(t, reader, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET parallel_setup_cost = 0', current_database());
		EXECUTE format('ALTER DATABASE %I SET parallel_tuple_cost = 0', current_database());
		EXECUTE format('ALTER DATABASE %I SET work_mem = ''64kB''', current_database()); END $$`)
	const each = 5000
	failures := make(chan error)
	ways := writings(t, url)
	for _, w := range ways {
		go func() {
			messages := make([]outbox.Message, each)
			for i := range messages {
				messages[i] = outbox.Message{AggregateType: w.name, AggregateID: fmt.Sprint(i), Type: "T", Topic: "t", Payload: make([]byte, i%300)}
			}
			_, err := w.insert(t, nil, true, messages...)
			failures <- err
		}()
	}
	for range ways {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	var rows, inverted int
	if err := reader.QueryRow(t.Context(), `
		SELECT count(*), count(*) FILTER (WHERE aggregate_id::int <> position)
		FROM (SELECT aggregate_id, row_number() OVER (PARTITION BY aggregate_type ORDER BY id) - 1 AS position FROM outbox) rows`,
	).Scan(&rows, &inverted); err != nil {
		t.Fatal(err)
	}
	if rows != each*len(ways) || inverted != 0 {
		t.Errorf("%d rows of %d; %d out of order", rows, each*len(ways), inverted)
	}
	// The reason for the order: ids are drawn above the scan that is ordered, never below.
	for _, line := range explainInsert(t, reader) {
		if strings.Contains(line, "nextval") {
			return
		}
		if strings.Contains(line, "Function Scan") {
			t.Fatal("ids are drawn below the scan of the arguments")
		}
	}
	t.Error("the plan draws no id")
}

// explainInsert returns the lines of the plan of the statement that Insert sends.
func explainInsert(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	spy := &statementSpy{Tx: tx}
	if _, err := outbox.Insert(t.Context(), spy, outbox.Message{AggregateType: "a", AggregateID: "1", Type: "T"}); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "EXPLAIN (VERBOSE, COSTS OFF) "+spy.sql, spy.arguments...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestMessagesOfATransactionThatRollsBackAreGone(t *testing.T) {
	url := kit.Database(t)
	reader := kit.Connect(t, url)
	for _, w := range writings(t, url) {
		if _, err := w.insert(t, nil, false, outbox.Message{AggregateType: "order", AggregateID: "1", Type: "T"}); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
	}
	if rows := outboxRows(t, reader); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestWriterReachesATableInAnotherSchema(t *testing.T) {
	url := kit.Database(t)
	conn := kit.Connect(t, url)
	kit.Script(t, conn, `CREATE SCHEMA "Odd schema"; CREATE TABLE "Odd schema"."My ""box""" (LIKE outbox INCLUDING ALL)`)
	cfg := &outbox.Config{Table: `Odd schema.My "box"`}
	ways := writings(t, url)
	for _, w := range ways {
		if _, err := w.insert(t, cfg, true, outbox.Message{AggregateType: "order", AggregateID: "1", Type: "T"}); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
	}
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM "Odd schema"."My ""box"""`).Scan(&rows); err != nil || rows != len(ways) {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// 41 MB do not fit one statement.
func TestHugeCallsAreCutIntoStatements(t *testing.T) {
	url := kit.Database(t)
	reader := kit.Connect(t, url)
	messages := make([]outbox.Message, 41)
	for i := range messages {
		messages[i] = outbox.Message{AggregateType: "order", AggregateID: fmt.Sprint(i), Type: "T", Payload: make([]byte, 999_000)}
	}
	ways := writings(t, url)
	for _, w := range []writing{ways[0], ways[len(ways)-2]} {
		truncate(t, reader)
		if _, err := w.insert(t, nil, true, messages...); err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		rows, err := reader.Query(t.Context(), "SELECT aggregate_id::int FROM outbox WHERE octet_length(payload) = 999000 ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil || len(got) != len(messages) || !slices.IsSorted(got) {
			t.Errorf("%s: %v, %v", w.name, got, err)
		}
	}
}
