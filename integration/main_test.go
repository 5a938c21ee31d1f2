package integration

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
	"github.com/outbox-relay/relay/internal/scratch"
)

// The environment that names servers to test against.
const (
	databaseVariable = "RELAY_TEST_DATABASE_URL"
	brokersVariable  = "RELAY_TEST_BROKERS"
)

// shared are the servers of this run.
var shared servers

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-interrupts; ok {
			fmt.Fprintln(os.Stderr, "interrupted: stopping the servers")
			if err := shared.stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(130)
		}
	}()
	status := m.Run()
	signal.Stop(interrupts)
	close(interrupts)
	if err := shared.stop(); err != nil {
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

// servers are started on first use. A server that could not be started is not tried again in this run.
type servers struct {
	mu         sync.Mutex
	postgres   *sandbox.Postgres
	kafka      *cluster.Cluster
	secured    *securedKafka
	binary     string // of the relay
	victim     string // of a consumer that tests kill
	binaryDir  *scratch.Folder
	errors     map[string]error
	stopped    bool
	maintained string // URL of the database from which others are created
}

// once runs start the first time that it is called for a name, and returns that error from then on.
func (s *servers) once(name string, start func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("the run is being stopped")
	}
	if err, tried := s.errors[name]; tried {
		return err
	}
	if s.errors == nil {
		s.errors = map[string]error{}
	}
	err := start()
	s.errors[name] = err
	return err
}

// maintenanceURL is that of a database of the server from which tests create their own.
func (s *servers) maintenanceURL() (string, error) {
	err := s.once("postgres", func() (err error) {
		if s.maintained = os.Getenv(databaseVariable); s.maintained != "" {
			return nil
		}
		s.postgres, err = sandbox.StartPostgres(context.Background(), postgresOptions())
		if err == nil {
			s.maintained = s.postgres.URL
		}
		return err
	})
	return s.maintained, err
}

func postgresOptions() sandbox.PostgresOptions {
	return sandbox.PostgresOptions{
		Version: os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
		Parameters: map[string]string{
			"max_connections":           "200",
			"max_prepared_transactions": "20",
		},
		Notice: func(line string) { fmt.Fprintln(os.Stderr, line) },
	}
}

// shortSessions lets a consumer that was killed be given up after a second or two: 6 s is the least by default.
var shortSessions = map[string]string{"group.min.session.timeout.ms": "1000"}

// cluster is the Kafka of the run.
func (s *servers) cluster() (*cluster.Cluster, error) {
	err := s.once("kafka", func() (err error) {
		s.kafka, err = cluster.Start(context.Background(), cluster.Options{Properties: shortSessions})
		return err
	})
	return s.kafka, err
}

// stop ends what was started.
func (s *servers) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	var errs []error
	if s.kafka != nil {
		errs = append(errs, s.kafka.Stop())
	}
	if s.secured != nil {
		errs = append(errs, s.secured.stop())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop())
	}
	if s.binaryDir != nil {
		errs = append(errs, s.binaryDir.Remove())
	}
	return errors.Join(errs...)
}
