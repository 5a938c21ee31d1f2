package kafkaauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func authority(t *testing.T) *testcert.Authority {
	t.Helper()
	a, err := testcert.New("authority")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sign(t *testing.T, a *testcert.Authority, leaf testcert.Leaf) testcert.Pair {
	t.Helper()
	pair, err := a.Sign(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func put(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	rewrite(t, path, []byte(content))
	return path
}

func rewrite(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

var brokers = []string{"kafka-1:9092", "kafka-2:9092"}

func TestFaultsAreNamedByTheirSetting(t *testing.T) {
	a := authority(t)
	pair, other := sign(t, a, testcert.Leaf{Name: "relay"}), sign(t, a, testcert.Leaf{Name: "other"})
	certificate, key := put(t, string(pair.Certificate)), put(t, string(pair.Key))
	locked := put(t, string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})))
	damaged := put(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not DER")})))
	on := func(t TLS) Config { t.Enabled = true; return Config{TLS: t} }
	scram := func(s SASL) Config { s.Mechanism = ScramSHA512; return Config{TLS: TLS{Enabled: true}, SASL: s} }
	tests := map[string]struct {
		config Config
		want   []string // each fault begins with one
	}{
		"nothing":     {},
		"TLS alone":   {config: on(TLS{})},
		"all of TLS":  {config: on(TLS{CAFile: put(t, string(a.PEM)), CertificateFile: certificate, KeyFile: key, ServerName: "k"})},
		"whole SCRAM": {config: scram(SASL{User: "u", PasswordFile: put(t, "p")})},
		"settings without TLS": {Config{TLS: TLS{CAFile: "c", CertificateFile: "c", KeyFile: "k", ServerName: "s"}}, []string{
			"kafka.tls.ca-file: given while kafka.tls.enabled is false", "kafka.tls.certificate-file: given while",
			"kafka.tls.key-file: given while", "kafka.tls.server-name: given while"}},
		"absent files": {on(TLS{CAFile: "/absent/a", CertificateFile: "/absent/b", KeyFile: "/absent/c"}), []string{
			"kafka.tls.ca-file: /absent/a does not exist", "kafka.tls.certificate-file: /absent/b does not exist",
			"kafka.tls.key-file: /absent/c does not exist"}},
		"a key as authority":        {on(TLS{CAFile: key}), []string{"kafka.tls.ca-file: " + key + " holds no certificate"}},
		"a damaged authority":       {on(TLS{CAFile: damaged}), []string{"kafka.tls.ca-file: " + damaged + ": certificate 1 cannot be read"}},
		"a certificate without key": {on(TLS{CertificateFile: certificate}), []string{"kafka.tls.certificate-file: given without kafka.tls.key-file"}},
		"a key without certificate": {on(TLS{KeyFile: key}), []string{"kafka.tls.key-file: given without kafka.tls.certificate-file"}},
		"another key": {on(TLS{CertificateFile: certificate, KeyFile: put(t, string(other.Key))}),
			[]string{"kafka.tls.key-file: "}},
		"a locked key":         {on(TLS{CertificateFile: certificate, KeyFile: locked}), []string{"kafka.tls.key-file: " + locked + " holds a key that is locked"}},
		"a certificate as key": {on(TLS{CertificateFile: certificate, KeyFile: certificate}), []string{"kafka.tls.key-file: " + certificate + " holds no private key"}},
		"SASL without mechanism": {Config{SASL: SASL{User: "u", Password: "p", TokenFile: "t", WithoutTLS: true}}, []string{
			"kafka.sasl.user: given without kafka.sasl.mechanism", "kafka.sasl.password: given without", "kafka.sasl.token-file: given without",
			"kafka.sasl.without-tls: given without"}},
		"SCRAM without anything": {scram(SASL{}), []string{"kafka.sasl.user: not set", "kafka.sasl.password-file: not set"}},
		"two passwords":          {scram(SASL{User: "u", Password: "p", PasswordFile: "f"}), []string{"kafka.sasl.password: given beside"}},
		"an empty password file": {scram(SASL{User: "u", PasswordFile: put(t, "\n")}), []string{"kafka.sasl.password-file: "}},
		"a token for SCRAM":      {scram(SASL{User: "u", Password: "p", TokenFile: "t"}), []string{"kafka.sasl.token-file: not used by SCRAM-SHA-512"}},
		"OAUTHBEARER with a password": {Config{TLS: TLS{Enabled: true}, SASL: SASL{Mechanism: OAuthBearer, User: "u", Password: "p"}}, []string{
			"kafka.sasl.user: not used", "kafka.sasl.password: not used", "kafka.sasl.token-file: not set"}},
		"an unknown mechanism":                 {Config{SASL: SASL{Mechanism: "GSSAPI", WithoutTLS: true}}, []string{"kafka.sasl.mechanism: "}},
		"PLAIN in the clear":                   {Config{SASL: SASL{Mechanism: Plain, User: "u", Password: "p"}}, []string{"kafka.sasl.mechanism: PLAIN without TLS"}},
		"PLAIN in the clear, as was asked for": {config: Config{SASL: SASL{Mechanism: Plain, User: "u", Password: "p", WithoutTLS: true}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := test.config.Check(brokers, time.Now())
			faults := apart(err)
			if len(faults) != len(test.want) {
				t.Fatalf("got  %q\nwant %q", faults, test.want)
			}
			for i, fault := range faults {
				if !strings.HasPrefix(fault.Error(), test.want[i]) {
					t.Errorf("got %q, want %q", fault, test.want[i])
				}
				if len(hint.Of(fault)) == 0 && name != "an unknown mechanism" {
					t.Errorf("%q has no hint", fault)
				}
			}
		})
	}
}

func apart(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // made by errors.Join
		return joined.Unwrap()
	}
	return nil
}

func TestDoubtsAreWarnings(t *testing.T) {
	a := authority(t)
	old := sign(t, a, testcert.Leaf{Name: "relay", Expires: time.Now().Add(-time.Hour)})
	mutual := Config{TLS: TLS{Enabled: true, CertificateFile: put(t, string(old.Certificate)), KeyFile: put(t, string(old.Key))}}
	scram := Config{SASL: SASL{Mechanism: ScramSHA256, User: "u", Password: "p"}}
	for name, test := range map[string]struct {
		config  Config
		brokers []string
		now     time.Time
		want    string
	}{
		"an expired certificate":          {mutual, brokers, time.Now(), "expired on"},
		"a certificate of tomorrow":       {mutual, brokers, time.Now().Add(-24 * time.Hour), "holds only from"},
		"a certificate that holds":        {mutual, brokers, time.Now().Add(-2 * time.Hour), ""},
		"SCRAM in the clear":              {scram, brokers, time.Now(), "without TLS"},
		"SCRAM in the clear, on loopback": {scram, []string{"127.0.0.1:1", "[::1]:2", "localhost:3"}, time.Now(), ""},
		"one broker of two on loopback":   {scram, []string{"127.0.0.1:1", "kafka:2"}, time.Now(), "without TLS"},
	} {
		warnings, err := test.config.Check(test.brokers, test.now)
		if err != nil || (test.want == "") != (len(warnings) == 0) || !strings.Contains(strings.Join(warnings, "\n"), test.want) {
			t.Errorf("%s: got %q, %v", name, warnings, err)
		}
	}
}

// server is a TLS server that asks clients for a certificate and tells whose it was.
func server(t *testing.T, pair testcert.Pair) (address string, clients <-chan string) {
	t.Helper()
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if conn := conn.(*tls.Conn); conn.Handshake() == nil {
				name := ""
				if peers := conn.ConnectionState().PeerCertificates; len(peers) > 0 {
					name = peers[0].Subject.CommonName
				}
				names <- name
			}
			_ = conn.Close() // the client may have hung up
		}
	}()
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return listener.Addr().String(), names
}

