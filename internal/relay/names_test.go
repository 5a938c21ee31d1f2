package relay

import (
	"reflect"
	"testing"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/kafkatx"
)

func TestNamesOnTheClusterAreStable(t *testing.T) {
	if got := checkpoint.TopicName("app"); got != "relay.app.checkpoints" {
		t.Error(got)
	}
	if got := election.Group("app"); got != "relay.app" {
		t.Error(got)
	}
	want := []string{"relay.app.l.0", "relay.app.l.1", "relay.app.l.2", "relay.app.l.3", "relay.app.l.4", "relay.app.l.5"}
	if got := kafkatx.TransactionalIDs("app", "l"); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}
