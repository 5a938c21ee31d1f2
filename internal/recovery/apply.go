package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topicname"
)

// Decision is what a person has decided.
type Decision struct {
	// Choice must be open.
	Choice Choice
	// From is where restart-from starts, as in Look.
	From string
	// Who names the person, Why the reason. Both are recorded.
	Who, Why string
}

// Outcome is what Apply has done.
type Outcome struct {
	// Chosen is the choice that was made, counted just before.
	Chosen Option `json:"chosen"`
	// Before is what both logs said.
	Before *Findings `json:"before"`
	// Checkpoint is what both logs now hold.
	Checkpoint checkpoint.Record `json:"checkpoint"`
	// Evicted is whether the session of a halted relay was ended for it.
	Evicted bool `json:"evicted"`
}

// The errors of Apply that are no failures of a server.
var (
	// ErrAgree says that the logs agree, so that there is nothing to choose.
	ErrAgree = errors.New("the logs agree; there is nothing to recover")
	// ErrClosed says that the choice is not open; the error that wraps it says why.
	ErrClosed = errors.New("this choice is not open")
	// ErrBusy says that a relay that has not halted runs the lane.
	ErrBusy = errors.New("a relay runs the lane")
)

// Apply carries out a choice. It becomes the owner of the lane as a relay does, so that no other
// process publishes; reads both logs once more; and gives them one checkpoint, whose sequence
// number neither has had.
//
// It may be killed anywhere. Its steps, in this order: the record of the recovery, whose commit
// also makes durable whatever the new progress has seen; Kafka's checkpoint; the lane's row and the
// end of the record, in one transaction. Before the second nothing has changed, and after it Kafka
// is ahead of Postgres, which halts the lane until the command is run again.
func (r *Recovery) Apply(ctx context.Context, d Decision) (*Outcome, error) {
	look := Look{From: d.From}
	before, err := r.Inspect(ctx, look)
	if err != nil {
		return nil, err
	}
	if _, err := before.chosen(d.Choice); err != nil {
		return nil, err
	}
	row, err := lanestore.Open(ctx, lanestore.Options{
		Lane: r.o.Lane, Table: r.o.Table, Owner: "recover/" + lanestore.NewOwner(), Settings: r.o.Agreed.Settings(),
		Database: r.database, Parked: parking.NewRows(r.o.Lane, r.o.Table),
	})
	if err != nil {
		return nil, err
	}
	defer row.Close()
	if _, err := row.Register(ctx, r.o.Lanes); err != nil {
		return nil, err
	}
	evicted, err := r.lock(ctx, row)
	if err != nil {
		return nil, err
	}
	// Once more, now that no relay holds the lane: what was seen before may have been mended.
	err = row.PingWhile(ctx, func(ctx context.Context) (err error) {
		before, err = r.Inspect(ctx, look)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := before.chosen(d.Choice); err != nil {
		return nil, err
	}
	if err := row.Look(ctx); err != nil {
		return nil, err
	}
	identity, err := row.RaiseEpoch(ctx)
	if err != nil {
		return nil, err
	}
	kafka, err := takeover.OpenKafka(identity, r.kafkaOptions())
	if err != nil {
		return nil, err
	}
	defer kafka.Close()
	outcome := &Outcome{Before: before, Evicted: evicted}
	err = row.PingWhile(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, takeover.Timeout)
		defer cancel()
		if err := kafka.Meet(ctx); err != nil {
			return err
		}
		return r.fence(ctx, kafka, before)
	})
	if err != nil {
		return nil, err
	}
	return outcome, r.settle(ctx, row, kafka, d, outcome)
}

// fence takes the producer pool, and checks that the checkpoint is still the one that was looked
// at.
func (r *Recovery) fence(ctx context.Context, kafka *takeover.Kafka, before *Findings) error {
	last, err := kafka.Fence(ctx, before.checkpoint())
	if u := (*checkpoint.UnreadableError)(nil); errors.As(err, &u) {
		last = u.Placeholder()
	} else if err != nil {
		return err
	}
	if !sameCheckpoint(last, before.checkpoint()) {
		return errors.New("the checkpoint has changed meanwhile; run the command again")
	}
	if before.unreadable == nil {
		return nil
	}
	// The new checkpoint will name no transaction. So none may be open, because its outcome could
	// not be found out later.
	c, err := kafka.Producers.CloseOpen(ctx, kafka.Client, last, true, nil)
	if err != nil {
		return err
	}
	if c.Wrote { // with ids that the pool had
		return errors.New("a transaction of the lane was still open, and has been ended; run the command again")
	}
	return c.AllSeen(r.mayWriteTo)
}

// kafkaOptions are those of a takeover that publishes no rows.
func (r *Recovery) kafkaOptions() takeover.KafkaOptions {
	log := r.o.Logger.With("lane", r.o.Lane)
	return takeover.KafkaOptions{
		Name: r.o.Name, Lane: r.o.Lane, Partition: r.partition, Checkpoints: r.checkpoints(),
		ClientOptions: r.clients, TransactionTimeout: r.o.TransactionTimeout,
		MayWriteTo: r.mayWriteTo, Logger: log,
		Reports: kafkatx.Reports{
			Waiting: func(reason string) { log.Warn("the recovery waits for a transaction", "reason", reason) },
			Working: func() {}, Unclosed: func(string) {}, LeftOpen: func(string) {}, // Waiting names them
		},
	}
}

