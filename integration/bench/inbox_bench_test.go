//go:build bench

package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/integration/kit"
)

// The business write of the benchmarks: one row in a ledger, and two balances.
const (
	benchTables = `
CREATE TABLE entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, debit int NOT NULL, credit int NOT NULL, amount bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE holder (id int PRIMARY KEY, amount bigint NOT NULL DEFAULT 0);
INSERT INTO holder (id) SELECT generate_series(0, 31999);
CREATE TABLE processed (msg_id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());`
	benchInsert = `INSERT INTO entry (debit, credit, amount) VALUES ($1, $2, $3)`
	benchTake   = `UPDATE holder SET amount = amount - $2 WHERE id = $1`
	benchGive   = `UPDATE holder SET amount = amount + $2 WHERE id = $1`
	benchOne    = `WITH taken AS (UPDATE holder SET amount = amount - $3 WHERE id = $1),
given AS (UPDATE holder SET amount = amount + $3 WHERE id = $2)
INSERT INTO entry (debit, credit, amount) VALUES ($1, $2, $3)`
)

// inboxBench measures sides beside one another, in rounds, on one database.
type inboxBench struct {
	t     testing.TB
	pool  *pgxpool.Pool
	in    *inbox.Inbox[pgx.Tx]
	next  []int // of each goroutine, a count
	round time.Duration
}

// side is a way to write. work writes some messages and returns how many.
type side struct {
	name string
	work func(ctx context.Context, goroutine int) (int, error)
}

func newInboxBench(t testing.TB) *inboxBench {
	t.Helper()
	url := kit.EmptyDatabase(t)
	kit.MigrateInbox(t, url)
	kit.Execute(t, url, benchTables)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	b := &inboxBench{t: t, pool: pool, in: in, next: make([]int, 64), round: 2 * time.Second}
	if text := kit.NumberOf(t, "RELAY_TEST_BENCH_ROUND_MS", 0); text > 0 {
		b.round = time.Duration(text) * time.Millisecond
	}
	conn := kit.Connect(t, url)
	var version, settings string
	err = conn.QueryRow(t.Context(), `SELECT current_setting('server_version'), string_agg(name || '=' || setting, ' ' ORDER BY name)
FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'max_wal_size')`).Scan(&version, &settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Postgres %s, %s", version, settings)
	return b
}

// transfer is the next business write of a goroutine. Each has its own accounts, so that they do
// not wait for each other.
func (b *inboxBench) transfer(goroutine int) (debit, credit, amount int) {
	n := b.next[goroutine]
	b.next[goroutine]++
	const each = 500
	return goroutine*each + n%each, goroutine*each + (n+7)%each, 1 + n%5
}

// message is a new one of the key of a goroutine.
func (b *inboxBench) message(goroutine int) inbox.Message {
	return inbox.Message{
		ID: uuid.Must(uuid.NewV7()).String(), Source: "orders", Topic: "transfers", Key: strconv.AppendInt(nil, int64(goroutine), 10),
		Payload: []byte("{}"),
	}
}

// messages are new ones of many keys.
func (b *inboxBench) messages(goroutine, n int) []inbox.Message {
	messages := make([]inbox.Message, n)
	for i := range messages {
		messages[i] = b.message(goroutine*1000 + i%100)
	}
	return messages
}

// write is the business write in three statements, each with its answer.
func (b *inboxBench) write(ctx context.Context, tx pgx.Tx, goroutine int) error {
	debit, credit, amount := b.transfer(goroutine)
	if _, err := tx.Exec(ctx, benchInsert, debit, credit, amount); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, benchTake, debit, amount); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, benchGive, credit, amount)
	return err
}

// writeMany is n business writes, sent at once.
func (b *inboxBench) writeMany(ctx context.Context, tx pgx.Tx, goroutine, n int) error {
	batch := &pgx.Batch{}
	for range n {
		debit, credit, amount := b.transfer(goroutine)
		batch.Queue(benchInsert, debit, credit, amount)
		batch.Queue(benchTake, debit, amount)
		batch.Queue(benchGive, credit, amount)
	}
	return tx.SendBatch(ctx, batch).Close()
}

// bare is the business write without an inbox.
func (b *inboxBench) bare() side {
	return side{"bare", func(ctx context.Context, g int) (int, error) {
		_ = b.message(g) // it has come from somewhere, even if there is no inbox
		return 1, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.write(ctx, tx, g) })
	}}
}

// handle is the same through the inbox.
func (b *inboxBench) handle() side {
	return side{"Handle", func(ctx context.Context, g int) (int, error) {
		result, err := b.in.Handle(ctx, b.message(g), func(ctx context.Context, tx pgx.Tx) error { return b.write(ctx, tx, g) })
		return expectProcessed(1, result, err)
	}}
}

