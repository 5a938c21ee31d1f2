package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"
)

// pace is how many rows a batch may have, given how long Postgres takes to park and to release
// them. What a batch changes in outbox_parked is written with its intent, while its Kafka
// transaction is open. If that does not end in time, the next pipeline tries fewer rows: the same
// number would fail again, however often it is tried. A lane keeps its pace beyond a pipeline.
type pace struct {
	mu    sync.Mutex
	most  int
	now   int
	since time.Time // of the last batch that was too slow
}

// How a pace recovers: twice as many rows after each batch that parks or releases and is quick,
// that is, takes less than this share of the limit; and after any other batch, once nothing was too
// slow for a while.
const (
	quickShare   = 4
	paceRecovery = time.Minute
)

func newPace(most int) *pace { return &pace{most: most, now: most} }

// rows is the most rows that a batch may have now.
func (p *pace) rows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// learn is told how long a batch took to write what it changes in outbox_parked, which may be
// nothing, and how that ended.
func (p *pace) learn(changed int, took, limit time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, context.DeadlineExceeded) && changed > 0:
		p.now, p.since = max(1, min(p.now, changed)/2), time.Now()
	case err != nil || p.now == p.most:
	case changed > 0 && took < limit/quickShare, changed == 0 && time.Since(p.since) > paceRecovery:
		p.now = min(2*p.now, p.most)
	}
}
