package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/internal/sandbox"
)

var server *sandbox.Postgres

func TestMain(m *testing.M) { os.Exit(withServer(m)) }

func withServer(m *testing.M) (code int) {
	var err error
	if server, err = sandbox.StartPostgres(context.Background(), sandbox.PostgresOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	if err := errors.Join(server.Stop(), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
