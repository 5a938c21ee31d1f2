//go:build bench

package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/bench/load"
)

const (
	// watchEvery is the time between two looks at the committed end of a topic.
	watchEvery = 10 * time.Millisecond
	// quiet is how long a topic that seems complete must not grow.
	quiet = 500 * time.Millisecond
	// linger is how long a consumer waits for records that come again.
	linger = time.Second
	// arrivalLimit is how long events may take to arrive after the last insert.
	arrivalLimit = time.Minute
)

// drain inserts a backlog while the contender is suspended, starts it and measures how fast the
// backlog becomes readable. With kills, all its processes are killed so often on the way, and
// started again. The contender is suspended afterwards.
func (r *run) drain(c contender, at outbox, head Head, backlog load.Backlog, kills int) Drain {
	r.t.Helper()
	ctx, rows := r.t.Context(), backlog.Rows
	topic, remove := r.topic()
	defer remove()
	backlog.Topic = topic
	r.fill(at, backlog)
	before := r.sample(c)
	w, err := r.watch(topic)
	if err != nil {
		r.t.Fatal(err)
	}
	began := time.Now()
	if err := c.start(ctx); err != nil {
		r.t.Fatal(err)
	}
	for i := range kills {
		if err := w.await(ctx, rows*(i+1)/(kills+1), 0); err != nil {
			r.t.Fatal(err)
		}
		if err := errors.Join(c.kill(), c.revive(ctx)); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := w.await(ctx, rows, quiet); err != nil {
		r.t.Fatal(err)
	}
	after := r.sample(c)
	events := load.NewEvents(rows)
	events.Inserted(0, rows)
	if err := r.read(events, topic); err != nil {
		r.t.Fatal(err)
	}
	d := Drain{
		Head: head, Rows: rows, Kills: kills, StartSeconds: rounded(w.first.at.Sub(began).Seconds(), 3), Faults: faults(events),
	}
	d.RowsPerSecond = rounded(w.speed(rows, began), 0)
	d.Kind = "drain"
	spent := after.load(before)
	switch {
	case kills > 0:
		d.While = "killed"
	case backlog.Keys > 0:
		d.While, d.Load = "busy", &spent
	default:
		d.Load = &spent
	}
	if err := c.suspend(ctx); err != nil {
		r.t.Fatal(err)
	}
	return d
}

// fill inserts a backlog and has the server write its dirty pages.
func (r *run) fill(at outbox, backlog load.Backlog) {
	r.t.Helper()
	conn := kit.Connect(r.t, at.url)
	backlog.Size = r.plan.size
	if _, err := backlog.Insert(r.t.Context(), conn); err != nil {
		r.t.Fatal(err)
	}
	if _, err := conn.Exec(r.t.Context(), "CHECKPOINT"); err != nil {
		r.t.Fatal(err)
	}
	kit.CloseQuietly(conn)
}

// read reads a topic from its beginning and a while longer.
func (r *run) read(events *load.Events, topic string) error {
	consumer, err := load.Consumer(r.brokers, topic)
	if err != nil {
		return err
	}
	defer consumer.Close()
	inserted := make(chan struct{})
	close(inserted)
	err = events.Consume(r.t.Context(), consumer, inserted, arrivalLimit)
	return errors.Join(err, events.Linger(r.t.Context(), consumer, linger))
}

// end is the committed end of a topic at a moment: the sum over its partitions.
type end struct {
	at     time.Time
	offset int64
}

// watcher notes how the committed end of a topic grows.
type watcher struct {
	admin *kadm.Client
	topic string
	first end // the first that was not 0
	last  end
}

func (r *run) watch(topic string) (*watcher, error) {
	w := &watcher{admin: r.admin, topic: topic}
	if err := w.look(r.t.Context()); err != nil {
		return nil, err
	}
	if w.last.offset > 0 {
		return nil, fmt.Errorf("topic %s has records before the contender runs", topic)
	}
	return w, nil
}

func (w *watcher) look(ctx context.Context) error {
	ends, err := w.admin.ListCommittedOffsets(ctx, w.topic)
	if err == nil {
		err = ends.Error()
	}
	if kerr.IsRetriable(err) {
		return nil // a broker that is too busy loses its leaders for a moment
	}
	if err != nil {
		return fmt.Errorf("list the committed end of topic %s: %w", w.topic, err)
	}
	now := end{at: time.Now()}
	ends.Each(func(o kadm.ListedOffset) { now.offset += o.Offset })
	if now.offset > w.last.offset {
		w.last = now
		if w.first.offset == 0 {
			w.first = now
		}
	}
	return nil
}

// await returns once the topic has so many records, and has not grown for a while.
func (w *watcher) await(ctx context.Context, records int, quiet time.Duration) error {
	began := time.Now()
	limit := 3*time.Minute + time.Duration(records)*time.Millisecond
	for w.last.offset < int64(records) || time.Since(w.last.at) < quiet {
		if err := w.look(ctx); err != nil {
			return err
		}
		if time.Since(began) > limit {
			return fmt.Errorf("topic %s has %d of %d records after %v", w.topic, w.last.offset, records, limit)
		}
		if err := pause(ctx, watchEvery); err != nil {
			return err
		}
	}
	return nil
}

// speed is how many rows a second became readable after the first that were seen. If all were seen
// at once, it is how many did since the contender was started.
func (w *watcher) speed(rows int, began time.Time) float64 {
	if w.first == w.last {
		return float64(rows) / w.last.at.Sub(began).Seconds()
	}
	// Offsets count markers too, evenly enough.
	return float64(rows) * (1 - float64(w.first.offset)/float64(w.last.offset)) / w.last.at.Sub(w.first.at).Seconds()
}
