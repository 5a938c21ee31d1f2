package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

// fillOutbox inserts rows of 200 bytes whose payload begins with the row's number, 8 bytes, for
// 10,000 aggregates.
func fillOutbox(t testing.TB, url string, rows int) {
	t.Helper()
	kit.Execute(t, url, "SET synchronous_commit = off") // fails early where the server does not answer
	const step = 500_000
	for from := 0; from < rows; from += step {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		conn := kit.Connect(t, url)
		_, err := conn.Exec(ctx, fmt.Sprintf(`
INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
SELECT 'account', (i %% 10000)::text, 'Changed', int8send(i) || sha256(int8send(i)) || sha256(int8send(i + 1)) || sha256(int8send(i + 2))
       || sha256(int8send(i + 3)) || sha256(int8send(i + 4)) || sha256(int8send(i + 5))
FROM generate_series(%d::bigint, %d::bigint) i`, from, min(from+step, rows)-1))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		kit.CloseQuietly(conn)
	}
}

func TestABacklogOfMillionsOfRowsStreamsInFlatMemory(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	// Rows of 200 bytes. The default is what the relay could not hold in the memory that it may use.
	backlogRows := kit.NumberOf(t, "RELAY_TEST_BACKLOG_ROWS", 300_000)
	fillOutbox(t, url, backlogRows)
	began := time.Now()
	r := kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route), "run")
	tally := newTally(backlogRows)
	client := kit.KafkaClient(t, kit.Brokers(t), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(8<<20))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var early, late int64
	for tally.distinct < backlogRows {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d rows arrived", tally.distinct, backlogRows)
		}
		for record := range fetches.RecordsAll() {
			tally.add(record)
		}
		memory := residentBytes(t, r.ID(), "VmRSS")
		if tally.distinct < backlogRows/3 {
			early = max(early, memory)
		} else if tally.distinct > 2*backlogRows/3 {
			late = max(late, memory)
		}
	}
	took := time.Since(began)
	peak := residentBytes(t, r.ID(), "VmHWM")
	t.Logf("%d rows in %v, %.0f rows/s with the start of the relay and a consumer on the same machine; resident: %d MB in the first third, %d MB in the last, %d MB at most",
		backlogRows, took.Round(time.Millisecond), float64(backlogRows)/took.Seconds(), early>>20, late>>20, peak>>20)
	if tally.duplicated > 0 || tally.reordered > 0 {
		t.Errorf("%d duplicated, %d reordered", tally.duplicated, tally.reordered)
	}
	const most = 160 << 20
	if peak > most {
		t.Errorf("the relay held %d MB, more than %d MB", peak>>20, int64(most)>>20)
	}
	if late > early+early/2 {
		t.Errorf("memory grew from %d MB in the first third to %d MB in the last", early>>20, late>>20)
	}
}

// tally counts rows of fillOutbox without keeping them.
type tally struct {
	seen                            []bool
	last                            map[string]uint64
	distinct, duplicated, reordered int
}

func newTally(rows int) *tally {
	return &tally{seen: make([]bool, rows), last: make(map[string]uint64)}
}

func (c *tally) add(r *kgo.Record) {
	number := binary.BigEndian.Uint64(r.Value)
	if c.seen[number] {
		c.duplicated++
		return
	}
	c.seen[number] = true
	c.distinct++
	if before, ok := c.last[string(r.Key)]; ok && number < before {
		c.reordered++
	}
	c.last[string(r.Key)] = number
}

// residentBytes reads a line of the process's status, such as VmRSS (resident now) or VmHWM (at
// most).
func residentBytes(t testing.TB, pid int, line string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("the memory of a process is read from /proc: %v", err)
	}
	for text := range strings.Lines(string(status)) {
		if fields := strings.Fields(text); len(fields) == 3 && fields[0] == line+":" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("no %s in the status of process %d", line, pid)
	return 0
}
