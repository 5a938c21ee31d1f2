package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/takeover"
)

// Recovery looks at one lane whose two logs contradict each other, and settles that by a named
// choice.
type Recovery struct {
	cfg       Config
	lane      Lane
	partition int32 // of the checkpoint topic, since the first Inspect
}

// ErrNoLane is wrapped by NewRecovery's error where the configuration names no such lane.
var ErrNoLane = errors.New("no such lane")

// NewRecovery finds the lane in cfg; it connects to nothing.
func NewRecovery(cfg Config, lane string) (*Recovery, error) {
	i := slices.IndexFunc(cfg.Lanes, func(l Lane) bool { return l.Name == lane })
	if i < 0 {
		return nil, fmt.Errorf("lane %q: %w", lane, ErrNoLane)
	}
	return &Recovery{cfg: cfg.withInternals().of(cfg.Lanes[i]), lane: cfg.Lanes[i]}, nil
}

// Findings is what both logs say of a lane, what contradicts what, and the ways on.
type Findings struct {
	// Lane is the name of the lane, Table its outbox table.
	Lane  string `json:"lane"`
	Table string `json:"table"`
	// Cause is the kind of the contradiction; empty where the logs agree.
	Cause checkpoint.Cause `json:"cause"`
	// Diagnosis says what contradicts what, Try what to do; empty where the logs agree.
	Diagnosis string `json:"diagnosis"`
	Try       string `json:"try"`
	// Postgres is the lane's row; nil where there is none.
	Postgres *PostgresSide `json:"postgres"`
	// Kafka is the checkpoint topic.
	Kafka KafkaSide `json:"kafka"`
	// Live is the server and the cluster that this process talks to.
	Live LiveSide `json:"live"`
	// Choices are the ways on that are open; none where the logs agree.
	Choices []Option `json:"choices"`
	// Closed are those that are not, each with the reason.
	Closed []ClosedOption `json:"closed"`
	// Scan is what was read from the data topics; nil where that was not asked for.
	Scan *Scan `json:"scan"`

	state      lanestore.Past
	last       *checkpoint.Record
	unreadable *checkpoint.UnreadableError // in its place
}

