package load

import (
	"math"
	"time"
)

// Latency is a distribution of times in milliseconds.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// LatencyOf is that of times in ascending order; zero if there are none.
func LatencyOf(sorted []time.Duration) Latency {
	return Latency{P50: Quantile(sorted, 0.5), P99: Quantile(sorted, 0.99), P999: Quantile(sorted, 0.999), Max: Quantile(sorted, 1)}
}

// Quantile is the time in milliseconds that the share p of the times, which are in ascending order,
// does not exceed; 0 if there are none.
func Quantile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	d := sorted[int(p*float64(len(sorted)-1))]
	return math.Round(100*float64(d)/float64(time.Millisecond)) / 100
}
