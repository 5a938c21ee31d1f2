package operator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/internal/hint"
)

func TestARetryIsAskedForOnceAndCarriedOutByTheConsumer(t *testing.T) {
	s := newStage(t, "retry")
	s.parkSome()
	plan, err := NewInbox(s.operator).Plan(t.Context(), InboxFilter{Consumer: "billing"})
	if err != nil || len(plan) != 3 || s.count("inbox_audit") != 0 || s.count("inbox_parked_keys WHERE requested_at IS NOT NULL") != 0 {
		t.Fatalf("a plan changed something: %+v, %v", plan, err)
	}
	asked, err := NewInbox(s.operator).Retry(t.Context(), InboxFilter{Consumer: "billing"}, "account created")
	if err != nil || len(asked) != 3 || asked[0].Joined {
		t.Fatalf("%+v, %v", asked, err)
	}
	again, err := NewInbox(s.operator).Retry(t.Context(), InboxFilter{Key: []byte("1")}, "again")
	if err != nil || len(again) != 2 || !again[0].Joined || again[1].Joined {
		t.Errorf("what is open already: %+v, %v", again, err)
	}
	limited, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	if err := NewInbox(s.operator).Await(limited, asked); !errors.Is(err, context.DeadlineExceeded) || asked[0].Done {
		t.Errorf("while no process runs: %+v, %v", asked, err)
	}
	cancel()
	if idle, err := NewInbox(s.operator).Idle(t.Context(), asked); err != nil || len(idle) != 1 || !strings.Contains(idle[0], "consumer billing") {
		t.Errorf("no process runs, and idle are %q, %v", idle, err)
	}
	if _, err := inboxloop.New(s.billing).Open(t.Context(), "orders", 0); err != nil {
		t.Fatal(err)
	}
	if idle, err := NewInbox(s.operator).Idle(t.Context(), asked); err != nil || len(idle) != 0 {
		t.Errorf("one runs, and idle are %q, %v", idle, err)
	}
	s.retry("a2")
	if err := NewInbox(s.operator).Await(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	failed := asked[0]
	if !failed.FailedAgain() || failed.Left != 2 || !strings.Contains(*failed.Error, "still no such account") {
		t.Errorf("the key whose second message fails: %+v", failed)
	}
	if asked[1].FailedAgain() || !asked[1].Done || asked[2].FailedAgain() || !asked[2].Done {
		t.Errorf("the others: %+v", asked[1:])
	}
	if n := s.count(`inbox_audit WHERE action = 'retry' AND by = 'ada_retry' AND reason IN ('account created', 'again')`); n != 4 {
		t.Errorf("%d retries are recorded, want 4", n)
	}
}

func TestADiscardedMessageIsGoneAndItsMarkStays(t *testing.T) {
	s := newStage(t, "discard")
	s.parkSome()
	plan, err := NewInbox(s.operator).PlanDiscard(t.Context(), InboxFilter{Consumer: "billing", Filter: Filter{MsgID: "a1"}})
	if err != nil || len(plan) != 1 || plan[0].Messages != 1 || plan[0].Left != 2 || s.count("inbox_parked") != 6 {
		t.Fatalf("the plan is %+v, %v", plan, err)
	}
	done, err := NewInbox(s.operator).Discard(t.Context(), InboxFilter{Consumer: "billing", Filter: Filter{MsgID: "a1"}}, "test data", time.Second)
	if err != nil || len(done) != 1 || done[0].KeyID != plan[0].KeyID || done[0].Messages != 1 || done[0].Left != 2 {
		t.Fatalf("discarded %+v, %v; want %+v", done, err, plan)
	}
	if k := s.only(InboxFilter{Consumer: "billing", Key: []byte("1")}); k.MsgID != "a2" || k.Messages != 2 {
		t.Errorf("behind it: %+v", k)
	}
	result, err := s.billing.Handle(t.Context(), message("a1", "1"), func(context.Context, pgx.Tx) error { return errors.New("handled") })
	if err != nil || result != inbox.Duplicate {
		t.Errorf("another copy of it: %v, %v", result, err)
	}
	if n := s.count(`inbox_audit WHERE action = 'discard' AND by = 'ada_discard' AND reason = 'test data' AND msg_id = 'a1'
		AND details->>'cause' = 'permanent'`); n != 1 {
		t.Errorf("it is recorded %d times", n)
	}
	done, err = NewInbox(s.operator).Discard(t.Context(), InboxFilter{Consumer: "billing"}, "all of it", time.Second)
	if err != nil || len(done) != 3 || s.count("inbox_parked_keys") != 1 || s.count("inbox_parked") != 1 {
		t.Errorf("discarded %+v, %v", done, err)
	}
	result, err = s.billing.Handle(t.Context(), message("a4", "1"), func(context.Context, pgx.Tx) error { return nil })
	if err != nil || result != inbox.Processed {
		t.Errorf("a later message of the key: %v, %v", result, err)
	}
}

// A handler holds the key while it works; who discards waits for it, and removes nothing that was
// handled.
func TestDiscardWaitsForAHandlerOfTheKey(t *testing.T) {
	s := newStage(t, "discardwaits")
	s.park(s.billing, inbox.CausePermanent, "no such account", "1", "a1", "a2")
	if _, err := NewInbox(s.operator).Retry(t.Context(), InboxFilter{}, "mended"); err != nil {
		t.Fatal(err)
	}
	keys, err := inboxloop.New(s.billing).Requested(t.Context(), 1)
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	working, finish, retried := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := inboxloop.New(s.billing).Retry(t.Context(), keys[0], func(ctx context.Context, _ pgx.Tx, _ inbox.Message) error {
			close(working)
			select {
			case <-finish:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		retried <- err
	}()
	select {
	case <-working:
	case err := <-retried:
		t.Fatalf("the retry ended before its handler was called: %v", err)
	}
	_, err = NewInbox(s.operator).Discard(t.Context(), InboxFilter{}, "impatient", 50*time.Millisecond)
	if err == nil || !strings.Contains(strings.Join(hint.Of(err), " "), "a handler works on that message") || s.count("inbox_parked") != 2 {
		t.Errorf("while a handler works: %v with %q", err, hint.Of(err))
	}
	discarded := make(chan error, 1)
	var done []Discarded
	go func() {
		var err error
		done, err = NewInbox(s.operator).Discard(t.Context(), InboxFilter{}, "patient", 20*time.Second)
		discarded <- err
	}()
	s.awaitWaiting(discarded)
	close(finish)
	if err := errors.Join(<-retried, <-discarded); err != nil {
		t.Fatal(err)
	}
	if len(done) != 1 || done[0].Messages != 1 || s.count("inbox_audit WHERE action = 'discard' AND msg_id = 'a2'") != 1 ||
		s.count("inbox_audit WHERE action = 'discard'") != 1 || s.count("inbox_parked_keys") != 0 {
		t.Errorf("discarded %+v", done)
	}
}

// A message that arrives behind a parked one while that is discarded is either discarded with it
// and recorded, or handled.
func TestDiscardWaitsForAMessageThatIsBeingParked(t *testing.T) {
	s := newStage(t, "discardarrival")
	s.park(s.billing, inbox.CausePermanent, "no such account", "1", "a1")
	arriving, err := s.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result, err := s.billing.Accept(t.Context(), arriving, message("a2", "1")); err != nil || result != inbox.Parked {
		t.Fatalf("the message is not parked: %v, %v", result, err)
	}
	discarded := make(chan error, 1)
	go func() {
		_, err := NewInbox(s.operator).Discard(t.Context(), InboxFilter{}, "all of it", 20*time.Second)
		discarded <- err
	}()
	s.awaitWaiting(discarded)
	if err := errors.Join(arriving.Commit(t.Context()), <-discarded); err != nil {
		t.Fatal(err)
	}
	if n := s.count("inbox_audit WHERE action = 'discard'"); n != 2 || s.count("inbox_parked") != 0 || s.count("inbox_parked_keys") != 0 {
		t.Errorf("%d messages are recorded as discarded, want 2", n)
	}
}
