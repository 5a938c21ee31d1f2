package inbox

import (
	"context"
	"maps"

	"github.com/outbox-relay/relay/inbox/internal/tables"
	"github.com/outbox-relay/relay/outbox"
)

// Headers that tell where an event came from. Names of W3C Trace Context, and the usual two of
// causation.
const (
	headerCausation   = "causation_id"
	headerCorrelation = "correlation_id"
	headerTraceParent = "traceparent"
	headerTraceState  = "tracestate"
)

type contextKey struct{}

// WithMessage returns the context in which FromContext finds the message, for code that calls a
// handler by itself.
func WithMessage(ctx context.Context, m Message) context.Context {
	return context.WithValue(ctx, contextKey{}, m)
}

// FromContext returns the message that a handler of Handle, AtMostOnce or a retry runs for, and a
// Handler of inboxkafka, from the context it was given.
func FromContext(ctx context.Context) (m Message, found bool) {
	m, found = ctx.Value(contextKey{}).(Message)
	return m, found
}

// Follow returns an event that this message causes, for outbox.Insert in the transaction of the
// handler: with the header causation_id, the id of this message; correlation_id, that of the
// message that began it all; and traceparent and tracestate of this message. Headers that the event
// has already stay as they are.
func (m Message) Follow(event outbox.Message) outbox.Message {
	headers := map[string]string{headerCausation: m.ID, headerCorrelation: m.ID}
	for _, name := range []string{headerCorrelation, headerTraceParent, headerTraceState} {
		if value, found := m.Header(name); found && tables.CheckText(string(value)) == "" {
			headers[name] = string(value)
		}
	}
	maps.Copy(headers, event.Headers)
	event.Headers = headers
	return event
}
