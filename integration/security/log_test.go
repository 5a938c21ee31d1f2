package security

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/access"
)

// What must be found nowhere but on the topics. The keys of records are often personal data, so
// they count.
const (
	secretPayload   = "PAYLOAD-7f3a91"
	secretHeader    = "HEADER-5c20be"
	secretAggregate = "PERSON-e81d44"
)

var adminAddress = regexp.MustCompile(`"admin":"([^"]+)"`)

// adminPages reads every page of the relay's admin address.
func adminPages(t *testing.T, r *kit.RelayProcess) []byte {
	t.Helper()
	address := adminAddress.FindSubmatch(r.Stderr())
	if address == nil {
		t.Fatal("the log does not tell the admin address")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	var all []byte
	for _, page := range []string{"/", "/livez", "/readyz", "/metrics"} {
		answer, err := client.Get(fmt.Sprintf("http://%s%s", address[1], page))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, body...)
	}
	return all
}

// insertSecret writes an event whose every free part can be recognised, and returns its msg_id.
func insertSecret(t *testing.T, url, aggregate string, topic, payload, headers any) string {
	t.Helper()
	conn := kit.Connect(t, url)
	defer kit.CloseQuietly(conn)
	id := uuid.NewString()
	_, err := conn.Exec(t.Context(), `INSERT INTO outbox (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers)
		VALUES ($1, 'account', $2, 'Opened', $3, $4, $5)`, id, secretAggregate+aggregate, topic, payload, headers)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A relay at the level debug publishes, is handed rows that cannot be sent, and loses its servers
// and its rights to them. Nowhere does it show a payload, a header's value, a key, a password or a
// token.
func TestNoLogAndNoPageShowsAPayloadOrASecret(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	owner := kit.Database(t)
	withRoles(t, kit.Connect(t, owner))
	const databasePassword, wrongDatabase, kafkaPassword, wrongKafka = "p0stgres-right", "p0stgres-wrong", "kafk4-right", "kafk4-wrong"
	address, err := url.Parse(login(t, owner, access.RelayRole, databasePassword))
	if err != nil {
		t.Fatal(err)
	}
	user := address.User.Username()
	if err := kafka.setPassword(t.Context(), quietUser, kafkaPassword); err != nil {
		t.Fatal(err)
	}
	urlFile, passwordFile := secretFile(t, address.String()), secretFile(t, kafkaPassword)
	route, topic := kit.RouteOf(t)
	r := kit.StartRelay(t, append(kit.RelaySettings(t, "", nil, route, "RELAY_LOG_LEVEL=debug", "RELAY_LOG_FORMAT=json", "RELAY_RETRY_MAX=1s"),
		"RELAY_DATABASE_URL_FILE="+urlFile, "RELAY_ADMIN=127.0.0.1:0", "RELAY_BROKERS="+kafka.Addresses(impatientListener)[0],
		"RELAY_KAFKA_TLS_ENABLED=true", "RELAY_KAFKA_TLS_CA_FILE="+kafka.caFile, "RELAY_KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
		"RELAY_KAFKA_SASL_USER="+quietUser, "RELAY_KAFKA_SASL_PASSWORD_FILE="+passwordFile), "run")
	var pages []byte
	look := func() { pages = append(pages, adminPages(t, r)...) }

	headers := fmt.Sprintf(`{"customer": %q}`, secretHeader)
	insertSecret(t, owner, "-good", nil, []byte(secretPayload), headers)
	if records := kit.Consume(t, kafka.Bootstrap, 1, time.Minute, topic); string(records[0].Value) != secretPayload {
		t.Fatalf("read %q", records[0].Value)
	}
	look()

	// Rows that cannot be sent; each is taken away once the relay has spoken of it.
	for name, refused := range map[string]func() string{
		"too large": func() string {
			return insertSecret(t, owner, "-large", nil, bytes.Repeat([]byte(secretPayload), 1<<17), headers)
		},
		"header": func() string {
			return insertSecret(t, owner, "-header", nil, []byte(secretPayload), fmt.Sprintf(`{"customer": {"name": %q}}`, secretHeader))
		},
		"topic": func() string {
			return insertSecret(t, owner, "-topic", "no such topic!", []byte(secretPayload), headers)
		},
	} {
		id := refused()
		kit.Eventually(t, time.Minute, "the relay speaks of the row "+name, func() bool { return bytes.Contains(r.Stderr(), []byte(id)) })
		look()
		kit.Execute(t, owner, "DELETE FROM outbox WHERE msg_id = '"+id+"'")
	}

	// Wrong secrets on both sides while it runs, then the right ones.
	wrong := *address
	wrong.User = url.UserPassword(user, wrongDatabase)
	rewrite(t, urlFile, wrong.String())
	kit.Execute(t, owner, fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'", user))
	r.AwaitLog(time.Minute, "password authentication failed")
	rewrite(t, urlFile, address.String())
	rewrite(t, passwordFile, wrongKafka)
	insertSecret(t, owner, "-later", nil, []byte(secretPayload), headers)
	r.AwaitLog(time.Minute, "SASL_AUTHENTICATION_FAILED")
	look()
	rewrite(t, passwordFile, kafkaPassword)
	kit.Consume(t, kafka.Bootstrap, 2, time.Minute, topic)
	look()
	status := kit.StartRelay(t, []string{"RELAY_DATABASE_URL_FILE=" + urlFile}, "status", "--output", "json")
	if code := status.Wait(time.Minute); code != 0 {
		t.Errorf("relay status ended with %d", code)
	}
	r.Terminate()
	r.Wait(time.Minute)

	written := map[string][]byte{
		"log": r.Stderr(), "standard output": r.Stdout(), "admin pages": pages, "relay status": append(status.Stdout(), status.Stderr()...),
	}
	for where, text := range written {
		for _, secret := range []string{secretPayload, secretHeader, secretAggregate, databasePassword, wrongDatabase, kafkaPassword, wrongKafka} {
			if i := strings.Index(string(text), secret); i >= 0 {
				t.Errorf("the %s shows %s: …%s…", where, secret, text[max(0, i-200):min(len(text), i+50)])
			}
		}
	}
}
