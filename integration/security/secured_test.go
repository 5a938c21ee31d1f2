package security

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/scratch"
	"github.com/outbox-relay/relay/internal/testcert"
)

// The listeners of securedKafka.
const (
	encryptedListener = "ENCRYPTED" // TLS
	mutualListener    = "MUTUAL"    // TLS with a certificate of the client
	saslListener      = "SASLTLS"   // TLS and every mechanism of SASL
	clearListener     = "CLEAR"     // SASL without TLS
	misnamedListener  = "MISNAMED"  // TLS with a certificate for kafka.internal, which is not how it is reached
	impatientListener = "IMPATIENT" // TLS and SCRAM-SHA-512, authenticated again every few seconds
)

// The users of securedKafka. The operator may do everything, and so may a client that comes without
// authentication: the harness. The relay may do what ACLs say.
const (
	operatorUser, operatorPassword = "operator", "oper4tor-Pa55word"
	relayUser, relayPassword       = "relay", "rel4y-Pa55word"
	rotatingUser                   = "rotating" // whose password a test changes
	quietUser                      = "quiet"    // whose password must be found in no log
)

// securedKafka is a broker with StandardAuthorizer, TLS and SASL on its listeners, for the whole
// run.
type securedKafka struct {
	*cluster.Cluster
	authority *testcert.Authority
	folder    *scratch.Folder
	caFile    string
}

func (s *securedKafka) stop() error {
	return errors.Join(s.Stop(), s.folder.Remove())
}

var sharedSecured = kit.Share(func() (*securedKafka, func() error, error) {
	s, err := startSecured(context.Background())
	if err != nil {
		return nil, nil, err
	}
	return s, s.stop, nil
})

// secured returns the broker, which it starts on first use.
func secured(t testing.TB) *securedKafka {
	t.Helper()
	s, err := sharedSecured()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startSecured(ctx context.Context) (_ *securedKafka, err error) {
	s := &securedKafka{}
	if s.folder, err = scratch.New("", "relay-secured-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.folder.Remove())
		}
	}()
	if s.authority, err = testcert.New("authority of the brokers"); err != nil {
		return nil, err
	}
	s.caFile = filepath.Join(s.folder.Path, "ca.pem")
	if err := os.WriteFile(s.caFile, s.authority.PEM, 0o644); err != nil {
		return nil, err
	}
	named, err := s.keyStore("127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	misnamed, err := s.keyStore("kafka.internal")
	if err != nil {
		return nil, err
	}
	s.Cluster, err = cluster.Start(ctx, cluster.Options{
		Properties: map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
			"super.users":           "User:ANONYMOUS;User:" + rotatingUser + ";User:" + quietUser + ";User:" + operatorUser + ";User:CN=" + operatorUser,
		},
		Listeners: s.listeners(named, misnamed),
	})
	if err != nil {
		return nil, err
	}
	for user, password := range map[string]string{operatorUser: operatorPassword, relayUser: relayPassword} {
		if err := s.setPassword(ctx, user, password); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}

// keyStore writes a certificate for the hosts and its key into one file, as Kafka takes them, and
// returns the settings.
func (s *securedKafka) keyStore(hosts ...string) (map[string]string, error) {
	pair, err := s.authority.Sign(testcert.Leaf{Name: hosts[0], Hosts: hosts})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.folder.Path, hosts[0]+".pem")
	if err := os.WriteFile(file, append(pair.Key, pair.Certificate...), 0o600); err != nil {
		return nil, err
	}
	return map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": file,
		"ssl.truststore.type": "PEM", "ssl.truststore.location": s.caFile,
	}, nil
}

