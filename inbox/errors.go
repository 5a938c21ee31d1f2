package inbox

import (
	"fmt"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// ErrInvalid is what Handle and the others return for a message that can have no mark: it has no ID
// or no Source, or one that Postgres cannot store.
var ErrInvalid = ledger.ErrInvalid

// ErrTimeout is the failure of a handler that was not done within Config.HandlerTimeout, whatever
// it returned after that, nil included: what it wrote is rolled back.
var ErrTimeout = failure.ErrTimeout

// ErrLeftBehind comes with ErrTimeout, or with the end of the context, if a handler did not return
// although its context had ended. Its goroutine stays until it does; its transaction is gone.
var ErrLeftBehind = failure.ErrLeftBehind

// ErrRolledBack is the failure of a handler that returned nil and left a transaction that cannot be
// committed: one of its statements had failed, so that Postgres answers COMMIT with ROLLBACK; or
// Postgres refused the COMMIT, for a deferred constraint for example; or rows were not closed; or
// it had ended the transaction by itself.
var ErrRolledBack = inboxdriver.ErrRolledBack

// ErrOwnStatement says that a statement of the inbox itself failed before a handler ran: its tables
// are locked, or missing, or this role lacks a right. No message is to blame, and IsUnavailable
// reports true for it.
var ErrOwnStatement = failure.ErrOwnStatement

// PanicError is the failure of a handler that panicked.
type PanicError struct {
	// Value is what it panicked with, and Stack where, as runtime/debug.Stack writes it.
	Value any
	Stack []byte
}

// Error names the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("inbox: the handler panicked: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Permanent marks an error of a handler: this message can never be handled, so it is parked at
// once. Nil stays nil.
func Permanent(err error) error { return failure.Permanent(err) }

// IsPermanent reports whether a handler said Permanent.
func IsPermanent(err error) bool { return failure.IsPermanent(err) }

// Unavailable marks an error of a handler: something that every message needs is unavailable. It
// says nothing about this message, and the whole consumer waits. A handler that calls other
// services says so itself: an error of a network or of another database is otherwise a failure of
// its message. In a handler of AtMostOnce it says also that nothing happened, as NotDone does. Nil
// stays nil.
func Unavailable(err error) error { return failure.Unavailable(err) }

// NotDone marks an error of a handler of AtMostOnce: it is certain that nothing happened, so it may
// be tried again. So does Unavailable there, and the whole consumer waits. Nil stays nil.
func NotDone(err error) error { return failure.NotDone(err) }

// IsNotDone reports whether a handler said NotDone.
func IsNotDone(err error) bool { return failure.IsNotDone(err) }

// IsUnavailable reports whether an error is about the database, or about what a handler called
// Unavailable, and not about the message: no connection, or one that was lost; a server that
// starts, stops, is a standby, or is out of connections, memory or disk. Trying again later is
// right, and counts as no attempt. If a handler returns such a SQLSTATE although its connection is
// there (it ran out of the space for its own temporary files, or another server said so), the inbox
// asks the server; one that is well is not to blame, and the error is a failure of the message.
func IsUnavailable(err error) bool { return failure.IsUnavailable(err) }
