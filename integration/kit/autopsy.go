package kit

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KeepDir is the folder in which a test that fails leaves logs and what topics hold:
// RELAY_TEST_KEEP, none unless it is set.
func KeepDir() string { return os.Getenv("RELAY_TEST_KEEP") }

// Autopsy writes what each partition of the topics holds, aborted records and markers included, to
// KeepDir.
func Autopsy(t testing.TB, bootstrap []string, topics ...string) {
	t.Helper()
	if KeepDir() == "" {
		t.Log("set RELAY_TEST_KEEP to a folder to have the records of the topics and the logs of the relays kept there")
		return
	}
	ends, err := kadm.NewClient(KafkaClient(t, bootstrap)).ListEndOffsets(t.Context(), topics...)
	if err != nil {
		t.Error(err)
		return
	}
	left := make(map[string]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[fmt.Sprintf("%s/%d", end.Topic, end.Partition)] = end.Offset
		}
	})
	client := KafkaClient(t, bootstrap, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	file, err := os.Create(filepath.Join(KeepDir(), fmt.Sprintf("records-%d.txt", time.Now().UnixNano())))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = file.Close() }() // flushed below
	out := bufio.NewWriter(file)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(left) > 0 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			place := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
			what := fmt.Sprintf("key %q msg_id %q", r.Key, Header(r, "msg_id"))
			if r.Attrs.IsControl() && len(r.Key) >= 4 {
				what = map[uint16]string{0: "ABORT", 1: "COMMIT"}[binary.BigEndian.Uint16(r.Key[2:])]
			} else if Header(r, "msg_id") == "" {
				what += " " + string(r.Value)
			}
			if _, err := fmt.Fprintf(out, "%s %d producer %d/%d leader epoch %d at %s %s\n", place, r.Offset, r.ProducerID, r.ProducerEpoch,
				r.LeaderEpoch, r.Timestamp.UTC().Format("15:04:05.000"), what); err != nil {
				t.Error(err)
			}
			if r.Offset >= left[place]-1 {
				delete(left, place)
			}
		})
	}
	if err := out.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("kept in %s", file.Name())
}

// CheckpointTopics lists the topics of checkpoints on a cluster.
func CheckpointTopics(t testing.TB, bootstrap []string) (names []string) {
	t.Helper()
	all, err := kadm.NewClient(KafkaClient(t, bootstrap)).ListTopics(t.Context())
	if err != nil {
		t.Error(err)
	}
	for name := range all {
		if strings.HasPrefix(name, "relay.") && strings.HasSuffix(name, ".checkpoints") {
			names = append(names, name)
		}
	}
	return names
}
