package takeover

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/topics"
)

// Timeout bounds the Kafka side of a takeover: the predecessor's transactions are decided within
// it.
const Timeout = time.Minute

// KafkaOptions say which lane is taken over, and how brokers are talked to.
type KafkaOptions struct {
	// Name is that of the deployment, Lane that of the lane, and Partition its partition of the
	// checkpoint topic.
	Name, Lane string
	Partition  int32
	// Checkpoints is the checkpoint topic.
	Checkpoints checkpoint.TopicOptions
	// ClientOptions are common to all clients.
	ClientOptions []kgo.Opt
	// TransactionTimeout is how long brokers let a transaction stay open.
	TransactionTimeout time.Duration
	// LeftOpen are topics on which transactions of the lane were left open, as far as this process
	// knows. They are looked at beside those that the checkpoint names.
	LeftOpen []string
	// MayWriteTo reports whether rows of the lane may go to a topic.
	MayWriteTo func(topic string) bool
	// Reports are told what transactions wait for.
	Reports kafkatx.Reports
	Logger  *slog.Logger
}

// Kafka is what the owner of a lane has of the cluster.
type Kafka struct {
	// Client asks the cluster questions, and so does Admin, through the same connections.
	Client *kgo.Client
	Admin  *kadm.Client
	// Log is the lane's partition of the checkpoint topic.
	Log *checkpoint.Log
	// Identity says which server, database and cluster the lane belongs to; the cluster since Meet.
	Identity checkpoint.ClusterIdentity
	// Producers are the lane's; nil before Fence.
	Producers *kafkatx.Pool

	o    KafkaOptions
	send sending
}

// sending says how records are sent.
type sending struct {
	partitioner   kgo.Partitioner
	compression   kgo.CompressionCodec
	batchMaxBytes func(topic string) int32
	records       int // of a transaction, at most
	now           func() time.Time
}

// OpenKafka makes the clients for a lane whose epoch was raised; identity is what RaiseEpoch has
// returned. It is ready to write checkpoints.
func OpenKafka(identity checkpoint.ClusterIdentity, o KafkaOptions) (*Kafka, error) {
	client, err := kgo.NewClient(o.ClientOptions...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	return &Kafka{
		Client: client, Admin: kadm.NewClient(client), Identity: identity, o: o,
		Log: checkpoint.NewLog(client, checkpoint.LogOptions{
			Lane: o.Lane, Topic: o.Checkpoints.Topic, Partition: o.Partition, ClientOptions: o.ClientOptions,
		}),
		send: sending{
			partitioner:   kgo.ManualPartitioner(), // a checkpoint names its partition
			batchMaxBytes: func(string) int32 { return topics.MaxRecordBytes },
			records:       checkpoint.PoolSize,
			now:           time.Now,
		},
	}, nil
}

// Close ends every client.
func (k *Kafka) Close() {
	if k.Producers != nil {
		k.Producers.Close()
	}
	k.Client.Close()
}

// Meet learns about the cluster and sees to the checkpoint topic.
func (k *Kafka) Meet(ctx context.Context) error {
	if err := checkpoint.EnsureTopic(ctx, k.Admin, k.o.Checkpoints, int(k.o.Partition)+1); err != nil {
		return err
	}
	if err := kafkatx.CheckVersion(ctx, k.Client); err != nil {
		return err
	}
	if err := checkpoint.CheckPolicy(ctx, k.Admin, k.o.Checkpoints); err != nil {
		return err
	}
	metadata, err := k.Admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("read the identity of the cluster: %w", err)
	}
	k.Identity.ClusterID = metadata.Cluster
	return nil
}

// Fence takes the producer pool and returns the last checkpoint, which is final then; nil if there
// is none. Before that it closes what brokers have left open: a marker of a later transaction would
// decide it, also that of the fence or of the sentinel. known is what could be read unfenced.
func (k *Kafka) Fence(ctx context.Context, known *checkpoint.Record) (last *checkpoint.Record, err error) {
	k.Producers, err = kafkatx.NewPool(kafkatx.PoolOptions{
		IDs:                kafkatx.TransactionalIDs(k.o.Name, k.o.Lane),
		Checkpoints:        kafkatx.Place{Topic: k.Log.Topic, Partition: k.Log.Partition},
		ClientOptions:      k.o.ClientOptions,
		TransactionTimeout: k.o.TransactionTimeout,
		Partitioner:        k.send.partitioner,
		Compression:        k.send.compression,
		BatchMaxBytes:      k.send.batchMaxBytes,
		MaxBufferedRecords: k.send.records,
		Now:                k.send.now,
		Broker:             k.o.Checkpoints.Broker,
		Logger:             k.o.Logger,
		Reports:            k.o.Reports,
	})
	if err != nil {
		return nil, err
	}
	c, err := k.Producers.CloseOpen(ctx, k.Client, known, false, k.o.LeftOpen)
	if err == nil && known != nil && known.Unreadable {
		err = c.AllSeen(k.o.MayWriteTo) // while the coordinators still know what they have decided
	}
	if err != nil {
		return nil, err
	}
	if err := k.Producers.Fence(ctx); err != nil {
		return nil, err
	}
	if err := k.Producers.CheckpointsClosed(ctx); err != nil {
		return nil, err
	}
	return k.Log.ReadFenced(ctx, k.Producers.First())
}

// Sign writes a checkpoint outside of a batch. It keeps the name of the batch that it stands for.
func (k *Kafka) Sign(ctx context.Context, c checkpoint.Record) error {
	if err := k.Log.Write(ctx, k.Producers.First(), c); err != nil {
		return fmt.Errorf("sign the checkpoint: %w", err)
	}
	return nil
}
