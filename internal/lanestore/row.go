package lanestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Row is the lane's row in relay_lanes and the session that holds the lane's lock: the Postgres
// side of ownership. The lock is a hint for liveness, freed by the server the moment this process
// is gone; safety is the owner_epoch in the row and the fencing in Kafka. It is used by one
// goroutine at a time.
type Row struct {
	conn  *pgx.Conn
	o     Options
	epoch int64
	// location is the row's ctid. Each intent replaces the row and an open transaction anywhere on
	// the server keeps the dead versions; a look-up through the index would walk all of them, more
	// with every batch. A ctid goes straight to the row, and misses it if another session has
	// written it, which is one more fence.
	location string
	server   pg.Server // that the session talks to, since RaiseEpoch

	// Since Bind: the table that the lane's setting leads to, and what the row said before this
	// takeover.
	table  pg.Table
	before Past

	locked   bool   // the session holds the lane's lock
	stranger string // what there is to say of the session that has it, which this one passed over
	warned   time.Time

	intended, committed, confirmed int64 // sequence numbers of this session; see confirm
}

// Options say whose row it is.
type Options struct {
	// Lane is the name of the lane, and Table its setting, "table" or "schema.table".
	Lane, Table string
	// Owner names this process among all that ever owned a lane.
	Owner string
	// Settings are those in which replicas should agree.
	Settings Settings
	// WorkTimeout bounds what a batch writes about parked rows. Meanwhile its Kafka transaction is
	// open, and the next one's: both have to end before the brokers abort them.
	WorkTimeout time.Duration
	// Database opens the session. Its schema becomes that of all sessions that are opened after it.
	Database *pg.Database
	// Parked undoes and settles what batches changed beside the row.
	Parked Parked
}

// Parked is what batches change about parked rows, under their numbers. Each method runs in the
// transaction of the row.
type Parked interface {
	// Undo takes back what batches after seq have changed.
	Undo(ctx context.Context, tx pgx.Tx, seq int64) error
	// Settle finishes what committed batches up to seq have changed.
	Settle(ctx context.Context, tx pgx.Tx, seq int64) error
	// GoBack takes back what contradicts a position that a recovery has chosen.
	GoBack(ctx context.Context, tx pgx.Tx, to position.Position) error
}

// PingInterval is how often an owner shows that it lives, whatever it waits for.
const PingInterval = time.Second

// LongTimeout bounds what cannot be made smaller, because it undoes, settles or reads everything.
const LongTimeout = 30 * time.Minute

// Open opens the session.
func Open(ctx context.Context, o Options) (*Row, error) {
	conn, err := o.Database.ConnectFirst(ctx, pg.Options{Application: LaneSession(o.Lane)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	if err := CheckSeesAll(ctx, conn, o.Table); err != nil {
		pg.Close(conn)
		return nil, err
	}
	return &Row{conn: conn, o: o}, nil
}

// LanesTable is the table whose schema is that of every session of a lane.
const LanesTable = "relay_lanes"

// CheckSeesAll checks that no policy hides rows of the outbox and of the relay's tables from the
// session.
func CheckSeesAll(ctx context.Context, conn *pgx.Conn, outbox string) error {
	return pg.CheckRowSecurity(ctx, conn, pg.QuoteTable(outbox), LanesTable, "relay_recoveries", "outbox_parked", "outbox_parked_audit")
}

// Conn is the session, for questions beside the row.
func (l *Row) Conn() *pgx.Conn { return l.conn }

// Table is the table that the lane's setting leads to, since Bind or Look.
func (l *Row) Table() pg.Table { return l.table }

// Server is the server that the session talks to, since Bind or RaiseEpoch.
func (l *Row) Server() pg.Server { return l.server }

// Before is what the row said before this takeover, since Bind or Look.
func (l *Row) Before() Past { return l.before }

// Owner names this process, and Epoch its ownership; 0 before RaiseEpoch.
func (l *Row) Owner() string { return l.o.Owner }

// Epoch is that of this ownership; 0 before RaiseEpoch.
func (l *Row) Epoch() int64 { return l.epoch }

// Committed is told that a batch has been committed.
func (l *Row) Committed(seq int64) { l.committed = seq }

// Close ends the session, and with it the lock.
func (l *Row) Close() { pg.Close(l.conn) }

// LockKey is the key of a lane's advisory lock, a bigint, as an SQL expression on the expression of
// the lane's name. The table's oid keeps apart the lanes of two schemas of one database.
func LockKey(lane string) string {
	return `hashtextextended('relay lane ' || ` + lane + `, 'relay_lanes'::regclass::oid::bigint)`
}

// Evict ends the session of an owner that is silent: its process is frozen or cut off.
func (l *Row) Evict(ctx context.Context, pid int32) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	if _, err := l.conn.Exec(ctx, `SELECT pg_terminate_backend($1)`, pid); err != nil {
		return fmt.Errorf("end the session of the silent owner of lane %s: %w", l.o.Lane, err)
	}
	return nil
}

// cancelGrace is how long a statement may go on once its pipeline is over:
// cancelling it would close the connection, and with it give up the lock, for a failure that lies
// elsewhere.
const cancelGrace = 3 * time.Second

// limited is the context of one statement.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return limitedTo(ctx, pg.StatementTimeout)
}

func limitedTo(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	statement, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(cancelGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-statement.Done():
		}
	})
	return statement, func() { stop(); cancel() }
}

// Ping shows the others that this process lives, and this one that its session does.
func (l *Row) Ping(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := l.conn.Exec(ctx, `SELECT 1`)
	return err
}

