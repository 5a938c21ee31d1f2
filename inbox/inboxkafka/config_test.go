package inboxkafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

func nothing(context.Context, pgx.Tx, inbox.Message) error { return nil }

func TestEveryFaultOfAConfigurationIsReportedAtOnce(t *testing.T) {
	_, err := settings{Config: Config{
		Brokers: []string{" "}, Topics: []string{"a", "a", ""}, Workers: -1, Batch: -1, MaxRecords: -1, MaxBytes: 1, AttemptsFor: -1,
		BackoffMin: time.Minute, BackoffMax: time.Second, DrainTimeout: -1, CommitInterval: 1, RetryInterval: 1, Retention: -1,
		ReplayWindow: -1, SweepInterval: 1, SessionTimeout: 1,
	}}.open(newFakeInbox())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{
		"Brokers: an empty", `"a" is in the list twice`, "an empty name", "the handler is not set", "Workers: -1", "Batch: -1",
		"MaxRecords: -1", "MaxBytes: 1", "AttemptsFor: -1ns", "BackoffMax: 1s", "DrainTimeout: -1ns", "CommitInterval: 1ns",
		"RetryInterval: 1ns", "Retention: -1ns", "ReplayWindow: -1ns", "SweepInterval: 1ns", "SessionTimeout: 1ns",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error:\n%v", part, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	given := settings{Config: Config{Brokers: []string{"k:9092"}, Topics: []string{"a"}}, Handler: nothing}
	c, err := given.open(newFakeInbox())
	if err != nil {
		t.Fatal(err)
	}
	if given.Workers != 0 || given.Identify != nil {
		t.Error("the caller's configuration was changed")
	}
	if c.cfg.Group != "billing" || c.cfg.Batch != 1 || c.cfg.Workers != 16 || c.cfg.DrainTimeout != 20*time.Second {
		t.Errorf("defaults: %+v", c.cfg)
	}
	given.MaxBytes = 1 << 40
	if _, err := given.open(newFakeInbox()); err != nil {
		t.Errorf("a lot of memory: %v", err)
	}
	many := func(context.Context, pgx.Tx, []inbox.Message) error { return nil }
	given.Handler, given.BatchHandler = nil, many
	c, err = given.open(newFakeInbox())
	if err != nil {
		t.Fatal(err)
	}
	if batch := c.cfg.Batch; batch != 100 {
		t.Errorf("a handler of batches gets batches of %d by default, want 100", batch)
	}
}

func TestOptionsThatWouldBreakThePromisesAreRefusedOrOverruled(t *testing.T) {
	config := func(opts ...kgo.Opt) settings {
		return settings{Config: Config{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}, Options: opts}, Handler: nothing}
	}
	for name, opt := range map[string]kgo.Opt{
		"TransactionalID": kgo.TransactionalID("x"), "KeepControlRecords": kgo.KeepControlRecords(), "ConsumeRegex": kgo.ConsumeRegex(),
		"autocommit": kgo.AutoCommitMarks(), "direct": kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"a": {0: kgo.NewOffset()}}),
	} {
		_, err := config(opt).open(newFakeInbox())
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := config(
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.ConsumerGroup("other"), kgo.SessionTimeout(time.Hour),
		kgo.ConsumeTopics("b"),
	).open(newFakeInbox())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(c.options(), kgo.SeedBrokers("127.0.0.1:1"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseAllowingRebalance()
	if group := client.OptValue(kgo.ConsumerGroup); group != "billing" {
		t.Errorf("group %v", group)
	}
	if level := client.OptValue(kgo.FetchIsolationLevel); level != int8(1) { // read committed
		t.Errorf("isolation level %v", level)
	}
	if auto := client.OptValue(kgo.DisableAutoCommit); auto != true {
		t.Errorf("DisableAutoCommit is %v", auto)
	}
}
