package outbox

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is what every *InvalidError is: Insert and LockAggregate return it before they send
// anything, so the transaction goes on as if they had not been called.
var ErrInvalid = errors.New("outbox: invalid message")

// InvalidError holds every fault of every message of one call. It is ErrInvalid, by errors.Is.
type InvalidError struct {
	// Faults has at least one element, in the order of the messages.
	Faults []Fault
}

// Fault is one thing that is wrong with one message.
type Fault struct {
	// Message is the index of the message among the arguments; -1 if the call takes no messages.
	Message int
	// Field is the name of the field of Message, or Size for the message as a whole.
	Field string
	// Reason says what is wrong, and never repeats a payload or the value of a header.
	Reason string
}

// String returns the fault as one line, such as "message 2: AggregateID is empty".
func (f Fault) String() string {
	if f.Message < 0 {
		return f.Field + " " + f.Reason
	}
	return fmt.Sprintf("message %d: %s %s", f.Message, f.Field, f.Reason)
}

// Error lists the faults, one a line.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return ErrInvalid.Error() + ": " + strings.Join(lines, "\n")
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }
