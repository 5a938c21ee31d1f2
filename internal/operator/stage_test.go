package operator

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

// stage is a database with parked messages, a consumer, and a person who holds the role
// inbox_operator and no other.
type stage struct {
	t        *testing.T
	url      string
	owner    *pgx.Conn
	operator *pgx.Conn
	billing  *inbox.Inbox[pgx.Tx]
}

func newStage(t *testing.T, name string) *stage {
	t.Helper()
	databaseURL := testpg.Database(t, migrations.Inbox())
	s := &stage{t: t, url: databaseURL, owner: testpg.Connect(t, databaseURL)}
	s.execute("BEGIN;" + migrations.InboxRoles + "COMMIT")
	createRole(t, s.owner, "ada_"+name, "LOGIN PASSWORD 'secret' IN ROLE inbox_operator")
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("ada_"+name, "secret")
	s.operator = testpg.Connect(t, address.String())
	s.billing = s.consumer("billing")
	return s
}

// consumer returns an inbox of that name.
func (s *stage) consumer(name string) *inbox.Inbox[pgx.Tx] {
	s.t.Helper()
	pool, err := pgxpool.New(s.t.Context(), s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pool.Close)
	in, err := inbox.New(pool, &inbox.Config{Consumer: name, Instance: name + "-1"})
	if err != nil {
		s.t.Fatal(err)
	}
	return in
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

// awaitWaiting waits until a session waits for a lock. What was to wait for it sends to ended if it
// does not.
func (s *stage) awaitWaiting(ended <-chan error) {
	s.t.Helper()
	for s.count("pg_locks WHERE NOT granted") == 0 {
		select {
		case err := <-ended:
			s.t.Fatalf("it waited for no lock: %v", err)
		default:
		}
	}
}

// message returns a message of source shop, of topic orders.
func message(id, key string) inbox.Message {
	return inbox.Message{ID: id, Source: "shop", Topic: "orders", Key: []byte(key), Offset: 7, Type: "Placed", Payload: []byte("payload " + id)}
}

// park parks messages of one key; the first one says why.
func (s *stage) park(in *inbox.Inbox[pgx.Tx], cause inbox.Cause, why, key string, ids ...string) {
	s.t.Helper()
	for n, id := range ids {
		var result inbox.Result
		var err error
		if n == 0 {
			result, err = in.Park(s.t.Context(), message(id, key), cause, 3, errors.New(why))
		} else {
			result, err = in.Handle(s.t.Context(), message(id, key), func(context.Context, pgx.Tx) error {
				return errors.New("the handler of a message behind another one was called")
			})
		}
		if err != nil || result != inbox.Parked {
			s.t.Fatalf("message %s: %v, %v", id, result, err)
		}
	}
}

// only returns the one parked key that the filter chooses.
func (s *stage) only(f InboxFilter) Key {
	s.t.Helper()
	list, err := NewInbox(s.operator).List(s.t.Context(), f)
	if err != nil || len(list.Keys) != 1 {
		s.t.Fatalf("%+v: %+v, %v", f, list, err)
	}
	return list.Keys[0]
}

// retry carries out the retries that are asked for, as a process of the consumer does, with a
// handler that fails for one id.
func (s *stage) retry(fails string) {
	s.t.Helper()
	keys, err := inboxloop.New(s.billing).Requested(s.t.Context(), 100)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		for left := true; left; {
			done, err := inboxloop.New(s.billing).Retry(s.t.Context(), key, func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
				if m.ID == fails {
					return errors.New("still no such account")
				}
				return nil
			})
			if left = done.Left && err == nil; err != nil {
				if err := inboxloop.New(s.billing).RetryFailed(s.t.Context(), key, err); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
}

// marked returns a message of source shop, of topic orders, with its own key.
func marked(id string) inbox.Message {
	return inbox.Message{ID: id, Source: "shop", Topic: "orders", Key: []byte("key of " + id)}
}

// handle handles a message and returns what became of it.
func (s *stage) handle(id string) inbox.Result {
	s.t.Helper()
	result, err := s.billing.Handle(s.t.Context(), marked(id), func(context.Context, pgx.Tx) error { return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	return result
}

// claim claims a message whose effect fails with an unknown outcome.
func (s *stage) claim(id string) {
	s.t.Helper()
	_, err := s.billing.AtMostOnce(s.t.Context(), marked(id), func(context.Context) error { return errors.New("no answer") })
	if err == nil {
		s.t.Fatal("the effect did not fail")
	}
}
