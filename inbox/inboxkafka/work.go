package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/identity"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/outbox-relay/relay/inbox"
)

// worker handles messages until nothing more begins.
func (c *Consumer) worker() {
	for {
		j := c.sched.Take(c.cfg.Batch)
		if j == nil {
			return
		}
		decisions := c.handle(j)
		if c.sched.Finish(j, decisions) {
			c.balance(false)
		}
	}
}

// handle carries a job out.
func (c *Consumer) handle(j *schedule.Job) []schedule.Decision {
	ctx, cancel := c.sched.Context(j)
	defer cancel()
	began := time.Now()
	if err := c.recordStarts(ctx, j.Items); err != nil {
		return c.untried(ctx, j, err)
	}
	var outcomes []inbox.Outcome
	var err error
	var raised atomic.Bool
	if len(j.Items) == 1 {
		outcomes = []inbox.Outcome{c.handleOne(ctx, j.Items[0], &raised)}
	} else {
		messages := make([]inbox.Message, len(j.Items))
		for n, i := range j.Items {
			messages[n] = i.Message
		}
		outcomes, err = c.store.handleBatch(ctx, messages, &raised)
	}
	took := time.Since(began)
	c.hooks.transaction(len(j.Items), took)
	if raised.Load() && inbox.IsUnavailable(err) {
		// One of them may be why, and then it would take the others along forever.
		for _, i := range j.Items {
			i.Lone = true
		}
	}
	if len(outcomes) != len(j.Items) { // nothing is known of any
		outcomes = make([]inbox.Outcome, len(j.Items))
		for n := range outcomes {
			outcomes[n].Err = err
		}
	}
	decisions := make([]schedule.Decision, len(j.Items))
	var late []inbox.Outcome
	for n, i := range j.Items {
		if len(j.Items) > 1 && isLate(ctx, outcomes[n]) {
			// The batch took too long, which says nothing about this message: it is tried alone before it
			// counts.
			i.Lone, i.Started = true, false
			late = append(late, outcomes[n])
			continue
		}
		i.Raised = raised.Load()
		decisions[n] = c.assess(ctx, i, outcomes[n], took)
	}
	if len(late) > 0 {
		c.log.Warn("a batch was not done in time; its messages are tried one by one", "messages", len(late),
			"error", late[0].Err)
	}
	return decisions
}

// isLate reports whether a call was not done in time, with nothing else that it is about.
func isLate(ctx context.Context, o inbox.Outcome) bool {
	return o.Result == inbox.Failed && errors.Is(o.Err, inbox.ErrTimeout) && !inbox.IsUnavailable(o.Err) &&
		ctx.Err() == nil
}

// untried is the decision on messages that could not even begin.
func (c *Consumer) untried(ctx context.Context, j *schedule.Job, err error) []schedule.Decision {
	if ctx.Err() == nil && inbox.IsUnavailable(err) {
		c.unavailable(err)
	}
	decisions := make([]schedule.Decision, len(j.Items))
	for n, i := range j.Items {
		decisions[n] = schedule.Decision{Front: true}
		if ctx.Err() == nil && !inbox.IsUnavailable(err) {
			c.log.Error("message cannot begin; it is tried again", "topic", i.Message.Topic, "partition", i.Message.Partition,
				"offset", i.Message.Offset, "error", err)
			decisions[n] = schedule.Decision{Wait: c.backoff(10)}
		}
	}
	return decisions
}

// handleOne handles or parks one message.
func (c *Consumer) handleOne(ctx context.Context, i *schedule.Item, raised *atomic.Bool) inbox.Outcome {
	if i.Parking == nil {
		switch {
		case i.Unidentified != nil:
			i.Parking = &schedule.Parking{Cause: inbox.CauseIdentity, Attempts: 0, Why: i.Unidentified}
		case i.Careful && c.crashes(i):
			i.Parking = &schedule.Parking{Cause: inbox.CauseCrash, Attempts: i.Starts,
				Why: fmt.Errorf("the process ended %d times while this message was handled", i.Starts)}
		}
	}
	var result inbox.Result
	var err error
	if i.Parking != nil {
		result, err = c.store.Park(ctx, i.Message, i.Parking.Cause, i.Parking.Attempts, i.Parking.Why)
	} else {
		result, err = c.store.handle(ctx, i.Message, raised)
	}
	return inbox.Outcome{Result: result, Err: err}
}

