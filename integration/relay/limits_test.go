package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
)

// max.message.bytes of a topic is lowered and raised under a relay that writes to it, with rows in
// between that the topic takes at one time and not at another. Every row that it takes is
// published, once, and no other row waits for those that it refuses.
func TestTheLimitOfATopicChangesUnderWay(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	admin := kadm.NewClient(kit.KafkaClient(t, kit.Brokers(t)))
	limit := func(bytes int) {
		text := fmt.Sprint(bytes)
		responses, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &text}}, topic)
		if err != nil || responses[0].Err != nil {
			t.Fatal(err, responses)
		}
	}
	if _, err := admin.CreateTopic(t.Context(), 1, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_COMPRESSION=none")
	conn := kit.Connect(t, url)
	put := func(sizes ...int) {
		_, err := conn.Exec(t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
			SELECT 'account', gen_random_uuid()::text, 'T', convert_to(repeat('x', size), 'UTF8') FROM unnest($1::int[]) size`, sizes)
		if err != nil {
			t.Fatal(err)
		}
	}
	kit.StartRelay(t, settings, "run")
	published, parked := 0, 0
	expect := func(what string, more, refused int) {
		t.Helper()
		published, parked = published+more, parked+refused
		kit.Eventually(t, 30*time.Second, what, func() bool {
			return len(kit.Everything(t, kit.Brokers(t), topic)) == published && operateJSON[parkedList](t, 0, url, "list").TotalRows == parked
		})
	}
	put(900_000, 500_000, 300_000)
	expect("all are published", 3, 0)
	limit(200_000)
	put(150_000, 150_000, 150_000, 300_000, 10)
	expect("what the topic takes now is published, the rest is parked", 4, 1)
	limit(3_000_000)
	put(2_500_000, 10, 2_900_000)
	expect("larger ones are published", 3, 0)
	if list := operateJSON[parkedList](t, 0, url, "list"); !strings.Contains(list.Aggregates[0].Error, "max.message.bytes") {
		t.Errorf("parked is %+v", list.Aggregates)
	}
	again := operateJSON[parkedAsked](t, 0, url, "retry", "--all", "--why", "raised")
	if len(again.Requests) != 1 || again.Requests[0].Events != 1 {
		t.Errorf("the retry: %+v", again)
	}
	expect("what was parked is published", 1, -1)
}
