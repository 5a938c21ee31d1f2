package schedule

import (
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// Item is one record that is held: waiting, or in flight. While it is in flight its fields belong
// to the worker that has its job, otherwise to the scheduler.
type Item struct {
	Message inbox.Message
	Offset  int64
	Epoch   int32 // of the leader that wrote it
	Bytes   int64

	// Marker is a record that only ends a transaction. It is done once its turn comes on the way in.
	Marker bool

	// Unidentified is why the record has no identity; it is parked when its turn comes.
	Unidentified error

	// Careful is a record that the process before may have handled when it crashed, and Starts how
	// often its handler was started and did not end. Started is whether this process has recorded a
	// start.
	Careful bool
	Starts  int
	Started bool

	// Turn is when its job began, Raised whether a handler returned an error in that, and Accused
	// when it said last that something is unavailable; see Scheduler.Accuse.
	Turn    int64
	Raised  bool
	Accused int64

	// Attempts and Spent are how often it failed, and how long handling and waiting took. Lone is
	// whether it is tried alone, because it failed. Parking is set once it is to be parked, for as
	// long as that does not succeed.
	Attempts int
	Spent    time.Duration
	Lone     bool
	Parking  *Parking

	place int64 // in the tracker of its partition
}

// Parking is what a message is to be parked for.
type Parking struct {
	Cause    inbox.Cause
	Attempts int
	Why      error
}

// suspect reports whether the process may end because of it.
func (i *Item) suspect() bool { return i.Careful && i.Starts > 0 && i.Parking == nil }

// single reports whether it may not share a transaction with others.
func (i *Item) single() bool {
	return i.Lone || i.Unidentified != nil || i.Parking != nil || i.suspect()
}
