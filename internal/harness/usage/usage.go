package usage

import "time"

// Usage is what a process holds and has used.
type Usage struct {
	Known          bool  // false if the system does not tell
	Resident, Peak int64 // bytes in memory: now, and the most so far
	Processor      time.Duration
}
