package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	engine "github.com/outbox-relay/relay/internal/relay"
	"github.com/outbox-relay/relay/internal/timeline"
)

// traceFlag names a file for the times of batches. Not shown: relay bench --trace reads it.
func traceFlag() cli.Flag {
	return &cli.StringFlag{Name: "trace", Hidden: true,
		Usage: "write when each step of each batch was done to `FILE`, a line of JSON for each batch"}
}

// traced runs work and writes the times of each batch to the file; without a path it only runs work.
func traced(ctx context.Context, path string, work func(context.Context) error) error {
	if path == "" {
		return work(ctx)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write a trace: %w", err)
	}
	writer := timeline.NewWriter(file)
	err = work(engine.WithTrace(ctx, writer.Write))
	return errors.Join(err, writer.Flush(), file.Close())
}
