package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPaceFollowsWhatPostgresCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		late := fmt.Errorf("park rows: %w", context.DeadlineExceeded)
		for i, step := range []struct {
			changed int
			took    time.Duration
			err     error
			want    int
		}{
			{800, 9 * time.Second, late, 400},
			{400, 8 * time.Second, nil, 400}, // in time, and not quick
			{0, 0, nil, 400},                 // says nothing of parking
			{400, 9 * time.Second, late, 200},
			{200, time.Second, nil, 400},
			{400, time.Second, errors.New("another"), 400},
			{0, 9 * time.Second, late, 400}, // was not slow for its rows
			{400, time.Second, nil, 800},
			{800, time.Second, nil, 1000},
			{1, 9 * time.Second, late, 1}, // one row cannot be split
		} {
			if p.learn(step.changed, step.took, 8*time.Second, step.err); p.rows() != step.want {
				t.Fatalf("step %d: %d rows, want %d", i, p.rows(), step.want)
			}
		}
		time.Sleep(paceRecovery + time.Second)
		p.learn(0, 0, 8*time.Second, nil)
		p.learn(0, 0, 8*time.Second, nil)
		if p.rows() != 4 {
			t.Errorf("%d rows after a while, want 4", p.rows())
		}
	})
}
