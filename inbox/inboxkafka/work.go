package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// worker handles messages until nothing more begins.
func (c *Consumer) worker() {
	for {
		j := c.sched.take(c.cfg.Batch)
		if j == nil {
			return
		}
		decisions := c.handle(j)
		if c.sched.finish(j, decisions) {
			c.balance(false)
		}
	}
}

// handle carries a job out.
func (c *Consumer) handle(j *job) []decision {
	ctx, cancel := j.context(c.store.Bind(c.handling, j.queues[0].part.incarnation))
	defer cancel()
	began := time.Now()
	if err := c.recordStarts(ctx, j.items); err != nil {
		return c.untried(ctx, j, err)
	}
	var outcomes []inbox.Outcome
	var err error
	var raised atomic.Bool
	if len(j.items) == 1 {
		outcomes = []inbox.Outcome{c.handleOne(ctx, j.items[0], &raised)}
	} else {
		messages := make([]inbox.Message, len(j.items))
		for n, i := range j.items {
			messages[n] = i.message
		}
		outcomes, err = c.store.handleBatch(ctx, messages, &raised)
	}
	took := time.Since(began)
	if raised.Load() && inbox.IsUnavailable(err) {
		// One of them may be why, and then it would take the others along forever.
		for _, i := range j.items {
			i.lone = true
		}
	}
	if len(outcomes) != len(j.items) { // nothing is known of any
		outcomes = make([]inbox.Outcome, len(j.items))
		for n := range outcomes {
			outcomes[n].Err = err
		}
	}
	decisions := make([]decision, len(j.items))
	var late []inbox.Outcome
	for n, i := range j.items {
		if len(j.items) > 1 && isLate(ctx, outcomes[n]) {
			// The batch took too long, which says nothing about this message: it is tried alone before it
			// counts.
			i.lone, i.started = true, false
			late = append(late, outcomes[n])
			continue
		}
		i.raised = raised.Load()
		decisions[n] = c.assess(ctx, i, outcomes[n], took)
	}
	if len(late) > 0 {
		c.log.Warn("a batch was not done in time; its messages are tried one by one", "messages", len(late), "error", late[0].Err)
	}
	return decisions
}

// isLate reports whether a call was not done in time, with nothing else that it is about.
func isLate(ctx context.Context, o inbox.Outcome) bool {
	return o.Result == inbox.Failed && errors.Is(o.Err, inbox.ErrTimeout) && !inbox.IsUnavailable(o.Err) && ctx.Err() == nil
}

