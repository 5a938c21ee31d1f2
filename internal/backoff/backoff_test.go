package backoff

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestJitterStaysWithinHalfAndOneAndAHalf(t *testing.T) {
	least, most := time.Hour, time.Duration(0)
	for range 2000 {
		d := Jitter(time.Second)
		least, most = min(least, d), max(most, d)
	}
	if least < time.Second/2 || most > 3*time.Second/2 || least > 600*time.Millisecond || most < 1400*time.Millisecond {
		t.Errorf("jitter of 1s goes from %v to %v", least, most)
	}
	if d := Jitter(0); d != 0 {
		t.Errorf("jitter of nothing is %v", d)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := Sleep(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
