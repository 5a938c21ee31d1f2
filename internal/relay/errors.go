package relay

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// HaltError stops a lane until a human has acted: going on would be a guess.
type HaltError struct {
	// Cause is the kind of the contradiction; empty for a row that cannot be sent, and for what is mended elsewhere.
	Cause Cause
	// Diagnosis says what contradicts what.
	Diagnosis string
	// Try says what to do.
	Try string
}

// Error returns the diagnosis and the way on.
func (e *HaltError) Error() string { return e.Diagnosis + "; " + e.Try }

// ofSettings reports whether other settings mend the fault, those of another process perhaps. Then the lane's lock is given back.
func (e *HaltError) ofSettings() bool {
	return e.Cause == AnotherTable || e.Cause == TableTaken || e.Cause == AnotherDeployment
}

func halt(try, format string, args ...any) error {
	return &HaltError{Diagnosis: fmt.Sprintf(format, args...), Try: try}
}

// rowError is a fault of one row: Kafka or the relay refuses it however often it is tried.
type rowError struct {
	id    int64
	msgID string
	topic string
	err   error
}

func (e *rowError) Error() string {
	return fmt.Sprintf("row id %d (msg_id %s, topic %q) cannot be sent: %v", e.id, e.msgID, e.topic, e.err)
}

func (e *rowError) Unwrap() error { return e.err }

// isRowFault reports whether a produce error condemns the record itself, not the broker, the topic or the permission.
func isRowFault(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord)
}

// errReservedTopic refuses a row for a topic that no event may go to.
var errReservedTopic = errors.New("the topic is the relay's own or Kafka's")

// errLost says that another process has taken the lane over.
var errLost = errors.New("another relay has taken the lane over")
