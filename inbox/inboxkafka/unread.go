package inboxkafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/identity"
	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/offsets"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// ErrTooLarge is why a batch of records is parked that would take too much memory once it is
// decompressed.
var ErrTooLarge = errors.New("inboxkafka: the records of a batch take more than MaxBytes (and 16 MiB) once they are " +
	"decompressed, and were not read")

// positions notes where the group has come to, before the client begins to fetch there. A partition
// for which the group has no offset begins wherever its log does.
func (c *Consumer) positions(
	_ context.Context, at map[string]map[int32]kgo.Offset,
) (map[string]map[int32]kgo.Offset, error) {
	for topic, partitions := range at {
		for number, offset := range partitions {
			c.sched.SetNext(schedule.TopicPartition{Topic: topic, Number: number}, offset.EpochOffset().Offset)
		}
	}
	return at, nil
}

// reportDeleted tells of records that will never be handled.
func (c *Consumer) reportDeleted(topic string, partition int32, from, gone int64) {
	if gone == 0 {
		return
	}
	err := fmt.Errorf("%d offsets from %d on were deleted before this group read them", gone, from)
	c.log.Error("records were deleted before they were read: the topic keeps them for less time than this group was "+
		"behind, or somebody deleted them", "topic", topic, "partition", partition, "from", from, "to", from+gone,
		"offsets", gone)
	c.hooks.fetchError(topic, partition, err)
}

// passTooLarge parks a batch that would not fit into memory under its place, and goes on behind it.
// It runs on the goroutine that polls. Nothing is known of its keys, so later messages of them are
// not parked behind it.
func (c *Consumer) passTooLarge(e *kgo.ErrDecompressTooLarge) {
	why := fmt.Errorf("%w: offsets %d to %d of %s:%d; read them with a consumer that has the room, handle them, and "+
		"discard this entry",
		ErrTooLarge, e.Offset, e.NextOffset-1, e.Topic, e.Partition)
	m := inbox.Message{Topic: e.Topic, Partition: e.Partition, Offset: e.Offset}
	m.Source, m.ID = identity.Place(m)
	i := &schedule.Item{
		Message: m, Parking: &schedule.Parking{Cause: inbox.CauseSize, Why: why},
		Bytes: itemOverhead, Offset: e.Offset, Epoch: e.Epoch,
	}
	if !c.sched.AdmitUnread(schedule.TopicPartition{Topic: e.Topic, Number: e.Partition}, i, e.NextOffset) {
		return
	}
	c.log.Error("a batch of records is too large once it is decompressed; it is parked unread, and reading goes on "+
		"behind it",
		"topic", e.Topic, "partition", e.Partition, "offset", e.Offset, "next", e.NextOffset,
		"limit_bytes", c.mostDecompressed())
	c.hooks.fetchError(e.Topic, e.Partition, why)
	c.client.SetOffsets(offsets.Map{e.Topic: {e.Partition: {Epoch: e.Epoch, Offset: e.NextOffset}}})
}
