package relay

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/kafkaclient"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/retention"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topicname"
	"github.com/outbox-relay/relay/internal/topics"
)

// What each part of the engine is given, of the configuration and of the lane.

// takeoverOptions are those of a takeover that looks at the topics leftOpen too.
func (l *lane) takeoverOptions(leftOpen []string) takeover.Options {
	return takeover.Options{
		KafkaOptions: takeover.KafkaOptions{
			Name: l.cfg.Name, Lane: l.Name, Partition: l.partition, Checkpoints: l.cfg.checkpointTopic(),
			ClientOptions: clientOptions(l.cfg), TransactionTimeout: l.cfg.TransactionTimeout,
			LeftOpen: leftOpen, Logger: l.log,
			MayWriteTo: func(topic string) bool { return topicname.MayGoTo(topic, l.cfg.Topics.Allow, l.cfg.Route) },
			Reports: kafkatx.Reports{
				Waiting:  l.state.waits,
				Working:  l.state.running,
				Unclosed: l.state.setUnclosed,
				LeftOpen: l.open.add,
			},
		},
		Reader: l.readerOptions(), Topics: l.cfg.topicOptions(), Unavailable: l.outages,
		Partitioner: l.cfg.Partitioner, Compression: compressions[l.cfg.Compression],
	}
}

// readerOptions say how the rows of the lane are read.
func (l *lane) readerOptions() outboxread.Options {
	return outboxread.Options{
		Lane: l.Name, Table: l.Table, Rows: l.cfg.BatchRows, Bytes: l.cfg.BatchBytes,
		RowsNow: l.memory.Rows, Records: l.cfg.recordOptions(), Database: l.cfg.sessions(),
		Clock: outboxread.NewClock(outboxread.ClockOptions{
			Lane: l.Name, Logger: l.cfg.Logger, Read: l.cfg.Hooks.clockRead, Changed: l.cfg.databaseTime,
		}),
		Foreign: func(xid, xmax uint64) error { return checkpoint.ForeignRow(l.Name, l.Table, xid, xmax) },
	}
}

// recordOptions say what records the lane makes of rows.
func (c *Config) recordOptions() outboxread.RecordOptions {
	return outboxread.RecordOptions{Source: c.Name, Route: c.Route, Allowed: c.Topics.Allow, ContentType: c.ContentType}
}

func (l *lane) pipelineOptions(row *lanestore.Row) pipeline.Options {
	return pipeline.Options{
		Name: l.Name, Table: l.Table, PollMin: l.cfg.PollMin, PollMax: l.cfg.PollMax,
		RetryMin: l.cfg.RetryMin, RetryMax: l.cfg.RetryMax,
		TransactionTimeout: l.cfg.TransactionTimeout, WorkTimeout: l.cfg.workTimeout(),
		Reader: l.readerOptions(),
		Parking: parking.Options{
			Table: l.Table, Policy: l.cfg.Poison, Check: l.cfg.Check, Bytes: l.cfg.parkedBytes,
			Logger: l.cfg.Logger,
		},
		Retention: l.cleanerOptions(row), Step: l.cfg.Step, Trace: l.cfg.Trace, Logger: l.log,
	}
}

// calls are how the pipeline reaches the lane.
func (l *lane) calls(row *lanestore.Row) pipeline.Lane {
	return pipeline.Lane{
		Progressed: l.state.progressed, CaughtUp: l.state.caughtUp,
		Waiting: func(err error) { l.state.failed(Waiting, err) }, Working: l.state.running,
		Parked:    func(aggregates int) { l.state.parked.Store(int64(aggregates)) },
		Published: l.state.published, Committed: l.state.committed,
		Hold: func(ctx context.Context) error { return l.hold(ctx, row) },
		Status: func() (state, reason string) {
			status := l.state.status()
			return string(status.State), status.Reason
		},
	}
}

// cleanerOptions are nil if nothing is ever removed.
func (l *lane) cleanerOptions(row *lanestore.Row) *retention.Options {
	if l.cfg.Retention == KeepForever {
		return nil
	}
	return &retention.Options{
		Lane: l.Name, Table: l.Table, OID: row.Table().OID, Age: max(0, l.cfg.Retention),
		Database: l.cfg.sessions(), Server: row.Server(), Logger: l.log, Removed: l.cfg.Hooks.removed,
	}
}

// sessions returns what opens the sessions of the lane that the configuration is for.
func (c *Config) sessions() *pg.Database {
	if c.database == nil {
		c.database = &pg.Database{URL: c.url, Beside: lanestore.LanesTable}
	}
	return c.database
}

func (c *Config) url() (string, error) {
	if c.DatabaseURLFunc != nil {
		return c.DatabaseURLFunc()
	}
	return c.DatabaseURL, nil
}

// rowOptions say whose row a lane is run by.
func (c *Config) rowOptions(lane Lane, owner string) lanestore.Options {
	return lanestore.Options{
		Lane: lane.Name, Table: lane.Table, Owner: owner, Settings: c.Agreed(lane).Settings(),
		WorkTimeout: c.workTimeout(), Database: c.sessions(),
		Parked: parking.NewRows(lane.Name, lane.Table),
	}
}

func laneNames(lanes []Lane) []string {
	names := make([]string, len(lanes))
	for i, lane := range lanes {
		names[i] = lane.Name
	}
	return names
}

// workTimeout bounds what a batch writes about parked rows.
func (c *Config) workTimeout() time.Duration { return min(pg.StatementTimeout, c.TransactionTimeout/3) }

// Agreed are the settings of a lane in which replicas should agree.
func (c *Config) Agreed(l Lane) lanestore.Agreed {
	return lanestore.Agreed{
		Name: c.Name, Partitioner: l.Partitioner, Poison: string(l.Poison), Route: l.Route,
		TopicsAllow: l.TopicsAllow, TopicsCreate: c.Topics.Create, TopicsPartitions: c.Topics.Partitions, TopicsTimeout: c.Topics.Timeout,
	}
}

// checkpointTopic is the topic that holds the checkpoints.
func (c *Config) checkpointTopic() checkpoint.TopicOptions {
	return checkpoint.TopicOptions{
		Topic: checkpoint.TopicName(c.Name), Broker: c.Brokers[0], Lanes: len(c.Lanes), Logger: c.Logger,
	}
}

// topicOptions say what becomes of topics that do not exist.
func (c *Config) topicOptions() topics.Options {
	return topics.Options{
		Create: c.Topics.Create, Partitions: c.Topics.Partitions, ReplicationFactor: c.Topics.ReplicationFactor,
		Logger: c.Logger,
	}
}

// clientOptions are common to every Kafka client of the relay.
func clientOptions(c *Config) []kgo.Opt {
	return kafkaclient.Options(c.Brokers, "relay."+c.Name, kafkaclient.NewLogger(c.Logger, c.repeats), c.KafkaOptions)
}

// electionOptions are those of the group that shares the lanes.
func (c *Config) electionOptions() election.Options {
	return election.Options{
		Group: election.Group(c.Name), Topic: c.checkpointTopic(), ClientOptions: clientOptions(c),
		SessionTimeout: c.SessionTimeout, DrainTimeout: c.DrainTimeout, RetryMin: c.RetryMin, RetryMax: c.RetryMax,
		Logger: c.Logger,
	}
}
