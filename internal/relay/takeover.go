package relay

import (
	"context"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topicname"
)

// takeOver makes this process the lane's owner, and loads what is parked.
func (l *lane) takeOver(ctx context.Context, row *lanestore.Row) (*session, error) {
	leftOpen := l.leftOpen()
	owned, err := takeover.Take(ctx, row, l.takeoverOptions(leftOpen))
	if err != nil {
		return nil, err
	}
	l.forgetOpen(leftOpen)
	l.tellSettings(row)
	s := &session{
		cfg: l.cfg, lane: l, row: row, owned: owned, client: owned.Client, producers: owned.Producers, reader: owned.Reader,
		topics: owned.Topics, admin: owned.Admin, log: owned.Log, identity: owned.Identity,
		last: owned.Last, seq: owned.Last.Seq, progress: owned.Last.Position, lastOf: owned.LastOf,
		settled: make(chan struct{}, 1), produced: make(chan struct{}),
		parking: parking.New(parking.Options{
			Table: l.Table, Policy: l.cfg.Poison, Check: l.cfg.Check, Bytes: l.cfg.parkedBytes,
			HaltedRetry: checkpoint.HaltedRetry, Logger: l.cfg.Logger,
		}, owned.Topics, l.condemned),
	}
	s.committed.Store(s.seq)
	err = row.PingWhile(ctx, func(ctx context.Context) error {
		return parking.Load(ctx, s.reader.Conn(), l.Name, s.parking, s.reader.Routed)
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close frees what the session holds, but for the lane's row.
func (s *session) close() {
	if s.queue != nil {
		s.queue.Close()
	}
	s.owned.Close()
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
		RowsNow: l.cfg.pace.rows, Records: l.cfg.recordOptions(), Database: l.cfg.sessions(),
		Clock: outboxread.NewClock(outboxread.ClockOptions{
			Lane: l.Name, Logger: l.cfg.Logger, Read: l.cfg.Hooks.clockRead, Changed: l.cfg.databaseTime,
		}),
		Foreign: func(xid, xmax uint64) error { return checkpoint.ForeignRow(l.Name, l.Table, xid, xmax) },
	}
}

// readerOptions are those for another session that reads rows of the lane.
func (s *session) readerOptions() outboxread.Options {
	o := s.lane.readerOptions()
	o.OID = s.row.Table().OID
	return o
}
