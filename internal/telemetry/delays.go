package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay"
)

var publishDelay = prometheus.NewDesc("relay_publish_delay_seconds",
	"Seconds from the insert of a row to the moment when the relay knows that its Kafka transaction is committed, "+
		"by the clock of the database; rows that had been parked are left out.", []string{"lane"}, nil)

// delays is a histogram of rows that takes a whole batch at once: one for each row would cost the
// lane more than counting them in a plain array.
type delays struct {
	mu    sync.Mutex
	lanes map[string]*delaysOfLane
}

type delaysOfLane struct {
	rows []uint64 // as in relay.Delays
	sum  float64  // seconds
}

func newDelays(lanes []string) *delays {
	d := &delays{lanes: map[string]*delaysOfLane{}}
	for _, lane := range lanes {
		d.of(lane)
	}
	return d
}

// of returns the counts of a lane.
func (d *delays) of(lane string) *delaysOfLane {
	of := d.lanes[lane]
	if of == nil {
		of = &delaysOfLane{rows: make([]uint64, len(relay.DelayBounds())+1)}
		d.lanes[lane] = of
	}
	return of
}

// add counts the rows of a batch.
func (d *delays) add(lane string, batch *relay.Delays) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.of(lane)
	for i, n := range batch.Rows {
		of.rows[i] += uint64(n)
	}
	of.sum += batch.Sum.Seconds()
}

// Describe sends the description of the histogram.
func (d *delays) Describe(to chan<- *prometheus.Desc) { to <- publishDelay }

// Collect sends the histogram of each lane.
func (d *delays) Collect(to chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for lane, of := range d.lanes {
		count, buckets := uint64(0), map[float64]uint64{}
		for i, n := range of.rows {
			count += n
			if i < len(relay.DelayBounds()) {
				buckets[relay.DelayBounds()[i].Seconds()] = count
			}
		}
		to <- prometheus.MustNewConstHistogram(publishDelay, count, of.sum, buckets, lane)
	}
}
