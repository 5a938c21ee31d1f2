package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/election"
)

// With a standby running, events flow again soon after the owner is killed, frozen or stopped. The
// limits leave room for a machine that is busy, and one of three tries has to keep them; what was
// seen is logged.
func TestFailoverIsQuick(t *testing.T) {
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 10 * time.Millisecond, Open: 50 * time.Millisecond})
	relays := []*kit.RelayProcess{kit.StartRelay(t, settings, "run"), kit.StartRelay(t, settings, "run")}
	for _, c := range []struct {
		how   string
		end   func(*kit.RelayProcess)
		limit time.Duration
	}{
		{"SIGKILL", (*kit.RelayProcess).Kill, 3 * time.Second},
		{"freeze", (*kit.RelayProcess).Pause, 15 * time.Second},
		{"SIGTERM", (*kit.RelayProcess).Terminate, 3 * time.Second},
	} {
		const tries = 3
		for try := 1; ; try++ {
			took := failOver(t, url, settings, relays, c.how, c.end)
			t.Logf("events flow again %v after %s", took.Round(10*time.Millisecond), c.how)
			if took <= c.limit {
				break
			}
			if try == tries {
				t.Errorf("after %s it took more than %v, %d times", c.how, c.limit, tries)
				break
			}
		}
	}
	load.Stop()
	kit.AwaitPublished(t, load)
	for _, r := range relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	kit.Finish(t, load, settings, topic)
}

// failOver ends the owner, waits until another relay publishes, and returns how long that took. It
// starts a relay in place of the one that was ended.
func failOver(
	t *testing.T, url string, settings []string, relays []*kit.RelayProcess, how string, end func(*kit.RelayProcess),
) time.Duration {
	t.Helper()
	seq := kit.LaneSeq(t, url)
	kit.Eventually(t, time.Minute, "a relay publishes and the group has settled", func() bool {
		return kit.LaneSeq(t, url) > seq+20 && settled(t, kit.SettingOf(settings, "RELAY_BROKERS"), url, len(relays))
	})
	owner, epoch := kit.LaneOwner(t, url)
	i := kit.OwnerIndex(t, relays, owner)
	end(relays[i])
	began := time.Now()
	seq = kit.LaneSeq(t, url)
	kit.Eventually(t, time.Minute, "another goes on after "+how, func() bool {
		_, now := kit.LaneOwner(t, url)
		return now > epoch && kit.LaneSeq(t, url) > seq+1
	})
	took := time.Since(began)
	if how == "freeze" {
		relays[i].Resume()
	}
	if relays[i].Alive() {
		relays[i].Terminate()
	}
	relays[i].Wait(time.Minute)
	relays[i] = kit.StartRelay(t, settings, "run")
	return took
}

// settled reports whether the group of the database's relays has so many members and is at rest.
func settled(t testing.TB, bootstrap, url string, members int) bool {
	t.Helper()
	address, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	group := election.Group(address.Database)
	groups, err := kadm.NewClient(kit.KafkaClient(t, strings.Split(bootstrap, ","))).DescribeGroups(t.Context(), group)
	return err == nil && groups[group].State == "Stable" && len(groups[group].Members) == members
}
