package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretsOnTheCommandLineAreWarnings(t *testing.T) {
	const away = "host=127.0.0.1 dbname=app user=u"
	sasl := map[string]string{"kafka.sasl.mechanism": "SCRAM-SHA-512", "kafka.sasl.user": "u", "kafka.tls.enabled": "true"}
	for name, test := range map[string]struct {
		flags map[string]string
		env   []string
		want  string // the setting and what to use instead
	}{
		"a password in the URL":           {flags: map[string]string{"database-url": "postgres://u:s3cret@127.0.0.1/app"}, want: "RELAY_DATABASE_URL or --database-url-file"},
		"a password in keywords":          {flags: map[string]string{"database-url": away + " password=s3cret"}, want: "--database-password-file"},
		"a password in the query":         {flags: map[string]string{"database-url": "postgres://u@127.0.0.1/app?password=s3cret"}, want: "--database-password-file"},
		"none":                            {flags: map[string]string{"database-url": "postgres://u@127.0.0.1/app"}},
		"one in the environment":          {env: []string{"RELAY_DATABASE_URL=postgres://u:s3cret@127.0.0.1/app"}},
		"a password of Kafka":             {flags: map[string]string{"database-url": away, "kafka.sasl.password": "s3cret"}, want: "RELAY_KAFKA_SASL_PASSWORD or --kafka-sasl-password-file"},
		"one of Kafka in the environment": {flags: map[string]string{"database-url": away}, env: []string{"RELAY_KAFKA_SASL_PASSWORD=s3cret"}},
	} {
		flags := map[string]string{"brokers": "127.0.0.1:9092"}
		if strings.Contains(name, "Kafka") {
			for k, v := range sasl {
				flags[k] = v
			}
		}
		for k, v := range test.flags {
			flags[k] = v
		}
		cfg, err := Load(Source{Flags: flags, Environ: test.env}, Everything)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		warnings := strings.Join(cfg.Warnings, "\n")
		if (test.want == "") != (warnings == "") || !strings.Contains(warnings, test.want) || len(cfg.Warnings) > 1 {
			t.Errorf("%s: got %q, want one with %q", name, cfg.Warnings, test.want)
		}
		if strings.Contains(warnings, "s3cret") {
			t.Errorf("%s: the warning shows the secret: %s", name, warnings)
		}
	}
}

func TestPasswordsWithoutTLSAreWarningsOffLoopback(t *testing.T) {
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, []byte("*:*:*:*:s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"postgres://u:s3cret@db.internal/app":                                  "db.internal",
		"postgres://u:s3cret@db.internal/app?sslmode=prefer":                   "db.internal",
		"postgres://u:s3cret@db.internal/app?sslmode=allow":                    "db.internal",
		"postgres://u:s3cret@db.internal/app?sslmode=disable":                  "db.internal",
		"postgres://u:s3cret@10.0.0.1/app?sslmode=disable":                     "10.0.0.1",
		"postgres://u:s3cret@localhost,a.internal,b.internal/app":              "a.internal, b.internal",
		"postgres://u@db.internal/app?passfile=" + passfile:                    "db.internal",
		"postgres://u:s3cret@db.internal/app?sslmode=require":                  "",
		"postgres://u:s3cret@db.internal/app?sslmode=verify-full":              "",
		"postgres://u@db.internal/app":                                         "",
		"postgres://u:s3cret@localhost/app":                                    "",
		"postgres://u:s3cret@127.0.0.2/app?sslmode=disable":                    "",
		"postgres://u:s3cret@[::1]/app":                                        "",
		"host=/var/run/postgresql dbname=app user=u password=s3cret":           "",
		"host=@abstract dbname=app user=u password=s3cret":                     "",
		"host=db.internal dbname=app user=u password=s3cret sslmode='disable'": "db.internal",
	} {
		cfg, err := Load(Source{Environ: []string{"RELAY_DATABASE_URL=" + url, "RELAY_BROKERS=127.0.0.1:9092"}}, Everything)
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		warnings := strings.Join(cfg.Warnings, "\n")
		if (want == "") != (warnings == "") || !strings.Contains(warnings, want) || strings.Contains(warnings, "s3cret") {
			t.Errorf("%s: got %q, want one of %q", url, warnings, want)
		}
	}
}
