// Package positiontest draws positions for property tests.
package positiontest

import (
	"math"

	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/internal/position"
)

// Snapshot draws a snapshot as a server could return it.
func Snapshot(t *rapid.T) position.Snapshot {
	xmin := rapid.Uint64Range(1, math.MaxUint64-100).Draw(t, "xmin")
	length := rapid.Uint64Range(0, 60).Draw(t, "length")
	s := position.Snapshot{Xmin: xmin, Xmax: xmin + length}
	for xid := s.Xmin; xid < s.Xmax; xid++ {
		if rapid.Bool().Draw(t, "runs") {
			s.Xip = append(s.Xip, xid)
		}
	}
	return s
}
