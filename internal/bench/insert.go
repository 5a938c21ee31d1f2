package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/outbox"
)

// InsertConfig says what RunInsert measures. The zero value of every field but DatabaseURL works.
type InsertConfig struct {
	// DatabaseURL is the connection string of a database in which the role may create schemas.
	// Required.
	DatabaseURL string

	// Writers are how many write at the same time, one measurement each. Defaults to 1, 2, 4, 8, 16,
	// 32 and 64.
	Writers []int

	// Size is how many bytes the payload of an event has. Defaults to 200.
	Size int

	// Rounds is how often each form has its turn, for each number of writers. Medians are reported.
	// Defaults to 3.
	Rounds int

	// Duration is how long a turn takes. Defaults to 2 s.
	Duration time.Duration

	// StartTimeout bounds the wait for Postgres. Defaults to 30 s.
	StartTimeout time.Duration

	// View is told of the progress. Defaults to none.
	View View
}

// WithDefaults returns a copy with every unset field at its default.
func (c InsertConfig) WithDefaults() InsertConfig {
	setDefault(&c.Size, 200)
	setDefault(&c.Rounds, 3)
	setDefault(&c.Duration, 2*time.Second)
	setDefault(&c.StartTimeout, 30*time.Second)
	if len(c.Writers) == 0 {
		c.Writers = []int{1, 2, 4, 8, 16, 32, 64}
	}
	if c.View == nil {
		c.View = noView{}
	}
	return c
}

// Validate reports every fault of the configuration. Call it on an InsertConfig WithDefaults.
func (c InsertConfig) Validate() error {
	var faults []error
	between := func(name string, value, least, most int) {
		if value < least || value > most {
			faults = append(faults, fmt.Errorf("%s: %d is not between %d and %d", name, value, least, most))
		}
	}
	for _, n := range c.Writers {
		between("writers", n, 1, 1000)
	}
	between("size", c.Size, 8, 500_000)
	between("rounds", c.Rounds, 1, 100)
	if c.Duration < time.Second {
		faults = append(faults, fmt.Errorf("seconds: %v is less than a second", c.Duration))
	}
	return errors.Join(faults...)
}

// accounts is how many rows the transactions choose from: so many that they seldom wait for each
// other.
const accounts = 10_000

// business is what an application has besides the outbox, and a table as plain as can be for the
// comparison.
const business = `
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, amount bigint NOT NULL,
                     placed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL);
`

// form is what a transaction writes besides its business rows.
type form int

const (
	none   form = iota // nothing
	plain              // a row of the size of an event
	event              // an event, by the library
	nForms             // how many there are
)

// inserts is one run.
type inserts struct {
	cfg         InsertConfig
	connections []*pgx.Conn
	plainRow    []byte // payload with which a plain row has as many bytes as an event
	event       []byte // payload of an event
}

// RunInsert measures and returns what it found. Whatever it has made is removed before it returns,
// as by Run.
func RunInsert(ctx context.Context, cfg InsertConfig) (result *InsertResult, err error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s, err := openSite(ctx, cfg.DatabaseURL, cfg.StartTimeout, nil, nil)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	b := &inserts{cfg: cfg, event: load.Payload(1, cfg.Size)}
	defer func() { load.CloseAll(b.connections) }()
	if result, err = b.run(ctx, s); err != nil {
		return nil, orCause(ctx, err)
	}
	return result, nil
}

