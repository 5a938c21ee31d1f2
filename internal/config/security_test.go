package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/testcert"
)

// companions are the settings without which another is a fault, as lines of the file.
var companions = map[string]string{
	"kafka.tls.ca-file":        "kafka.tls.enabled: true\n",
	"kafka.tls.server-name":    "kafka.tls.enabled: true\n",
	"kafka.sasl.mechanism":     "kafka.tls.enabled: true\nkafka.sasl.user: u\nkafka.sasl.password: p\n",
	"kafka.sasl.user":          "kafka.sasl.mechanism: SCRAM-SHA-512\nkafka.sasl.password: p\n",
	"kafka.sasl.password":      "kafka.sasl.mechanism: SCRAM-SHA-512\nkafka.sasl.user: u\n",
	"kafka.sasl.password-file": "kafka.sasl.mechanism: SCRAM-SHA-512\nkafka.sasl.user: u\n",
	"kafka.sasl.token-file":    "kafka.sasl.mechanism: OAUTHBEARER\nkafka.tls.enabled: true\n",
	"kafka.sasl.without-tls":   "kafka.sasl.mechanism: PLAIN\nkafka.sasl.user: u\nkafka.sasl.password: p\n",
}

func put(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes the files of a certificate and its key.
func certificate(t *testing.T) (certificateFile, keyFile string) {
	t.Helper()
	authority, err := testcert.New("authority")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Sign(testcert.Leaf{Name: "relay"})
	if err != nil {
		t.Fatal(err)
	}
	return put(t, string(pair.Certificate)), put(t, string(pair.Key))
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, string(content))
}

// sampleFiles are three files that the setting may name, and its companions if they are files
// too.
func sampleFiles(t *testing.T, s Setting) [3]string {
	t.Helper()
	certificateFile, keyFile := certificate(t)
	content := "secret"
	switch s.Name {
	case "kafka.tls.ca-file":
		return [3]string{certificateFile, copyOf(t, certificateFile), copyOf(t, certificateFile)}
	case "kafka.tls.certificate-file":
		companions[s.Name] = "kafka.tls.enabled: true\nkafka.tls.key-file: " + keyFile + "\n"
		return [3]string{certificateFile, copyOf(t, certificateFile), copyOf(t, certificateFile)}
	case "kafka.tls.key-file":
		companions[s.Name] = "kafka.tls.enabled: true\nkafka.tls.certificate-file: " + certificateFile + "\n"
		return [3]string{keyFile, copyOf(t, keyFile), copyOf(t, keyFile)}
	case "database-url-file":
		content = "postgres://a/in-a-file"
	}
	return [3]string{put(t, content), put(t, content), put(t, content)}
}

func TestFaultsOfSecurityComeAllAtOnceUnderTheNamesOfTheirSettings(t *testing.T) {
	faults := faultsOf(t, Source{Flags: map[string]string{
		"kafka.tls.enabled": "true", "kafka.tls.ca-file": "/absent/ca.pem", "kafka.tls.key-file": "/absent/key.pem",
		"kafka.sasl.mechanism": "SCRAM-SHA-512", "kafka.sasl.token-file": "/absent/token",
		"database-password-file": "/absent/password",
	}})
	want := []string{
		"database-password-file: /absent/password does not exist",
		"kafka.tls.ca-file: /absent/ca.pem does not exist",
		"kafka.tls.key-file: given without kafka.tls.certificate-file",
		"kafka.sasl.token-file: not used by SCRAM-SHA-512",
		"kafka.sasl.user: not set",
		"kafka.sasl.password-file: not set",
	}
	if len(faults) != len(want) {
		t.Fatalf("got  %q\nwant %q", faults, want)
	}
	for i := range want {
		if !strings.HasPrefix(faults[i].Error(), want[i]) || len(hint.Of(faults[i])) == 0 {
			t.Errorf("got %q with hints %q, want %q", faults[i], hint.Of(faults[i]), want[i])
		}
	}
}

