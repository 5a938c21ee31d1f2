package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/internal/harness/workload"
)

// How the writers behave.
const (
	sharedAccounts   = 128 // written by everybody
	meanEvents       = 20  // of a transaction
	mostAccounts     = 3   // of a transaction
	openAtLeast      = time.Second
	openAtMost       = 1400 * time.Millisecond
	lateShare        = 20 // percent of transactions that take their id first and the aggregate late
	savepointShare   = 20 // percent of transactions with a savepoint
	rolledBackBefore = 11 // percent of committed transactions that have one before them that is rolled back: about a tenth of all
)

// writer commits business transactions one after another over its own connection.
type writer struct {
	number int
	random *rand.Rand
	writes workload.Writer
	ledger *ledger.Ledger[uuid.UUID]
	slice  int // the last one in which it held a transaction open
}

// accountName is the aggregate id of a shared account.
func accountName(i int) string { return fmt.Sprintf("account-%03d", i) }

// ownAccount is the account that only one writer uses, for a transaction that stays open.
func ownAccount(writer int) string { return fmt.Sprintf("account-of-writer-%02d", writer) }

// accounts lists the aggregates of a demo with that many writers.
func accounts(writers int) []string {
	var all []string
	for i := range sharedAccounts {
		all = append(all, accountName(i))
	}
	for i := range writers {
		all = append(all, ownAccount(i))
	}
	return all
}

// write runs a writer until the gate has nothing left.
func write(ctx context.Context, number int, url string, g *gate, l *ledger.Ledger[uuid.UUID]) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect writer %d: %w", number, err)
	}
	defer func() { err = errors.Join(err, closeConn(conn)) }()
	w := &writer{number: number, random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), ledger: l, slice: -1}
	w.writes = workload.Writer{Conn: conn, Payload: w.payload}
	for {
		n, slice, err := g.take(ctx, 1+w.random.IntN(2*meanEvents-1))
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if err := w.step(ctx, n, slice); err != nil {
			return fmt.Errorf("writer %d: %w", number, err)
		}
	}
}

// step commits n messages in one transaction, and sometimes rolls another one back before that.
func (w *writer) step(ctx context.Context, n, slice int) error {
	if w.percent(rolledBackBefore) {
		t := w.plan(n)
		t.RollBack = true
		if err := w.run(ctx, t); err != nil {
			return err
		}
	}
	t := w.plan(n)
	if w.holdsOpen() && slice != w.slice {
		w.slice = slice
		t = w.planOpen(n)
	}
	return w.run(ctx, t)
}

// run runs a transaction and enters what came of it in the ledger.
func (w *writer) run(ctx context.Context, p workload.Plan) error {
	committed, undone, err := w.writes.Run(ctx, p)
	if err != nil {
		return err
	}
	if len(committed) > 0 {
		w.ledger.Commit(committed)
	}
	if len(undone) > 0 {
		w.ledger.RollBack(undone)
	}
	return nil
}

// holdsOpen reports whether this writer holds one transaction a slice open: two writers do.
func (w *writer) holdsOpen() bool { return w.number < 2 }

// plan draws how a transaction goes.
func (w *writer) plan(n int) workload.Plan {
	p := workload.Plan{Accounts: w.draw(n), Events: n}
	switch roll := w.random.IntN(100); {
	case roll < lateShare:
		p.LateAccounts = true
	case roll < lateShare+savepointShare:
		p.Savepoint = true
		p.UndoneSavepoint = w.percent(50)
	}
	return p
}

// planOpen is a transaction that stays open for a second and more. Writer 0 has inserted its events
// by then: rows with small ids become visible late. Writer 1 has only its transaction id, and takes
// accounts that others have written meanwhile.
func (w *writer) planOpen(n int) workload.Plan {
	p := workload.Plan{Accounts: []string{ownAccount(w.number)}, Events: n, Open: openAtLeast + rand.N(openAtMost-openAtLeast)}
	if w.number == 1 {
		p.Accounts, p.LateAccounts = w.draw(n), true
	}
	return p
}

// draw chooses the accounts of a transaction, in the order in which everybody takes them, so that
// there is no deadlock.
func (w *writer) draw(n int) []string {
	want := min(n, 1+w.random.IntN(mostAccounts))
	first := w.random.IntN(sharedAccounts - mostAccounts)
	var names []string
	for i := range want {
		names = append(names, accountName(first+i))
	}
	return names
}

func (w *writer) percent(n int) bool { return w.random.IntN(100) < n }

// body is the payload of an event. Together with the key it says what the consumer checks.
type body struct {
	Account  string `json:"account"`
	Version  int64  `json:"version"`
	Receiver string `json:"receiver"`
	Cents    int64  `json:"cents"`
	Memo     string `json:"memo"`
}

const memo = "booked by the demo; every event of an account has the next version of that account"

// payload draws how much money the consumer moves, and to whom.
func (w *writer) payload(e ledger.Event) ([]byte, error) {
	receiver := e.Aggregate
	for receiver == e.Aggregate {
		receiver = accountName(w.random.IntN(sharedAccounts))
	}
	return json.Marshal(body{e.Aggregate, e.Version, receiver, 1 + w.random.Int64N(10_000), memo})
}
