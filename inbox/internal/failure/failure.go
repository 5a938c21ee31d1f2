package failure

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
)

// ErrTimeout is inbox.ErrTimeout.
var ErrTimeout = errors.New("inbox: the handler was not done in time")

// ErrLeftBehind is inbox.ErrLeftBehind.
var ErrLeftBehind = errors.New("inbox: the handler goes on although its context has ended; " +
	"it can change nothing in the database any more")

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

// Doubt marks an error of a handler whose SQLSTATE is about the server, although its connection is
// there.
func Doubt(err error) error { return classify(err, doubted) }

// IsDoubted reports whether an error is so marked.
func IsDoubted(err error) bool { return is(err, doubted) }

// OfMessage marks a doubted error once the server has shown that it is well: the message is to
// blame.
func OfMessage(err error) error { return classify(err, ofMessage) }

// SaysUnavailable reports whether somebody said Unavailable, whatever else the error looks like.
func SaysUnavailable(err error) bool { return is(err, unavailable) }

// SaysNothingHappened reports whether a handler of AtMostOnce said so. What the inbox itself finds
// out about the database says nothing about the effect.
func SaysNothingHappened(err error) bool {
	return IsPermanent(err) || IsNotDone(err) || SaysUnavailable(err)
}

// Permanent is inbox.Permanent.
func Permanent(err error) error { return classify(err, permanent) }

// IsPermanent is inbox.IsPermanent.
func IsPermanent(err error) bool { return is(err, permanent) }

// Unavailable is inbox.Unavailable.
func Unavailable(err error) error { return classify(err, unavailable) }

// NotDone is inbox.NotDone.
func NotDone(err error) error { return classify(err, notDone) }

// IsNotDone is inbox.IsNotDone.
func IsNotDone(err error) bool { return is(err, notDone) }

// IsUnavailable is inbox.IsUnavailable.
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
	state, sent := SQLState(err)
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

// OfDatabase marks an error of one of our own statements: if it is none that Postgres sent, the
// connection failed, unless the caller has had enough.
func OfDatabase(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, inboxdriver.ErrRolledBack) {
		return err
	}
	if errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", inboxdriver.ErrRolledBack, err)
	}
	if _, sent := SQLState(err); sent {
		return err
	}
	return Unavailable(err)
}

// Rerunnable reports whether the transaction was broken off because of another one, so that running
// it again is right.
func Rerunnable(err error) bool {
	state, _ := SQLState(err)
	return state == "40001" || state == "40P01" || errors.Is(err, ErrReleased)
}

// SQLState returns the code of an error that Postgres sent, whatever the driver.
func SQLState(err error) (state string, sent bool) {
	if refused, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return refused.SQLState(), true
	}
	return "", false
}

// ErrReleased is a message whose mark and claim were there, and went because nothing had happened.
var ErrReleased = errors.New("inbox: the message was released meanwhile")

// SQLSTATEs that are looked at elsewhere.
const (
	// LimitExceeded is what Postgres says at a limit of its configuration, temp_file_limit for one.
	LimitExceeded = "53400"
	// LockNotAvailable is a lock that was waited for in vain.
	LockNotAvailable = "55P03"
	// UniqueViolation is a mark that is there already.
	UniqueViolation = "23505"
	// InFailedTransaction is what Postgres says of every statement after one that failed.
	InFailedTransaction = "25P02"
)