func (r *Recovery) mayWriteTo(topic string) bool {
	return topicname.MayGoTo(topic, r.o.TopicsAllow, r.o.Route)
}

// How long a recovery waits for the lock of a relay whose session it has ended, and how often it
// looks.
const (
	lockPatience = 20 * time.Second
	lockLook     = 20 * time.Millisecond
)

// lock takes the lane's lock. A halted relay holds it while it looks again from time to time: its
// session is ended, and it queues up for the lock like any other. A relay that has not halted is
// left alone.
func (r *Recovery) lock(ctx context.Context, row *lanestore.Row) (evicted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	strange := lanestore.Strangers{Log: r.o.Logger}
	for {
		h, err := row.Holder(ctx)
		if err != nil {
			return evicted, err
		}
		if reason := strange.Watch(h.Stranger); h.Owner == 0 && (!h.Taken || reason != "") {
			if taken, err := row.Take(ctx, h, reason); err != nil || taken {
				return evicted, err
			}
		}
		if pid := h.Owner; pid != 0 {
			var state, owner string
			err := row.Conn().QueryRow(ctx, "SELECT state, coalesce(owner, '') FROM relay_lanes WHERE lane = $1", r.o.Lane).
				Scan(&state, &owner)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return evicted, fmt.Errorf("read the row of lane %s: %w", r.o.Lane, err)
			}
			if state != lanestore.Halted {
				return evicted, fmt.Errorf("%w: %s (session %d of the server) is %s", ErrBusy, owner, pid, state)
			}
			if err := row.Evict(ctx, pid); err != nil {
				return evicted, err
			}
			evicted = true
		}
		if err := backoff.Sleep(ctx, lockLook); err != nil {
			return evicted, fmt.Errorf("take the lock of lane %s: %w", r.o.Lane, err)
		}
	}
}

func sameCheckpoint(a, b *checkpoint.Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Seq == b.Seq && a.Owner == b.Owner && a.OwnerEpoch == b.OwnerEpoch && a.Offset == b.Offset
}

// settle writes. No other process can: the producer pool is fenced, and the epoch is ours.
func (r *Recovery) settle(
	ctx context.Context, row *lanestore.Row, kafka *takeover.Kafka, d Decision, outcome *Outcome,
) error {
	before := outcome.Before
	if _, err := row.Read(ctx); err != nil { // still ours
		return err
	}
	chosen, err := before.chosen(d.Choice)
	if err != nil {
		return err
	}
	outcome.Chosen = chosen
	who := d.Who
	if who == "" {
		who = row.Owner()
	}
	c := checkpoint.Record{
		// A number that neither log has had: no batch is taken for another.
		Version: checkpoint.Version, Lane: r.o.Lane, Seq: before.lastSeq() + 1, Position: chosen.Position,
		Identity: kafka.Identity, Table: new(row.Table()),
		Owner: row.Owner(), OwnerEpoch: row.Epoch(),
		Recovery: &checkpoint.RecoveryNote{
			Choice: string(d.Choice), Cause: before.Cause, Who: who, Why: d.Why, At: time.Now().UTC().Truncate(time.Second),
		},
	}
	if before.last != nil {
		c.Transactions = before.last.Transactions
	}
	id, err := r.begin(ctx, row, before, c)
	if err != nil {
		return err
	}
	r.o.Step(Begun)
	kafkaCtx, cancel := context.WithTimeout(ctx, takeover.Timeout)
	defer cancel()
	err = row.PingWhile(kafkaCtx, func(ctx context.Context) error { return kafka.Sign(ctx, c) })
	if err != nil {
		return fmt.Errorf("the recovery is not finished, and the lane still halts; run the command again: %w", err)
	}
	r.o.Step(Signed)
	if err := row.Recovered(ctx, id, c); err != nil {
		return fmt.Errorf("the recovery is not finished, and the lane still halts; run the command again: %w", err)
	}
	outcome.Checkpoint = c
	return nil
}

// Step is a point between the writes of a recovery.
type Step string

// The steps: the record of the recovery is written, and then Kafka's checkpoint.
const (
	Begun  Step = "recovery-begun"
	Signed Step = "recovery-signed"
)

// begin records the recovery. Its commit is durable, and takes a transaction id above all that the
// new progress has seen.
func (r *Recovery) begin(
	ctx context.Context, row *lanestore.Row, before *Findings, c checkpoint.Record,
) (id int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	was, err := json.Marshal(struct {
		Postgres *PostgresSide `json:"postgres"`
		Kafka    KafkaSide     `json:"kafka"`
	}{before.Postgres, before.Kafka})
	if err != nil {
		return 0, fmt.Errorf("encode the record of the recovery: %w", err)
	}
	is, err := c.Encode()
	if err != nil {
		return 0, fmt.Errorf("encode the record of the recovery: %w", err)
	}
	err = row.Conn().QueryRow(ctx, `
INSERT INTO relay_recoveries (lane, cause, diagnosis, choice, who, why, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb) RETURNING id`,
		r.o.Lane, string(before.Cause), before.Diagnosis, c.Recovery.Choice, c.Recovery.Who, c.Recovery.Why,
		strings.ToValidUTF8(string(was), "?"), string(is)).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("record the recovery of lane %s: %w", r.o.Lane, err)
	}
	return id, nil
}
