package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// ErrRetention is what Run returns if marks would be removed before their messages are gone for
// good.
var ErrRetention = errors.New("inboxkafka: marks are removed while their messages can still come back, and would be handled twice")

// lifetime is how long a record of a topic may be read.
type lifetime struct {
	topic              string
	retention, segment time.Duration
	forever            string // why it may never go; empty if it does
}

// sum is how long its mark is needed. A record lives as long as its segment: the segment is closed
// after segment.ms, and goes when the last of its records is older than retention.ms.
func (l lifetime) sum(replay time.Duration) time.Duration { return l.retention + l.segment + replay }

// describe shows the sum term by term.
func (l lifetime) describe(replay time.Duration) string {
	return fmt.Sprintf("topic %s: retention.ms %v + segment.ms %v + ReplayWindow %v = %v",
		l.topic, l.retention, l.segment, replay, l.sum(replay))
}

// unbounded says why its records may live forever.
func (l lifetime) unbounded() string {
	return fmt.Sprintf("topic %s may keep records forever: %s", l.topic, l.forever)
}

// need returns how long marks must be kept for all topics, and why; 0 is forever.
func need(topics []lifetime, replay time.Duration) (longest time.Duration, why string) {
	for _, l := range topics {
		if l.forever != "" {
			return 0, l.unbounded()
		}
		if sum := l.sum(replay); sum > longest {
			longest, why = sum, l.describe(replay)
		}
	}
	return longest, why
}

