package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// limits are the largest batches that topics take. A person may change them while producers use
// the old ones. The publisher uses them.
type limits struct {
	topics *topics.Registry
	memory *Memory
}

// check asks for the limits of topics again if a record of the page is larger than what is known. A
// limit that was raised needs new producers.
func (l *limits) check(ctx context.Context, page *outboxread.Page) error {
	if page.Largest <= l.topics.SmallestLimit() {
		return nil
	}
	ask := make(map[string]bool)
	for i := range page.Records {
		topic := page.Records[i].Topic
		if _, known := l.topics.Known(topic); known && page.Size(i) > l.topics.Limit(topic) {
			ask[topic] = true
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if err := l.refresh(ctx, slices.Sorted(maps.Keys(ask))...); err != nil {
		return err
	}
	for i := range page.Records {
		if ask[page.Records[i].Topic] {
			if err := l.renew(page, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh asks for the limits of topics.
func (l *limits) refresh(ctx context.Context, names ...string) error {
	if err := l.topics.Refresh(ctx, names...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	return nil
}

// renew returns an error that ends the pipeline if the producers use a limit that has been raised
// since, and the record at a place needs the new one: a producer asks for a limit once. It does so
// once for a row, so that brokers that change their minds do not hold up the lane.
func (l *limits) renew(page *outboxread.Page, i int) error {
	topic, id := page.Records[i].Topic, page.IDs[i]
	if l.memory.renewed == id || !l.topics.Outgrown(topic, page.Size(i)) {
		return nil
	}
	l.memory.renewed = id
	return fmt.Errorf("topic %s takes larger records than before, and row id %d needs that: the producers start again",
		topic, id)
}
