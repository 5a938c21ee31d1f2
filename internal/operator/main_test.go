package operator

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{}) }

// database makes a database with every migration and the roles, and returns its URL and a
// connection to it.
func database(t *testing.T) (string, *pgx.Conn) {
	t.Helper()
	databaseURL := testpg.Database(t, migrations.List())
	conn := testpg.Connect(t, databaseURL)
	execute(t, conn, `INSERT INTO relay_lanes (lane, state) VALUES ('outbox', 'running'), ('billing', 'running')`)
	return databaseURL, conn
}

// relayOperator returns a connection of a login that holds the role relay_operator and no other.
func relayOperator(t *testing.T, databaseURL string, owner *pgx.Conn, login string) *pgx.Conn {
	t.Helper()
	execute(t, owner, "BEGIN;"+migrations.Roles+"COMMIT")
	createRole(t, owner, login, "LOGIN PASSWORD 'secret' IN ROLE relay_operator")
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(login, "secret")
	return testpg.Connect(t, address.String())
}

// createRole makes a role that goes with the test: roles belong to the server, and outlive the
// database of a test.
func createRole(t *testing.T, owner *pgx.Conn, name, attributes string) {
	t.Helper()
	execute(t, owner, fmt.Sprintf("CREATE ROLE %s %s", name, attributes))
	t.Cleanup(func() {
		drop := fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", name)
		if _, err := owner.PgConn().Exec(context.Background(), drop).ReadAll(); err != nil {
			t.Error(err)
		}
	})
}

func execute(t *testing.T, conn *pgx.Conn, statements string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// row is a parked row; what is left out is that of an ordinary one.
type row struct {
	lane, key, cause, err, msgID string
	id, seq                      int64
	released                     bool
	ago                          string
}

func park(t *testing.T, conn *pgx.Conn, rows ...row) {
	t.Helper()
	for _, r := range rows {
		if r.lane == "" {
			r.lane = "outbox"
		}
		if r.ago == "" {
			r.ago = "1 minute"
		}
		if r.seq == 0 {
			r.seq = 1
		}
		_, err := conn.Exec(t.Context(), `
INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, payload, created_at, seq, cause, error, parked_at, released_seq, attempts)
VALUES ($1, $2, coalesce(nullif($3, '')::uuid, gen_random_uuid()), 'order', $4, 'Placed', convert_to('payload ' || $2::bigint, 'UTF8'), now(), $5, $6,
        nullif($7, ''), now() - $8::text::interval, CASE WHEN $9 THEN 9 END, ($6 = 'refused')::int)`,
			r.lane, r.id, r.msgID, r.key, r.seq, r.cause, r.err, r.ago, r.released)
		if err != nil {
			t.Fatal(err)
		}
	}
}

const theEvent = "01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111"

// order names an aggregate.
func order(lane, id string) OutboxFilter {
	return OutboxFilter{Lane: lane, AggregateType: "order", AggregateID: id}
}

// event names an event of it as well.
func event(of OutboxFilter, id uuid.UUID) OutboxFilter {
	of.MsgID = id.String()
	return of
}

// parkSome parks two aggregates of lane outbox, one of lane billing, and one that is on its way
// out.
func parkSome(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	park(t, conn,
		row{id: 11, seq: 3, key: "1", cause: Refused, err: "MESSAGE_TOO_LARGE: 100% of it", ago: "2 hours"},
		row{id: 5, seq: 4, key: "1", cause: Behind, msgID: theEvent}, // an older id in a later batch
		row{id: 12, seq: 4, key: "1", cause: Behind},
		row{id: 13, seq: 2, key: "2", cause: Topic, err: "topic late is unavailable"},
		row{id: 14, seq: 5, key: "3", cause: Refused, err: "invalid", lane: "billing"},
		row{id: 15, seq: 5, key: "4", cause: Refused, err: "invalid", released: true},
	)
}
