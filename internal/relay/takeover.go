package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// takeoverTimeout bounds the Kafka side of a takeover: the predecessor's transactions are decided within it.
const takeoverTimeout = time.Minute

// takeOver makes this process the lane's owner. It is the only recovery path, and start-up is it:
//
//  1. announce: check that this is a primary, and raise the epoch in Postgres, so that the predecessor's next intent fails;
//  2. fence every transactional id of the ring, the first one first;
//  3. write a sentinel with the first id and read the log up to it: the last checkpoint is then decided and final;
//  4. claim: check that both logs agree, and withdraw an intent that never became a commit.
//
// The announcement comes before the fence and is checked by the claim: a process that claims has read a log that nobody
// has written to since, because whoever writes next must have announced itself after it. All statements on Postgres run on
// the session that holds the lane's lock.
func (l *lane) takeOver(ctx context.Context, row *laneRow) (*session, error) {
	lineage, err := row.announce(ctx)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(clientOptions(l.cfg)...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	admin := kadm.NewClient(client)
	s := &session{cfg: l.cfg, lane: l, row: row, client: client, lineage: lineage, topics: newTopicRegistry(l.cfg, admin, l.outages)}
	s.settled, s.produced = make(chan struct{}, 1), make(chan struct{})
	s.parking = &parking{
		cfg: l.cfg, table: l.Table, topics: s.topics, condemned: l.condemned, keys: make(map[string]parkedKey),
	}
	s.log = checkpointLog{cfg: l.cfg, admin: admin, topic: CheckpointTopic(l.cfg.Name), partition: l.partition}
	// The reader comes before the fence: what is wrong with it must not disturb a predecessor that works.
	if s.reader, err = openReader(ctx, l.cfg, l.Lane); err == nil {
		err = s.reader.mustBe(ctx, row.server)
	}
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
		s.reader.close()
	}
	if s.queue != nil {
		s.queue.close()
	}
	if s.ring != nil {
		s.ring.close()
	}
	s.log.admin.Close()
}

// claim does steps 2 to 4 of a takeover.
func (s *session) claim(ctx context.Context) error {
	kafkaCtx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	var last *Checkpoint
	err := s.row.pingWhile(kafkaCtx, func(ctx context.Context) (err error) {
		last, err = s.fenceAndRead(ctx)
		return err
	})
	if err != nil {
		return err
	}
	first := s.ring.producers[0]
	state, err := s.row.read(ctx)
	if err != nil {
		return err
	}
	if err := judge(s.lane.Name, state, last, s.lineage); err != nil {
		return err
	}
	if last == nil {
		last = &Checkpoint{Version: checkpointVersion, Lane: s.lane.Name, Progress: Progress{From: beginning}}
	}
	// The first checkpoint of a lane, and the first on a new timeline, are written at once: from then on an empty log is a lost
	// log, and the server before the promotion is a stranger.
	if last.Lineage != s.lineage {
		if last, err = s.sign(kafkaCtx, first, *last); err != nil {
			return err
		}
	}
	s.last, s.seq, s.progress = *last, last.Seq, last.Progress
	s.committed.Store(last.Seq)
	if err := s.row.claim(ctx, s.last, s.lineage); err != nil {
		return err
	}
	return loadParked(ctx, s.reader.conn, s.lane.Name, s.parking, s.reader.decoder.routed)
}

// fenceAndRead is the Kafka side of a takeover. It returns the last checkpoint, nil where there is none.
func (s *session) fenceAndRead(ctx context.Context) (*Checkpoint, error) {
	if err := ensureCheckpointTopic(ctx, s.cfg, s.log.admin, int(s.lane.partition)+1); err != nil {
		return nil, err
	}
	if err := checkTransactionVersion(ctx, s.client); err != nil {
		return nil, err
	}
	metadata, err := s.log.admin.BrokerMetadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the identity of the cluster: %w", err)
	}
	s.lineage.ClusterID = metadata.Cluster
	// Before anything is fenced: another database under the same name must not disturb the lane that it would fence.
	known, err := s.log.peek(ctx)
	if err != nil {
		return nil, err
	}
	if err := judgeLineage(s.lane.Name, known, s.lineage); err != nil {
		return nil, err
	}
	if s.ring, err = newRing(s.cfg, s.lane.Lane, s.topics); err != nil {
		return nil, err
	}
	if err := s.ring.fence(ctx); err != nil {
		return nil, err
	}
	return s.log.last(ctx, s.ring.producers[0])
}

