package pipeline

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
)

func TestDelaysCountEachRowUnderItsBound(t *testing.T) {
	now := time.UnixMicro(1_000_000_000_000)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMicro() }
	d := delaysOf([]int64{
		ago(0), ago(-time.Hour), ago(time.Millisecond), // the second one is of a clock that is ahead
		ago(time.Millisecond + time.Microsecond), ago(3 * time.Hour), ago(2 * time.Hour), ago(0),
	}, now)
	last := len(DelayBounds)
	if d.Rows[0] != 4 || d.Rows[1] != 1 || d.Rows[last-1] != 1 || d.Rows[last] != 1 {
		t.Errorf("the rows are counted as %v", d.Rows)
	}
	if want := 5*time.Hour + 2*time.Millisecond + time.Microsecond; d.Sum != want {
		t.Errorf("the sum is %v, want %v", d.Sum, want)
	}
}

func TestDelaysOfRowsInAnyOrderAreThoseOfEachRow(t *testing.T) {
	now := time.UnixMicro(1_000_000_000_000)
	var created []int64
	var want [len(DelayBounds) + 1]uint32
	for range 10_000 {
		took := time.Duration(rand.Int64N(int64(time.Microsecond) << rand.IntN(34))).Truncate(time.Microsecond)
		created = append(created, now.Add(-took).UnixMicro())
		at := 0
		for at < len(DelayBounds) && took > DelayBounds[at] {
			at++
		}
		want[at]++
	}
	if got := delaysOf(created, now).Rows; got != want {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestOnlyRowsThatAPlanSendsHaveADelay(t *testing.T) {
	c := newCreations()
	page := &outboxread.Page{Created: []int64{1, 2, 3}}
	if got := c.of(page, &parking.Plan{}, nil); len(got) != 3 {
		t.Errorf("a whole page has the delays of %v", got)
	}
	if got := c.of(page, &parking.Plan{Drop: []bool{true, false, true}}, nil); len(got) != 1 || got[0] != 2 {
		t.Errorf("a part of a page has the delays of %v", got)
	}
	page.Places = []int64{7, 8, 9}
	if got := c.of(page, &parking.Plan{}, nil); len(got) != 0 {
		t.Errorf("parked rows have the delays of %v", got)
	}
}

// What the delays cost a batch.
func BenchmarkDelays(b *testing.B) {
	c, now := newCreations(), time.Now()
	page, plan := &outboxread.Page{}, &parking.Plan{}
	for i := range 10_000 {
		page.Created = append(page.Created, now.Add(-time.Duration(i)*10*time.Microsecond).UnixMicro())
	}
	b.ReportAllocs()
	for b.Loop() {
		created := c.of(page, plan, nil)
		delaysOf(created, now)
		c.put(created)
	}
}
