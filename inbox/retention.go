package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Swept is what a Sweep did.
type Swept struct {
	// Emptied are the partitions of weeks that were emptied as a whole, however many marks were in
	// them.
	Emptied []string
	// Deleted counts the marks that were deleted one by one, in other partitions.
	Deleted int64
	// Started counts the started marks that were deleted.
	Started int64
	// Added and Dropped count the partitions of weeks that were made and removed.
	Added, Dropped int
	// AheadFull reports that no week could be added, because inbox_ahead holds too many marks; see
	// docs/inbox-operations.md.
	AheadFull bool
	// Blocked are the steps that were left for the next time, because another transaction held a
	// table for too long.
	Blocked []string
}

// Retain claims, in the database, how long the marks of this consumer are kept; 0 is forever, which
// holds even if Retain is never called. Sweep removes what is older.
//
// The claim is made for each claimant, such as a topic, or for one without a name. The same
// claimant of any process replaces it; of several claimants the longest claim counts. A claim that
// is not repeated ends when its time has passed since then: all marks that were written under it
// are older by that. One forever ends only if its claimant claims something else. So call Retain
// now and then, and before the first message is handled.
//
// A message that comes back after its mark has gone is handled again. So the marks must be kept for
// longer than the topic keeps the message, and for as long as somebody may set a consumer back to
// an older offset. Package inboxkafka compares.
func (i *Inbox[TTx]) Retain(ctx context.Context, retention time.Duration, claimants ...string) error {
	if retention < 0 {
		return fmt.Errorf("inbox: retention of marks: %v is negative; 0 keeps them forever", retention)
	}
	_, err := i.ledger.Retain(ctx, retention, claimants...)
	return err
}

// Sweep removes marks of all consumers that are older than the retention of their consumer, and
// sees to the partitions of weeks. Call it now and then, such as every hour, from any process; one
// that comes while another works does nothing. Each of its steps is a small transaction, and it
// rests after each for as long as that took. It returns what was done even if an error ends it.
func (i *Inbox[TTx]) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	var faults []error
	for _, part := range []struct {
		what string
		step func(context.Context, *Swept) (more bool, err error)
	}{
		{"add partitions", i.addWeeks},
		{"empty a partition", i.emptyWeek},
		{"delete old marks", i.deleteMarks},
		{"delete started marks", i.deleteStarted},
		{"drop partitions", i.dropWeeks},
	} {
		err := i.sweepSteps(ctx, &swept, part.step)
		switch state, _ := failure.SQLState(err); {
		case err == nil:
		case state == failure.LockNotAvailable:
			swept.Blocked = append(swept.Blocked, part.what)
		default:
			faults = append(faults, fmt.Errorf("%s: %w", part.what, err))
		}
		if IsUnavailable(err) || ctx.Err() != nil {
			break // the rest would fail in the same way
		}
	}
	if err := errors.Join(faults...); err != nil {
		return swept, fmt.Errorf("remove old marks: %w", err)
	}
	return swept, nil
}

// sweepSteps runs a step until there is no more to do, and rests between.
func (i *Inbox[TTx]) sweepSteps(
	ctx context.Context, swept *Swept, step func(context.Context, *Swept) (bool, error),
) error {
	for {
		began := time.Now()
		more, err := step(ctx, swept)
		if err != nil || !more {
			return err
		}
		if err := transact.Pause(ctx, time.Since(began)); err != nil {
			return err
		}
	}
}

// sweep calls one function of the database in its own transaction. The functions look again under a
// lock at what they saw without it, which another isolation level than that of our transactions
// would not let them.
func (i *Inbox[TTx]) sweep(ctx context.Context, text string, into ...any) error {
	return i.ledger.Rerun(ctx, func() error {
		return i.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, inboxdriver.Statement{SQL: text,
				Each: func(row inboxdriver.Row) error { return row.Scan(into...) }})
			return err == nil, failure.OfDatabase(ctx, err)
		})
	})
}

func (i *Inbox[TTx]) addWeeks(ctx context.Context, swept *Swept) (more bool, err error) {
	var added *int
	if err := i.sweep(ctx, i.ledger.SQL.AddWeeks, &added); err != nil {
		return false, err
	}
	if swept.AheadFull = added == nil; !swept.AheadFull {
		swept.Added = *added
	}
	return false, nil
}

func (i *Inbox[TTx]) emptyWeek(ctx context.Context, swept *Swept) (more bool, err error) {
	var week *string
	if err := i.sweep(ctx, i.ledger.SQL.EmptyWeek, &week); err != nil || week == nil {
		return false, err
	}
	swept.Emptied = append(swept.Emptied, *week)
	return true, nil
}

func (i *Inbox[TTx]) deleteMarks(ctx context.Context, swept *Swept) (more bool, err error) {
	var partition *string
	var deleted int64
	if err := i.sweep(ctx, i.ledger.SQL.DeleteMarks, &partition, &deleted); err != nil {
		return false, err
	}
	swept.Deleted += deleted
	return partition != nil, nil
}

func (i *Inbox[TTx]) deleteStarted(ctx context.Context, swept *Swept) (more bool, err error) {
	var deleted int64
	if err := i.sweep(ctx, i.ledger.SQL.DeleteStarted, &deleted); err != nil {
		return false, err
	}
	swept.Started += deleted
	return deleted > 0, nil
}

func (i *Inbox[TTx]) dropWeeks(ctx context.Context, swept *Swept) (more bool, err error) {
	return false, i.sweep(ctx, i.ledger.SQL.DropWeeks, &swept.Dropped)
}
