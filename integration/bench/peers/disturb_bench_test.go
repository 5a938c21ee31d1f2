//go:build bench

package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/bench/load"
)

const (
	// comingLimit bounds a drain while rows come.
	comingLimit = 3 * time.Minute
	// steadyBefore and steadyAfter are how long they come before the kill, and after the recovery.
	steadyBefore = 3 * time.Second
	steadyAfter  = 2 * time.Second
	// recoveryLimit is how long a contender may take to recover.
	recoveryLimit = 2 * time.Minute
	// recoveryPoll is the time between two looks at what was read.
	recoveryPoll = time.Millisecond
)

// coming drains a backlog while rows come at a steady rate and a consumer reads: until what was read
// is less than a quarter of a second behind. The contender is suspended before and afterwards.
func (r *run) coming(c contender, at outbox, head Head, rows int) Drain {
	r.t.Helper()
	ctx := r.t.Context()
	topic, remove := r.topic()
	defer remove()
	r.fill(at, load.Backlog{Rows: rows, Topic: topic})
	events := load.NewEvents(rows + r.plan.coming*int(comingLimit.Seconds()))
	events.Inserted(0, rows)
	var began, first, caught time.Time
	var firstRead, read int
	var before, after sample
	steady := load.Steady{Topic: topic, Rate: r.plan.coming, First: rows}
	err := r.while(at, events, steady, func(ctx context.Context) (err error) {
		if before, err = r.trySample(c); err != nil {
			return err
		}
		began = time.Now()
		if err := c.start(ctx); err != nil {
			return err
		}
		for committed := rows; read < committed-r.plan.coming/4; {
			committed, read = events.Counts()
			if read > 0 && first.IsZero() {
				first, firstRead = time.Now(), read
			}
			if time.Since(began) > comingLimit {
				return fmt.Errorf("%d of %d rows were read after %v", read, committed, comingLimit)
			}
			if err := pause(ctx, recoveryPoll); err != nil {
				return err
			}
		}
		caught = time.Now()
		after, err = r.trySample(c)
		return err
	})
	if err = errors.Join(err, c.suspend(ctx)); err != nil {
		r.t.Fatal(err)
	}
	waited := first.Sub(began)
	if firstRead == read { // all at once
		first, firstRead = began, 0
	}
	head.Kind = "drain"
	spent := after.load(before)
	return Drain{
		Head: head, While: "coming", Rows: read, StartSeconds: rounded(waited.Seconds(), 3),
		RowsPerSecond: rounded(float64(read-firstRead)/caught.Sub(first).Seconds(), 0), Faults: faults(events), Load: &spent,
	}
}

// recovery kills a contender that runs while rows come, starts it again at once, and measures until
// a row that was inserted after the kill is read.
func (r *run) recovery(c contender, at outbox, head Head) Recovery {
	r.t.Helper()
	topic, remove := r.topic()
	defer remove()
	events := load.NewEvents(recoveryRate * int((steadyBefore + recoveryLimit + steadyAfter).Seconds()))
	var took time.Duration
	err := r.while(at, events, load.Steady{Topic: topic, Rate: recoveryRate}, func(ctx context.Context) error {
		if err := pause(ctx, steadyBefore); err != nil {
			return err
		}
		if err := c.kill(); err != nil {
			return err
		}
		killed := time.Now()
		last, _ := events.Newest()
		last += load.Writers // those that are on their way
		if err := c.revive(ctx); err != nil {
			return err
		}
		for newest := 0; newest <= last; _, newest = events.Newest() {
			if time.Since(killed) > recoveryLimit {
				return fmt.Errorf("%s has not recovered after %v", head.Contender, recoveryLimit)
			}
			if err := pause(ctx, recoveryPoll); err != nil {
				return err
			}
		}
		took = time.Since(killed)
		return pause(ctx, steadyAfter)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	committed, _ := events.Counts()
	head.Kind = "recovery"
	return Recovery{Head: head, Rate: recoveryRate, Seconds: rounded(took.Seconds(), 2), Events: committed, Faults: faults(events)}
}

// while inserts and reads events while do runs, and reads on until all have arrived.
func (r *run) while(at outbox, events *load.Events, steady load.Steady, do func(context.Context) error) error {
	consumer, err := load.Consumer(r.brokers, steady.Topic)
	if err != nil {
		return err
	}
	defer consumer.Close()
	stop := make(chan struct{})
	steady.URL, steady.Size, steady.Stop = at.url, r.plan.size, stop
	group, working := errgroup.WithContext(r.t.Context())
	group.Go(func() error { return steady.Measure(working, events, consumer, arrivalLimit) })
	group.Go(func() error {
		defer close(stop)
		return do(working)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return events.Linger(r.t.Context(), consumer, linger)
}

// idle rests and says what the contender costs meanwhile.
func (r *run) idle(c contender, head Head) Idle {
	r.t.Helper()
	rest := time.Duration(r.plan.rest) * time.Second
	if err := pause(r.t.Context(), rest/3); err != nil {
		r.t.Fatal(err)
	}
	before := r.sample(c)
	if err := pause(r.t.Context(), rest-rest/3); err != nil {
		r.t.Fatal(err)
	}
	after := r.sample(c)
	took := after.at.Sub(before.at).Seconds()
	head.Kind = "idle"
	return Idle{
		Head: head, CPUPercent: rounded(100*after.processor(before).Seconds()/took, 2),
		PostgresPercent:  rounded(100*(after.postgres-before.postgres).Seconds()/took, 2),
		QueriesPerSecond: rounded(float64(after.commits-before.commits)/took, 1), RSS: rounded(float64(after.resident)/(1<<20), 1),
	}
}
