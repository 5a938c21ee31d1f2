package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/access"
	migrations "github.com/outbox-relay/relay/sql"
)

func TestACLPrintsAScriptForKafkaAndPostgres(t *testing.T) {
	env := []string{"RELAY_DATABASE_URL=postgres://shop_relay:hunter2@db/shop", "RELAY_BROKERS=kafka-1:9092,kafka-2:9092",
		"RELAY_SCHEMA=events", "RELAY_TABLE=billing.outbox"}
	text := must(t, env, "acl", "--topics-create", "--topic", "payments", "--topic", "audit.*", "--topic", "outbox.event.order",
		"--principal", "User:CN=shop relay")
	if strings.Contains(text, "hunter2") {
		t.Error("the output shows the password")
	}
	// The script of the roles has its own golden file: its source.
	golden(t, "acl-text", strings.Replace(text, migrations.Roles, "(roles.sql)\n", 1))
	only := must(t, env, "acl", "--only", "sql")
	if !strings.Contains(text, only) || !strings.Contains(only, migrations.Roles) {
		t.Errorf("--only sql is not the part for Postgres:\n%s", only)
	}
}

func TestACLAsJSON(t *testing.T) {
	golden(t, "acl-json", must(t, nil, "acl", "--name", "shop", "--only", "kafka", "--output", "json"))
	var whole struct {
		Principal string
		Kafka     []access.ACL
		Postgres  []access.Grant
	}
	if err := json.Unmarshal([]byte(must(t, []string{"RELAY_KAFKA_SASL_USER=svc", "RELAY_NAME=shop"}, "acl", "--output", "json")), &whole); err != nil {
		t.Fatal(err)
	}
	if whole.Principal != "User:svc" || len(whole.Kafka) == 0 || len(whole.Postgres) == 0 {
		t.Errorf("got %+v", whole)
	}
}

func TestACLFollowsTheRoutesOfTheLanes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	text := "name: shop\nlanes:\n  orders: orders.outbox\n  billing: {table: billing.outbox, route: 'money.{aggregate_type}'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(t, nil, "acl", "--config", file)
	for _, want := range []string{
		"--topic money. --resource", "--topic outbox.event. --resource", "--transactional-id relay.shop.orders. ", "--transactional-id relay.shop.billing. ",
		`GRANT SELECT ON "orders"."outbox" TO relay;`, `GRANT SELECT ON "billing"."outbox" TO relay;`,
	} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q is there %d times in\n%s", want, strings.Count(out, want), out)
		}
	}
}

func TestACLSaysWhatItCannotKnow(t *testing.T) {
	for want, args := range map[string][]string{
		"name: not set":                {},
		"neither kafka nor sql":        {"--name", "shop", "--only", "grants"},
		`"relay" has no type`:          {"--name", "shop", "--principal", "relay"},
		"leaves no topic":              {"--name", "shop", "--without-route"},
		"begins with its placeholder":  {"--name", "shop", "--route", "{aggregate_type}.events"},
		"neither text nor json":        {"--name", "shop", "--output", "yaml"},
		"/absent/url does not exist":   {"--database-url-file", "/absent/url"},
		"the name of the database, \"": {"--database-url", "postgres://db/with%20space"},
		"characters other than":        {"--name", "with space"},
	} {
		status, out, errs := run(t, nil, append([]string{"acl"}, args...)...)
		if status == exitOK || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: exit status %d, %s%s; want %q", args, status, out, errs, want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{
		"User:relay": "User:relay", "User:CN=a,OU=b": "User:CN=a,OU=b", "outbox.event.": "outbox.event.", "*": "'*'", "a b": "'a b'",
		"it's": `'it'\''s'`, "$(x)": "'$(x)'", "": "''",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}
