package security

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/sandbox"
	"github.com/outbox-relay/relay/internal/testcert"
)

// encryptedPostgres starts a server with a certificate for the hosts, and returns the URL of a
// database with every migration applied.
func encryptedPostgres(t *testing.T, authority *testcert.Authority, hosts ...string) string {
	t.Helper()
	pair, err := authority.Sign(testcert.Leaf{Name: hosts[0], Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	options := kit.PostgresOptions()
	options.Certificate, options.Key = pair.Certificate, pair.Key
	server, err := sandbox.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatalf("no Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	databaseURL, err := server.CreateDatabase(t.Context(), "verified") // the name of its deployment on the cluster that tests share
	if err != nil {
		t.Fatal(err)
	}
	kit.Migrate(t, databaseURL)
	return databaseURL
}

// verified is the URL with sslmode=verify-full and the authorities of the file.
func verified(t *testing.T, databaseURL, host, rootFile string) string {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.Host = host + ":" + address.Port()
	address.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {rootFile}}.Encode()
	return address.String()
}

func TestPostgresIsVerified(t *testing.T) {
	t.Parallel()
	authority, err := testcert.New("authority of Postgres")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := testcert.New("a stranger")
	if err != nil {
		t.Fatal(err)
	}
	databaseURL := encryptedPostgres(t, authority, "localhost")
	rootFile, strangerFile := secretFile(t, string(authority.PEM)), secretFile(t, string(stranger.PEM))

	t.Run("verify-full", func(t *testing.T) {
		route, topic := kit.RouteOf(t)
		r := kit.StartRelay(t, kit.RelaySettings(t, verified(t, databaseURL, "localhost", rootFile), kit.Brokers(t), route), "run")
		kit.Execute(t, databaseURL, "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('account', '1', 'Opened', 'x')")
		kit.Consume(t, kit.Brokers(t), 1, time.Minute, topic)
		encrypted := kit.Connect(t, databaseURL)
		var sessions, inClear int
		err := encrypted.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE NOT ssl)
			FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'relay %'`).Scan(&sessions, &inClear)
		if err != nil || sessions == 0 || inClear > 0 {
			t.Errorf("%d of %d sessions of the relay are not encrypted (%v)", inClear, sessions, err)
		}
		r.Terminate()
		if status := r.Wait(time.Minute); status != 0 {
			t.Errorf("SIGTERM ended the relay with status %d", status)
		}
	})
	plain := kit.MaintenanceURL(t)
	for name, test := range map[string]struct{ url, want, try string }{
		"another name":         {verified(t, databaseURL, "127.0.0.1", rootFile), "cannot validate certificate for 127.0.0.1", "sslmode=verify-full compares"},
		"another authority":    {verified(t, databaseURL, "localhost", strangerFile), "certificate signed by unknown authority", "sslrootcert=FILE"},
		"a server without TLS": {verified(t, plain, "127.0.0.1", rootFile), "server refused TLS connection", "turn ssl on"},
		"an authority's file that is not there": {
			verified(t, databaseURL, "localhost", "/absent/ca.pem"), "unable to read CA file", "check sslmode, sslrootcert"},
	} {
		t.Run(name, func(t *testing.T) {
			r := kit.StartRelay(t, kit.RelaySettings(t, test.url, kit.Brokers(t)), "run")
			status := r.Wait(time.Minute) // at once: waiting does not fix it
			text := string(r.Stderr())
			t.Log(text[max(0, strings.LastIndex(text, "Error:")):])
			_, try, _ := strings.Cut(text, "Try: ")
			if status == 0 || !strings.Contains(text, test.want) || !strings.Contains(try, test.try) {
				t.Errorf("exit status %d, want the error %q with the hint %q", status, test.want, test.try)
			}
		})
	}
}