func (s *securedKafka) listeners(named, misnamed map[string]string) []cluster.Listener {
	const security = "org.apache.kafka.common.security."
	plain := map[string]string{
		"plain.sasl.jaas.config": fmt.Sprintf(`%splain.PlainLoginModule required user_%s="%s" user_%s="%s";`,
			security, operatorUser, operatorPassword, relayUser, relayPassword),
	}
	scram := map[string]string{
		"scram-sha-256.sasl.jaas.config": security + "scram.ScramLoginModule required;",
		"scram-sha-512.sasl.jaas.config": security + "scram.ScramLoginModule required;",
	}
	oauth := map[string]string{
		"oauthbearer.sasl.jaas.config": security + "oauthbearer.OAuthBearerLoginModule required;",
		"oauthbearer.sasl.server.callback.handler.class": security +
			"oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
	}
	return []cluster.Listener{
		{Name: encryptedListener, Protocol: "SSL", Properties: named},
		{Name: misnamedListener, Protocol: "SSL", Properties: misnamed},
		{Name: mutualListener, Protocol: "SSL", Properties: together(named, map[string]string{"ssl.client.auth": "required"})},
		{Name: saslListener, Protocol: "SASL_SSL", Properties: together(named, plain, scram, oauth,
			map[string]string{"sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"})},
		{Name: clearListener, Protocol: "SASL_PLAINTEXT", Properties: together(plain, map[string]string{"sasl.enabled.mechanisms": "PLAIN"})},
		{Name: impatientListener, Protocol: "SASL_SSL", Properties: together(named, scram,
			map[string]string{"sasl.enabled.mechanisms": "SCRAM-SHA-512", "scram-sha-512.connections.max.reauth.ms": "3000"})},
	}
}

func together(parts ...map[string]string) map[string]string {
	all := make(map[string]string)
	for _, part := range parts {
		for name, value := range part {
			all[name] = value
		}
	}
	return all
}

// setPassword gives a user a password for SCRAM.
func (s *securedKafka) setPassword(ctx context.Context, user, password string) error {
	admin, err := kadm.NewOptClient(seeds(s.Bootstrap))
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // a request takes one of a user
		altered, err := admin.AlterUserSCRAMs(ctx, nil,
			[]kadm.UpsertSCRAM{{User: user, Mechanism: mechanism, Iterations: 4096, Password: password}})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			return fmt.Errorf("set the password of %s: %w", user, err)
		}
	}
	return nil
}

// token is an unsigned token, as Kafka's validator for tests accepts it.
func token(t testing.TB, subject string, expires time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{"sub": subject, "iat": time.Now().Add(-time.Minute).Unix(), "exp": expires.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(claims) + "."
}

// clientCertificate writes a certificate of the name and its key, and returns the files.
func (s *securedKafka) clientCertificate(t testing.TB, name string) (certificate, key string) {
	t.Helper()
	pair, err := s.authority.Sign(testcert.Leaf{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return secretFile(t, string(pair.Certificate)), secretFile(t, string(pair.Key))
}

// secretFile writes a file with the content and returns its path.
func secretFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	rewrite(t, path, content)
	return path
}

// rewrite replaces the content of a file at once, as Kubernetes replaces a secret.
func rewrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// asRelay is the environment of a relay that comes as relayUser with SCRAM over TLS to the
// listener.
func (s *securedKafka) asRelay(t testing.TB, listener string) []string {
	t.Helper()
	return []string{
		"RELAY_BROKERS=" + s.Addresses(listener)[0],
		"RELAY_KAFKA_TLS_ENABLED=true", "RELAY_KAFKA_TLS_CA_FILE=" + s.caFile,
		"RELAY_KAFKA_SASL_MECHANISM=SCRAM-SHA-512", "RELAY_KAFKA_SASL_USER=" + relayUser,
		"RELAY_KAFKA_SASL_PASSWORD_FILE=" + secretFile(t, relayPassword+"\n"),
	}
}

// strangersCertificate is signed by an unknown authority.
func strangersCertificate(t testing.TB) (certificate, key string) {
	t.Helper()
	authority, err := testcert.New("a stranger")
	if err != nil {
		t.Fatal(err)
	}
	return (&securedKafka{authority: authority}).clientCertificate(t, operatorUser)
}

func seeds(bootstrap []string) kgo.Opt { return kgo.SeedBrokers(bootstrap...) }
