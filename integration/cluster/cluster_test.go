package cluster_test

import (
	"os"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
)

func TestOneBrokerStartsAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	began := time.Now()
	c, err := cluster.Start(t.Context(), cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("answered after %v", time.Since(began))
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("%s remains", entry.Name())
	}
	if err := c.Stop(); err != nil {
		t.Fatalf("second Stop: %v", err)
	}
}
