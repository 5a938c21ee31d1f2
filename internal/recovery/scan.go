package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/topicname"
)

// Scan is what was read from the data topics.
type Scan struct {
	// Topics that rows in doubt go to; Missing are those of them that do not exist.
	Topics  []string `json:"topics"`
	Missing []string `json:"missing"`
	// Since is the time from which records were read; nil if no row is in doubt.
	Since *time.Time `json:"since"`
	// Records that were read.
	Records int64 `json:"records"`

	ids []uuid.UUID
}

// The bounds of a scan. Clocks of the database and of relays may differ by scanSlack.
const (
	scanSlack   = 10 * time.Minute
	scanRecords = 5_000_000
	scanPoll    = 30 * time.Second // the longest wait for one answer
)

// scan reads from the data topics the ids of all messages that may be rows in doubt: those that no
// log knows to be published. A record is never older than its row.
func (i *inspection) scan(ctx context.Context, tx pgx.Tx, known []knowledge) (*Scan, error) {
	scan := &Scan{Topics: []string{}, Missing: []string{}, ids: []uuid.UUID{}}
	was, params := publishedByAny(known, 1)
	rows, err := tx.Query(ctx, `SELECT topic, aggregate_type, min(created_at) FROM `+pg.QuoteTable(i.o.Table)+
		` WHERE NOT `+was+` GROUP BY topic, aggregate_type`, params...)
	if err != nil {
		return nil, fmt.Errorf("find the rows in doubt: %w", err)
	}
	seen := map[string]bool{}
	var topic *string
	var aggregateType string
	var oldest time.Time
	_, err = pgx.ForEachRow(rows, []any{&topic, &aggregateType, &oldest}, func() error {
		name := topicname.OfRoute(i.o.Route, aggregateType)
		if topic != nil {
			name = *topic
		}
		if since := oldest.Add(-scanSlack); scan.Since == nil || since.Before(*scan.Since) {
			scan.Since = &since
		}
		if !seen[name] && topicname.Check(name) == nil {
			seen[name] = true
			scan.Topics = append(scan.Topics, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the rows in doubt: %w", err)
	}
	for _, name := range scan.Topics {
		if err := i.scanTopic(ctx, scan, name); err != nil {
			return nil, fmt.Errorf("scan topic %s: %w", name, err)
		}
	}
	return scan, nil
}

func (i *inspection) scanTopic(ctx context.Context, scan *Scan, topic string) error {
	admin := i.admin
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		scan.Missing = append(scan.Missing, topic)
		return nil
	}
	if err != nil {
		return err
	}
	starts, err := admin.ListOffsetsAfterMilli(ctx, scan.Since.UnixMilli(), topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, end.Partition); ok && start.Offset < end.Offset {
			from[end.Partition] = kgo.NewOffset().At(start.Offset)
			left[end.Partition] = end.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(slices.Clone(i.clients),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer client.Close()
	return scan.read(ctx, client, left)
}

// read reads the partitions to their ends, which left holds.
func (s *Scan) read(ctx context.Context, client *kgo.Client, left map[int32]int64) error {
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, scanPoll)
		fetches := client.PollFetches(poll)
		cancel()
		if err := fetches.Err(); err != nil {
			return err
		}
		for record := range fetches.RecordsAll() {
			if end, ok := left[record.Partition]; ok && record.Offset+1 >= end {
				delete(left, record.Partition)
			}
			if record.Attrs.IsControl() {
				continue
			}
			if s.Records++; s.Records > scanRecords {
				return fmt.Errorf("more than %d records since %s: too many to be held in memory; count without the scan",
					scanRecords, s.Since.Format(time.RFC3339))
			}
			if id, ok := messageID(record); ok {
				s.ids = append(s.ids, id)
			}
		}
	}
	return nil
}

// messageID finds the identity of the message in its headers.
func messageID(record *kgo.Record) (uuid.UUID, bool) {
	for _, header := range record.Headers {
		if header.Key == outboxread.HeaderMsgID {
			id, err := uuid.ParseBytes(header.Value)
			return id, err == nil
		}
	}
	return uuid.UUID{}, false
}
