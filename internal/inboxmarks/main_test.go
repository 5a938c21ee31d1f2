package inboxmarks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{}) }

// stage is a database with the tables of an inbox, a consumer, and a person who holds the role inbox_operator and no other.
type stage struct {
	t        *testing.T
	owner    *pgx.Conn
	operator *pgx.Conn
	billing  *inbox.Inbox[pgx.Tx]
}

func newStage(t *testing.T, name string) *stage {
	t.Helper()
	databaseURL := testpg.Database(t, migrations.Inbox())
	s := &stage{t: t, owner: testpg.Connect(t, databaseURL)}
	s.execute("BEGIN;" + migrations.InboxRoles + "COMMIT")
	s.execute(fmt.Sprintf("CREATE ROLE ada_%[1]s LOGIN PASSWORD 'secret' IN ROLE inbox_operator", name))
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("ada_"+name, "secret")
	s.operator = testpg.Connect(t, address.String())
	pool, err := pgxpool.New(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if s.billing, err = inbox.New(pool, &inbox.Config{Consumer: "billing", Instance: "billing-1"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) execute(statements string) {
	s.t.Helper()
	if _, err := s.owner.PgConn().Exec(s.t.Context(), statements).ReadAll(); err != nil {
		s.t.Fatalf("%s: %v", statements, err)
	}
}

func (s *stage) count(from string) (n int) {
	s.t.Helper()
	if err := s.owner.QueryRow(s.t.Context(), "SELECT count(*) FROM "+from).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// message returns a message of source shop, of topic orders.
func message(id string) inbox.Message {
	return inbox.Message{ID: id, Source: "shop", Topic: "orders", Key: []byte("key of " + id)}
}

// handle handles a message and returns what became of it.
func (s *stage) handle(id string) inbox.Result {
	s.t.Helper()
	result, err := s.billing.Handle(s.t.Context(), message(id), func(context.Context, pgx.Tx) error { return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

// claim claims a message whose effect fails with an unknown outcome.
func (s *stage) claim(id string) {
	s.t.Helper()
	_, err := s.billing.AtMostOnce(s.t.Context(), message(id), func(context.Context) error { return errors.New("no answer") })
	if err == nil {
		s.t.Fatal("the effect did not fail")
	}
}
