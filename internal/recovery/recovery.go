package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkaclient"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/takeover"
)

// Options say which lane of which deployment is recovered, and where its servers are. All but Step
// are set.
type Options struct {
	// DatabaseURL returns the connection string of each new session.
	DatabaseURL  func() (string, error)
	Brokers      []string
	KafkaOptions []kgo.Opt
	// Name is that of the deployment, and Lanes are the names of its lanes, in their order.
	Name  string
	Lanes []string
	// Lane is one of them, and Table its outbox.
	Lane, Table string
	// Route and TopicsAllow say to which topics rows of the lane may go.
	Route       string
	TopicsAllow []string
	// Agreed are recorded with the recovery, as with every takeover.
	Agreed             lanestore.Agreed
	TransactionTimeout time.Duration
	Logger             *slog.Logger
	// Step is called between the writes of Apply. Tests use it to kill the process there.
	Step func(Step)
}

// Recovery looks at one lane whose two logs contradict each other, and settles that by a named
// choice.
type Recovery struct {
	o         Options
	database  *pg.Database
	clients   []kgo.Opt // of all Kafka clients
	partition int32     // of the checkpoint topic, since the first Inspect
}

// ErrNoLane is wrapped by New's error if the deployment has no such lane.
var ErrNoLane = errors.New("no such lane")

// New returns the Recovery of a lane; it connects to nothing.
func New(o Options) (*Recovery, error) {
	if !slices.Contains(o.Lanes, o.Lane) {
		return nil, fmt.Errorf("lane %q: %w", o.Lane, ErrNoLane)
	}
	if o.Step == nil {
		o.Step = func(Step) {}
	}
	log := kafkaclient.NewLogger(o.Logger, kafkaclient.NewRepeats())
	return &Recovery{
		o: o, database: &pg.Database{URL: o.DatabaseURL, Beside: lanestore.LanesTable},
		clients: kafkaclient.Options(o.Brokers, "relay."+o.Name, log, o.KafkaOptions),
	}, nil
}

// checkpoints is the checkpoint topic.
func (r *Recovery) checkpoints() checkpoint.TopicOptions {
	return checkpoint.TopicOptions{
		Topic: checkpoint.TopicName(r.o.Name), Broker: r.o.Brokers[0], Lanes: len(r.o.Lanes), Logger: r.o.Logger,
	}
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
	conn  *pgx.Conn
	admin *kadm.Client
	log   *checkpoint.Log
}

// Inspect reads both logs and works out the choices. It changes nothing.
func (r *Recovery) Inspect(ctx context.Context, look Look) (*Findings, error) {
	conn, err := r.database.Connect(ctx, pg.Options{Application: "relay " + r.o.Lane + " recover", ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer pg.Close(conn)
	if err := lanestore.CheckSeesAll(ctx, conn, r.o.Table); err != nil {
		return nil, err
	}
	if r.partition, err = lanestore.PartitionOf(ctx, conn, r.o.Lanes, r.o.Lane); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(r.clients...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	defer client.Close()
	log := checkpoint.NewLog(client, checkpoint.LogOptions{
		Lane: r.o.Lane, Topic: checkpoint.TopicName(r.o.Name), Partition: r.partition, ClientOptions: r.clients,
	})
	i := inspection{Recovery: r, conn: conn, admin: kadm.NewClient(client), log: log}
	f := &Findings{Lane: r.o.Lane, Table: r.o.Table, Choices: []Option{}, Closed: []ClosedOption{}}
	if err := i.readKafka(ctx, f); err != nil {
		return nil, err
	}
	server, err := pg.Identify(ctx, conn)
	if err != nil {
		return nil, err
	}
	f.Live.Identity = server.Identity
	// One snapshot for all that is read and counted.
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) error { return i.readPostgres(ctx, tx, f, look) })
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
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) ||
		detail.Err == nil && len(detail.Partitions) <= int(i.partition) {
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
		f.Kafka.Unreadable = &UnreadableCheckpoint{u.Reason, u.Version}
		f.Kafka.Offset, f.Kafka.Written = &u.Offset, &u.Written
		if err := f.note(err); err != nil {
			return err
		}
	case err != nil:
		return err
	case f.last != nil:
		f.Kafka.Checkpoint, f.Kafka.Offset, f.Kafka.Written = f.last, &f.last.Offset, &f.last.Written
	}
	err = checkpoint.CheckPolicy(ctx, i.admin, i.checkpoints())
	return f.note(err)
}

// readPostgres reads the row, compares it with Kafka, and counts what each choice would do.
func (i *inspection) readPostgres(ctx context.Context, tx pgx.Tx, f *Findings, look Look) error {
	if err := i.readRow(ctx, tx, f); err != nil {
		return err
	}
	now, err := lanestore.ReadNow(ctx, tx, i.o.Table)
	if err != nil {
		return err
	}
	f.Live.Xmax = now.Xmax
	if now.Bound, err = lanestore.FindTable(ctx, tx, i.o.Lane, i.o.Table); err != nil {
		return err
	}
	f.Live.Table, now.Name = now.Bound, i.o.Name
	now.Old = func() string { return lanestore.DescribeOldTable(ctx, tx, f.state.BoundBy(f.last)) }
	if f.Cause == "" || f.Cause == checkpoint.CheckpointUnreadable {
		if err := f.note(lanestore.CheckOtherLanes(ctx, tx, i.o.Lane, now.Bound)); err != nil {
			return err
		}
	}
	if err := tx.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&f.Live.Time); err != nil {
		return fmt.Errorf("read the server's clock: %w", err)
	}
	switch f.Cause {
	case "":
		err = checkpoint.Compare(i.o.Lane, f.state.Row, f.last, f.Live.ClusterIdentity, now)
	case checkpoint.CheckpointUnreadable:
		err = checkpoint.CompareUnread(i.o.Lane, f.state.Row, f.Live.ClusterIdentity, now)
	}
	if err := f.note(err); err != nil {
		return err
	}
	if !f.Recoverable() {
		return nil
	}
	return i.choices(ctx, tx, f, look)
}

func (i *inspection) readRow(ctx context.Context, tx pgx.Tx, f *Findings) error {
	var p PostgresSide
	state, err := lanestore.ScanPast(tx.QueryRow(ctx, `
SELECT `+lanestore.PastColumns+`, owner, owner_epoch, state, reason, updated_at,
       (SELECT o.pid IS NOT NULL FROM relay_lanes r`+lanestore.HolderJoin+` WHERE r.lane = relay_lanes.lane)
FROM relay_lanes WHERE lane = $1`, i.o.Lane), &p.Owner, &p.OwnerEpoch, &p.State, &p.Reason, &p.UpdatedAt, &p.OwnerAlive)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the row of lane %s: %w", i.o.Lane, err)
	}
	f.state = state
	p.Seq, p.Started, p.After = state.Seq, state.Started, state.After
	p.BatchOwner, p.BatchEpoch = state.BatchOwner, state.BatchEpoch
	p.Confirmed, p.ConfirmedAt, p.Identity, p.Table = state.ConfirmedSeq, state.Confirmed, state.Identity, state.Table
	if state.Settings != nil {
		p.Settings = *state.Settings
	}
	f.Postgres = &p
	return nil
}
