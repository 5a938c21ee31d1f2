package kit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// databaseVariable names a database of a server to test against.
const databaseVariable = "RELAY_TEST_DATABASE_URL"

// The servers of this run. Each is started on first use, and is not tried again if it cannot be
// started.
var (
	sharedPostgres = Share(startPostgres)
	sharedKafka    = Share(startKafka)
)

var running struct {
	mu      sync.Mutex
	stopped bool
	stops   []func() error
}

// Share returns a function that starts something the first time that it is called, and returns the
// same from then on. It is stopped when the tests of the package have ended.
func Share[T any](start func() (value T, stop func() error, err error)) func() (T, error) {
	return sync.OnceValues(func() (T, error) {
		running.mu.Lock()
		defer running.mu.Unlock()
		if running.stopped {
			var none T
			return none, errors.New("the run is being stopped")
		}
		value, stop, err := start()
		if err == nil {
			running.stops = append(running.stops, stop)
		}
		return value, err
	})
}

// onStop has stop called when the tests of the package have ended.
func onStop(stop func() error) {
	running.mu.Lock()
	defer running.mu.Unlock()
	running.stops = append(running.stops, stop)
}

// stop ends what was started.
func stop() error {
	running.mu.Lock()
	defer running.mu.Unlock()
	running.stopped = true
	var errs []error
	for _, stop := range running.stops {
		errs = append(errs, stop())
	}
	running.stops = nil
	return errors.Join(errs...)
}

// Main runs the tests of a package, stops the servers and exits. It fails if a server cannot be
// stopped, or if goroutines are left behind.
func Main(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-interrupts; ok {
			fmt.Fprintln(os.Stderr, "interrupted: stopping the servers")
			if err := stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(130)
		}
	}()
	// Tests that run side by side wait for servers most of the time. The command line may say
	// otherwise.
	status := 1
	if err := flag.Set("test.parallel", "6"); err == nil {
		status = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	signal.Stop(interrupts)
	close(interrupts)
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = max(status, 1)
	}
	http.DefaultClient.CloseIdleConnections() // of the download of Postgres
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	return status
}

// startPostgres returns the URL of a database of the server from which tests create their own.
func startPostgres() (url string, stop func() error, err error) {
	if url = os.Getenv(databaseVariable); url != "" {
		return url, func() error { return nil }, nil
	}
	server, err := sandbox.StartPostgres(context.Background(), PostgresOptions())
	if err != nil {
		return "", nil, err
	}
	return server.URL, server.Stop, nil
}

// PostgresOptions are those of the servers of tests.
func PostgresOptions() sandbox.PostgresOptions {
	options := sandbox.PostgresOptions{
		Version:    os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
		Parameters: map[string]string{"max_connections": "300", "max_prepared_transactions": "20"},
		Notice:     func(line string) { fmt.Fprintln(os.Stderr, line) },
	}
	if !measured {
		// Tests kill processes, not the machine: what was written is there when the server comes back.
		options.Parameters["fsync"] = "off"
		options.Folder = sandbox.MemoryFolder()
	}
	return options
}

func startKafka() (*cluster.Cluster, func() error, error) {
	if named := os.Getenv(cluster.Variable); named != "" {
		kafka, err := cluster.Named(context.Background(), strings.Split(named, ","))
		return kafka, func() error { return nil }, err
	}
	kafka, err := cluster.Start(context.Background(), cluster.Options{Properties: cluster.ShortSessions, Measured: measured})
	if err != nil {
		return nil, nil, err
	}
	return kafka, kafka.Stop, nil
}
