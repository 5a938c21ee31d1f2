package kit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/cluster"
)

// StormLength is how long a storm runs: RELAY_TEST_STORM, 5 minutes unless it is set.
func StormLength(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("RELAY_TEST_STORM")
	if text == "" {
		return 5 * time.Minute
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("RELAY_TEST_STORM: %v", err)
	}
	return length
}

// StormCommit is the synchronous_commit of the databases of a storm: RELAY_TEST_STORM_COMMIT, "off"
// unless it is set.
func StormCommit(t testing.TB) string {
	t.Helper()
	switch commit := os.Getenv("RELAY_TEST_STORM_COMMIT"); commit {
	case "":
		return "off"
	case "on", "off":
		return commit
	default:
		t.Fatalf("RELAY_TEST_STORM_COMMIT: %q is neither on nor off", commit)
		return ""
	}
}

// SetOfDatabase gives every new session of a database a setting, NAME = VALUE.
func SetOfDatabase(t testing.TB, databaseURL, setting string) {
	t.Helper()
	Execute(t, databaseURL, fmt.Sprintf("DO $do$ BEGIN EXECUTE format($$ALTER DATABASE %%I SET %s$$, current_database()); END $do$", setting))
}

// Statements is a strike of SQL statements, each in a transaction by itself.
func Statements(all ...string) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range all {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}
}

// BrokerBreaker breaks brokers of a cluster of three: one at a time, or all at once.
type BrokerBreaker struct {
	t       testing.TB
	kafka   *cluster.Cluster
	mending sync.WaitGroup
	broken  chan struct{} // holds one value while a broker is broken
}

// BreakerOf returns a breaker of the brokers of a cluster.
func BreakerOf(t testing.TB, kafka *cluster.Cluster) *BrokerBreaker {
	return &BrokerBreaker{t: t, kafka: kafka, broken: make(chan struct{}, 1)}
}

// One breaks a broker and fixes it in the background some seconds later. It returns what it did, or
// "" if a broker was broken already.
func (b *BrokerBreaker) One() (fault string) {
	select {
	case b.broken <- struct{}{}:
	default:
		return ""
	}
	node := 1 + rand.IntN(len(b.kafka.Bootstrap))
	fault, breaking, mending := "broker killed", b.kafka.Kill, func() error { return b.kafka.Revive(b.t.Context(), node) }
	if rand.IntN(2) == 0 {
		fault, breaking, mending = "broker frozen", b.kafka.Freeze, func() error { return b.kafka.Thaw(node) }
	}
	if err := breaking(node); err != nil {
		b.t.Fatal(err)
	}
	b.mending.Go(func() {
		Wait(b.t.Context(), time.Duration(rand.Int64N(int64(8*time.Second))))
		if err := mending(); err != nil {
			b.t.Error(err)
		}
		<-b.broken
	})
	return fault
}

// All kills every broker at once and revives them in any order, once no other is broken. What else
// is broken meanwhile is up to meanwhile.
func (b *BrokerBreaker) All(meanwhile func()) {
	b.t.Helper()
	b.broken <- struct{}{}
	defer func() { <-b.broken }()
	StrikeCluster(b.t, b.kafka, meanwhile)
}

// Mended waits until every broker is back.
func (b *BrokerBreaker) Mended() { b.mending.Wait() }

// StrikeCluster kills every broker at once and revives them in any order. What is struck meanwhile
// is up to meanwhile.
func StrikeCluster(t testing.TB, kafka *cluster.Cluster, meanwhile func()) {
	t.Helper()
	for _, node := range rand.Perm(len(kafka.Bootstrap)) {
		if err := kafka.Kill(node + 1); err != nil {
			t.Fatal(err)
		}
	}
	var reviving sync.WaitGroup
	for _, node := range rand.Perm(len(kafka.Bootstrap)) {
		Wait(t.Context(), time.Duration(rand.Int64N(int64(3*time.Second))))
		reviving.Go(func() { // a broker is not up before most controllers are
			if err := kafka.Revive(t.Context(), node+1); err != nil {
				t.Error(err)
			}
		})
	}
	meanwhile()
	reviving.Wait()
}
