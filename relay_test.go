package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/pipeline"
	engine "github.com/outbox-relay/relay/internal/relay"
	"github.com/outbox-relay/relay/outbox"
)

// calls records which hooks were called.
type calls struct {
	mu    sync.Mutex
	count map[string]int
	lanes []relay.LaneStatus
	all   chan struct{} // closed once every hook was called
}

func (c *calls) note(name string, lane string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lane != "outbox" {
		name += " for lane " + lane
	}
	if c.count[name]++; c.count[name] == 1 && len(c.count) == 5 {
		close(c.all)
	}
}

func (c *calls) hooks() relay.Hooks {
	return relay.Hooks{
		Committed: func(b relay.Batch) { c.note("Committed", b.Lane) },
		Changed: func(s relay.LaneStatus) {
			c.note("Changed", s.Lane)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lanes = append(c.lanes, s)
		},
		TookOver:  func(lane string, _ time.Duration, _ error) { c.note("TookOver", lane) },
		Removed:   func(r relay.Removal) { c.note("Removed", r.Lane) },
		ClockRead: func(lane string, _ time.Duration) { c.note("ClockRead", lane) },
	}
}

// running is a relay that runs until the test ends.
func running(t *testing.T, config *relay.Config) *relay.Relay {
	t.Helper()
	r, err := relay.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestEveryHookIsCalledAndNoneIsNeeded(t *testing.T) {
	databaseURL, brokers := servers()
	config := &relay.Config{DatabaseURL: databaseURL, Brokers: brokers, Topics: relay.Topics{Create: true}, Retention: relay.RemoveAtOnce}
	write(t.Context(), databaseURL, order("1"))
	c := &calls{count: map[string]int{}, all: make(chan struct{})}
	config.Hooks = c.hooks()
	t.Run("all", func(t *testing.T) {
		r := running(t, config)
		select {
		case <-c.all:
		case <-time.After(time.Minute):
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Fatalf("called: %v", c.count)
		}
		lanes := r.Status()
		if len(lanes) != 1 || lanes[0].Lane != "outbox" || lanes[0].State != relay.Running || lanes[0].Seq < 1 || lanes[0].Err != nil ||
			lanes[0].Progress.IsZero() || lanes[0].Since.IsZero() {
			t.Errorf("the lane is %+v", lanes)
		}
		if err := r.Run(t.Context()); err == nil {
			t.Error("a Relay runs twice at a time")
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.count) != 5 {
		t.Errorf("called: %v", c.count)
	}
	var states []relay.State
	for _, s := range c.lanes {
		states = append(states, s.State)
	}
	if !slices.Equal(slices.Compact(states), []relay.State{relay.TakingOver, relay.Running}) {
		t.Errorf("the lane went through %v", states)
	}

	t.Run("none", func(t *testing.T) {
		config.Hooks = relay.Hooks{}
		write(t.Context(), databaseURL, order("2"))
		running(t, config)
		conn := testpg.Connect(t, databaseURL)
		eventually(t, "the row is removed", func() bool {
			var n int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 0
		})
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain until " + what)
		}
	}
}

func TestAHaltAndItsRecovery(t *testing.T) {
	databaseURL, brokers := servers()
	config := &relay.Config{DatabaseURL: databaseURL, Brokers: brokers, Topics: relay.Topics{Create: true}}
	publishAndForget(t.Context(), config)
	failed := make(chan error, 100)
	config.Hooks.TookOver = func(_ string, _ time.Duration, err error) { failed <- err }
	r := running(t, config)
	halt := (*relay.HaltError)(nil)
	if err := <-failed; !errors.As(err, &halt) || halt.Cause != relay.CheckpointLost || halt.Diagnosis == "" || halt.Try == "" {
		t.Fatalf("the takeover said %v", err)
	}
	eventually(t, "the lane has halted", func() bool { return r.Status()[0].State == relay.Halted })
	status := r.Status()[0]
	if !errors.As(status.Err, &halt) || status.Reason != halt.Error() {
		t.Errorf("the status is %+v", status)
	}

	recovery, err := relay.NewRecovery(config, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	all, err := recovery.Inspect(t.Context(), relay.Look{})
	if err != nil || !all.Recoverable() || all.Cause != relay.CheckpointLost || all.Diagnosis != halt.Diagnosis || len(all.Closed) == 0 {
		t.Fatalf("found %+v, %v", all, err)
	}
	one, err := recovery.Inspect(t.Context(), relay.Look{Only: relay.ChooseSkipToNow})
	if err != nil || len(one.Choices) != 1 || one.Choices[0].Choice != relay.ChooseSkipToNow {
		t.Errorf("found %+v, %v", one, err)
	}
	written, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"cause":"checkpoint-lost"`, `"postgres":{`, `"kafka":{`, `"live":{`, `"choice":"skip-to-now"`} {
		if !strings.Contains(string(written), part) {
			t.Errorf("the JSON form lacks %s: %s", part, written)
		}
	}
	if text := one.String(); !strings.Contains(text, "--choose skip-to-now") || strings.Contains(text, "--choose restart-from") {
		t.Error(text)
	}

	if _, err := recovery.Apply(t.Context(), relay.Decision{Choice: relay.ChooseKafka}); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("a choice that is closed: %v", err)
	}
	outcome, err := recovery.Apply(t.Context(), relay.Decision{Choice: relay.ChoosePostgres, Who: "ada", Why: "a test"})
	if err != nil || outcome.Chosen.Choice != relay.ChoosePostgres || outcome.Lane != "outbox" || !outcome.Evicted ||
		!strings.Contains(outcome.String(), "for ada") {
		t.Fatalf("%+v, %v", outcome, err)
	}
	write(t.Context(), databaseURL, order("44"))
	eventually(t, "the lane goes on", func() bool {
		s := r.Status()[0]
		return s.State == relay.Running && s.Err == nil && s.Seq > outcome.Seq
	})
	if _, err := recovery.Apply(t.Context(), relay.Decision{Choice: relay.ChooseKafka}); !errors.Is(err, relay.ErrAgree) {
		t.Errorf("where there is nothing to choose: %v", err)
	}
}

func TestALaneThatWaitsSaysForWhat(t *testing.T) {
	_, brokers := servers()
	r := running(t, &relay.Config{DatabaseURL: "postgres://relay@127.0.0.1:1/nowhere?connect_timeout=1", Brokers: brokers})
	eventually(t, "the lane waits", func() bool { return len(r.Status()) > 0 && r.Status()[0].State == relay.Waiting })
	s := r.Status()[0]
	if halt := (*relay.HaltError)(nil); s.Err == nil || errors.As(s.Err, &halt) || s.Reason == "" {
		t.Errorf("the status is %+v", s)
	}
}

func TestARecoveryOfNoLane(t *testing.T) {
	config := &relay.Config{DatabaseURL: "postgres://relay@db/app", Brokers: []string{"kafka:9092"}}
	if _, err := relay.NewRecovery(config, "nobody"); !errors.Is(err, relay.ErrNoLane) {
		t.Error(err)
	}
	if _, err := relay.NewRecovery(nil, "outbox"); err == nil {
		t.Error("no Config is no fault")
	}
	for from, good := range map[string]bool{"": true, "beginning": true, "17": true, "2026-01-31T14:05:00Z": true, "0": false, "end": false} {
		if err := relay.CheckPlace(from); (err == nil) != good || err != nil && !errors.Is(err, relay.ErrPlace) {
			t.Errorf("%q: %v", from, err)
		}
	}
}

// Failpoints reach the engine through the context, so the public package has none.
func TestStepsOfABatchReachAContext(t *testing.T) {
	databaseURL, brokers := servers()
	r, err := relay.New(&relay.Config{DatabaseURL: databaseURL, Brokers: brokers, Topics: relay.Topics{Create: true}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var mu sync.Mutex
	reached := map[pipeline.Step]bool{}
	ctx = engine.WithStep(ctx, func(s pipeline.Step) {
		mu.Lock()
		defer mu.Unlock()
		if reached[s] = true; len(reached) == len(pipeline.Steps()) {
			stop()
		}
	})
	write(ctx, databaseURL, outbox.Message{AggregateType: "order", AggregateID: "1", Type: "T"})
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(reached) != len(pipeline.Steps()) {
		t.Errorf("reached %v", reached)
	}
}
