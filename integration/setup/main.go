// Command setup starts and stops, once, each server that the tests need, so that whatever must be
// fetched is fetched and whatever is missing is named before the first test runs. Exit status 3
// says that there is no Postgres, 4 that there is no Kafka.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/internal/sandbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := 0
	for _, server := range []struct {
		name   string
		try    func(context.Context) error
		status int
	}{{"Postgres", postgres, 3}, {"Kafka " + cluster.Version, kafka, 4}} {
		began := time.Now()
		if err := server.try(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "setup: %s: %v\n", server.name, err)
			status = server.status
			break
		}
		fmt.Printf("setup: %s started and stopped in %.1f s\n", server.name, time.Since(began).Seconds())
	}
	stop()
	os.Exit(status)
}

func postgres(ctx context.Context) error {
	server, err := sandbox.StartPostgres(ctx, sandbox.PostgresOptions{
		Version: os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
		Notice:  func(line string) { fmt.Println("setup:", line) },
	})
	if err != nil {
		return err
	}
	return server.Stop()
}

func kafka(ctx context.Context) error {
	started, err := cluster.Start(ctx, cluster.Options{})
	if err != nil {
		return err
	}
	return started.Stop()
}
