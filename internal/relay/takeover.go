package relay

import (
	"context"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topicname"
)

// takeOver makes this process the lane's owner.
func (l *lane) takeOver(ctx context.Context, row *lanestore.Row) (*takeover.Owned, error) {
	leftOpen := l.leftOpen()
	owned, err := takeover.Take(ctx, row, l.takeoverOptions(leftOpen))
	if err != nil {
		return nil, err
	}
	l.forgetOpen(leftOpen)
	l.tellSettings(row)
	return owned, nil
}

// takeoverOptions are those of a takeover that looks at the topics leftOpen too.
func (l *lane) takeoverOptions(leftOpen []string) takeover.Options {
	return takeover.Options{
		KafkaOptions: takeover.KafkaOptions{
			Name: l.cfg.Name, Lane: l.Name, Partition: l.partition, Checkpoints: l.cfg.checkpointTopic(),
			ClientOptions: clientOptions(l.cfg), TransactionTimeout: l.cfg.TransactionTimeout,
			LeftOpen: leftOpen, Logger: l.log,
			MayWriteTo: func(topic string) bool { return topicname.MayGoTo(topic, l.cfg.Topics.Allow, l.cfg.Route) },
			Reports: kafkatx.Reports{
				Waiting:  func(reason string) { l.change(Waiting, reason) },
				Working:  l.running,
				Unclosed: l.unclosed,
				LeftOpen: l.foundOpen,
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