func TestAValueAndAFileOfOneSecret(t *testing.T) {
	urlFile, passwordFile := put(t, "postgres://file@db/app\n"), put(t, "hunter2\n")
	const fromFile, given = "postgres://file@db/app", "postgres://given@db/app"
	tests := map[string]struct {
		flags   map[string]string
		environ []string
		want    string // of the connection string; empty for a fault
	}{
		"a file alone":                        {environ: []string{"RELAY_DATABASE_URL_FILE=" + urlFile}, want: fromFile},
		"a flag beats a file of the variable": {map[string]string{"database-url": given}, []string{"RELAY_DATABASE_URL_FILE=" + urlFile}, given},
		"a file by flag beats a variable":     {map[string]string{"database-url-file": urlFile}, []string{"RELAY_DATABASE_URL=" + given}, fromFile},
		"both by variables":                   {environ: []string{"RELAY_DATABASE_URL_FILE=" + urlFile, "RELAY_DATABASE_URL=" + given}},
		"a password file": {
			environ: []string{"RELAY_DATABASE_URL=" + given, "RELAY_DATABASE_PASSWORD_FILE=" + passwordFile}, want: given + "?password=hunter2"},
	}
	for name, test := range tests {
		cfg, err := Load(Source{Flags: test.flags, Environ: test.environ}, Database)
		switch {
		case test.want == "":
			if err == nil || !strings.Contains(err.Error(), "given beside") {
				t.Errorf("%s: got %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case cfg.Relay.DatabaseURL != test.want:
			t.Errorf("%s: got %s, want %s", name, cfg.Relay.DatabaseURL, test.want)
		}
	}
}

func TestTheConnectionStringIsReadAnewForEachConnection(t *testing.T) {
	urlFile, passwordFile := put(t, "host=db user=relay"), put(t, "first")
	cfg, err := Load(Source{Flags: map[string]string{
		"database-url-file": urlFile, "database-password-file": passwordFile, "schema": "billing", "brokers": "kafka:9092"}}, Everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"first", `it's \ "second"`} {
		if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := cfg.Relay.DatabaseURLFunc()
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.ParseConfig(text)
		if err != nil || got.Password != password || got.User != "relay" || got.RuntimeParams["search_path"] != `"billing"` {
			t.Errorf("got %q, user %q, search_path %q (%v)", got.Password, got.User, got.RuntimeParams["search_path"], err)
		}
	}
	if err := os.WriteFile(urlFile, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Relay.DatabaseURLFunc(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a file that holds the password only: %v", err)
	}
	if err := os.Remove(passwordFile); err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Relay.DatabaseURLFunc(); err == nil || !strings.Contains(err.Error(), passwordFile) {
		t.Errorf("got %v", err)
	}
}

func TestNamesNeedNeitherServersNorSecrets(t *testing.T) {
	cfg, err := Load(Source{Flags: map[string]string{"name": "shop", "database-url-file": "/absent", "kafka.sasl.mechanism": "PLAIN"}}, Names)
	if err != nil || cfg.Relay.Name != "shop" {
		t.Errorf("got %q, %v", cfg.Relay.Name, err)
	}
}

func TestDoubtsAreWarnings(t *testing.T) {
	cfg, err := Load(Source{Environ: []string{"RELAY_KAFKA_SASL_PASSWORD=hunter2"}, Flags: map[string]string{"database-url": "postgres://db/app",
		"brokers": "kafka:9092", "kafka.sasl.mechanism": "SCRAM-SHA-256", "kafka.sasl.user": "relay"}}, Everything)
	if err != nil || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "kafka.tls.enabled") {
		t.Errorf("got %q, %v", cfg.Warnings, err)
	}
	if len(cfg.Relay.KafkaOptions) != 1 {
		t.Errorf("%d options of Kafka clients", len(cfg.Relay.KafkaOptions))
	}
}

// Whatever a password is made of, the connection string that it is put into hands it on as it is,
// and names the same server.
func FuzzAPasswordIsHandedOnAsItIs(f *testing.F) {
	for _, seed := range []string{"hunter2", `it's`, `back\slash`, `a@b:c/d?e#f%20g&h=i`, " spaces ", "ünï", `\'`, "+", "%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		if password == "" || strings.ContainsAny(password, "\x00\r\n") || !utf8.ValidString(password) {
			return // not what a file of one line gives
		}
		for _, databaseURL := range []string{
			"postgres://relay@db:5432/app?sslmode=disable", "postgres://relay:old@db/app?password=older", "host=db user=relay dbname=app password=old",
		} {
			got, err := pgx.ParseConfig(withParameter(databaseURL, "password", password))
			if err != nil {
				t.Fatalf("%s: %v", databaseURL, err)
			}
			if got.Password != password || got.Host != "db" || got.User != "relay" || got.Database != "app" {
				t.Errorf("%s with %q: password %q at %s, user %s, database %s", databaseURL, password, got.Password, got.Host, got.User, got.Database)
			}
		}
	})
}