// check returns ErrRetention with every topic for which the retention is too short.
func check(retention time.Duration, topics []lifetime, replay time.Duration) error {
	var short []string
	for _, l := range topics {
		switch {
		case l.forever != "":
			short = append(short, l.unbounded())
		case l.sum(replay) > retention:
			short = append(short, l.describe(replay))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return fmt.Errorf("%w: Retention is %v; %s. Try: leave Retention unset, or set KeepForever",
		ErrRetention, retention, strings.Join(short, "; "))
}

// adminClient returns a client that is in no group.
func (c *Consumer) adminClient() (*kadm.Client, error) {
	client, err := kgo.NewClient(c.apart()...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	return kadm.NewClient(client), nil
}

// lifetimes reads the settings of the topics. Topics that do not exist yet have no records, and are
// left out.
func (c *Consumer) lifetimes(ctx context.Context, admin *kadm.Client) (topics []lifetime, missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	configs, err := admin.DescribeTopicConfigs(ctx, c.cfg.Topics...)
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

func readLifetime(config kadm.ResourceConfig) (lifetime, error) {
	l := lifetime{topic: config.Name}
	settings := map[string]string{}
	for _, s := range config.Configs {
		if s.Value != nil {
			settings[s.Key] = *s.Value
		}
	}
	policy, told := settings["cleanup.policy"]
	switch {
	case told && policy == "": // which brokers allow since 4.2
		l.forever = "cleanup.policy is empty"
		return l, nil
	case told && !slices.Contains(strings.Split(policy, ","), "delete"):
		l.forever = "cleanup.policy " + policy
		return l, nil
	}
	for _, name := range []string{"retention.ms", "segment.ms"} {
		if _, told := settings[name]; !told { // as some services that offer Kafka do
			l.forever = "the broker does not say its " + name
			return l, nil
		}
	}
	var err error
	if l.retention, err = milliseconds(settings, "retention.ms"); err != nil {
		return l, fmt.Errorf("topic %s: %w", l.topic, err)
	}
	if l.segment, err = milliseconds(settings, "segment.ms"); err != nil {
		return l, fmt.Errorf("topic %s: %w", l.topic, err)
	}
	if l.retention < 0 || l.retention >= tooLong {
		l.forever = "retention.ms " + settings["retention.ms"]
	} else if l.segment >= tooLong {
		l.forever = "segment.ms " + settings["segment.ms"]
	}
	return l, nil
}

// tooLong is a time that means forever: 100 years.
const tooLong = 100 * 365 * 24 * time.Hour

func milliseconds(settings map[string]string, name string) (time.Duration, error) {
	n, err := strconv.ParseInt(settings[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if n > int64(tooLong/time.Millisecond) {
		return tooLong, nil
	}
	return time.Duration(n) * time.Millisecond, nil
}

// retentionFor returns how long marks are to be kept, 0 being forever, or that the configuration
// does not allow for it.
func (c *Consumer) retentionFor(ctx context.Context, admin *kadm.Client) (keep time.Duration, err error) {
	if c.cfg.Retention == KeepForever {
		return 0, nil
	}
	topics, missing, err := c.lifetimes(ctx, admin)
	if err != nil {
		return 0, err
	}
	if len(missing) > 0 {
		return 0, fmt.Errorf("%w: %s", errMissing, strings.Join(missing, ", "))
	}
	if c.cfg.Retention > 0 {
		return c.cfg.Retention, check(c.cfg.Retention, topics, c.cfg.ReplayWindow)
	}
	keep, why := need(topics, c.cfg.ReplayWindow)
	c.log.Info("retention of marks", "keep", keep, "since", why)
	return keep, nil
}

// errMissing is that a topic does not exist, so that it is not known how long it will keep its
// records.
var errMissing = errors.New("no such topic")

// settleRetention tells the inbox how long marks are kept, before the first one is written. It
// returns ErrRetention if the configuration is refused, and waits while the cluster cannot be
// asked.
func (c *Consumer) settleRetention(ctx context.Context, admin *kadm.Client) error {
	for failures := 1; ; failures++ {
		keep, err := c.retentionFor(ctx, admin)
		switch {
		case err == nil:
			c.keep = keep
			return ended(c.retain(ctx, keep))
		case errors.Is(err, errMissing):
			// Nothing to handle, and nothing to remove: the sweeper asks again.
			c.log.Warn("retention of marks is not known yet; none are removed", "error", err)
			c.unsettled = true
			return nil
		case errors.Is(err, ErrRetention), denied(err):
			return err
		case ctx.Err() != nil:
			return nil
		}
		wait := c.backoff(failures)
		c.log.Warn("cannot read the settings of the topics; it is tried again", "wait", wait, "error", err)
		if sleep(ctx, wait) != nil {
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

// sweepLoop removes old marks, after it has looked at the topics once more: their settings change.
func (c *Consumer) sweepLoop(ctx context.Context, admin *kadm.Client) {
	for {
		wait := c.cfg.SweepInterval
		if err := c.resettle(ctx, admin); err != nil && ctx.Err() == nil {
			c.log.Error("old marks are not removed", "error", err)
			c.hooks.retention(err)
			wait = min(wait, time.Minute)
		} else if err == nil && c.keep > 0 {
			c.sweep(ctx)
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// resettle returns why nothing may be removed now. If a topic keeps records for longer than it did,
// marks are too; if it keeps them for less they are kept as before until the next start, since
// segments that are closed already live by the old settings. It is said each time, since a process
// with other settings may have said something else; and if the configuration is refused marks are
// kept forever, since others sweep the same table.
func (c *Consumer) resettle(ctx context.Context, admin *kadm.Client) error {
	keep, err := c.retentionFor(ctx, admin)
	switch {
	case errors.Is(err, ErrRetention):
		return errors.Join(err, c.retain(ctx, 0))
	case err != nil:
		return err
	case !c.unsettled && (c.keep == 0 || keep > 0 && keep < c.keep):
		keep = c.keep
	}
	if err := c.retain(ctx, keep); err != nil {
		return err
	}
	c.keep, c.unsettled = keep, false
	return nil
}

// retain claims for each topic of this group, so that a Consumer of the same name with other
// topics, or in another group, does not shorten what these need.
func (c *Consumer) retain(ctx context.Context, keep time.Duration) error {
	claimants := make([]string, len(c.cfg.Topics))
	for n, topic := range c.cfg.Topics {
		claimants[n] = c.cfg.Group + "/" + topic
	}
	return c.persist(ctx, "set the retention of marks", func(ctx context.Context) error { return c.store.Retain(ctx, keep, claimants...) })
}

func (c *Consumer) sweep(ctx context.Context) {
	began := time.Now()
	var swept inbox.Swept
	err := c.sched.AwaitBreaker(ctx)
	if err == nil {
		swept, err = c.store.Sweep(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	took := time.Since(began)
	c.hooks.swept(swept, took, err)
	if err != nil {
		c.log.Warn("old marks not removed; it is tried again", "error", err)
		return
	}
	c.log.Info("old marks removed", "weeks", swept.Emptied, "deleted", swept.Deleted, "blocked", swept.Blocked, "took", took)
	if swept.AheadFull {
		c.log.Warn("the inbox holds too many marks of ids from the future: they are not removed with their week", "table", "inbox_ahead")
	}
}
