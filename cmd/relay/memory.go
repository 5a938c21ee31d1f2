package main

import (
	"cmp"
	"runtime/debug"

	"github.com/outbox-relay/relay"
)

// boundMemory has garbage collected earlier than Go would by default, once the memory of the
// process comes near to what its lanes need, unless the operator has set GOMEMLIMIT. The limit is a
// soft one. To collect more often from the beginning (GOGC) was measured too: it saves no more, and
// costs processor time.
func (p program) boundMemory(cfg relay.Config) {
	if p.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit(cfg))
	}
}

// memoryLimit is what the process needs by itself, and for each lane three pages (one being read,
// one produced, one committed) as bytes and as records.
func memoryLimit(cfg relay.Config) int64 {
	const (
		process  = 40 << 20
		rowBytes = 2 << 10 // of three records with their headers, rounded up
		pages    = 3
	)
	limit := int64(process)
	for _, lane := range cfg.Lanes {
		limit += pages*int64(cmp.Or(lane.BatchBytes, cfg.BatchBytes)) +
			rowBytes*int64(cmp.Or(lane.BatchRows, cfg.BatchRows))
	}
	return limit
}
