package inbox

import (
	"strconv"
	"time"
)

// Every transaction of an inbox holds something that others wait for: a mark, a key, a partition. A process that is frozen in the middle,
// or whose network is cut, must not hold it for long. So each transaction begins with bounds that Postgres itself enforces: its session
// ends when it says nothing for too long, and a statement ends that takes too long, be it that it waits for a lock.

// Two times beyond HandlerTimeout. A process holds its mark and its locks until its session has been idle for idleMargin more than a
// handler may take: then Postgres ends it. Whoever waits for that mark has a little more.
const (
	idleMargin   = 5 * time.Second
	answerMargin = 10 * time.Second
)

// patience is how long a statement of our own may take. It may wait for the handler of another process, and for no longer: a
// connection that says nothing more is as good as lost.
func (i *Inbox[TTx]) patience() time.Duration { return i.cfg.HandlerTimeout + answerMargin }

// bounds are values of settings, in milliseconds; nil leaves a setting as it is. keep is whether a statement_timeout that somebody has
// set stays.
type bounds struct {
	idle, statement any
	keep            bool
}

// ownBounds are those of a transaction in which no handler runs: nobody has to think in the middle of it.
func (i *Inbox[TTx]) ownBounds() bounds {
	return bounds{milliseconds(i.idle), milliseconds(i.patience()), false}
}

// handlerBounds are those of a transaction in which a handler runs. A statement_timeout that somebody has set stays.
func (i *Inbox[TTx]) handlerBounds() bounds {
	return bounds{milliseconds(i.cfg.HandlerTimeout + i.idle), milliseconds(i.patience()), true}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// set is the statement that sets them for a transaction.
func (b bounds) set() Statement {
	return Statement{SQL: boundText, Args: []any{b.idle, b.statement, b.keep}, Each: func(row Row) error {
		return row.Scan(new(string), new(string))
	}}
}

// readCommitted is for transactions that must see what others commit meanwhile, whatever the isolation of the session is. It comes before
// any query.
var readCommitted = Statement{SQL: "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"}