// PingWhile runs work, which must not use the row, and shows meanwhile that this process lives. It
// ends work where the session is lost.
func (l *Row) PingWhile(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	ping := time.NewTicker(PingInterval)
	defer ping.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ping.C:
		}
		if err := l.Ping(ctx); err != nil {
			cancel()
			return errors.Join(fmt.Errorf("hold the lock of the lane: %w", err), <-done)
		}
	}
}

// RaiseEpoch is the first step of a takeover: it checks the server, raises the epoch, so that the
// predecessor's next intent fails, and returns which server it is.
func (l *Row) RaiseEpoch(ctx context.Context) (checkpoint.ClusterIdentity, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	if err := l.identify(ctx); err != nil {
		return checkpoint.ClusterIdentity{}, err
	}
	identity := checkpoint.ClusterIdentity{Identity: l.server.Identity}
	err := l.conn.QueryRow(ctx, `
INSERT INTO relay_lanes AS r (lane, owner_epoch, owner, owner_pid, owner_started)
SELECT $1, 1, $2, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
ON CONFLICT (lane) DO UPDATE SET owner_epoch = r.owner_epoch + 1, owner = $2, owner_pid = excluded.owner_pid,
       owner_started = excluded.owner_started, updated_at = now()
RETURNING owner_epoch, ctid::text`, l.o.Lane, l.o.Owner).Scan(&l.epoch, &l.location)
	if err != nil {
		return identity, fmt.Errorf("raise the epoch of lane %s: %w", l.o.Lane, err)
	}
	return identity, nil
}

// identify finds out which server the session talks to.
func (l *Row) identify(ctx context.Context) (err error) {
	if l.server, err = pg.Identify(ctx, l.conn); errors.Is(err, pg.ErrStandby) {
		pg.Close(l.conn) // the next connection may find the primary
	}
	return err
}

// Complete is the last step of a takeover: the row takes the sequence number that Kafka has decided
// on. An intent that never became a commit is thereby withdrawn, with what it parked and released.
func (l *Row) Complete(ctx context.Context, last checkpoint.Record, identity checkpoint.ClusterIdentity) error {
	// Longer than a batch may take: no transaction is open in Kafka, and what is undone and settled
	// cannot be made smaller.
	return l.inTransaction(ctx, LongTimeout, func(ctx context.Context, tx pgx.Tx) error { return l.completeIn(ctx, tx, last, identity) })
}

func (l *Row) completeIn(ctx context.Context, tx pgx.Tx, last checkpoint.Record, identity checkpoint.ClusterIdentity) error {
	text, err := json.Marshal(identity)
	if err != nil {
		return err
	}
	from, to, lastID := last.Columns()
	err = l.writeBy(ctx, tx, "takeover", completeStatement, last.Seq, from, to, lastID, string(text), last.Owner, last.OwnerEpoch)
	if err != nil {
		return err
	}
	if err := l.recordBinding(ctx, tx); err != nil {
		return err
	}
	if err := l.o.Parked.Undo(ctx, tx, last.Seq); err != nil {
		return err
	}
	l.intended, l.committed, l.confirmed = last.Seq, last.Seq, last.Seq
	return l.o.Parked.Settle(ctx, tx, last.Seq)
}

const completeStatement = `
UPDATE relay_lanes SET seq = $4, started = true, snapshot_from = $5::text::pg_snapshot, snapshot_to = $6::text::pg_snapshot, last_id = $7,
       cluster_identity = $8::text::jsonb, state = '` + Running + `', reason = NULL, updated_at = clock_timestamp(),
       batch_owner = $9, batch_epoch = $10, confirmed_seq = $4,
       confirmed_from = $5::text::pg_snapshot, confirmed_to = $6::text::pg_snapshot, confirmed_last_id = $7
WHERE ctid = $1::text::tid AND lane = $2 AND owner_epoch = $3 RETURNING ctid::text`

// Running is the state of a lane that has been taken over, until Say says another.
const Running = "running"

// Halted is the state in which Say records a lane that has halted. A recovery may end the session
// of its owner, and of no other.
const Halted = "halted"

// Say records the state of the lane for relay status.
func (l *Row) Say(ctx context.Context, state, reason string) error {
	var text *string
	if reason != "" {
		text = &reason
	}
	return l.write(ctx, "state", sayStatement, state, text)
}

const sayStatement = `
UPDATE relay_lanes SET state = $4, reason = $5, updated_at = clock_timestamp()
WHERE ctid = $1::text::tid AND lane = $2 AND owner_epoch = $3 RETURNING ctid::text`

// querier is a connection or a transaction on it.
type querier interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// write runs an update of the row as this owner left it, and follows the row to its new place.
func (l *Row) write(ctx context.Context, what, query string, args ...any) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	return l.writeBy(ctx, l.conn, what, query, args...)
}

func (l *Row) writeBy(ctx context.Context, by querier, what, query string, args ...any) error {
	args = append([]any{l.location, l.o.Lane, l.epoch}, args...)
	err := by.QueryRow(ctx, query, args...).Scan(&l.location)
	if errors.Is(err, pgx.ErrNoRows) {
		// VACUUM FULL moves the row as well. If it is still ours it is written at its new place; the
		// epoch, and in an intent the sequence number, are checked again.
		err = by.QueryRow(ctx, `SELECT ctid::text FROM relay_lanes WHERE lane = $1 AND owner_epoch = $2`,
			l.o.Lane, l.epoch).Scan(&args[0])
		if err == nil {
			err = by.QueryRow(ctx, query, args...).Scan(&l.location)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("write the %s of lane %s: %w", what, l.o.Lane, err)
	}
	return nil
}

// ErrLost says that another process has taken the lane over.
var ErrLost = errors.New("another relay has taken the lane over")
