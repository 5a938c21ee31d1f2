package security

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/access"
)

// Passwords change in Postgres and in Kafka while the relay runs. Between the change and the new
// file it waits and says why; with the new file it goes on, without a restart.
func TestRotatedSecretsAreUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	owner := kit.Database(t)
	withRoles(t, kit.Connect(t, owner))
	secrets := []string{"f1rst-Postgres", "f1rst-Kafka", "sec0nd-Postgres", "sec0nd-Kafka"}
	address, err := url.Parse(login(t, owner, access.RelayRole, secrets[0]))
	if err != nil {
		t.Fatal(err)
	}
	user := address.User.Username()
	address.User = url.User(user)
	if err := kafka.setPassword(t.Context(), rotatingUser, secrets[1]); err != nil {
		t.Fatal(err)
	}
	databaseFile, kafkaFile := secretFile(t, secrets[0]+"\n"), secretFile(t, secrets[1]+"\n")
	route, topic := kit.RouteOf(t)
	r := kit.StartRelay(t, append(kit.RelaySettings(t, address.String(), nil, route, "RELAY_LOG_LEVEL=debug", "RELAY_RETRY_MAX=1s"),
		"RELAY_DATABASE_PASSWORD_FILE="+databaseFile, "RELAY_BROKERS="+kafka.Addresses(impatientListener)[0],
		"RELAY_KAFKA_TLS_ENABLED=true", "RELAY_KAFKA_TLS_CA_FILE="+kafka.caFile, "RELAY_KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
		"RELAY_KAFKA_SASL_USER="+rotatingUser, "RELAY_KAFKA_SASL_PASSWORD_FILE="+kafkaFile), "run")
	load := kit.StartWorkload(t, owner, 2, &kit.Workload{Pause: 20 * time.Millisecond})
	kit.AwaitGoingOn(t, owner)

	// The listener asks for the password again within seconds.
	if err := kafka.setPassword(t.Context(), rotatingUser, secrets[3]); err != nil {
		t.Fatal(err)
	}
	r.AwaitLog(time.Minute, "SASL_AUTHENTICATION_FAILED")
	rewrite(t, kafkaFile, secrets[3]+"\n")
	kit.AwaitGoingOn(t, owner)

	kit.Execute(t, owner, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'",
		user, secrets[2], user))
	r.AwaitLog(time.Minute, "password authentication failed")
	rewrite(t, databaseFile, secrets[2]+"\n")
	kit.AwaitGoingOn(t, owner)

	load.Stop()
	kit.AwaitPublished(t, load)
	r.Terminate()
	if status := r.Wait(time.Minute); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}
	kit.Judge(load.Ledger(t), kit.Everything(t, kafka.Bootstrap, topic)).Require(t)
	for _, secret := range secrets {
		if strings.Contains(string(r.Stderr())+string(r.Stdout()), secret) {
			t.Errorf("the log shows the secret %s", secret)
		}
	}
}
