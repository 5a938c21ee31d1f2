package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Start records, before their handlers run, that they are about to, and returns how often each message was recorded before and not
// ended: more than 0 is a message during which a process ended, or one of its neighbours. Messages that are handled already
// are not recorded. The record goes with the effect, in its transaction, and also where a handler fails in good order; so it costs
// a commit, for which Start takes many messages at once. Use it after a crash only.
func (i *Inbox[TTx]) Start(ctx context.Context, messages []Message) ([]int, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	ids, place := make([]identity, len(messages)), map[identity]int{}
	var distinct []identity
	for n, m := range messages {
		if err := m.check(); err != nil {
			return nil, err
		}
		ids[n] = m.identity()
		if _, known := place[ids[n]]; !known {
			place[ids[n]] = 0
			distinct = append(distinct, ids[n])
		}
	}
	sources, keys := identityArrays(distinct)
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, durably, Statement{
				SQL: i.sql.start, Args: []any{i.cfg.Consumer, sources, keys},
				Each: func(row Row) error { return readStart(row, place) },
			})
			return err == nil, ofStatement(ctx, err)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("record that handlers start: %w", err)
	}
	before := make([]int, len(messages))
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, id := range ids {
		if place[id] > 0 {
			before[n] = place[id] - 1
			i.started[id] = true
		}
	}
	return before, nil
}

// durably makes the commit wait for the disk, whatever the session is set to: what is recorded here must survive a crash.
var durably = Statement{SQL: "SET LOCAL synchronous_commit = on"}

func readStart(row Row, starts map[identity]int) error {
	var source, key string
	var n int64
	if err := row.Scan(&source, &key, &n); err != nil {
		return err
	}
	parsed, err := uuid.Parse(key)
	if err != nil {
		return err
	}
	starts[identity{source, parsed}] = int(n)
	return nil
}

// wasStarted reports whether the message has a row in inbox_started that this process wrote.
func (i *Inbox[TTx]) wasStarted(ids ...identity) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.started) == 0 {
		return false
	}
	for _, id := range ids {
		if i.started[id] {
			return true
		}
	}
	return false
}

// clearStarted takes the rows away in the transaction that decides the messages.
func (i *Inbox[TTx]) clearStarted(ctx context.Context, tx Tx, ids ...identity) error {
	if !i.wasStarted(ids...) {
		return nil
	}
	return i.dropStarted(ctx, tx, ids...)
}

// dropStarted is clearStarted for messages whether or not this process remembers that it started them.
func (i *Inbox[TTx]) dropStarted(ctx context.Context, tx Tx, ids ...identity) error {
	sources, keys := identityArrays(ids)
	err := tx.Send(ctx, Statement{SQL: i.sql.dropManyStarted, Args: []any{i.cfg.Consumer, sources, keys}})
	if err != nil {
		return fmt.Errorf("take the record of the start away: %w", ofStatement(ctx, err))
	}
	return nil
}

// forget is called once that transaction is committed.
func (i *Inbox[TTx]) forget(ids ...identity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, id := range ids {
		delete(i.started, id)
	}
}

// endedTimeout bounds the time that is spent on taking a record away after a failure.
const endedTimeout = 5 * time.Second

// ended takes the record of messages away whose handler failed in good order: it did not end the process. Where the database is
// away the record stays, and the next start counts one too many.
func (i *Inbox[TTx]) ended(ctx context.Context, ids ...identity) {
	if i.wasStarted(ids...) && i.takeBack(ctx, ids...) {
		i.forget(ids...)
	}
}

// takeBack is ended for messages whether or not this process remembers that it started them.
func (i *Inbox[TTx]) takeBack(ctx context.Context, ids ...identity) bool {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endedTimeout)
	defer cancel()
	sources, keys := identityArrays(ids)
	err := i.transact(limited, func(Tx, TTx) (bool, error) { return true, nil },
		Statement{SQL: i.sql.dropManyStarted, Args: []any{i.cfg.Consumer, sources, keys}})
	if err != nil {
		i.cfg.Logger.WarnContext(ctx, "the record of a start stays", "consumer", i.cfg.Consumer, "error", err)
	}
	return err == nil
}

// identityArrays are the sources and keys as two arrays.
func identityArrays(ids []identity) (sources string, keys []uuid.UUID) {
	s, k := make([]string, len(ids)), make([]uuid.UUID, len(ids))
	for n, id := range ids {
		s[n], k[n] = id.source, id.key
	}
	return textArray(s), k
}
