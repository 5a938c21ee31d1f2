package pipeline

import (
	"time"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
)

// DelayBounds are the upper bounds of Delays, ascending.
var DelayBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
}

// Delays count the rows of a batch by the time from their created_at to the commit of the batch in
// Kafka, both by the clock of the database. A row that was parked before is not counted: it has
// waited for a person or a topic.
type Delays struct {
	// Rows[i] is how many rows took at most DelayBounds[i] and longer than the bound before; the last
	// one counts those beyond the last bound.
	Rows [len(DelayBounds) + 1]uint32
	// Sum of all of them.
	Sum time.Duration
}

// delaysOf counts rows by their created_at, in microseconds since 1970.
func delaysOf(created []int64, now time.Time) (d Delays) {
	at, sum, last := now.UnixMicro(), int64(0), 0
	for _, c := range created {
		took := max(0, at-c) // created_at is written by the service, and may lie in the future
		sum += took
		// Most rows of a batch belong to the same count as the one before.
		for last < len(DelayBounds) && took > DelayBounds[last].Microseconds() {
			last++
		}
		for last > 0 && took <= DelayBounds[last-1].Microseconds() {
			last--
		}
		d.Rows[last]++
	}
	d.Sum = time.Duration(sum) * time.Microsecond
	return d
}

// creations keeps the created_at of the rows of batches in flight: a page is used again before its
// batch is committed.
type creations struct{ free chan []int64 }

func newCreations() *creations { return &creations{make(chan []int64, 4)} }

// of returns the created_at of the rows that a plan sends. Those of parked rows are left out.
func (c *creations) of(page *outboxread.Page, plan *parking.Plan, before []int64) []int64 {
	if before == nil {
		select {
		case before = <-c.free:
		default:
		}
	}
	created := before[:0]
	if len(page.Places) > 0 {
		return created
	}
	if plan.Drop == nil {
		return append(created, page.Created...)
	}
	for i, micros := range page.Created {
		if !plan.Drop[i] {
			created = append(created, micros)
		}
	}
	return created
}

// put takes back what of returned.
func (c *creations) put(created []int64) {
	select {
	case c.free <- created:
	default:
	}
}
