package security

import (
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
)

// onceAs runs a relay with the settings until it has published a row.
func onceAs(t *testing.T, kafka *securedKafka, listener string, security ...string) {
	t.Helper()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	r := kit.StartRelay(t, append(kit.RelaySettings(t, url, kafka.Addresses(listener), route), security...), "run")
	kit.Execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('account', '1', 'Opened', 'x')")
	r.AwaitLog(time.Minute, "lane taken over")
	kit.Consume(t, kafka.Bootstrap, 1, time.Minute, topic)
	r.Terminate()
	if status := r.Wait(time.Minute); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}
}

func TestEveryWayToProveWhoTheRelayIs(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	tls := []string{"RELAY_KAFKA_TLS_ENABLED=true", "RELAY_KAFKA_TLS_CA_FILE=" + kafka.caFile}
	certificate, key := kafka.clientCertificate(t, operatorUser)
	password := []string{"RELAY_KAFKA_SASL_USER=" + operatorUser, "RELAY_KAFKA_SASL_PASSWORD_FILE=" + secretFile(t, operatorPassword+"\n")}
	ways := []struct {
		name, listener string
		settings       []string
	}{
		{"TLS", encryptedListener, tls},
		{"TLS with another name", misnamedListener, append([]string{"RELAY_KAFKA_TLS_SERVER_NAME=kafka.internal"}, tls...)},
		{"mutual TLS", mutualListener, append([]string{
			"RELAY_KAFKA_TLS_CERTIFICATE_FILE=" + certificate, "RELAY_KAFKA_TLS_KEY_FILE=" + key}, tls...)},
		{"PLAIN", saslListener, append(append([]string{"RELAY_KAFKA_SASL_MECHANISM=PLAIN"}, tls...), password...)},
		{"PLAIN on loopback", clearListener, append([]string{"RELAY_KAFKA_SASL_MECHANISM=PLAIN"}, password...)},
		{"SCRAM-SHA-256", saslListener, append(append([]string{"RELAY_KAFKA_SASL_MECHANISM=SCRAM-SHA-256"}, tls...), password...)},
		{"SCRAM-SHA-512", saslListener, append([]string{"RELAY_KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
			"RELAY_KAFKA_SASL_USER=" + operatorUser, "RELAY_KAFKA_SASL_PASSWORD=" + operatorPassword}, tls...)},
		{"OAUTHBEARER", saslListener, append([]string{"RELAY_KAFKA_SASL_MECHANISM=OAUTHBEARER",
			"RELAY_KAFKA_SASL_TOKEN_FILE=" + secretFile(t, token(t, operatorUser, time.Now().Add(time.Hour)))}, tls...)},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			onceAs(t, kafka, way.listener, way.settings...)
		})
	}
}

func TestWhatIsWrongWithASecuredConnectionIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	url := kit.Database(t)
	tls := []string{"RELAY_KAFKA_TLS_ENABLED=true", "RELAY_KAFKA_TLS_CA_FILE=" + kafka.caFile}
	sasl := func(mechanism, user, password string) []string {
		return append([]string{"RELAY_KAFKA_SASL_MECHANISM=" + mechanism, "RELAY_KAFKA_SASL_USER=" + user,
			"RELAY_KAFKA_SASL_PASSWORD=" + password}, tls...)
	}
	certificate, key := strangersCertificate(t)
	tests := []struct {
		name, listener string
		settings       []string
		want, try      string
	}{
		{"wrong password, PLAIN", saslListener, sasl("PLAIN", relayUser, "hunter2"),
			"SASL authentication failed for user relay with PLAIN", "kafka.sasl.password-file"},
		{"wrong password, SCRAM", saslListener, sasl("SCRAM-SHA-512", relayUser, "hunter2"),
			"SASL authentication failed for user relay with SCRAM-SHA-512", "kafka.sasl.password-file"},
		{"unknown user", saslListener, sasl("SCRAM-SHA-256", "nobody", "hunter2"),
			"SASL authentication failed for user nobody with SCRAM-SHA-256", "kafka.sasl.user"},
		{"token that has expired", saslListener, append([]string{"RELAY_KAFKA_SASL_MECHANISM=OAUTHBEARER",
			"RELAY_KAFKA_SASL_TOKEN_FILE=" + secretFile(t, token(t, relayUser, time.Now().Add(-time.Hour)))}, tls...),
			"the broker does not accept the token", "kafka.sasl.token-file"},
		{"a mechanism that is not offered", impatientListener, sasl("PLAIN", relayUser, "hunter2"),
			"does not offer the SASL mechanism PLAIN", "sasl.enabled.mechanisms"},
		{"SASL where there is none", encryptedListener, sasl("PLAIN", relayUser, "hunter2"), "asks for no SASL", "kafka.sasl.mechanism"},
		{"no SASL where it is wanted", saslListener, tls, "closed the connection at once", "--kafka-sasl-mechanism"},
		{"plain text to a port with TLS", encryptedListener, nil, "", "--kafka-tls-enabled"},
		{"TLS to a port without", clearListener, tls, "closed the connection at once", "a listener without TLS"},
		{"another authority", encryptedListener, []string{"RELAY_KAFKA_TLS_ENABLED=true"},
			"was not signed by an authority that this machine trusts", "--kafka-tls-ca-file"},
		{"another name", misnamedListener, tls, "the broker's certificate is not for 127.0.0.1", "--kafka-tls-server-name"},
		{"no certificate where one is wanted", mutualListener, tls, "the broker refused the TLS handshake", "--kafka-tls-certificate-file"},
		{"a stranger's certificate", mutualListener, append([]string{
			"RELAY_KAFKA_TLS_CERTIFICATE_FILE=" + certificate, "RELAY_KAFKA_TLS_KEY_FILE=" + key}, tls...),
			"the broker refused the TLS handshake", "signed by an authority that they trust"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			settings := append(kit.RelaySettings(t, url, kafka.Addresses(test.listener), "RELAY_START_TIMEOUT=3s"), test.settings...)
			r := kit.StartRelay(t, settings, "run")
			status := r.Wait(time.Minute)
			text := string(r.Stderr())
			t.Log(text[strings.LastIndex(text, "Error:"):])
			_, try, _ := strings.Cut(text, "Try: ")
			if status != 1 || !strings.Contains(text, test.want) || !strings.Contains(try, test.try) {
				t.Errorf("exit status %d, want the error %q with the hint %q", status, test.want, test.try)
			}
			if strings.Contains(text, "hunter2") {
				t.Error("the error shows the password")
			}
		})
	}
}