func dial(t *testing.T, config TLS, address string) error {
	t.Helper()
	conn, err := config.dial(t.Context(), "tcp", address)
	if err == nil {
		_, _ = conn.Read(make([]byte, 1)) // until the server has seen the certificate and hangs up
		_ = conn.Close()
	}
	return err
}

func TestEachConnectionUsesWhatTheFilesHoldThen(t *testing.T) {
	first, second := authority(t), authority(t)
	caFile := put(t, string(first.PEM))
	before, after := sign(t, first, testcert.Leaf{Name: "before"}), sign(t, first, testcert.Leaf{Name: "after"})
	config := TLS{Enabled: true, CAFile: caFile, CertificateFile: put(t, string(before.Certificate)), KeyFile: put(t, string(before.Key))}
	address, clients := server(t, sign(t, first, testcert.Leaf{Name: "server", Hosts: []string{"127.0.0.1"}}))
	if err := dial(t, config, address); err != nil {
		t.Fatal(err)
	}
	if got := <-clients; got != "before" {
		t.Errorf("the client came as %q", got)
	}
	rewrite(t, config.CertificateFile, after.Certificate)
	if err := dial(t, config, address); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("between the two files: %v", err)
	}
	rewrite(t, config.KeyFile, after.Key)
	if err := dial(t, config, address); err != nil {
		t.Fatal(err)
	}
	if got := <-clients; got != "after" {
		t.Errorf("the client came as %q", got)
	}

	// The broker moves to another authority.
	address, _ = server(t, sign(t, second, testcert.Leaf{Name: "server", Hosts: []string{"127.0.0.1"}}))
	unknown := dial(t, config, address)
	if lasting, explained := (Config{TLS: config}).Explain(unknown); explained == nil || !lasting || !strings.Contains(explained.Error(), caFile) {
		t.Errorf("%v is explained as %v (%t)", unknown, explained, lasting)
	}
	rewrite(t, caFile, append(slices.Clone(first.PEM), second.PEM...))
	if err := dial(t, config, address); err != nil {
		t.Errorf("with both authorities: %v", err)
	}
}

