package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/internal/relay"
)

// With a standby running, events flow again soon after the owner is killed, frozen or stopped. The limits leave room for a
// machine that is busy; what was seen is logged.
func TestFailoverIsQuick(t *testing.T) {
	url := database(t)
	route, topic := routeOf(t)
	settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := startWorkload(t, url, 4, &workload{pause: 10 * time.Millisecond, open: 50 * time.Millisecond})
	relays := []*relayProcess{startRelay(t, settings, "run"), startRelay(t, settings, "run")}
	for _, c := range []struct {
		how   string
		end   func(*relayProcess)
		limit time.Duration
	}{
		{"SIGKILL", (*relayProcess).Kill, 3 * time.Second},
		{"freeze", (*relayProcess).Pause, 15 * time.Second},
		{"SIGTERM", (*relayProcess).Terminate, 3 * time.Second},
	} {
		eventually(t, time.Minute, "a relay publishes and the group has settled", func() bool {
			return laneSeq(t, url) > 20 && settled(t, settingOf(settings, "RELAY_BROKERS"), url, len(relays))
		})
		owner, epoch := laneOwner(t, url)
		i := ownerIndex(t, relays, owner)
		c.end(relays[i])
		began, seq := time.Now(), laneSeq(t, url)
		eventually(t, c.limit, "another goes on after "+c.how, func() bool {
			_, now := laneOwner(t, url)
			return now > epoch && laneSeq(t, url) > seq+1
		})
		t.Logf("events flow again %v after %s", time.Since(began).Round(10*time.Millisecond), c.how)
		if c.how == "freeze" {
			relays[i].Resume()
		}
		if relays[i].Alive() {
			relays[i].Terminate()
		}
		relays[i].Wait(time.Minute)
		relays[i] = startRelay(t, settings, "run")
	}
	load.stop()
	awaitPublished(t, load)
	for _, r := range relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	finish(t, load, settings, topic)
}

// settled reports whether the group of the database's relays has so many members and is at rest.
func settled(t testing.TB, bootstrap, url string, members int) bool {
	t.Helper()
	address, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	group := relay.Group(address.Database)
	groups, err := kadm.NewClient(kafkaClient(t, strings.Split(bootstrap, ","))).DescribeGroups(t.Context(), group)
	return err == nil && groups[group].State == "Stable" && len(groups[group].Members) == members
}
