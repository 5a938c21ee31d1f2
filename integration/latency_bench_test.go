//go:build bench

package integration

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The time from the return of a COMMIT to the arrival at a read_committed consumer, at steady rates.
func TestLatencyAtASteadyRate(t *testing.T) {
	for _, rate := range []int{50, 2000, 5000} {
		url := database(t)
		route, topic := routeOf(t)
		createTopic(t, brokers(t), topic, 12)
		r := startRelay(t, relaySettings(t, url, brokers(t), route), "run")
		r.AwaitLog(time.Minute, "lane taken over")
		const seconds, warmUp = 15, 3
		latencies := steadyRate(t, url, topic, rate, rate*seconds, rate*warmUp)
		slices.Sort(latencies)
		at := func(p float64) time.Duration {
			return latencies[int(p*float64(len(latencies)-1))].Round(100 * time.Microsecond)
		}
		t.Logf("%d events/s: p50 %v, p99 %v, max %v", rate, at(0.5), at(0.99), at(1))
		r.Terminate()
		r.Wait(time.Minute)
	}
}

// steadyRate inserts n events, one a transaction, at the rate, and returns how long each took to arrive, but the first skip.
func steadyRate(t *testing.T, url, topic string, rate, n, skip int) []time.Duration {
	t.Helper()
	const writers = 16
	committed := make([]time.Time, n)
	began := time.Now()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer closeQuietly(conn)
			for i := w; i < n; i += writers {
				time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				payload := append(binary.BigEndian.AppendUint64(nil, uint64(i)), make([]byte, 192)...)
				_, err := conn.Exec(t.Context(), insertEvent, strconv.Itoa(i%1000), payload)
				if err != nil {
					t.Error(err)
					return
				}
				committed[i] = time.Now()
			}
		})
	}
	arrived := make([]time.Time, n)
	client := kafkaClient(t, brokers(t), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for count := 0; count < n; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d arrived", count, n)
		}
		now := time.Now()
		for record := range fetches.RecordsAll() {
			arrived[binary.BigEndian.Uint64(record.Value)] = now
			count++
		}
	}
	group.Wait()
	latencies := make([]time.Duration, 0, n)
	for i := skip; i < n; i++ {
		latencies = append(latencies, arrived[i].Sub(committed[i]))
	}
	return latencies
}
