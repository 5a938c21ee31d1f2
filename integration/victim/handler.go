package victim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/outbox-relay/relay/inbox"
)

// service is the business code.
type service struct {
	consumer string
	fail     *failpoint
	mails    *os.File

	mu    sync.Mutex
	flaky map[string]int // failures so far
}

// handleAll is the effect of many. It writes half of the effect before it looks at whether a
// message is poisoned, so that a failure leaves something to be undone.
func (s *service) handleAll(ctx context.Context, tx transaction, messages []inbox.Message) error {
	s.fail.pass(BeforeEffect)
	poison, err := s.record(ctx, tx, messages)
	if err != nil {
		return err
	}
	s.fail.pass(InsideEffect)
	for i, m := range messages {
		err := s.suffer(ctx, tx, poison[i], m)
		if errors.Is(err, errIgnored) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := s.move(ctx, tx, messages); err != nil {
		return err
	}
	s.fail.pass(AfterEffect)
	return nil
}

// record writes what happened, and returns the kind of poison in each message.
func (s *service) record(ctx context.Context, tx transaction, messages []inbox.Message) ([]string, error) {
	var queries []query
	poison := make([]string, len(messages))
	for i, m := range messages {
		version, err := strconv.ParseInt(string(m.Payload), 10, 64)
		if err != nil {
			return nil, inbox.Permanent(fmt.Errorf("read version: %w", err))
		}
		queries = append(queries, query{text: `WITH counted AS (
    INSERT INTO progress AS p (consumer, key) VALUES ($1, $4)
    ON CONFLICT (consumer, key) DO UPDATE SET place = p.place + 1 RETURNING place)
INSERT INTO effect SELECT $1, $2, $3, $4, $5, place, $6 FROM counted`,
			args: []any{s.consumer, m.Source, m.ID, string(m.Key), version, os.Getpid()}}, query{
			text: `SELECT coalesce((SELECT kind FROM poison WHERE key = $1 AND version = $2), '')`,
			args: []any{string(m.Key), version}, into: &poison[i],
		})
	}
	return poison, tx.run(ctx, queries...)
}

// move moves the money, in the order of the accounts if there are many messages, so that batches do
// not deadlock. One message takes its accounts as they come: deadlocks happen, and are none of its
// business.
func (s *service) move(ctx context.Context, tx transaction, messages []inbox.Message) error {
	type change struct {
		account int
		amount  int64
	}
	var changes []change
	for _, m := range messages {
		version, err := strconv.ParseInt(string(m.Payload), 10, 64)
		if err != nil {
			return err
		}
		from, to, amount := Move(string(m.Key), version)
		changes = append(changes, change{from, -amount}, change{to, amount})
	}
	if len(messages) > 1 {
		slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.account, b.account) })
	}
	var queries []query
	for _, c := range changes {
		queries = append(queries, query{
			text: `UPDATE balance SET amount = amount + $3 WHERE consumer = $1 AND id = $2`, args: []any{s.consumer, c.account, c.amount},
		})
	}
	return tx.run(ctx, queries...)
}

// errIgnored is a failure that the handler does not tell of: it returns nil, and the money has not
// been moved.
var errIgnored = errors.New("ignored")

// suffer does what poison does.
func (s *service) suffer(ctx context.Context, tx transaction, kind string, m inbox.Message) error {
	err := fmt.Errorf("%s of key %s version %s", kind, m.Key, m.Payload)
	switch kind {
	case "":
		return nil
	case Permanent:
		return inbox.Permanent(err)
	case Panic:
		panic(err.Error())
	case Crash:
		fmt.Fprintln(os.Stderr, "crashed by", err)
		killMyself()
	case Hang:
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	case Deaf:
		select {}
	case BadData:
		failed := tx.run(ctx, query{text: "SELECT 1 / (SELECT 0)"})
		return errors.Join(err, failed)
	case Flaky:
		return s.flakes(m, err)
	case Careless:
		<-ctx.Done()
		return errIgnored
	case Swallowing:
		if failed := tx.run(ctx, query{text: "SELECT 1 / (SELECT 0)"}); failed == nil {
			return errors.Join(err, errors.New("the statement should have failed"))
		}
		return errIgnored
	case Overloaded, Unreached, Unadmitted, Stopping:
		failed := tx.run(ctx, query{
			text: fmt.Sprintf("DO $$ BEGIN RAISE EXCEPTION 'of the handler' USING ERRCODE = '%s'; END $$", raised[kind])})
		return errors.Join(err, failed)
	}
	return err
}

// flakes fails the first two times.
func (s *service) flakes(m inbox.Message, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := m.Source + "/" + m.ID
	if s.flaky[id]++; s.flaky[id] <= 2 {
		return err
	}
	return nil
}

// mail is an effect that no database rolls back.
func (s *service) mail(_ context.Context, m inbox.Message) error {
	s.fail.pass(BeforeEffect)
	if _, err := fmt.Fprintf(s.mails, "%s\t%s\n", m.Source, m.ID); err != nil {
		return err
	}
	s.fail.pass(AfterEffect)
	return nil
}
