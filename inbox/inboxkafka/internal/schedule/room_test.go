package schedule

import (
	"slices"
	"testing"
	"time"
)

// Only what stands still is paused, and only if polls had to wait; the fullest first, and those
// with more than half a share.
func TestWhichPartitionsArePaused(t *testing.T) {
	s := New(optionsOf(t, 1000))
	old, now := time.Now().Add(-2*stuckAfter), time.Now().Add(time.Hour)
	var parts []*Partition
	for n, held := range []int{700, 200, 90, 50} {
		p := newPartition(t.Context(), TopicPartition{someTopic, int32(n)})
		for offset := range held {
			p.tracker.add(int64(offset), 0)
		}
		p.held, p.moved = held, old
		s.held += held
		s.partitions[p.TopicPartition] = p
		parts = append(parts, p)
	}
	want := func(what string, waited bool, paused ...*Partition) {
		t.Helper()
		full := s.tooFull(waited)
		slices.SortFunc(full, func(a, b *Partition) int { return int(a.Number - b.Number) })
		if !slices.Equal(full, paused) {
			t.Errorf("%s: %d partitions, want %d", what, len(full), len(paused))
		}
	}
	want("no poll waited", false)
	want("all are stuck", true, parts[0], parts[1])
	parts[0].moved, parts[1].moved = now, now
	want("only small ones are stuck", true, parts[2])
	parts[2].moved, parts[3].moved = now, now
	want("all move", true)
	s.breaker.state = open
	parts[0].moved = old
	want("the database is unavailable", true)
	s.breaker.state = closed
	for paused, want := range []int{750, 875, 938, 969} {
		if records, _ := s.limits(); records != want {
			t.Errorf("with %d paused, %d records may be held, want %d", paused, records, want)
		}
		s.paused[parts[paused]] = struct{}{}
	}
}