func (b *inserts) run(ctx context.Context, s *site) (*InsertResult, error) {
	p, err := s.newPlace(ctx, b.cfg.StartTimeout)
	if err != nil {
		return nil, err
	}
	if _, err := p.conn.Exec(ctx, business); err != nil {
		return nil, fmt.Errorf("make the business tables: %w", err)
	}
	if _, err := p.conn.Exec(ctx, "INSERT INTO accounts (id) SELECT generate_series(0, $1::int - 1)", accounts); err != nil {
		return nil, fmt.Errorf("make the accounts: %w", err)
	}
	r := &InsertResult{Size: b.cfg.Size, Rounds: b.cfg.Rounds, Seconds: b.cfg.Duration.Seconds(), CPUs: runtime.NumCPU()}
	err = p.conn.QueryRow(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('synchronous_commit')").
		Scan(&r.Postgres, &r.SynchronousCommit)
	if err != nil {
		return nil, fmt.Errorf("ask Postgres for its settings: %w", err)
	}
	if err := b.sizePlainRow(ctx, p.conn, r); err != nil {
		return nil, err
	}
	b.cfg.View.Event(fmt.Sprintf("Postgres %s, synchronous_commit %s; an event of %d bytes is a row of %d, and so is the plain row",
		r.Postgres, r.SynchronousCommit, r.Size, r.RowBytes))
	for _, writers := range b.cfg.Writers {
		line, err := b.measure(ctx, p, writers)
		if err != nil {
			return nil, err
		}
		r.Lines = append(r.Lines, line)
		b.cfg.View.Event(fmt.Sprintf("%2d writers: %s commits/s without, %s with a plain row, %s with an event: %.2f of plain",
			writers, grouped(int(line.None)), grouped(int(line.Plain)), grouped(int(line.Event)), line.ToPlain))
	}
	return r, nil
}

// errUndo rolls a sample back.
var errUndo = errors.New("rolled back on purpose")

// sizePlainRow finds the payload with which a plain row is as large as the row of an event.
func (b *inserts) sizePlainRow(ctx context.Context, conn *pgx.Conn, r *InsertResult) error {
	var bare int
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := b.write(ctx, tx, event, 0); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT pg_column_size(o.*) FROM outbox o").Scan(&r.RowBytes); err != nil {
			return err
		}
		if err := b.write(ctx, tx, plain, 0); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT pg_column_size(p.*) FROM plain p").Scan(&bare); err != nil {
			return err
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return fmt.Errorf("compare the size of rows: %w", err)
	}
	b.plainRow = load.Payload(1, max(0, r.RowBytes-bare))
	return nil
}

// measure gives each form its turns with so many writers. The order changes from round to round.
func (b *inserts) measure(ctx context.Context, p *place, writers int) (InsertLine, error) {
	if missing := writers - len(b.connections); missing > 0 {
		more, err := load.Connect(ctx, p.url, missing)
		if err != nil {
			return InsertLine{}, err
		}
		b.connections = append(b.connections, more...)
	}
	var rates [nForms][]float64
	for round := range b.cfg.Rounds {
		for i := range nForms {
			f := (form(round) + i) % nForms
			b.cfg.View.Progress(fmt.Sprintf("%d writers, round %d of %d", writers, round+1, b.cfg.Rounds))
			rate, err := b.turn(ctx, f, writers)
			if err != nil {
				return InsertLine{}, err
			}
			rates[f] = append(rates[f], rate)
		}
	}
	line := InsertLine{
		Writers: writers, None: round(median(rates[none]), 0), Plain: round(median(rates[plain]), 0), Event: round(median(rates[event]), 0),
	}
	line.ToPlain, line.ToNone = round(line.Event/line.Plain, 3), round(line.Event/line.None, 3)
	return line, nil
}

// turn has the writers commit transactions of the form for the duration, and returns how many a
// second.
func (b *inserts) turn(ctx context.Context, f form, writers int) (float64, error) {
	for _, conn := range b.connections[:writers] { // the first of its kind prepares the statements
		if err := b.transaction(ctx, conn, f); err != nil {
			return 0, err
		}
	}
	var committed atomic.Int64
	group, working := errgroup.WithContext(ctx)
	began := time.Now()
	for _, conn := range b.connections[:writers] {
		group.Go(func() error {
			for time.Since(began) < b.cfg.Duration {
				if err := b.transaction(working, conn, f); err != nil {
					return err
				}
				committed.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(committed.Load()) / time.Since(began).Seconds(), nil
}

// transaction is what a service does for a request.
func (b *inserts) transaction(ctx context.Context, conn *pgx.Conn, f form) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		account, amount := rand.IntN(accounts), rand.Int64N(10_000)
		if _, err := tx.Exec(ctx, "INSERT INTO orders (account, amount) VALUES ($1, $2)", account, amount); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", account, amount); err != nil {
			return err
		}
		return b.write(ctx, tx, f, account)
	})
	if err != nil {
		return fmt.Errorf("business transaction: %w", err)
	}
	return nil
}

// write writes what the form adds to the business rows.
func (b *inserts) write(ctx context.Context, tx pgx.Tx, f form, account int) error {
	switch f {
	case plain:
		_, err := tx.Exec(ctx, "INSERT INTO plain (payload) VALUES ($1)", append([]byte{}, b.plainRow...))
		return err
	case event:
		_, err := outbox.Insert(ctx, tx, outbox.Message{
			AggregateType: load.AggregateType, AggregateID: fmt.Sprintf("%06d", account), Type: load.EventType, Payload: b.event,
		})
		return err
	}
	return nil
}
