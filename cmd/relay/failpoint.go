//go:build failpoint

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/outbox-relay/relay/internal/pipeline"
	engine "github.com/outbox-relay/relay/internal/relay"
)

// withFailpoint returns a context under which a relay reaches the failpoint, if value names one.
func withFailpoint(ctx context.Context, value string) (context.Context, error) {
	step, err := failpoint(value)
	if step == nil {
		return ctx, err
	}
	return engine.WithStep(ctx, step), nil
}

// failpoint returns the function that sends this process a signal when a step of a batch is reached
// for the n-th time, nil where value is empty. The value is STEP:N, STEP:N:kill or STEP:N:stop;
// kill, the default, is SIGKILL, and stop is SIGSTOP.
func failpoint(value string) (func(pipeline.Step), error) {
	if value == "" {
		return nil, nil
	}
	step, signal, left, err := parseFailpoint(value)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	return func(reached pipeline.Step) {
		if reached != step {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if left--; left != 0 {
			return
		}
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			panic(fmt.Sprintf("failpoint %s: %v", value, err))
		}
		if signal == syscall.SIGKILL {
			select {} // the signal may arrive a moment later; nothing must happen in between
		}
	}, nil
}

func parseFailpoint(value string) (pipeline.Step, syscall.Signal, int, error) {
	fail := func(text string) (pipeline.Step, syscall.Signal, int, error) {
		return "", 0, 0, usage("RELAY_FAILPOINT=before-intent:3, or before-intent:3:stop", "RELAY_FAILPOINT: %s", text)
	}
	parts := strings.Split(value, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return fail(fmt.Sprintf("%q is not STEP:N or STEP:N:kill or STEP:N:stop", value))
	}
	step := pipeline.Step(parts[0])
	if !slices.Contains(pipeline.Steps(), step) {
		return fail(fmt.Sprintf("%q is not one of the steps %v", step, pipeline.Steps()))
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil || n < 1 {
		return fail(fmt.Sprintf("%q is not a number from 1", parts[1]))
	}
	signal := syscall.SIGKILL
	if len(parts) == 3 {
		switch parts[2] {
		case "kill":
		case "stop":
			signal = syscall.SIGSTOP
		default:
			return fail(fmt.Sprintf("%q is neither kill nor stop", parts[2]))
		}
	}
	return step, signal, n, nil
}
