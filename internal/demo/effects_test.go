package demo

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/workload"
)

// A message that had no effect, one that had it twice, one whose effect came too late and one that
// were never written are seen, without the inbox being asked: its tables stay empty here.
func TestTheAuditSeesWhatTheInboxWouldHaveLetThrough(t *testing.T) {
	s, err := newStage(t.Context(), []string{"a", "b"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), s.databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeConn(conn); err != nil {
			t.Error(err)
		}
	})
	execute := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	const messages = 4
	ids := make([]uuid.UUID, messages)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		payload, err := json.Marshal(body{Account: "a", Version: int64(i + 1), Receiver: "b", Cents: 100})
		if err != nil {
			t.Fatal(err)
		}
		execute("INSERT INTO outbox (msg_id, aggregate_type, aggregate_id, type, payload) VALUES ($1, $2, 'a', 'T', $3)", ids[i], workload.AggregateType, payload)
	}
	book := func(id uuid.UUID, version int) {
		t.Helper()
		execute("INSERT INTO bank.bookings (msg_id, account, version, receiver, cents) VALUES ($1, 'a', $2, 'b', 100)", id, version)
		execute("UPDATE bank.balances SET cents = cents + CASE account WHEN 'a' THEN -100 ELSE 100 END")
	}
	for _, test := range []struct {
		name  string
		spoil func()
		want  effects
	}{
		{"all is well", func() {}, effects{messages: 4}},
		{"one is lost", func() {
			execute("DELETE FROM bank.bookings WHERE msg_id = $1", ids[3])
			execute("UPDATE bank.balances SET cents = cents - CASE account WHEN 'a' THEN -100 ELSE 100 END")
		}, effects{messages: 3, lost: 1, wrong: 2}},
		{"one happens twice", func() { book(ids[1], 2) }, effects{messages: 4, twice: 1, reordered: 1, wrong: 2}},
		{"the last happens three times", func() { book(ids[3], 4); book(ids[3], 4) }, effects{messages: 4, twice: 2, wrong: 2}},
		{"two change places", func() {
			execute("UPDATE bank.bookings SET msg_id = $1, version = 3 WHERE version = 2", ids[2])
			execute("UPDATE bank.bookings SET msg_id = $1, version = 2 WHERE id = (SELECT max(id) FROM bank.bookings WHERE version = 3)", ids[1])
		}, effects{messages: 4, reordered: 1}},
		{"one was never written", func() { book(uuid.New(), 5) }, effects{messages: 4, invented: 1, wrong: 2}},
		{"a balance is changed past the books", func() { execute("UPDATE bank.balances SET cents = cents + 1 WHERE account = 'b'") },
			effects{messages: 4, wrong: 1, after: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			execute("TRUNCATE bank.bookings; UPDATE bank.balances SET cents = 100000000")
			for i, id := range ids {
				book(id, i+1)
			}
			test.spoil()
			got, err := auditEffects(t.Context(), s.databaseURL)
			if err != nil {
				t.Fatal(err)
			}
			test.want.accounts, test.want.before = 2, 2*openingCents
			test.want.after += test.want.before
			if *got != test.want {
				t.Errorf("found %+v, want %+v", *got, test.want)
			}
			r := Result{
				EffectsLost: got.lost, EffectsTwice: got.twice, EffectsReordered: got.reordered, EffectsInvented: got.invented,
				BalancesWrong: got.wrong, SumBefore: got.before, SumAfter: got.after,
			}
			if sound := test.name == "all is well"; r.Sound() != sound {
				t.Errorf("sound: %t", r.Sound())
			}
			if wrong := strings.Contains(r.Verdict(), "MADE OR LOST"); wrong != (got.before != got.after) {
				t.Errorf("the verdict says:\n%s", r.Verdict())
			}
		})
	}
}
