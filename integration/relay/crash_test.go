package relay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// A relay is killed with SIGKILL before and after each step of a batch, in a loop, on real Kafka
// and real Postgres, while writers write. RELAY_TEST_KILLS sets how often; the default fits make
// test.
func TestKilledAtEveryStepNothingIsLostDoubledOrOutOfOrder(t *testing.T) {
	t.Parallel()
	kills := 24
	if text := os.Getenv("RELAY_TEST_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("RELAY_TEST_KILLS=%q is not a number from 1", text)
		}
	}
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 5), &kit.Workload{Pause: 20 * time.Millisecond})
	steps := pipeline.Steps()
	began := time.Now()
	for kill := range kills {
		step := steps[kill%len(steps)]
		failpoint := fmt.Sprintf("RELAY_FAILPOINT=%s:%d", step, 1+rand.IntN(12))
		process := kit.StartRelay(t, append(settings, failpoint), "run")
		if status := process.Wait(time.Minute); status != -1 {
			t.Fatalf("kill %d at %s: the relay ended with status %d before it reached the failpoint", kill, failpoint, status)
		}
	}
	t.Logf("%d kills at %d failpoints in %v", kills, len(steps), time.Since(began).Round(time.Second))
	load.Stop()
	kit.Finish(t, load, settings, topic)
}
