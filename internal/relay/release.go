package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/topics"
)

// How long the producing goroutine waits before it looks again whether a parked aggregate may go on, and how many batches of
// parked rows it publishes in a row before it turns to new rows.
const (
	parkedLook   = time.Second
	parkedRounds = 2
)

// gatherTime bounds the reading of many short queues for one batch.
const gatherTime = 50 * time.Millisecond

// parkedQueue reads outbox_parked, on a connection of its own.
type parkedQueue struct {
	*outboxread.Reader
	lane string
}

const queueStatement = "relay_parked"

// queueQuery reads the queue of one aggregate.
func queueQuery(columns string) string {
	return `SELECT ` + columns + `, place FROM outbox_parked
WHERE lane = $1::text AND ` + ParkedKey + ` = ` + ParkedKeyOf("$2", "$3") + `
  AND aggregate_type = $2::text AND aggregate_id = $3::text AND released_seq IS NULL
ORDER BY seq, id LIMIT $4::bigint`
}

func openParkedQueue(ctx context.Context, cfg *Config, lane Lane, server pg.Server) (*parkedQueue, error) {
	conn, err := cfg.sessions().Connect(ctx, pg.Options{
		Application: "relay " + lane.Name + " parked", Settings: map[string]string{"enable_seqscan": "off"},
	})
	if err != nil {
		return nil, err
	}
	q := &parkedQueue{outboxread.NewReader(conn, outboxread.Options{
		Lane: lane.Name, Rows: cfg.BatchRows, Bytes: cfg.BatchBytes, Records: cfg.recordOptions(),
	}), lane.Name}
	if err = q.CheckServer(ctx, server); err == nil {
		if _, err = q.Conn().PgConn().Prepare(ctx, queueStatement, queueQuery(outboxread.Columns(cfg.BatchBytes)), nil); err != nil {
			err = fmt.Errorf("prepare the read of parked rows: %w", err)
		}
	}
	if err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// task is an aggregate whose parked rows are to be published or discarded.
type task struct {
	key                        string
	aggregateType, aggregateID string
	request                    int64 // 0 where nobody asked: its topic is back
	action                     string
	msgID                      *string
	requestedAt                time.Time
}

func (q *parkedQueue) requests(ctx context.Context) ([]task, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	rows, err := q.Conn().Query(ctx, `SELECT request, action, aggregate_type, aggregate_id, msg_id::text, requested_at
FROM outbox_parked_audit WHERE lane = $1 AND done_seq IS NULL AND action <> 'skip' ORDER BY request LIMIT 1000`, q.lane)
	if err != nil {
		return nil, fmt.Errorf("read the requests about parked rows: %w", err)
	}
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (task, error) {
		var t task
		err := row.Scan(&t.request, &t.action, &t.aggregateType, &t.aggregateID, &t.msgID, &t.requestedAt)
		t.key = string(outboxread.AggregateKey(nil, []byte(t.aggregateType), []byte(t.aggregateID)))
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the requests about parked rows: %w", err)
	}
	return tasks, nil
}

// segment is the part of a page of parked rows that belongs to one task.
type segment struct {
	task
	from, to int  // places in the page
	end      bool // of the aggregate's queue
}

// reloadParked reads what is parked again if memory held a part of it only, and there is room by now.
func (s *session) reloadParked(ctx context.Context) error {
	if !s.parking.partial || s.parking.bytes > s.cfg.parkedBytes/2 {
		return nil
	}
	if err := s.awaitCommitted(ctx); err != nil {
		return err
	}
	if err := loadParked(ctx, s.queue.Conn(), s.lane.Name, s.parking, s.queue.Routed); err != nil {
		return err
	}
	if !s.parking.full() {
		s.lane.running()
	}
	return nil
}

// openQueue connects to Postgres for the producing goroutine, once it needs that.
func (s *session) openQueue(ctx context.Context) (err error) {
	if s.queue == nil {
		s.queue, err = openParkedQueue(ctx, s.cfg, s.lane.Lane, s.row.Server())
	}
	return err
}

// planned makes a plan. If it begins with a large row that can be sent, as far as is known, that row's payload is read first.
func (s *session) planned(ctx context.Context, p *outboxread.Page, first int, sieve func() *plan) (*plan, error) {
	pl := sieve()
	if !pl.fetch {
		return pl, nil
	}
	if err := s.fetchLarge(ctx, p, first); err != nil {
		return nil, err
	}
	return sieve(), nil
}

// fetchLarge reads the payload of a large row from where the page was read.
func (s *session) fetchLarge(ctx context.Context, p *outboxread.Page, i int) error {
	if err := s.openQueue(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	query, args := `SELECT payload FROM `+pg.QuoteTable(s.lane.Table)+` WHERE id = $1`, []any{p.IDs[i]}
	if len(p.Places) > 0 {
		query, args = `SELECT payload FROM outbox_parked WHERE lane = $1 AND place = $2`, []any{s.lane.Name, p.Places[i]}
	}
	var payload []byte
	err := s.queue.Conn().QueryRow(ctx, query, args...).Scan(&payload)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && len(payload) != p.Unread(i) {
		err = errRowsGone
	}
	if err != nil {
		return fmt.Errorf("read the payload of row id %d: %w", p.IDs[i], err)
	}
	p.Fetch(i, payload)
	return nil
}

// lookAfterParked carries out what was asked for, and sends what waited for a topic that is back. It returns when to look
// again; 0 is never.
func (s *session) lookAfterParked(ctx context.Context, batches chan<- *batch) (time.Duration, error) {
	if err := s.openQueue(ctx); err != nil {
		return 0, err
	}
	defer func() { s.parking.trying = nil }()
	if err := s.reloadParked(ctx); err != nil {
		return 0, err
	}
	for range parkedRounds {
		select {
		case <-s.drain:
			return 0, nil
		default:
		}
		more, err := s.releaseSome(ctx, batches)
		if err != nil {
			return 0, err
		}
		if !more {
			if len(s.parking.keys) > 0 || s.parking.requested || time.Now().Before(s.parking.until) {
				return parkedLook, nil
			}
			return 0, nil
		}
	}
	return time.Nanosecond, nil
}

// releaseSome publishes a page of parked rows, and reports whether there was anything to do.
func (s *session) releaseSome(ctx context.Context, batches chan<- *batch) (bool, error) {
	if err := s.tryHeldTopics(ctx); err != nil {
		return false, err
	}
	tasks, err := s.tasks(ctx)
	if err != nil || len(tasks) == 0 {
		return false, err
	}
	// What the batches in flight park, release and close is seen once they are committed.
	if err := s.awaitCommitted(ctx); err != nil {
		return false, err
	}
	if tasks, err = s.tasks(ctx); err != nil || len(tasks) == 0 {
		return false, err
	}
	p, segments, pl, err := s.gather(ctx, tasks)
	if err != nil {
		return false, err
	}
	if ready, err := s.awaitTopics(ctx, p); err != nil || !ready {
		return false, err
	}
	if err := s.checkLimits(ctx, p); err != nil {
		return false, err
	}
	fixed := *pl
	sieve := func() *plan { return s.parking.sieveParked(p, segments, fixed) }
	if pl, err = s.planned(ctx, p, 0, sieve); err != nil {
		return false, err
	}
	if pl.empty() {
		s.queue.Put(p)
		return false, nil
	}
	if _, err = s.send(ctx, p, pl, sieve, batches); err != nil {
		return false, err // the client may still hold records of the page
	}
	s.queue.Put(p)
	return true, nil
}

// checkLimits asks for the limits of topics again if a record of the page is larger than what is known. A limit that was raised
// needs a new session.
func (s *session) checkLimits(ctx context.Context, p *outboxread.Page) error {
	if p.Largest <= s.topics.SmallestLimit() {
		return nil
	}
	ask := make(map[string]bool)
	for i := range p.Records {
		topic := p.Records[i].Topic
		if _, known := s.topics.Known(topic); known && p.Size(i) > s.topics.Limit(topic) {
			ask[topic] = true
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if err := s.topics.Refresh(ctx, slices.Sorted(maps.Keys(ask))...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	for i := range p.Records {
		if ask[p.Records[i].Topic] {
			if err := s.renew(p, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// tasks returns what is to be done about parked rows.
func (s *session) tasks(ctx context.Context) ([]task, error) {
	tasks, err := s.queue.requests(ctx)
	if err != nil {
		return nil, err
	}
	s.parking.requested = len(tasks) > 0
	return append(tasks, s.parking.free()...), nil
}

// awaitCommitted waits until every batch that was begun has been committed.
func (s *session) awaitCommitted(ctx context.Context) error {
	for s.committed.Load() < s.seq {
		select {
		case <-s.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tryHeldTopics looks whether held topics are back. One that seems to be is tried with the next batch of parked rows.
func (s *session) tryHeldTopics(ctx context.Context) error {
	due := s.topics.Unavailable.Due()
	if len(due) == 0 {
		return nil
	}
	if err := s.topics.Refresh(ctx, due...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	for _, topic := range due {
		if _, known := s.topics.Known(topic); known {
			if s.parking.trying == nil {
				s.parking.trying = make(map[string]bool)
			}
			s.parking.trying[topic] = true
		}
	}
	return nil
}

// free returns the aggregates that nothing holds any more. An aggregate whose topic has been written to again is one of
// them.
func (k *parking) free() []task {
	var tasks []task
	for key, state := range k.keys {
		if !state.free && (state.topic == "" || k.holds(state.topic) != nil) {
			continue
		}
		aggregateType, aggregateID, _ := strings.Cut(key, "\x00")
		tasks = append(tasks, task{key: key, aggregateType: aggregateType, aggregateID: aggregateID, action: "retry"})
		if len(tasks) == 1000 {
			break
		}
	}
	return tasks
}

// holds returns why rows of a topic are not sent now, or nil.
func (k *parking) holds(topic string) error {
	if k.trying[topic] {
		return nil
	}
	return k.topics.Unavailable.Suspended(topic)
}

// gather reads the parked rows of as many tasks as a page takes. What needs no row to be sent is in the plan that it returns.
func (s *session) gather(ctx context.Context, tasks []task) (*outboxread.Page, []segment, *plan, error) {
	p, pl := s.queue.Page(), &plan{after: s.progress}
	p.After = s.progress
	var segments []segment
	taken := make(map[string]bool)
	began, most := time.Now(), s.cfg.pace.rows()
	for _, t := range tasks {
		// What is discarded counts as well: the intent of the batch has to be written in time.
		if taken[t.key] || len(p.IDs)+len(pl.releases) >= most || time.Since(began) > gatherTime {
			continue
		}
		taken[t.key] = true
		if _, parked := s.parking.keys[t.key]; !parked && s.parking.partial {
			s.parking.add(t.key, parkedKey{}) // if it is parked is seen in its queue
		}
		if _, parked := s.parking.keys[t.key]; !parked {
			pl.done = append(pl.done, outcome{t.request, "nothing was parked"})
			continue
		}
		if t.action == "discard" {
			if err := s.queue.discard(ctx, t, pl, s.parking.keys[t.key], most-len(p.IDs)-len(pl.releases)); err != nil {
				s.queue.Put(p)
				return nil, nil, nil, err
			}
			continue
		}
		from, room := len(p.IDs), min(most-len(p.IDs)-len(pl.releases), s.queue.Limit())
		rows, cut, err := s.queue.ReadInto(ctx, queueStatement, p,
			[]byte(s.lane.Name), []byte(t.aggregateType), []byte(t.aggregateID), outboxread.IntParam(int64(room)+1))
		if err != nil { // the page has been put back
			return nil, nil, nil, fmt.Errorf("read parked rows: %w", err)
		}
		segments = append(segments, segment{t, from, len(p.IDs), rows <= room && !cut})
		for i := from; i < len(p.IDs); i++ {
			delete(s.parking.condemned, p.Key(i)) // it is tried again
		}
	}
	return p, segments, pl, nil
}

// discard plans the removal of the parked rows of an aggregate, or of one of them.
func (q *parkedQueue) discard(ctx context.Context, t task, pl *plan, state parkedKey, most int) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	// A row that came after the request is not meant: nobody had seen it.
	rows, err := q.Conn().Query(ctx, `SELECT place, parked_at <= $4 AND ($5::uuid IS NULL OR msg_id = $5::uuid) FROM outbox_parked
WHERE lane = $1 AND `+ParkedKey+` = `+ParkedKeyOf("$2", "$3")+` AND aggregate_type = $2 AND aggregate_id = $3 AND released_seq IS NULL
ORDER BY seq, id LIMIT $6`,
		q.lane, t.aggregateType, t.aggregateID, t.requestedAt, t.msgID, discardLimit(t, most))
	if err != nil {
		return fmt.Errorf("read parked rows: %w", err)
	}
	defer rows.Close()
	seen, first, gone, more := 0, false, 0, false
	for rows.Next() {
		if more = t.msgID == nil && seen == most; more {
			continue
		}
		var place int64
		var meant bool
		if err := rows.Scan(&place, &meant); err != nil {
			return fmt.Errorf("read parked rows: %w", err)
		}
		if meant {
			pl.releases = append(pl.releases, release{place, t.request})
			first = first || seen == 0
			gone++
		}
		seen++
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read parked rows: %w", err)
	}
	switch {
	case more && gone == most:
		return nil // the rest of the queue comes with the next batch
	case gone == 0 && seen > 0 && t.msgID != nil:
		pl.done = append(pl.done, outcome{t.request, "nothing was parked"})
		return nil
	case gone == seen && !more: // also where somebody else has removed them all
		pl.freed = append(pl.freed, t.key)
	case first, gone == 0: // those that came after the request are not meant, and wait for nobody
		pl.park(t.key, parkedKey{free: true})
	default:
		pl.park(t.key, state)
	}
	pl.done = append(pl.done, outcome{t.request, "discarded"})
	return nil
}

// discardLimit is how many rows of the queue are looked at, one more than are taken: the one that is meant may stand anywhere.
func discardLimit(t task, most int) *int {
	if t.msgID != nil {
		return nil
	}
	most++
	return &most
}

// sieveParked decides about a page of parked rows: each aggregate goes on up to the first row that is refused again. It
// adds to the plan, which it is given by value.
func (k *parking) sieveParked(p *outboxread.Page, segments []segment, pl plan) *plan {
	pl.sent, pl.bytes = len(p.Records), p.Bytes
	faults := make(map[int]error, len(p.Faults))
	for _, f := range p.Faults {
		faults[f.At] = f.Err
	}
	// The slices are those of the plan that every attempt starts from.
	pl.releases, pl.done, pl.freed = pl.releases[:len(pl.releases):len(pl.releases)], pl.done[:len(pl.done):len(pl.done)],
		pl.freed[:len(pl.freed):len(pl.freed)]
	kept := pl.keys
	pl.keys = nil
	for key, state := range kept {
		pl.park(key, state)
	}
	k.pieces.begin(p)
	pl.next = len(p.Records)
	for _, seg := range segments {
		k.sieveSegment(p, seg, &pl, faults)
	}
	return &pl
}

func (k *parking) sieveSegment(p *outboxread.Page, seg segment, pl *plan, faults map[int]error) {
	stopped := false
	for i := seg.from; i < seg.to; i++ {
		if stopped || i >= pl.next {
			pl.leaveOut(p, i)
			continue
		}
		place, record := p.Places[i], &p.Records[i]
		refused := faults[i]
		if refused == nil {
			refused = k.refuses(p, i)
		}
		away := k.holds(record.Topic)
		switch {
		case refused != nil:
			stopped = true
			pl.again = append(pl.again, aside{place: place, cause: causeRefused, err: refused.Error()})
			pl.park(seg.key, parkedKey{})
			k.close(seg, pl, "refused again: "+refused.Error())
		case away != nil:
			stopped = true
			pl.again = append(pl.again, aside{place: place, cause: causeTopic, err: away.Error()})
			pl.park(seg.key, parkedKey{topic: record.Topic})
			k.close(seg, pl, "it goes out by itself once its topic is back: "+away.Error())
		case p.IsLarge(i) && i > 0, k.pieces.ends(p, i):
			pl.next = i // the rest comes with the next batch
		case p.IsLarge(i) && !p.Fetched(i):
			pl.next, pl.fetch = i, true
		default:
			pl.releases = append(pl.releases, release{place, seg.request})
			continue
		}
		pl.leaveOut(p, i)
	}
	switch {
	case stopped, seg.from >= pl.next && seg.from < seg.to:
	case seg.end && seg.to <= pl.next:
		pl.freed = append(pl.freed, seg.key)
		k.close(seg, pl, "published")
	case seg.request == 0:
		pl.park(seg.key, parkedKey{free: true}) // there is more
	}
}

func (k *parking) close(seg segment, pl *plan, text string) {
	if seg.request != 0 {
		pl.done = append(pl.done, outcome{seg.request, text})
	}
}
