package inboxkafka

import (
	"testing"
)

func TestEveryMessageOnceAndInOrderOfItsKey(t *testing.T) {
	r := newRig(t, 3)
	for p := range int32(3) {
		r.sendMany(500, p, key(p, 0), key(p, 1), key(p, 2), key(p, 3))
	}
	c := r.start(r.config())
	r.awaitEffects()
	for p := range int32(3) {
		r.sendMany(100, p, key(p, 4))
	}
	r.awaitEffects()
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	for p := range int32(3) {
		if got := r.committed(p); got != 600 {
			t.Errorf("partition %d: offset %d is committed, want 600", p, got)
		}
	}
}

func key(partition int32, n int) string { return string(rune('a'+partition)) + string(rune('0'+n)) }