func TestBrokersMustHaveTheNameThatTheyAreReachedBy(t *testing.T) {
	a := authority(t)
	config := TLS{Enabled: true, CAFile: put(t, string(a.PEM))}
	address, _ := server(t, sign(t, a, testcert.Leaf{Name: "server", Hosts: []string{"kafka.internal"}}))
	err := dial(t, config, address)
	if _, ok := errors.AsType[x509.HostnameError](err); !ok {
		t.Errorf("got %v", err)
	}
	config.ServerName = "kafka.internal"
	if err := dial(t, config, address); err != nil {
		t.Error(err)
	}
}

func TestTheHandshakeWithASilentServerEndsWithItsContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := TLS{Enabled: true}.dial(ctx, "tcp", listener.Addr().String())
		done <- err
	}()
	conn := <-accepted
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(conn.Close(), listener.Close()); err != nil {
		t.Error(err)
	}
}

func TestEachAuthenticationUsesWhatTheFileHoldsThen(t *testing.T) {
	file := put(t, "first\n")
	for name, config := range map[string]SASL{
		"PLAIN":       {Mechanism: Plain, User: "relay", PasswordFile: file},
		"OAUTHBEARER": {Mechanism: OAuthBearer, TokenFile: file},
	} {
		mechanism := config.mechanism()
		if mechanism.Name() != name {
			t.Errorf("%s is called %s", name, mechanism.Name())
		}
		for _, secret := range []string{"first", "second"} {
			rewrite(t, file, []byte(secret+"\n"))
			_, message, err := mechanism.Authenticate(t.Context(), "kafka:9092")
			if err != nil || !strings.Contains(string(message), secret) {
				t.Errorf("%s: got %q, %v", name, message, err)
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, _, err := mechanism.Authenticate(t.Context(), "kafka:9092"); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("%s without its file: %v", name, err)
		}
		rewrite(t, file, []byte("first"))
	}
}

func TestARefusedTokenIsAnswered(t *testing.T) {
	config := SASL{Mechanism: OAuthBearer, TokenFile: put(t, "token")}
	session, _, err := config.mechanism().Authenticate(t.Context(), "kafka:9092")
	if err != nil {
		t.Fatal(err)
	}
	if done, answer, err := session.Challenge([]byte(`{"status":"invalid_token"}`)); done || string(answer) != "\x01" || err != nil {
		t.Errorf("got %t, %q, %v", done, answer, err)
	}
	if done, answer, err := session.Challenge(nil); !done || answer != nil || err != nil {
		t.Errorf("got %t, %q, %v", done, answer, err)
	}
}

func TestOtherErrorsAreNotExplained(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, kerr.NotLeaderForPartition, errors.New("anything"), &net.OpError{Op: "dial", Err: errors.New("refused")}} {
		if lasting, explained := (Config{}).Explain(err); explained != nil || lasting {
			t.Errorf("%v is explained as %v", err, explained)
		}
	}
}

func TestOptionsAreThoseThatAreConfigured(t *testing.T) {
	if options := (Config{}).Options(); options != nil {
		t.Errorf("%d options of plain text without SASL", len(options))
	}
	both := Config{TLS: TLS{Enabled: true}, SASL: SASL{Mechanism: Plain, User: "u", Password: "p"}}
	client, err := kgo.NewClient(both.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if len(both.Options()) != 2 {
		t.Errorf("%d options", len(both.Options()))
	}
}
