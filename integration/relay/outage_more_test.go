//go:build more

package relay

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
)

// Every broker of three is killed in turn, and comes back.
func TestBrokersOfThreeAreKilledInTurn(t *testing.T) {
	kafka := kit.ThreeBrokers(t)
	url := kit.Database(t)
	settings := kit.RelaySettings(t, url, kafka.Bootstrap)
	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 20 * time.Millisecond})
	r := kit.StartRelay(t, settings, "run")
	kit.AwaitGoingOn(t, url)
	for node := 1; node <= 3; node++ {
		if err := kafka.Kill(node); err != nil {
			t.Fatal(err)
		}
		kit.AwaitGoingOn(t, url) // two of three in-sync replicas are enough
		if err := kafka.Revive(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		kit.AwaitGoingOn(t, url)
	}
	survived(t, load, r, settings, "outbox.event.account")
}
