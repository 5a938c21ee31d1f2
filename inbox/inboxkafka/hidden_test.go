package inboxkafka

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/inbox"
)

// hideSegments makes the broker say nothing of segment.ms, as some services that offer Kafka do.
func (r *rig) hideSegments() {
	r.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		answer := request.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range request.(*kmsg.DescribeConfigsRequest).Resources {
			week := "604800000"
			answer.Resources = append(answer.Resources, kmsg.DescribeConfigsResponseResource{
				ResourceType: asked.ResourceType, ResourceName: asked.ResourceName,
				Configs: []kmsg.DescribeConfigsResponseResourceConfig{{Name: "retention.ms", Value: &week}},
			})
		}
		return answer, nil, true
	})
}

func TestABrokerThatHidesSettingsKeepsMarksForever(t *testing.T) {
	r := newRig(t, 1)
	r.hideSegments()
	cfg := r.config()
	cfg.Retention = 0
	r.sendMany(3, 0, "a")
	r.start(cfg)
	r.awaitEffects()
	if keep := r.inbox.kept(); keep != 0 {
		t.Errorf("marks are kept for %v, although it is unknown how long records live", keep)
	}
}

func TestABrokerThatHidesSettingsRefusesARetentionThatNobodyCanCheck(t *testing.T) {
	r := newRig(t, 1)
	r.hideSegments()
	cfg := r.config()
	cfg.Retention = 1 << 50
	c, err := cfg.open(r.inbox)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Run(ctx); err == nil || !strings.Contains(err.Error(), "the broker does not say its segment.ms") ||
		!strings.Contains(err.Error(), "KeepForever") {
		t.Errorf("Run returned %v", err)
	}
}

// A Handler finds its message in the context, also when several messages share a transaction.
func TestAHandlerFindsItsMessageInTheContext(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	cfg.Batch = 10
	var wrong, calls atomic.Int64
	cfg.Handler = func(ctx context.Context, _ pgx.Tx, m inbox.Message) error {
		calls.Add(1)
		if found, ok := inbox.FromContext(ctx); !ok || found.ID != m.ID {
			wrong.Add(1)
		}
		return nil
	}
	r.sendMany(50, 0, "a", "b", "c")
	r.start(cfg)
	r.awaitEffects()
	if wrong.Load() > 0 || calls.Load() == 0 {
		t.Errorf("%d of %d calls did not find their message", wrong.Load(), calls.Load())
	}
}
