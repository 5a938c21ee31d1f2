package demo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTheGateHandsOutEveryMessageOnce(t *testing.T) {
	for _, messages := range []int{1, 2, 3, 7, 100, 10_007} {
		const slices = 5
		g := newGate(messages, slices)
		var total atomic.Int64
		var writers sync.WaitGroup
		for i := range 8 {
			writers.Go(func() {
				for {
					n, slice, err := g.take(t.Context(), 1+i)
					if err != nil || n < 0 || n > 1+i || slice < 0 || slice >= slices {
						t.Errorf("take gave %d of slice %d, %v", n, slice, err)
						return
					}
					if n == 0 {
						return
					}
					total.Add(int64(n))
				}
			})
		}
		for range slices {
			g.openNext()
		}
		writers.Wait()
		if int(total.Load()) != messages {
			t.Errorf("%d messages handed out, want %d", total.Load(), messages)
		}
	}
}

func TestAClosedSliceWaitsForTheGate(t *testing.T) {
	g := newGate(100, 4)
	for want, slice := range []int{0, 1} {
		if n, got, _ := g.tryTake(1000); n != 25 || got != slice {
			t.Fatalf("take %d gave %d of slice %d", want, n, got)
		}
	}
	n, _, opened := g.tryTake(1)
	if n != 0 || opened == nil {
		t.Fatalf("a closed slice gave %d", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := g.take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("take in a cancelled demo: %v", err)
	}
	g.openNext()
	<-opened
	if n, slice, err := g.take(t.Context(), 10); n != 10 || slice != 2 || err != nil {
		t.Fatalf("take gave %d of slice %d, %v", n, slice, err)
	}
}