// assess says what follows from an outcome.
func (c *Consumer) assess(
	ctx context.Context, i *schedule.Item, o inbox.Outcome, took time.Duration,
) schedule.Decision {
	switch {
	case o.Result == inbox.Deferred:
		return schedule.Decision{}
	case o.Result != inbox.Failed:
		if o.Result == inbox.Processed {
			c.sched.Processed(i.Turn)
		}
		// A message that is audited ran no handler, and would let the next one begin during an outage.
		c.available(o.Result != inbox.Audited)
		c.hooks.handled(i.Message, o.Result, i.Attempts, took)
		return schedule.Decision{Decided: true, Result: o.Result}
	case ctx.Err() != nil:
		// The partition goes, or the process: the message was not to blame.
		return schedule.Decision{Front: true}
	case o.Err == nil:
		o.Err = errors.New("no outcome")
	case inbox.IsUnavailable(o.Err):
		if i.Raised && c.sched.Accuse(&i.Accused) {
			return c.failed(i, o.Err, took)
		}
		c.unavailable(o.Err)
		return schedule.Decision{}
	case errors.Is(o.Err, inbox.ErrTimeout):
		// A handler that hangs is to blame, unless it hangs on a database that does not answer.
		if err := c.probe(ctx); err != nil {
			c.unavailable(err)
			return schedule.Decision{}
		}
	}
	c.available(true) // the database answers
	return c.failed(i, o.Err, took)
}

// probe asks the database something small, which may say that it is unavailable. That no connection
// is free says nothing: handlers that hang hold them all, and the inbox has asked already.
func (c *Consumer) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if _, err := c.store.Requested(ctx, 1); inbox.IsUnavailable(err) {
		return fmt.Errorf("the handler was not done in time, and the database does not answer: %w", err)
	}
	return nil
}

// probeTimeout bounds the answer to a small question.
const probeTimeout = 5 * time.Second

// failed is the decision on a message that was tried and failed.
func (c *Consumer) failed(i *schedule.Item, err error, took time.Duration) schedule.Decision {
	i.Lone, i.Started = true, false
	i.Attempts++
	wait := c.backoff(i.Attempts)
	i.Spent += took + wait
	if i.Parking != nil {
		c.log.Error("message cannot be parked; it is tried again", "topic", i.Message.Topic,
			"partition", i.Message.Partition,
			"offset", i.Message.Offset, "wait", wait, "error", err)
		return schedule.Decision{Wait: wait}
	}
	tooOften := c.cfg.Attempts > 0 && i.Attempts >= c.cfg.Attempts
	tooLong := c.cfg.AttemptsFor > 0 && i.Spent >= c.cfg.AttemptsFor
	switch {
	case errors.Is(err, inbox.ErrInvalid):
		i.Message.Source, i.Message.ID = identity.Place(i.Message)
		i.Parking = &schedule.Parking{Cause: inbox.CauseIdentity, Attempts: 0, Why: err}
		return schedule.Decision{Front: true}
	case tooOften, tooLong:
		i.Parking = &schedule.Parking{Cause: inbox.CauseAttempts, Attempts: i.Attempts, Why: err}
		return schedule.Decision{Front: true}
	}
	c.failures.Add(1)
	c.hooks.failed(i.Message, i.Attempts, wait, err)
	c.log.Warn("message failed; its key waits", "topic", i.Message.Topic, "partition", i.Message.Partition,
		"offset", i.Message.Offset, "msg_id", i.Message.ID, "failures", i.Attempts, "wait", wait, "error", err)
	return schedule.Decision{Wait: wait}
}

// crashes reports whether the process has ended too often while a message was handled. The first
// start of it that was recorded was not alone, so two are the least.
func (c *Consumer) crashes(i *schedule.Item) bool {
	return c.cfg.CrashLimit > 0 && i.Starts >= max(2, c.cfg.CrashLimit)
}

// recordStarts records that the handlers of careful messages begin, in one statement, before they
// do. A message that was not to blame for what it did not come to keeps its record, which is not
// written twice.
func (c *Consumer) recordStarts(ctx context.Context, items []*schedule.Item) error {
	var begin []inbox.Message
	for _, i := range items {
		if i.Careful && !i.Started && i.Parking == nil && i.Unidentified == nil && !c.crashes(i) {
			begin = append(begin, i.Message)
		}
	}
	if len(begin) == 0 {
		return nil
	}
	if _, err := c.store.Start(ctx, begin); err != nil {
		return err
	}
	for _, i := range items {
		i.Started = true
	}
	return nil
}
