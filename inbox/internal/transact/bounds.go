package transact

import (
	"strconv"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Every transaction of an inbox holds something that others wait for: a mark, a key, a partition. A
// process that is frozen in the middle, or whose network is cut, must not hold it for long. So each
// transaction begins with bounds that Postgres itself enforces: its session ends when it says
// nothing for too long, and a statement ends that takes too long, even one that waits for a lock.

// Two times beyond HandlerTimeout. A process holds its mark and its locks until its session has
// been idle for idleMargin more than a handler may take: then Postgres ends it. A process that
// waits for that mark has a little more.
const (
	idleMargin   = 5 * time.Second
	answerMargin = 10 * time.Second
)

// AnswerTimeout is how long a statement of our own may take. It may wait for the handler of another
// process, and for no longer: a connection that says nothing more is as good as lost.
func (r *Runner[TTx]) AnswerTimeout() time.Duration { return r.HandlerTimeout + answerMargin }

// Bounds are values of settings, in milliseconds; nil leaves a setting as it is. Keep is whether a
// statement_timeout that somebody has set stays.
type Bounds struct {
	Idle, Statement any
	Keep            bool
}

// OwnBounds are those of a transaction in which no handler runs: nothing has to wait in the middle
// of it.
func (r *Runner[TTx]) OwnBounds() Bounds {
	return Bounds{milliseconds(r.Idle), milliseconds(r.AnswerTimeout()), false}
}

// HandlerBounds are those of a transaction in which a handler runs. A statement_timeout that
// somebody has set stays.
func (r *Runner[TTx]) HandlerBounds() Bounds {
	return Bounds{milliseconds(r.HandlerTimeout + r.Idle), milliseconds(r.AnswerTimeout()), true}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Set is the statement that sets them for a transaction.
func (b Bounds) Set() inboxdriver.Statement {
	ignore := func(row inboxdriver.Row) error { return row.Scan(new(string), new(string)) }
	return inboxdriver.Statement{SQL: tables.BoundText, Args: []any{b.Idle, b.Statement, b.Keep}, Each: ignore}
}

// ReadCommitted is for transactions that must see what others commit meanwhile, whatever the
// isolation of the session is. It comes before any query.
var ReadCommitted = inboxdriver.Statement{SQL: "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"}
