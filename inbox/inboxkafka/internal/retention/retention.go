package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Forever is the Retention that removes no marks.
const Forever time.Duration = math.MaxInt64

// Options are what a Keeper works with. All are required.
type Options struct {
	// Group is the consumer group that reads Topics. Retention, ReplayWindow and SweepInterval are as
	// in inboxkafka.Config.
	Group                                  string
	Topics                                 []string
	Retention, ReplayWindow, SweepInterval time.Duration

	Store Store
	Admin *kadm.Client
	Log   *slog.Logger

	// Persist runs something that needs the database until it succeeds or ctx ends, and AwaitBreaker
	// waits while the database is unavailable. Backoff is the pause after so many failures.
	Persist      func(ctx context.Context, what string, run func(context.Context) error) error
	AwaitBreaker func(context.Context) error
	Backoff      func(failures int) time.Duration

	// Refused and Swept are hooks: Retention and Swept of inboxkafka.
	Refused func(error)
	Swept   func(swept inbox.Swept, took time.Duration, err error)
}

// Store is what a Keeper asks of an inbox.
type Store interface {
	Claim(ctx context.Context, keep time.Duration, claimants ...string) ([]inboxloop.OtherClaim, error)
	Sweep(context.Context) (inbox.Swept, error)
}

// Keeper has marks kept for as long as their messages can come back, and removes older ones.
// Settle, then Run.
type Keeper struct {
	Options

	// keep is how long marks are kept, 0 being forever, unless that is unsettled.
	keep      time.Duration
	unsettled bool

	claimed time.Time // when it was claimed last; zero before that
}

// lifetimes reads the settings of the topics. Topics that do not exist yet have no records, and are
// left out.
func (k *Keeper) lifetimes(ctx context.Context) (topics []lifetime, missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	configs, err := k.Admin.DescribeTopicConfigs(ctx, k.Topics...)
	if err != nil {
		return nil, nil, fmt.Errorf("read the settings of the topics: %w", err)
	}
	for _, config := range configs {
		switch {
		case errors.Is(config.Err, kerr.UnknownTopicOrPartition):
			missing = append(missing, config.Name)
			continue
		case config.Err != nil:
			return nil, nil, fmt.Errorf("read the settings of topic %s: %w", config.Name, config.Err)
		}
		l, err := readLifetime(config)
		if err != nil {
			return nil, nil, err
		}
		topics = append(topics, l)
	}
	return topics, missing, nil
}

// retentionFor returns how long marks are to be kept, 0 being forever, or that the configuration
// does not allow for it.
func (k *Keeper) retentionFor(ctx context.Context) (keep time.Duration, err error) {
	if k.Retention == Forever {
		return 0, nil
	}
	topics, missing, err := k.lifetimes(ctx)
	if err != nil {
		return 0, err
	}
	if len(missing) > 0 {
		return 0, fmt.Errorf("%w: %s", errMissing, strings.Join(missing, ", "))
	}
	if k.Retention > 0 {
		return k.Retention, check(k.Retention, topics, k.ReplayWindow)
	}
	keep, why := need(topics, k.ReplayWindow)
	k.Log.Info("retention of marks", "keep", keep, "since", why)
	return keep, nil
}

// errMissing is that a topic does not exist, so that it is not known how long it will keep its
// records.
var errMissing = errors.New("no such topic")

// Settle tells the inbox how long marks are kept, before the first one is written. It returns
// ErrTooShort if the configuration is refused, and waits while the cluster cannot be asked.
func (k *Keeper) Settle(ctx context.Context) error {
	for failures := 1; ; failures++ {
		keep, err := k.retentionFor(ctx)
		switch {
		case err == nil:
			k.keep = keep
			return ended(k.retain(ctx, keep))
		case errors.Is(err, errMissing):
			// Nothing to handle, and nothing to remove: the sweeper asks again.
			k.Log.Warn("retention of marks is not known yet; none are removed", "error", err)
			k.unsettled = true
			return nil
		case errors.Is(err, ErrTooShort), denied(err):
			return err
		case ctx.Err() != nil:
			return nil
		}
		wait := k.Backoff(failures)
		k.Log.Warn("cannot read the settings of the topics; it is tried again", "wait", wait, "error", err)
		if transact.Pause(ctx, wait) != nil {
			return nil
		}
	}
}

