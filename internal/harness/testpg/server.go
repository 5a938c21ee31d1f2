package testpg

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/internal/sandbox"
)

// Options says what the tests of a package need. The zero value works.
type Options struct {
	// Parameters are settings of the server. They win over those of this package, which let it
	// forget commits when the machine crashes, and allow prepared transactions. Defaults to none.
	Parameters map[string]string

	// Parallel is how many tests that call t.Parallel run at a time. Tests that wait for servers
	// most of the time need more than the number of processors. The flag -parallel wins.
	// Defaults to that of go test.
	Parallel int

	// Stop ends what else the tests started, such as a broker. It is called before goroutines are
	// counted. Defaults to nothing.
	Stop func() error
}

var server struct {
	mu         sync.Mutex
	parameters map[string]string
	postgres   *sandbox.Postgres
	err        error // of the start, which is not tried again
	databases  int
}

// Main runs the tests of a package, stops the server and exits. It fails if a server cannot be
// stopped, or if goroutines are left behind.
func Main(m *testing.M, options Options) {
	server.parameters = options.Parameters
	os.Exit(run(m, options))
}

func run(m *testing.M, options Options) int {
	if options.Parallel > 0 {
		// m.Run parses the command line after this, which may say otherwise.
		if err := flag.Set("test.parallel", strconv.Itoa(options.Parallel)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	var err error
	if options.Stop != nil {
		err = options.Stop()
	}
	err = errors.Join(err, stop())
	http.DefaultClient.CloseIdleConnections() // of a download of Postgres
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func stop() error {
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.postgres == nil {
		return nil
	}
	return server.postgres.Stop()
}

// start returns the server of this test binary, which it starts if it does not run yet.
func start() (*sandbox.Postgres, error) {
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.postgres == nil && server.err == nil {
		parameters := map[string]string{
			// The server is killed with its processes, never with the machine.
			"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB",
			"max_prepared_transactions": "20", "max_connections": "300",
		}
		maps.Copy(parameters, server.parameters)
		server.postgres, server.err = sandbox.StartPostgres(context.Background(), sandbox.PostgresOptions{
			Version:    os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
			Parameters: parameters,
			Folder:     sandbox.MemoryFolder(),
			Notice:     func(line string) { fmt.Fprintln(os.Stderr, line) },
		})
	}
	if server.err != nil {
		return nil, fmt.Errorf("these tests need a Postgres server: %w", server.err)
	}
	return server.postgres, nil
}

// nextName returns a name for a database that no other database of the server has.
func nextName() string {
	server.mu.Lock()
	defer server.mu.Unlock()
	server.databases++
	return "test_" + strconv.Itoa(server.databases)
}
