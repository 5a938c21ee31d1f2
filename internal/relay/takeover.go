package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/topics"
)

// takeoverTimeout bounds the Kafka side of a takeover: the predecessor's transactions are decided
// within it.
const takeoverTimeout = time.Minute

// takeOver makes this process the lane's owner. It is the only recovery path, and start-up is it:
//
//  1. bind: find the lane's table, and check that the lane is bound to it;
//  2. announce: check that this is a primary, and raise the epoch in Postgres, so that the
//     predecessor's next intent fails;
//  3. close what brokers have left open of the lane's last transactions, and fence every
//     transactional id of the ring, the first one first;
//  4. write a sentinel with the first id and read the log up to it: the last checkpoint is then
//     decided and final;
//  5. claim: check that both logs agree, and withdraw an intent that never became a commit.
//
// The announcement comes before the fence and is checked by the claim: a process that claims has
// read a log that nobody has written to since, because whoever writes next must have announced
// itself after it. The statements of 1 and 4 run on the session that holds the lane's lock.
// Whatever else is waited for, however long, that session is pinged meanwhile: see pingWhile.
func (l *lane) takeOver(ctx context.Context, row *lanestore.Row) (*session, error) {
	if err := row.Bind(ctx); err != nil {
		return nil, err
	}
	lineage, err := row.RaiseEpoch(ctx)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(clientOptions(l.cfg)...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	admin := kadm.NewClient(client)
	s := &session{
		cfg: l.cfg, lane: l, row: row, client: client, admin: admin, lineage: lineage,
		topics: topics.NewRegistry(admin, l.outages, l.cfg.topicOptions()),
	}
	s.settled, s.produced = make(chan struct{}, 1), make(chan struct{})
	s.lastOf = make(map[int]checkpoint.Transaction)
	s.parking = parking.New(parking.Options{
		Table: l.Table, Policy: l.cfg.Poison, Check: l.cfg.Check, Bytes: l.cfg.parkedBytes, HaltedRetry: haltedRetry, Logger: l.cfg.Logger,
	}, s.topics, l.condemned)
	s.log = l.cfg.checkpointLog(client, l.Name, l.partition)
	// The reader comes before the fence: what is wrong with it must not disturb a predecessor that
	// works.
	err = row.PingWhile(ctx, func(ctx context.Context) (err error) {
		if s.reader, err = outboxread.Open(ctx, s.readerOptions()); err == nil {
			err = s.reader.CheckServer(ctx, row.Server())
		}
		return err
	})
	if err == nil {
		err = s.claim(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close frees what the session holds, but for the lane's row.
func (s *session) close() {
	if s.reader != nil {
		s.reader.Close()
	}
	if s.queue != nil {
		s.queue.Close()
	}
	if s.producers != nil {
		s.producers.Close()
	}
	s.admin.Close()
}

// claim does steps 3 to 5 of a takeover.
func (s *session) claim(ctx context.Context) error {
	kafkaCtx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	var last *checkpoint.Record
	err := s.row.PingWhile(kafkaCtx, func(ctx context.Context) (err error) {
		last, err = s.fenceAndRead(ctx)
		return err
	})
	if err != nil {
		return err
	}
	first := s.producers.First()
	state, err := s.row.Read(ctx)
	if err != nil {
		return err
	}
	var now checkpoint.Server
	err = s.row.PingWhile(ctx, func(ctx context.Context) (err error) {
		now, err = lanestore.ReadNow(ctx, s.reader.Conn(), s.lane.Table)
		return err
	})
	if err != nil {
		return err
	}
	now.Name, now.Bound = s.cfg.Name, s.row.Table()
	now.Old = func() string { return lanestore.DescribeOldTable(ctx, s.row.Conn(), state.BoundBy(last)) }
	if err := checkpoint.Compare(s.lane.Name, state.Row, last, s.lineage, now); err != nil {
		return err
	}
	if err := s.row.PingWhile(kafkaCtx, func(ctx context.Context) error { return s.closeRest(ctx, last) }); err != nil {
		return err
	}
	if last == nil {
		last = &checkpoint.Record{
			Version: checkpoint.Version, Lane: s.lane.Name, Position: position.Position{From: position.Beginning},
			Owner: s.row.Owner(), OwnerEpoch: s.row.Epoch(),
		}
	}
	// The first checkpoint of a lane, and the first on a new timeline, are written at once: from then
	// on an empty log is a lost log, and the server before the promotion is a stranger.
	if last.Identity != s.lineage || last.Table == nil || *last.Table != s.row.Table() {
		last.Identity, last.Table = s.lineage, new(s.row.Table())
		err := s.row.PingWhile(kafkaCtx, func(ctx context.Context) error { return s.sign(ctx, first, *last) })
		if err != nil {
			return err
		}
	}
	s.last, s.seq, s.progress = *last, last.Seq, last.Position
	s.committed.Store(last.Seq)
	if err := s.row.Complete(ctx, s.last, s.lineage); err != nil {
		return err
	}
	s.lane.tellSettings(s.row)
	return s.row.PingWhile(ctx, func(ctx context.Context) error {
		return parking.Load(ctx, s.reader.Conn(), s.lane.Name, s.parking, s.reader.Routed)
	})
}

// closeRest closes what only the last checkpoint decides.
func (s *session) closeRest(ctx context.Context, last *checkpoint.Record) error {
	c, err := s.producers.CloseOpen(ctx, s.client, last, true, s.lane.toLookAt(true))
	if err != nil {
		return err
	}
	if c.Wrote { // with ids that the ring had
		return kafkatx.ErrLeftOpen
	}
	if last := c.Follow(); last != nil {
		s.lastOf = last
	}
	return nil
}

// fenceAndRead is the Kafka side of a takeover. It returns the last checkpoint, nil where there is
// none.
func (s *session) fenceAndRead(ctx context.Context) (*checkpoint.Record, error) {
	if err := s.meet(ctx); err != nil {
		return nil, err
	}
	// Before anything is fenced: another database under the same name must not disturb the lane that
	// it would fence.
	known, err := s.log.ReadUnfenced(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkpoint.CompareIdentity(s.lane.Name, known, s.lineage); err != nil {
		return nil, err
	}
	bound := s.row.Before().BoundBy(known)
	err = checkpoint.CompareTable(s.lane.Name, bound.Table, s.row.Table(), func() string {
		return lanestore.DescribeOldTable(ctx, s.reader.Conn(), bound)
	})
	if err != nil {
		return nil, err
	}
	return s.fence(ctx, known)
}

// meet learns about the cluster and sees to the checkpoint topic.
func (s *session) meet(ctx context.Context) error {
	if err := checkpoint.EnsureTopic(ctx, s.admin, s.cfg.checkpointTopic(), int(s.lane.partition)+1); err != nil {
		return err
	}
	if err := kafkatx.CheckVersion(ctx, s.client); err != nil {
		return err
	}
	if err := checkpoint.CheckPolicy(ctx, s.admin, s.cfg.checkpointTopic()); err != nil {
		return err
	}
	metadata, err := s.admin.BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("read the identity of the cluster: %w", err)
	}
	s.lineage.ClusterID = metadata.Cluster
	return nil
}

// fence takes the ring and returns the last checkpoint, which is final then. Before that it closes
// what brokers have left open: a marker of a later transaction would decide it, also that of the
// fence or of the sentinel.
func (s *session) fence(ctx context.Context, known *checkpoint.Record) (last *checkpoint.Record, err error) {
	var clock *outboxread.Clock
	if s.reader != nil { // a recovery writes checkpoints only
		clock = s.reader.Clock()
	}
	pool, err := s.poolOptions(clock)
	if err != nil {
		return nil, err
	}
	if s.producers, err = kafkatx.NewPool(pool); err != nil {
		return nil, err
	}
	s.topics.Clear = s.producers.Markers.Clear
	c, err := s.producers.CloseOpen(ctx, s.client, known, false, s.lane.toLookAt(false))
	if err == nil && known != nil && known.Unreadable {
		err = c.AllSeen(s.cfg.mayWriteTo) // while the coordinators still know what they have decided
	}
	if err != nil {
		return nil, err
	}
	if err := s.producers.Fence(ctx); err != nil {
		return nil, err
	}
	if err := s.producers.CheckpointsClosed(ctx); err != nil {
		return nil, err
	}
	return s.log.ReadFenced(ctx, s.producers.First())
}

// sign writes a checkpoint outside of a batch. It keeps the name of the batch that it stands for.
func (s *session) sign(ctx context.Context, p *kafkatx.Producer, c checkpoint.Record) error {
	if err := s.log.Write(ctx, p, c); err != nil {
		return fmt.Errorf("sign the checkpoint: %w", err)
	}
	return nil
}
