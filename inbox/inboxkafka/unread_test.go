package inboxkafka

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// fetchErrors is a hook that keeps what it is told.
type fetchErrors struct {
	mu   sync.Mutex
	told []error
}

func (f *fetchErrors) hooks() Hooks {
	return Hooks{FetchError: func(_ context.Context, _ string, _ int32, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, err)
	}}
}

func (f *fetchErrors) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var text strings.Builder
	for _, err := range f.told {
		text.WriteString(err.Error() + "\n")
	}
	return text.String()
}

// deleteUpTo has the broker delete the records before an offset, as its retention does.
func (r *rig) deleteUpTo(offset int64) {
	r.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, offset, -1)
	answers, err := kadm.NewClient(r.producer).DeleteRecords(r.t.Context(), offsets)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// What a group has read may be deleted, and nothing reports it.
func TestRecordsThatWereReadMayBeDeleted(t *testing.T) {
	r := newRig(t, 1)
	told := &fetchErrors{}
	cfg := r.config()
	cfg.Hooks = told.hooks()
	r.sendMany(10, 0, "a")
	first := r.start(cfg)
	r.awaitEffects()
	eventually(t, "offset 10 is committed", func() bool { return r.committed(0) == 10 })
	r.deleteUpTo(10)
	r.sendMany(1, 0, "a")
	r.awaitEffects()
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	r.deleteUpTo(11)
	second := r.start(cfg)
	r.sendMany(1, 0, "a")
	r.awaitEffects()
	if text := told.text(); text != "" || first.Stats().Deleted+second.Stats().Deleted != 0 {
		t.Errorf("records that were read are said to be lost: %s", text)
	}
}

// Records that the brokers delete while a group is behind are handled by none. All that can be done
// is to tell how many.
func TestRecordsThatWereDeletedUnreadAreTold(t *testing.T) {
	r := newRig(t, 1)
	told := &fetchErrors{}
	cfg := r.config()
	cfg.Hooks = told.hooks()
	r.sendMany(10, 0, "a")
	first := r.start(cfg)
	r.awaitEffects()
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	r.sendMany(7, 0, "b")
	delete(r.want, "b")
	r.deleteUpTo(17)
	r.sendMany(3, 0, "a")
	second := r.start(cfg)
	eventually(t, "what is left", func() bool { return r.inbox.count() == 13 })
	if !strings.Contains(told.text(), "7 offsets from 10 on were deleted before this group read them") {
		t.Errorf("told %q", told.text())
	}
	if n := second.Stats().Deleted; n != 7 {
		t.Errorf("Deleted is %d, want 7", n)
	}
	r.checkEffects()
}

// No record comes any more: the topic is quiet, and what was there is gone.
func TestRecordsThatWereDeletedUnreadAreToldWithoutANextOne(t *testing.T) {
	r := newRig(t, 1)
	told := &fetchErrors{}
	cfg := r.config()
	cfg.Hooks = told.hooks()
	r.sendMany(10, 0, "a")
	first := r.start(cfg)
	r.awaitEffects()
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	r.sendMany(7, 0, "b")
	delete(r.want, "b")
	r.deleteUpTo(17)
	second := r.start(cfg)
	eventually(t, "they are told", func() bool { return second.Stats().Deleted > 0 })
	r.sendMany(3, 0, "a")
	eventually(t, "what comes later", func() bool { return r.inbox.count() == 13 })
	if strings.TrimSpace(told.text()) != "7 offsets from 10 on were deleted before this group read them" {
		t.Errorf("told %q", told.text())
	}
	if n := second.Stats().Deleted; n != 7 {
		t.Errorf("Deleted is %d, want 7", n)
	}
	r.checkEffects()
}

// A batch of some KiB that decompresses to hundreds of MiB neither fills the memory nor stops the
// partition.
func TestABatchThatDecompressesToTooMuchIsParkedUnread(t *testing.T) {
	r := newRig(t, 1)
	told := &fetchErrors{}
	cfg := r.config()
	cfg.Hooks, cfg.MaxBytes = told.hooks(), 1<<20
	r.sendMany(5, 0, "a")
	r.sendBomb(64, 4<<20)
	r.sendMany(5, 0, "a")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := r.start(cfg)
	eventually(t, "what stands behind it", func() bool { return r.inbox.count() == 10 })
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
	eventually(t, "the end is committed", func() bool { return r.committed(0) == 5+64+5 })
	parked := r.inbox.parkedMessages()
	if len(parked) != 1 || parked[0].cause != inbox.CauseSize || parked[0].Offset != 5 || parked[0].Payload != nil {
		t.Errorf("parked %+v", parked)
	}
	if !strings.Contains(told.text(), "offsets 5 to 68 of orders:0") {
		t.Errorf("told %q", told.text())
	}
	if n := p.Stats().Deleted; n != 0 {
		t.Errorf("Deleted is %d", n)
	}
	r.checkEffects()
}

// sendBomb sends one batch of n records of so many bytes each, which compress to almost nothing.
func (r *rig) sendBomb(n, size int) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(512<<20), kgo.BrokerMaxWriteBytes(1<<30),
		kgo.MaxBufferedRecords(n), kgo.ManualFlushing())
	if err != nil {
		r.t.Fatal(err)
	}
	defer client.Close()
	value := bytes.Repeat([]byte("x"), size)
	for range n {
		client.Produce(r.t.Context(), &kgo.Record{Topic: topic, Key: []byte("bomb"), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	if err := client.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}
