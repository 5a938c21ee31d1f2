package inbox

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

// Two services count their messages from 1. Each message is handled, and a copy of each is skipped.
func TestTwoServicesThatBothSendTheIDOneAreBothHandled(t *testing.T) {
	t.Parallel()
	c := newInboxCase(t, 3)
	client := kit.KafkaClient(t, c.bootstrap)
	sent := make(deliveries)
	var records []*kgo.Record
	for range 2 {
		for _, source := range []string{"orders", "billing"} {
			key := "key of " + source
			sent[identity{source, "1"}] = delivery{key, 1}
			records = append(records, &kgo.Record{
				Topic: c.settings.Topics[0], Key: []byte(key), Value: []byte("1"),
				Headers: []kgo.RecordHeader{{Key: "msg_id", Value: []byte("1")}, {Key: "source", Value: []byte(source)}},
			})
		}
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	all := c.drain(time.Minute)
	requireTwice(t, sent, all)
	c.judgeEffects(sent, all).require(t)
}
