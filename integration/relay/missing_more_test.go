//go:build more

package relay

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

// Every 2.5 s a row of one more topic comes that does not exist. Rows of a topic that exists go
// on: if the lane waited for each such topic, they would wait for tens of seconds.
func TestNewMissingTopicsDoNotHoldUpOtherRows(t *testing.T) {
	t.Parallel()
	const every, missing, eachSecond = 2500 * time.Millisecond, 8, 50
	const rows = int(every*missing/time.Second) * eachSecond
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	kit.CreateTopic(t, kit.Brokers(t), topic, 3)
	kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_TOPICS_CREATE=false", "RELAY_TOPICS_ALLOW="+topic+"*"), "run")
	conn := kit.Connect(t, url)
	write := func(key string, named any) {
		_, err := conn.Exec(t.Context(), "INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('account', $1, 'Changed', $2, $3)",
			key, named, strconv.AppendInt(nil, time.Now().UnixNano(), 10))
		if err != nil {
			t.Error(err)
		}
	}
	write("warm", nil)
	kit.Consume(t, kit.Brokers(t), 1, time.Minute, topic)
	written := make(chan struct{})
	go func() {
		defer close(written)
		tick := time.NewTicker(time.Second / eachSecond)
		defer tick.Stop()
		for n := range rows {
			if n%(rows/missing) == 0 {
				write("missing "+strconv.Itoa(n), fmt.Sprintf("%s.missing-%d", topic, n))
			}
			write(strconv.Itoa(n%20), nil)
			<-tick.C
		}
	}()
	lags := lagsOf(t, topic, rows)
	<-written
	p50, p99, longest := lags[len(lags)/2], lags[len(lags)*99/100], lags[len(lags)-1]
	t.Logf("%d rows, beside %d topics that are missing: p50 %v, p99 %v, longest %v", len(lags), missing, p50, p99, longest)
	if p99 > 2*time.Second || longest > 5*time.Second {
		t.Errorf("rows waited: p99 %v, longest %v", p99, longest)
	}
	kit.Eventually(t, 30*time.Second, "the rows of missing topics are parked", func() bool {
		return kit.Number(t, conn, "SELECT count(DISTINCT topic) FROM outbox_parked") == missing
	})
}

// lagsOf reads a topic, and returns how long each of n rows behind the first one took to arrive,
// the shortest first.
func lagsOf(t *testing.T, topic string, n int) []time.Duration {
	lags := make([]time.Duration, 0, n)
	kit.ConsumeUntil(t, kit.Brokers(t), 2*time.Minute, func(records []*kgo.Record) bool {
		for _, r := range records[min(len(lags)+1, len(records)):] {
			sent, err := strconv.ParseInt(string(r.Value), 10, 64)
			if err != nil {
				t.Fatalf("%q: %v", r.Value, err)
			}
			lags = append(lags, time.Since(time.Unix(0, sent)))
		}
		return len(lags) >= n
	}, topic)
	slices.Sort(lags)
	return lags
}
