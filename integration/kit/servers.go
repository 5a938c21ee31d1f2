package kit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// The environment that names servers to test against.
const (
	databaseVariable = "RELAY_TEST_DATABASE_URL"
	brokersVariable  = "RELAY_TEST_BROKERS"
)

// shared are the servers and programs of this run. Each is started on first use, and is not tried again if it cannot be started.
var (
	sharedPostgres = Share(startPostgres)
	sharedKafka    = Share(startKafka)
)

var running struct {
	mu      sync.Mutex
	stopped bool
	stops   []func() error
}

// Share returns a function that starts something the first time that it is called, and returns the same from then on. It is
// stopped when the tests of the package have ended.
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

// Main runs the tests of a package, stops the servers and exits. It fails if a server cannot be stopped, or if goroutines are
// left behind.
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
	status := m.Run()
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
	return sandbox.PostgresOptions{
		Version: os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
		Parameters: map[string]string{
			"max_connections":           "200",
			"max_prepared_transactions": "20",
		},
		Notice: func(line string) { fmt.Fprintln(os.Stderr, line) },
	}
}

// ShortSessions lets a consumer that was killed be given up after a second or two: 6 s is the least by default.
var ShortSessions = map[string]string{"group.min.session.timeout.ms": "1000"}

func startKafka() (*cluster.Cluster, func() error, error) {
	kafka, err := cluster.Start(context.Background(), cluster.Options{Properties: ShortSessions})
	if err != nil {
		return nil, nil, err
	}
	return kafka, kafka.Stop, nil
}