// The feature of the cluster that makes a delayed EndTxn harmless: the epoch is raised at each end of a transaction
// (KIP-890). Without it a straggler could end the next transaction of its id.
const (
	transactionFeature = "transaction.version"
	transactionVersion = 2
)

func checkTransactionVersion(ctx context.Context, client *kgo.Client) error {
	request := kmsg.NewPtrApiVersionsRequest() // to whichever broker answers: a feature is finalized for the whole cluster
	request.ClientSoftwareName, request.ClientSoftwareVersion = "relay", "1"
	response, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("read the features of the cluster: %w", err)
	}
	finalized := int16(0)
	for _, feature := range response.FinalizedFeatures {
		if feature.Name == transactionFeature {
			finalized = feature.MaxVersionLevel
		}
	}
	if finalized < transactionVersion {
		return halt("run kafka-features.sh --bootstrap-server … upgrade --feature transaction.version=2 (Apache Kafka 4)",
			"the cluster's %s is %d, and the relay needs %d", transactionFeature, finalized, transactionVersion)
	}
	return nil
}

// sign writes the checkpoint again under the lineage and the owner of this session.
func (s *session) sign(ctx context.Context, p *producer, c Checkpoint) (*Checkpoint, error) {
	c.Lineage, c.Owner, c.OwnerEpoch = s.lineage, s.row.owner, s.row.epoch
	value, err := c.encode()
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	if err := s.log.write(ctx, p, checkpointKey, value); err != nil {
		return nil, fmt.Errorf("sign the checkpoint: %w", err)
	}
	return &c, nil
}

// try is the way on from a contradiction.
const try = "nothing is published until this is settled; see the page on recovery in docs/"

// judgeLineage halts where the checkpoint was written for another lane, database or cluster.
func judgeLineage(lane string, last *Checkpoint, live Lineage) error {
	if last == nil {
		return nil
	}
	if last.Lane != lane {
		return halt(try, "the checkpoint is that of lane %s, and this is lane %s: the rows of relay_lanes were changed or lost",
			last.Lane, lane)
	}
	if why := last.Lineage.differs(live); why != "" {
		return halt("give each database a name of its own (setting name), or see the page on recovery in docs/",
			"the checkpoint of lane %s belongs elsewhere: %s", lane, why)
	}
	return nil
}

// judge compares the two logs. The last checkpoint committed in Kafka is the last batch intended in Postgres or the one
// before it; anything else means that one of the logs is not the one that the lane was run with.
func judge(lane string, row laneState, last *Checkpoint, live Lineage) error {
	if last == nil {
		if row.started {
			return halt(try, "lane %s has published up to batch %d, but its checkpoint topic is empty: "+
				"the topic was deleted, or this is another cluster", lane, row.seq)
		}
		return nil
	}
	if err := judgeLineage(lane, last, live); err != nil {
		return err
	}
	if row.lineage != nil {
		if why := row.lineage.differs(live); why != "" {
			return halt(try, "the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	switch row.seq - last.Seq {
	case 0, 1:
		return nil
	}
	if row.seq < last.Seq {
		return halt(try, "lane %s: Kafka holds batch %d, and Postgres knows only of batch %d: "+
			"the database was restored to an earlier time, or its state was removed", lane, last.Seq, row.seq)
	}
	return halt(try, "lane %s: Postgres intended batch %d, and Kafka holds only batch %d: "+
		"the checkpoint topic has lost records, or this is another cluster", lane, row.seq, last.Seq)
}