// PostgresSide is the lane's row in relay_lanes.
type PostgresSide struct {
	Seq         int64                       `json:"seq"`
	Started     bool                        `json:"started"`
	After       *position.Position          `json:"after"`
	BatchOwner  *string                     `json:"batch_owner"`
	BatchEpoch  *int64                      `json:"batch_epoch"`
	Confirmed   *int64                      `json:"confirmed_seq"`
	ConfirmedAt *position.Position          `json:"confirmed"`
	Lineage     *checkpoint.ClusterIdentity `json:"lineage"`
	// Table is the one that the lane is bound to; nil where it is bound to none.
	Table *pg.Table `json:"table"`
	// Settings are those of the last owner that all replicas should have.
	Settings   map[string]string `json:"settings"`
	Owner      *string           `json:"owner"`
	OwnerEpoch int64             `json:"owner_epoch"`
	// OwnerAlive is whether the session of the owner lives.
	OwnerAlive bool      `json:"owner_alive"`
	State      string    `json:"state"`
	Reason     *string   `json:"reason"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// KafkaSide is the lane's partition of the checkpoint topic.
type KafkaSide struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Exists is whether the partition is there; Start and End are its offsets.
	Exists bool  `json:"exists"`
	Start  int64 `json:"start"`
	End    int64 `json:"end"`
	// Checkpoint is the last committed one, with its offset and its time; nil where there is none.
	Checkpoint *checkpoint.Record `json:"checkpoint"`
	Offset     *int64             `json:"offset"`
	Written    *time.Time         `json:"written"`
	// Unreadable is set where the last committed record of a checkpoint cannot be read; Offset and
	// Written are its.
	Unreadable *UnreadableCheckpoint `json:"unreadable"`
}

// UnreadableCheckpoint is a record with the key of a checkpoint that this relay cannot read.
type UnreadableCheckpoint struct {
	// Reason says why.
	Reason string `json:"reason"`
	// Version is the one that it claims to be of; 0 if it claims none.
	Version int `json:"version"`
}

// LiveSide is what the servers say of themselves.
type LiveSide struct {
	checkpoint.ClusterIdentity
	// Table is the one that the setting leads to.
	Table pg.Table `json:"table"`
	// Xmax is the first transaction id of the server that has not ended.
	Xmax uint64 `json:"xmax"`
	// Time is the server's clock.
	Time time.Time `json:"time"`
}

// Look says how closely Inspect looks.
type Look struct {
	// From is where restart-from starts: an id, a time as RFC 3339, or "beginning". Defaults to
	// "beginning".
	From string
	// Scan reads the data topics back to the oldest row in doubt, and counts by what is in them.
	Scan bool
}

// inspection is the two connections of an Inspect.
type inspection struct {
	*Recovery
	conn   *pgx.Conn
	client *kgo.Client
	admin  *kadm.Client // on that client
	log    *checkpoint.Log
}

// Inspect reads both logs and works out the ways on. It changes nothing.
func (r *Recovery) Inspect(ctx context.Context, look Look) (*Findings, error) {
	conn, err := r.cfg.sessions().Connect(ctx, pg.Options{Application: "relay " + r.lane.Name + " recover", ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer pg.Close(conn)
	if err := lanestore.CheckSeesAll(ctx, conn, r.lane.Table); err != nil {
		return nil, err
	}
	if r.partition, err = lanestore.PartitionOf(ctx, conn, laneNames(r.cfg.Lanes), r.lane.Name); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(clientOptions(&r.cfg)...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	defer client.Close()
	i := inspection{
		Recovery: r, conn: conn, client: client, admin: kadm.NewClient(client), log: r.cfg.checkpointLog(client, r.lane.Name, r.partition),
	}
	f := &Findings{Lane: r.lane.Name, Table: r.lane.Table, Choices: []Option{}, Closed: []ClosedOption{}}
	if err := i.readKafka(ctx, f); err != nil {
		return nil, err
	}
	server, err := pg.Identify(ctx, conn)
	if err != nil {
		return nil, err
	}
	f.Live.Identity = server.Identity
	// One snapshot for all that is read and counted.
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return i.readPostgres(ctx, tx, f, look)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// readKafka reads the checkpoint and the identity of the cluster.
func (i *inspection) readKafka(ctx context.Context, f *Findings) error {
	ctx, cancel := context.WithTimeout(ctx, takeover.Timeout)
	defer cancel()
	f.Kafka.Topic, f.Kafka.Partition = i.log.Topic, i.partition
	metadata, err := i.admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("read the identity of the cluster: %w", err)
	}
	f.Live.ClusterID = metadata.Cluster
	details, err := i.admin.ListTopics(ctx, i.log.Topic)
	if err != nil {
		return fmt.Errorf("look up the checkpoint topic: %w", err)
	}
	detail := details[i.log.Topic]
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) || detail.Err == nil && len(detail.Partitions) <= int(i.partition) {
		return nil
	}
	if detail.Err != nil {
		return fmt.Errorf("look up the checkpoint topic: %w", detail.Err)
	}
	f.Kafka.Exists = true
	if f.Kafka.Start, f.Kafka.End, err = i.log.Bounds(ctx); err != nil {
		return err
	}
	f.last, err = i.log.ReadUnfenced(ctx)
	switch u := (*checkpoint.UnreadableError)(nil); {
	case errors.As(err, &u):
		f.unreadable = u
		f.Kafka.Unreadable, f.Kafka.Offset, f.Kafka.Written = &UnreadableCheckpoint{u.Reason, u.Version}, &u.Offset, &u.Written
		if err := f.judged(err); err != nil {
			return err
		}
	case err != nil:
		return err
	case f.last != nil:
		f.Kafka.Checkpoint, f.Kafka.Offset, f.Kafka.Written = f.last, &f.last.Offset, &f.last.Written
	}
	err = checkpoint.CheckPolicy(ctx, i.admin, i.cfg.checkpointTopic())
	return f.judged(err)
}

// judged takes a contradiction into the findings and returns any other error. An unreadable
// checkpoint is still named beside another one.
func (f *Findings) judged(err error) error {
	fault := (*checkpoint.HaltError)(nil)
	if !errors.As(err, &fault) {
		return err
	}
	diagnosis := fault.Diagnosis
	if f.Cause == checkpoint.CheckpointUnreadable {
		diagnosis += "; and " + f.Diagnosis
	}
	f.Cause, f.Diagnosis, f.Try = fault.Cause, diagnosis, fault.Try
	return nil
}

// readPostgres reads the row, judges, and counts what each way on would do.
func (i *inspection) readPostgres(ctx context.Context, tx pgx.Tx, f *Findings, look Look) error {
	if err := i.readRow(ctx, tx, f); err != nil {
		return err
	}
	now, err := lanestore.ReadNow(ctx, tx, i.lane.Table)
	if err != nil {
		return err
	}
	f.Live.Xmax = now.Xmax
	if now.Bound, err = lanestore.FindTable(ctx, tx, i.lane.Name, i.lane.Table); err != nil {
		return err
	}
	f.Live.Table, now.Name = now.Bound, i.cfg.Name
	now.Old = func() string { return lanestore.DescribeOldTable(ctx, tx, f.state.BoundBy(f.last)) }
	if f.Cause == "" || f.Cause == checkpoint.CheckpointUnreadable {
		if err := f.judged(lanestore.CheckOtherLanes(ctx, tx, i.lane.Name, now.Bound)); err != nil {
			return err
		}
	}
	if err := tx.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&f.Live.Time); err != nil {
		return fmt.Errorf("read the server's clock: %w", err)
	}
	switch f.Cause {
	case "":
		err = checkpoint.Compare(i.lane.Name, f.state.Row, f.last, f.Live.ClusterIdentity, now)
	case checkpoint.CheckpointUnreadable:
		err = checkpoint.CompareUnread(i.lane.Name, f.state.Row, f.Live.ClusterIdentity, now)
	}
	if err := f.judged(err); err != nil {
		return err
	}
	if !f.Recoverable() {
		return nil
	}
	return i.weigh(ctx, tx, f, look)
}

// Keep leaves out every other open choice.
func (f *Findings) Keep(choice Choice) {
	f.Choices = slices.DeleteFunc(f.Choices, func(o Option) bool { return o.Choice != choice })
}

// Recoverable reports whether there is a contradiction that a choice settles.
func (f *Findings) Recoverable() bool {
	switch f.Cause {
	case "", checkpoint.CheckpointPolicy, checkpoint.ForeignRows, checkpoint.AnotherLane, checkpoint.TableTaken:
		return false
	}
	return true
}

func (i *inspection) readRow(ctx context.Context, tx pgx.Tx, f *Findings) error {
	var p PostgresSide
	state, err := lanestore.ScanPast(tx.QueryRow(ctx, `SELECT `+lanestore.PastColumns+`, owner, owner_epoch, state, reason, updated_at,
       (SELECT o.pid IS NOT NULL FROM relay_lanes r`+lanestore.HolderJoin+` WHERE r.lane = relay_lanes.lane)
FROM relay_lanes WHERE lane = $1`, i.lane.Name), &p.Owner, &p.OwnerEpoch, &p.State, &p.Reason, &p.UpdatedAt, &p.OwnerAlive)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the row of lane %s: %w", i.lane.Name, err)
	}
	f.state = state
	p.Seq, p.Started, p.After, p.BatchOwner, p.BatchEpoch = state.Seq, state.Started, state.After, state.BatchOwner, state.BatchEpoch
	p.Confirmed, p.ConfirmedAt, p.Lineage, p.Table = state.ConfirmedSeq, state.Confirmed, state.Identity, state.Table
	if state.Settings != nil {
		p.Settings = *state.Settings
	}
	f.Postgres = &p
	return nil
}