// context ends with the first partition of the job that may not go on.
func (j *job) context(parent context.Context) (context.Context, context.CancelFunc) {
	first := j.queues[0].part
	several := false
	for _, q := range j.queues {
		several = several || q.part != first
	}
	if !several {
		return first.handling, func() {}
	}
	ctx, cancel := context.WithCancel(parent)
	var stops []func() bool
	watched := map[*partition]bool{}
	for _, q := range j.queues {
		if !watched[q.part] {
			watched[q.part] = true
			stops = append(stops, context.AfterFunc(q.part.handling, cancel))
		}
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// untried is the decision on messages that could not even begin.
func (c *Consumer) untried(ctx context.Context, j *job, err error) []decision {
	if ctx.Err() == nil && inbox.IsUnavailable(err) {
		c.unavailable(err)
	}
	decisions := make([]decision, len(j.items))
	for n, i := range j.items {
		decisions[n] = decision{front: true}
		if ctx.Err() == nil && !inbox.IsUnavailable(err) {
			c.log.Error("message cannot begin; it is tried again", "topic", i.message.Topic, "partition", i.message.Partition,
				"offset", i.message.Offset, "error", err)
			decisions[n] = decision{wait: c.backoff(10)}
		}
	}
	return decisions
}

// handleOne handles or parks one message.
func (c *Consumer) handleOne(ctx context.Context, i *item, raised *atomic.Bool) inbox.Outcome {
	if i.parking == nil {
		switch {
		case i.unidentified != nil:
			i.parking = &parking{inbox.CauseIdentity, 0, i.unidentified}
		case i.careful && c.crashes(i):
			i.parking = &parking{inbox.CauseCrash, i.starts,
				fmt.Errorf("the process ended %d times while this message was handled", i.starts)}
		}
	}
	var result inbox.Result
	var err error
	if i.parking != nil {
		result, err = c.store.Park(ctx, i.message, i.parking.cause, i.parking.attempts, i.parking.why)
	} else {
		result, err = c.store.handle(ctx, i.message, raised)
	}
	return inbox.Outcome{Result: result, Err: err}
}

// assess says what follows from an outcome.
func (c *Consumer) assess(ctx context.Context, i *item, o inbox.Outcome, took time.Duration) decision {
	switch {
	case o.Result == inbox.Deferred:
		return decision{}
	case o.Result != inbox.Failed:
		if o.Result == inbox.Processed {
			c.sched.processed(i.turn)
		}
		// A message that is audited ran no handler, and would let the next one begin during an outage.
		c.available(o.Result != inbox.Audited)
		c.hooks.handled(i.message, o.Result, i.attempts, took)
		return decision{decided: true, result: o.Result}
	case ctx.Err() != nil:
		// The partition goes, or the process: the message was not to blame.
		return decision{front: true}
	case o.Err == nil:
		o.Err = errors.New("no outcome")
	case inbox.IsUnavailable(o.Err):
		if i.raised && c.sched.accuse(&i.accused) {
			return c.failed(i, o.Err, took)
		}
		c.unavailable(o.Err)
		return decision{}
	case errors.Is(o.Err, inbox.ErrTimeout):
		// A handler that hangs is to blame, unless it hangs on a database that does not answer.
		if err := c.probe(ctx); err != nil {
			c.unavailable(err)
			return decision{}
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
func (c *Consumer) failed(i *item, err error, took time.Duration) decision {
	i.lone, i.started = true, false
	i.attempts++
	wait := c.backoff(i.attempts)
	i.spent += took + wait
	if i.parking != nil {
		c.log.Error("message cannot be parked; it is tried again", "topic", i.message.Topic, "partition", i.message.Partition,
			"offset", i.message.Offset, "wait", wait, "error", err)
		return decision{wait: wait}
	}
	tooOften := c.cfg.Attempts > 0 && i.attempts >= c.cfg.Attempts
	tooLong := c.cfg.AttemptsFor > 0 && i.spent >= c.cfg.AttemptsFor
	switch {
	case errors.Is(err, inbox.ErrInvalid):
		i.message.Source, i.message.ID = placeName(i.message)
		i.parking = &parking{inbox.CauseIdentity, 0, err}
		return decision{front: true}
	case tooOften, tooLong:
		i.parking = &parking{inbox.CauseAttempts, i.attempts, err}
		return decision{front: true}
	}
	c.sched.count(func(s *Stats) { s.Failures++ })
	c.hooks.failed(i.message, i.attempts, wait, err)
	c.log.Warn("message failed; its key waits", "topic", i.message.Topic, "partition", i.message.Partition,
		"offset", i.message.Offset, "msg_id", i.message.ID, "failures", i.attempts, "wait", wait, "error", err)
	return decision{wait: wait}
}

// crashes reports whether the process has ended too often while a message was handled. The first
// start of it that was recorded was not alone, so two are the least.
func (c *Consumer) crashes(i *item) bool {
	return c.cfg.CrashLimit > 0 && i.starts >= max(2, c.cfg.CrashLimit)
}

// recordStarts records that the handlers of careful messages begin, in one statement, before they
// do. A message that was not to blame for what it did not come to keeps its record, which is not
// written twice.
func (c *Consumer) recordStarts(ctx context.Context, items []*item) error {
	var begin []inbox.Message
	for _, i := range items {
		if i.careful && !i.started && i.parking == nil && i.unidentified == nil && !c.crashes(i) {
			begin = append(begin, i.message)
		}
	}
	if len(begin) == 0 {
		return nil
	}
	if _, err := c.store.Start(ctx, begin); err != nil {
		return err
	}
	for _, i := range items {
		i.started = true
	}
	return nil
}
