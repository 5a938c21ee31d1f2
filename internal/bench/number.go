package bench

import (
	"math"

	"github.com/outbox-relay/relay/internal/harness/usage"
)

// megabytes of 2^20 bytes, nil if the system does not tell.
func megabytes(u usage.Usage, n int64) *float64 {
	if !u.Known {
		return nil
	}
	return number(float64(n)/(1<<20), 1)
}

// number is a value rounded to so many digits after the point.
func number(value float64, digits int) *float64 {
	rounded := round(value, digits)
	return &rounded
}

func round(value float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(value*scale) / scale
}
