package inboxkafka

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/clientlog"
	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/offsets"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// connection are the options that every client of ours has.
func (c *Consumer) connection() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ClientID("inbox." + c.cfg.Group),
		// A topic that has just been made is seen soon.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.WithLogger(clientlog.Logger{To: c.log}),
	}
	if len(c.cfg.Brokers) > 0 {
		opts = append(opts, kgo.SeedBrokers(c.cfg.Brokers...))
	}
	return append(opts, c.cfg.Options...)
}

// options are those of the client that consumes. What stands behind the user's options is what the
// promises rest on.
func (c *Consumer) options() []kgo.Opt {
	fetchBytes := int32(min(c.cfg.MaxBytes/4, mostFetched))
	defaults := []kgo.Opt{
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(min(fetchBytes, 1<<20)),
		// A partition that is resumed waits for a fetch without it to end.
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.HeartbeatInterval(min(3*time.Second, c.cfg.SessionTimeout/6)),
		// If the log has lost records, it is not known which ones came instead. Reading all of it again
		// skips what was handled.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	opts := append(defaults, c.connection()...)
	opts = append(opts,
		kgo.ConsumerGroup(c.cfg.Group),
		kgo.ConsumeTopics(c.cfg.Topics...),
		kgo.ConsumeStartOffset(c.cfg.StartOffset),
		// Records of transactions that are open or aborted are none.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions take offsets, which the watermark passes when it meets them:
		// otherwise a topic that is read to its end would stay one behind it. They are never handed
		// out.
		kgo.KeepControlRecords(),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(c.cfg.Balancers...),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		// A rebalance waits for revoked, which takes the drain and a few seconds.
		kgo.RebalanceTimeout(max(time.Minute,
			c.cfg.DrainTimeout+abandonTimeout+offsets.Timeout+sessionTimeout+10*time.Second)),
		// A batch of a few KiB may decompress to any size.
		kgo.MaxDecompressBatchBytes(c.mostDecompressed()),
		kgo.AdjustFetchOffsetsFn(c.positions),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
		kgo.WithHooks(&clientlog.Group{To: c.log}),
	)
	if c.cfg.Instance != "" {
		opts = append(opts, kgo.InstanceID(c.cfg.Instance))
	}
	if c.cfg.Rack != "" {
		opts = append(opts, kgo.Rack(c.cfg.Rack))
	}
	return opts
}

// apart are the options of a client that is in no group and consumes nothing, whatever the user's
// options say.
func (c *Consumer) apart() []kgo.Opt {
	return append(c.connection(), kgo.ConsumerGroup(""), kgo.ConsumeTopics(), kgo.ConsumePartitions(nil))
}

// adminClient returns a client that is in no group.
func (c *Consumer) adminClient() (*kadm.Client, error) {
	client, err := kgo.NewClient(c.apart()...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	return kadm.NewClient(client), nil
}

// leastDecompressed is what a batch may always decompress to: senders make batches of a MiB before
// they compress them, and some make larger ones.
const leastDecompressed = 16 << 20

// mostDecompressed bounds what one batch may decompress to.
func (c *Consumer) mostDecompressed() int {
	return int(min(max(c.cfg.MaxBytes, leastDecompressed), math.MaxInt32))
}

// mostFetched bounds the answer of a broker, as the client does by itself.
const mostFetched = 50 << 20

// checkOptions refuses what contradicts our options, and what none of them undoes.
func (c *Consumer) checkOptions() error {
	if err := kgo.ValidateOpts(c.options()...); err != nil {
		return fmt.Errorf("inboxkafka: Options: %w", err)
	}
	// It connects to nothing: it consumes nothing, and is asked nothing of the cluster.
	client, err := kgo.NewClient(c.apart()...)
	if err != nil {
		return fmt.Errorf("inboxkafka: Options: %w", err)
	}
	defer client.Close()
	var faults []error
	if id, _ := client.OptValue(kgo.TransactionalID).(string); id != "" {
		faults = append(faults, errors.New("inboxkafka: Options: TransactionalID is for producers; "+
			"the inbox needs no Kafka transactions"))
	}
	if keep, _ := client.OptValue(kgo.KeepControlRecords).(bool); keep {
		faults = append(faults, errors.New("inboxkafka: Options: KeepControlRecords would hand markers of transactions "+
			"to the handler"))
	}
	if regex, _ := client.OptValue(kgo.ConsumeRegex).(bool); regex {
		faults = append(faults, errors.New("inboxkafka: Options: ConsumeRegex is not possible; name the topics, "+
			"since their retention is checked"))
	}
	return errors.Join(faults...)
}

// atStart reports whether a group without an offset begins at the start of the log.
func atStart(o kgo.Offset) bool {
	return o.EpochOffset().Offset == kgo.NewOffset().AtStart().EpochOffset().Offset
}
