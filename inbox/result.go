package inbox

import "strconv"

// Result says what became of a message.
type Result int

// What may become of a message. All but Failed, Deferred and Accepted are final: the message need
// not be seen again.
const (
	// Failed is a message whose handler failed, or that could not be tried; an error says why.
	// It is not in the database.
	Failed Result = iota
	// Processed is a message whose effect and mark were committed just now.
	Processed
	// Duplicate is a message that was handled before, or parked before; nothing was done.
	Duplicate
	// Parked is a message that waits in inbox_parked, because it can never be handled or because an
	// earlier message of its key waits there.
	Parked
	// Audited is a message of AtMostOnce whose effect was begun before and is not known to be done:
	// it was not begun again, and is in inbox_audit.
	Audited
	// Deferred is a message of a batch that was not tried, because an earlier message of its key
	// failed in it.
	Deferred
	// Accepted is a message that Accept has marked in the caller's transaction. Its effect belongs
	// into the same transaction, and both are final once that commits.
	Accepted
)

// NeedsCommit reports whether the transaction that was handed to Accept holds something without
// which the message is lost if it is acknowledged: the mark (Accepted), or the parked message with
// its mark (Parked). A Duplicate may be committed or rolled back.
func (r Result) NeedsCommit() bool { return r == Accepted || r == Parked }

// String is the result in a word, such as "processed".
func (r Result) String() string {
	names := [...]string{"failed", "processed", "duplicate", "parked", "audited", "deferred", "accepted"}
	if r < 0 || int(r) >= len(names) {
		return "result " + strconv.Itoa(int(r))
	}
	return names[r]
}

// Outcome is what became of one message of a batch.
type Outcome struct {
	Result Result
	// Err is the handler's error if Result is Failed, and the reason of parking if this call parked
	// it by Permanent.
	Err error
}
