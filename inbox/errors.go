package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrInvalid is what Handle and the others return for a message that can have no mark: it has no ID or no Source, or one that
// Postgres cannot store.
var ErrInvalid = errors.New("inbox: invalid message")

// ErrTimeout is the failure of a handler that was not done within Config.HandlerTimeout, whatever it
// returned after that, nil included: what it wrote is rolled back.
var ErrTimeout = errors.New("inbox: the handler was not done in time")

// ErrLeftBehind comes with ErrTimeout, or with the end of the context, where a handler did not return although its context had
// ended. Its goroutine stays until it does; its transaction is gone.
var ErrLeftBehind = errors.New("inbox: the handler goes on although its context has ended; it can change nothing in the database any more")

// ErrRolledBack is the failure of a handler that returned nil and left a transaction that cannot be committed: one of its statements
// had failed, so that Postgres answers COMMIT with ROLLBACK; or Postgres refused the COMMIT, for a deferred constraint for example;
// or rows were not closed; or it had ended the transaction by itself.
var ErrRolledBack = errors.New("inbox: the handler returned nil, but its transaction cannot be committed")

// PanicError is the failure of a handler that panicked.
type PanicError struct {
	// Value is what it panicked with, and Stack where, as runtime/debug.Stack writes it.
	Value any
	Stack []byte
}

// Error names the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("inbox: the handler panicked: %v", e.Value) }

// Unwrap returns the value where it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

type class int

const (
	permanent class = iota + 1
	unavailable
	notDone
	// doubted is an error of a handler whose SQLSTATE is about the server, on a connection that is
	// there; ofMessage is one of which the server was asked, and said that it is well.
	doubted
	ofMessage
)

// classified is an error with what it says about the message.
type classified struct {
	error
	class class
}

func (e *classified) Unwrap() error { return e.error }

func classify(err error, as class) error {
	if err == nil {
		return nil
	}
	return &classified{err, as}
}

func is(err error, as class) bool {
	for err != nil {
		c, found := errors.AsType[*classified](err)
		if !found {
			return false
		}
		if c.class == as {
			return true
		}
		err = c.error
	}
	return false
}

// Permanent marks an error of a handler: this message can never be handled, so it is parked at once. Nil stays nil.
func Permanent(err error) error { return classify(err, permanent) }

// IsPermanent reports whether a handler said Permanent.
func IsPermanent(err error) bool { return is(err, permanent) }

// Unavailable marks an error of a handler: something that every message needs is away. It says nothing about this message, and
// the whole consumer waits. A handler that calls other services says so itself: an error of a network or of another database is
// otherwise a failure of its message. In a handler of AtMostOnce it says also that nothing happened, as NotDone does. Nil stays nil.
func Unavailable(err error) error { return classify(err, unavailable) }

// NotDone marks an error of a handler of AtMostOnce: it is certain that nothing happened, so it may be tried again. So does
// Unavailable there, and the whole consumer waits. Nil stays nil.
func NotDone(err error) error { return classify(err, notDone) }

// IsNotDone reports whether a handler said NotDone.
func IsNotDone(err error) bool { return is(err, notDone) }

// IsUnavailable reports whether an error is about the database, or about what a handler called Unavailable, and not about the
// message: no connection, or one that was lost; a server that starts, stops, is a standby, or is out of connections, memory or disk.
// Trying again later is right, and counts as no attempt. Where a handler returns such a SQLSTATE although its connection is there (it
// ran out of the space for its own temporary files, or another server said so), the inbox asks the server; one that is well is not
// to blame, and the error is a failure of the message.
func IsUnavailable(err error) bool {
	if is(err, unavailable) {
		return true
	}
	if errors.Is(err, ErrTimeout) || is(err, ofMessage) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true // whatever Postgres said: no message was looked at yet
	}
	state, sent := sqlState(err)
	return sent && unavailableState(state)
}

// unavailableState knows the SQLSTATEs that are about the server.
func unavailableState(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", // it shuts down, crashed, or starts
		"57P05", "25P03", // the session was idle for too long, in a transaction: this process was frozen, or cut off
		"25006", // read only: a standby, or a primary that became one
		"3D000", // the database does not exist, right now
		"28P01", // the password is wrong: it was changed on one side
		"28000":
		return true
	}
	// Connection exceptions; out of resources; system errors such as I/O.
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "58")
}

// ofDatabase marks an error of one of our own statements: where it is none that Postgres sent, the connection failed, unless the
// caller has had enough.
func ofDatabase(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrRolledBack) {
		return err
	}
	if errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	if _, sent := sqlState(err); sent {
		return err
	}
	return Unavailable(err)
}

// retriable reports whether the transaction was broken off because of another one, so that running it again is right.
func retriable(err error) bool {
	state, _ := sqlState(err)
	return state == "40001" || state == "40P01" || errors.Is(err, errReleased)
}

// sqlState returns the code of an error that Postgres sent, whatever the driver.
func sqlState(err error) (state string, sent bool) {
	if refused, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return refused.SQLState(), true
	}
	return "", false
}
