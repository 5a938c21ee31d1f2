//go:build bench

package peers

import (
	"slices"
	"time"

	"github.com/outbox-relay/relay/internal/bench"
	"github.com/outbox-relay/relay/internal/bench/load"
)

const (
	// warmUp is how long inserts go on before they count.
	warmUp = 2 * time.Second
	// afterLoad is the pause between the drains and the latency after them.
	afterLoad = 5 * time.Second
)

// latency measures a contender that runs.
func (r *run) latency(c contender, at outbox, head Head, state string, rate int) Latency {
	r.t.Helper()
	topic, remove := r.topic()
	defer remove()
	consumer, err := load.Consumer(r.brokers, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	defer consumer.Close()
	skip := int(warmUp.Seconds() * float64(rate))
	events := load.NewEvents(skip + rate*r.plan.seconds)
	before := r.sample(c)
	steady := load.Steady{URL: at.url, Topic: topic, Rate: rate, Size: r.plan.size}
	if err := steady.Measure(r.t.Context(), events, consumer, arrivalLimit); err != nil {
		r.t.Fatal(err)
	}
	after := r.sample(c)
	if err := events.Linger(r.t.Context(), consumer, linger); err != nil {
		r.t.Fatal(err)
	}
	first, last := slices.MinFunc(events.Began, time.Time.Compare), slices.MaxFunc(events.Committed, time.Time.Compare)
	head.Kind = "latency"
	return Latency{
		Head: head, State: state, Rate: rate, Achieved: rounded(float64(len(events.Began))/last.Sub(first).Seconds(), 0),
		Events: len(events.Began) - skip, Quantiles: quantiles(events.Since(events.Began, skip)), Faults: faults(events), Load: after.load(before),
	}
}

// bare measures bare Kafka transactions of one record.
func (r *run) bare(round int) Bare {
	r.t.Helper()
	topic, remove := r.topic()
	defer remove()
	times, err := bench.Bare(r.t.Context(), bench.Config{Brokers: r.brokers, Duration: time.Duration(r.plan.seconds) * time.Second}, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	return Bare{Head: Head{Kind: "bare", Round: round}, Events: len(times), Quantiles: quantiles(times)}
}