// ended is nil if err is only that the context has ended.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func denied(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed)
}

// Run removes old marks, after it has looked at the topics once more: their settings change.
func (k *Keeper) Run(ctx context.Context) {
	for {
		wait := k.SweepInterval
		if err := k.resettle(ctx); err != nil && ctx.Err() == nil {
			k.Log.Error("old marks are not removed", "error", err)
			k.Refused(err)
			wait = min(wait, time.Minute)
		} else if err == nil && k.keep > 0 {
			k.sweep(ctx)
		}
		if transact.Pause(ctx, wait) != nil {
			return
		}
	}
}

// resettle returns why nothing may be removed now. If a topic keeps records for longer than it did,
// marks are too; if it keeps them for less they are kept as before until the next start, since
// segments that are closed already live by the old settings. It is said each time, since a process
// with other settings may have said something else; and if the configuration is refused marks are
// kept forever, since others sweep the same table.
func (k *Keeper) resettle(ctx context.Context) error {
	keep, err := k.retentionFor(ctx)
	switch {
	case errors.Is(err, ErrTooShort):
		return errors.Join(err, k.retain(ctx, 0))
	case err != nil:
		return err
	case !k.unsettled && (k.keep == 0 || keep > 0 && keep < k.keep):
		keep = k.keep
	}
	if err := k.retain(ctx, keep); err != nil {
		return err
	}
	k.keep, k.unsettled = keep, false
	return nil
}

// retain claims for each topic of this group, so that a Consumer of the same name with other
// topics, or in another group, does not shorten what these need.
func (k *Keeper) retain(ctx context.Context, keep time.Duration) error {
	claimants := make([]string, len(k.Topics))
	for n, topic := range k.Topics {
		claimants[n] = k.Group + "/" + topic
	}
	var others []inboxloop.OtherClaim
	now := time.Now()
	err := k.Persist(ctx, "set the retention of marks", func(ctx context.Context) (err error) {
		now = time.Now()
		others, err = k.Store.Claim(ctx, keep, claimants...)
		return err
	})
	if err != nil {
		return err
	}
	k.warnOf(others, now)
	k.claimed = now
	return nil
}

// warnOf tells of another group that reads a topic of this one under the same name of an inbox, and
// so shares its marks. At the start that may be a group that has just been given up, because claims
// are repeated at each SweepInterval; later only a claim that was repeated meanwhile counts.
func (k *Keeper) warnOf(others []inboxloop.OtherClaim, now time.Time) {
	recent := 2 * k.SweepInterval
	if !k.claimed.IsZero() {
		recent = now.Sub(k.claimed)
	}
	for _, other := range others {
		slash := strings.LastIndex(other.Claimant, "/") // no name of a topic has one
		if slash < 0 || other.Age > recent || !slices.Contains(k.Topics, other.Claimant[slash+1:]) {
			continue
		}
		k.Log.Warn("another group reads this topic with an inbox of the same name: the two share their marks, so each "+
			"message has its effect in one of them only, and each takes the other's sessions for crashed ones. Give each "+
			"group its own name of an inbox, unless the other one has ended",
			"other_group", other.Claimant[:slash], "topic", other.Claimant[slash+1:], "claimed_ago", other.Age)
	}
}

func (k *Keeper) sweep(ctx context.Context) {
	began := time.Now()
	var swept inbox.Swept
	err := k.AwaitBreaker(ctx)
	if err == nil {
		swept, err = k.Store.Sweep(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	took := time.Since(began)
	k.Swept(swept, took, err)
	if err != nil {
		k.Log.Warn("old marks not removed; it is tried again", "error", err)
		return
	}
	k.Log.Info("old marks removed", "weeks", swept.Emptied, "deleted", swept.Deleted, "blocked", swept.Blocked,
		"took", took)
	if swept.AheadFull {
		k.Log.Warn("the inbox holds too many marks of ids from the future: they are not removed with their week", "table",
			"inbox_ahead")
	}
}
