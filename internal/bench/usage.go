package bench

import (
	"math"
	"time"
)

// usage is what a process holds and has used.
type usage struct {
	known          bool // false if the system does not tell
	resident, peak int64
	processor      time.Duration
}

// megabytes of 2^20 bytes, nil if the system does not tell.
func (u usage) megabytes(n int64) *float64 {
	if !u.known {
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

func milliseconds(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 2) }
