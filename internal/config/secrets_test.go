package config

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// password is made of what a URL does not take as it is, so that each part of it may turn up in an
// error.
const password = `hunter2 %zz/x@y:z#w?v`

func TestNoErrorHoldsAPassword(t *testing.T) {
	for _, databaseURL := range []string{
		"postgres://relay:" + password + "@db/app",
		"postgresql://relay:hunter2/x@db:5432/app",
		"postgres://relay:hunter2@db:notaport/app",
		"postgres://relay:hunter2@db/app?sslmode=bogus",
		"postgres://relay@db/app?sslmode=bogus&password=hunter2",
		"host=db port=notaport password=hunter2",
		"host=db password='hunter2 with spaces' sslmode=bogus",
		"host=db password=hunter2 and then something else",
		"host=db password=my hunter2",
		"hunter2",
		"hunter2 host=db",
		"mysql://root:hunter2@db/app",
		"host=db password=hunter2 sslpassword=hunter2 sslmode=verify-full sslrootcert=/no/such/file",
	} {
		_, err := Load(Source{Flags: map[string]string{"database-url": databaseURL, "brokers": "a:1"}}, Everything)
		if err == nil {
			t.Errorf("%s: no error", databaseURL)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
		if !strings.HasPrefix(err.Error(), "database-url: ") {
			t.Errorf("the error does not name its setting: %v", err)
		}
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"dial postgres://u:hunter2@h:5432/d failed": "dial postgres://u:xxxxx@h:5432/d failed",
		"postgres://u:a@b@h/d":                      "postgres://u:xxxxx@h/d",
		"postgres://u@h/d":                          "postgres://u@h/d",
		"host=h password=hunter2 user=u":            "host=h password=xxxxx user=u",
		"host=h password = 'a b\\' c' user=u":       "host=h password = xxxxx user=u",
		"postgres://h/d?password=hunter2&user=u":    "postgres://h/d?password=xxxxx&user=u",
		"PGPASSWORD=hunter2":                        "PGPASSWORD=xxxxx",
		"sslpassword=hunter2":                       "sslpassword=xxxxx",
		"password authentication failed":            "password authentication failed",
		"see http://127.0.0.1:8685/readyz":          "see http://127.0.0.1:8685/readyz",
		"":                                          "",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzRedactHidesAnyPasswordOfAURL(f *testing.F) {
	f.Add("hunter2")
	f.Add("a@b:c")
	f.Fuzz(func(t *testing.T, secret string) {
		if len(secret) < 3 || strings.ContainsAny(secret, " \t\n\v\f\r/") || strings.Contains("xxxxx@host/db", secret) {
			return // not one word, or part of the rest
		}
		if got := Redact("postgres://u:" + secret + "@host/db"); strings.Contains(got, secret) {
			t.Errorf("%q stays in %q", secret, got)
		}
	})
}

func TestTheSchemaBecomesTheSearchPath(t *testing.T) {
	for _, databaseURL := range []string{
		"postgres://u:p%40ss@h/d", "postgres://u@h/d?sslmode=disable", "host=h user=u", "host=h password='a b'",
		"postgres://u@h/d?search_path=other", "postgres://u@h/d?application_name=a+b%20c",
	} {
		for _, schema := range []string{"billing", `odd "name`, `it's`, `back\slash`} {
			got, err := pgx.ParseConfig(withSchema(databaseURL, schema))
			if err != nil {
				t.Errorf("%s with %s: %v", databaseURL, schema, err)
				continue
			}
			before, err := pgx.ParseConfig(databaseURL)
			if err != nil {
				t.Fatal(err)
			}
			if want := (pgx.Identifier{schema}).Sanitize(); got.RuntimeParams["search_path"] != want {
				t.Errorf("%s: search_path is %s, want %s", databaseURL, got.RuntimeParams["search_path"], want)
			}
			if got.Password != before.Password || got.Host != before.Host || got.User != before.User ||
				got.RuntimeParams["application_name"] != before.RuntimeParams["application_name"] {
				t.Errorf("%s with %s names another server or user", databaseURL, schema)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"run", "migrate", "status", "version"}
	for name, want := range map[string]string{
		"rnu": "", "runs": "run", "migrat": "migrate", "statsu": "status", "versin": "version", "demo": "", "": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}
