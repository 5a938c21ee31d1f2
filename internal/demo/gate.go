package demo

import (
	"context"
	"sync"
)

// gate hands out leave to commit messages, slice by slice, so that every kill of the relay falls
// among writers at work: two slices are open at first, and each kill opens one more.
type gate struct {
	mu     sync.Mutex
	ends   []int // of each slice, as a running total; the last is the number of all messages
	open   int   // how many slices are open
	taken  int
	opened chan struct{} // closed and replaced when a slice opens
}

// newGate divides the messages into slices of about the same size; two are open. A slice may be
// empty if there are fewer messages than slices.
func newGate(messages, slices int) *gate {
	ends := make([]int, slices)
	for i := range ends {
		ends[i] = int(int64(messages) * int64(i+1) / int64(slices))
	}
	return &gate{ends: ends, open: min(2, slices), opened: make(chan struct{})}
}

// bounds returns how many messages come before slice i, and how many up to its end.
func (g *gate) bounds(i int) (before, end int) {
	if i > 0 {
		before = g.ends[i-1]
	}
	return before, g.ends[i]
}

// take takes leave to commit up to want messages of one slice, and waits where none is open. It
// returns 0 once every message has been taken.
func (g *gate) take(ctx context.Context, want int) (n, slice int, err error) {
	for {
		n, slice, opened := g.tryTake(want)
		if n > 0 || opened == nil {
			return n, slice, nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

// tryTake returns 0 and a nil channel if nothing is left forever, 0 and a channel to wait for if a
// slice must open.
func (g *gate) tryTake(want int) (n, slice int, opened <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken == g.ends[len(g.ends)-1] {
		return 0, 0, nil
	}
	for slice < g.open && g.ends[slice] <= g.taken {
		slice++
	}
	if slice == g.open {
		return 0, 0, g.opened
	}
	n = min(want, g.ends[slice]-g.taken)
	g.taken += n
	return n, slice, g.opened
}

// openNext opens one more slice.
func (g *gate) openNext() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open < len(g.ends) {
		g.open++
	}
	close(g.opened)
	g.opened = make(chan struct{})
}
