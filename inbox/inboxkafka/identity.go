package inboxkafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/identity"
)

// RelayIdentity makes a message of a record of the relay: the id from the header msg_id, the source
// from the header source.
func RelayIdentity(r *kgo.Record) (inbox.Message, error) { return identity.Relay(r) }

// DebeziumIdentity makes a message of a record of Debezium's outbox event router: the id from the
// header id. The topic is the source, since those records name none.
func DebeziumIdentity(r *kgo.Record) (inbox.Message, error) { return identity.Debezium(r) }