// barePipelined sends the three statements at once: the bare side that gains most from it.
func (b *inboxBench) barePipelined() side {
	return side{"bare, statements sent at once", func(ctx context.Context, g int) (int, error) {
		_ = b.message(g)
		return 1, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.writeMany(ctx, tx, g, 1) })
	}}
}

func (b *inboxBench) handlePipelined() side {
	return side{"Handle, statements sent at once", func(ctx context.Context, g int) (int, error) {
		result, err := b.in.Handle(ctx, b.message(g), func(ctx context.Context, tx pgx.Tx) error { return b.writeMany(ctx, tx, g, 1) })
		return expectProcessed(1, result, err)
	}}
}

// autocommit is the business write in a single statement without BEGIN: nothing is faster, and few
// services can do it.
func (b *inboxBench) autocommit() side {
	return side{"one statement, autocommit", func(ctx context.Context, g int) (int, error) {
		debit, credit, amount := b.transfer(g)
		_, err := b.pool.Exec(ctx, benchOne, debit, credit, amount)
		return 1, err
	}}
}

// byHand is what people write themselves: a table of ids, and an insert into it in the same
// transaction.
func (b *inboxBench) byHand() side {
	return side{"table of ids by hand", func(ctx context.Context, g int) (int, error) {
		return 1, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
			id := uuid.Must(uuid.NewV7())
			tag, err := tx.Exec(ctx, "INSERT INTO processed (msg_id) VALUES ($1) ON CONFLICT DO NOTHING", id)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return fmt.Errorf("message %s was seen", id)
			}
			return b.write(ctx, tx, g)
		})
	}}
}

func (b *inboxBench) bareBatch(n int) side {
	return side{fmt.Sprintf("bare, batches of %d", n), func(ctx context.Context, g int) (int, error) {
		_ = b.messages(g, n)
		return n, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.writeMany(ctx, tx, g, n) })
	}}
}

func (b *inboxBench) handleBatch(n int) side {
	return side{fmt.Sprintf("HandleBatch of %d", n), func(ctx context.Context, g int) (int, error) {
		outcomes, err := b.in.HandleBatch(ctx, b.messages(g, n), func(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
			return b.writeMany(ctx, tx, g, len(messages))
		})
		for _, o := range outcomes {
			if _, err := expectProcessed(1, o.Result, o.Err); err != nil {
				return 0, err
			}
		}
		return n, err
	}}
}

func expectProcessed(n int, result inbox.Result, err error) (int, error) {
	if err == nil && result != inbox.Processed {
		err = fmt.Errorf("a new message is %v", result)
	}
	return n, err
}

// rate runs a side with some goroutines for a round, and returns messages a second.
func (b *inboxBench) rate(s side, goroutines int) float64 {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	done := make([]int, goroutines)
	began := time.Now()
	for g := range goroutines {
		group.Go(func() {
			for time.Since(began) < b.round {
				n, err := s.work(ctx, g)
				if err != nil {
					b.t.Errorf("%s: %v", s.name, err)
					return
				}
				done[g] += n
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	total := 0
	for _, n := range done {
		total += n
	}
	return float64(total) / took.Seconds()
}

// beside measures the sides in turn, in each round in another order, and returns the rates of each,
// one a round.
func (b *inboxBench) beside(rounds, goroutines int, sides ...side) map[string][]float64 {
	b.t.Helper()
	for _, s := range sides { // caches and prepared statements
		b.round /= 4
		b.rate(s, goroutines)
		b.round *= 4
	}
	rates := make(map[string][]float64)
	for round := range rounds {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			rates[s.name] = append(rates[s.name], b.rate(s, goroutines))
		}
	}
	return rates
}

// ratios are those of a side beside another, one a round.
type ratios []float64

func ratiosOf(rates map[string][]float64, of, beside side) ratios {
	r := make(ratios, len(rates[of.name]))
	for i := range r {
		r[i] = rates[of.name][i] / rates[beside.name][i]
	}
	slices.Sort(r)
	return r
}

func (r ratios) median() float64 { return r[len(r)/2] }

func (r ratios) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", r.median(), r[0], r[len(r)-1])
}

// table writes the rates and what they are beside the first side.
func table(rates map[string][]float64, sides ...side) string {
	var text strings.Builder
	for _, s := range sides {
		sorted := slices.Sorted(slices.Values(rates[s.name]))
		fmt.Fprintf(&text, "\n  %-34s %7.0f messages/s, ratio %v", s.name, sorted[len(sorted)/2], ratiosOf(rates, s, sides[0]))
	}
	return text.String()
}
