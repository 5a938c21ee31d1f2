package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	migrations "github.com/outbox-relay/relay/sql"
)

func TestTopicsBecomePatternsAndNoneTwice(t *testing.T) {
	for name, test := range map[string]struct {
		routes, topics []string
		want           string
	}{
		"a placeholder at the end":    {[]string{"outbox.event.{aggregate_type}"}, nil, "[{prefixed outbox.event.}]"},
		"a placeholder in the middle": {[]string{"a.{aggregate_type}.b"}, nil, "[{prefixed a.}]"},
		"no placeholder":              {[]string{"events"}, nil, "[{literal events}]"},
		"topics that rows name":       {nil, []string{"b", "a.*"}, "[{literal b} {prefixed a.}]"},
		"one covered by the route":    {[]string{"a.{aggregate_type}"}, []string{"a.order", "b"}, "[{literal b} {prefixed a.}]"},
		"a prefix covers another":     {nil, []string{"a.b.*", "a.*"}, "[{prefixed a.}]"},
		"a topic is no prefix":        {nil, []string{"a", "a.b"}, "[{literal a} {literal a.b}]"},
		"a prefix and its own name":   {nil, []string{"a", "a*"}, "[{prefixed a}]"},
		"every topic":                 {[]string{"a.{aggregate_type}"}, []string{"*", "b"}, "[{literal *}]"},
		"the same twice":              {[]string{"a"}, []string{"a"}, "[{literal a}]"},
	} {
		got, err := Deployment{Routes: test.routes, Topics: test.topics}.topics()
		if err != nil || fmt.Sprint(got) != test.want {
			t.Errorf("%s: got %v, %v; want %s", name, got, err, test.want)
		}
	}
}

func TestARouteWithoutPrefixIsAnErrorWithAHint(t *testing.T) {
	_, err := Deployment{Name: "shop", Routes: []string{"{aggregate_type}.events"}}.ACLs()
	if err == nil || !strings.HasPrefix(err.Error(), "route: ") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
}

func TestTheACLsFollowTheDeployment(t *testing.T) {
	d := Deployment{Name: "shop", Lanes: []relay.Lane{{Name: "outbox"}, {Name: "billing"}}, Topics: []string{"events"}}
	has := func(d Deployment, operation, name string) bool {
		acls, err := d.ACLs()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(acls, func(a ACL) bool { return a.Operation == operation && a.Name == name })
	}
	for _, lane := range d.Lanes {
		prefix := "relay.shop." + lane.Name + "."
		if !has(d, Write, prefix) {
			t.Errorf("nothing on %s", prefix)
		}
		for _, id := range kafkatx.TransactionalIDs("shop", lane.Name) {
			if !strings.HasPrefix(id, prefix) {
				t.Errorf("%s does not begin with %s", id, prefix)
			}
		}
	}
	if !has(d, Create, "relay.shop.checkpoints") || has(d, Create, "events") {
		t.Error("without topics.create, the relay makes its checkpoint topic and no other")
	}
	d.CreateTopics, d.CheckpointTopicExists = true, true
	if has(d, Create, "relay.shop.checkpoints") || !has(d, Create, "events") {
		t.Error("with topics.create and a checkpoint topic that exists, it makes the topics of events only")
	}
}

func TestEachGrantOfTheScriptIsRead(t *testing.T) {
	grants := parseGrants(migrations.Roles)
	statements := strings.Count(sqlComment.ReplaceAllString(migrations.Roles, ""), "GRANT ")
	if matched := len(sqlGrant.FindAllString(sqlComment.ReplaceAllString(migrations.Roles, ""), -1)); matched != statements || matched == 0 {
		t.Errorf("%d of %d statements were read", matched, statements)
	}
	for _, g := range grants {
		if !slices.Contains(Roles(), g.Role) {
			t.Errorf("%s is for an unknown role", g)
		}
	}
	got := parseGrants(`-- GRANT a ON b TO c;
GRANT SELECT, INSERT (a,
    b) ON x, y TO r, s; EXECUTE format('GRANT USAGE ON SCHEMA %I TO r', current_schema());
GRANT EXECUTE ON FUNCTION f(int,
    text), g() TO r;
DO $$
BEGIN
    IF to_regprocedure('h()') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION h() TO r;
    END IF;
END
$$;
GRANT DELETE ON x TO r;`)
	want := []string{
		"GRANT SELECT ON x TO r;", "GRANT INSERT (a, b) ON x TO r;", "GRANT SELECT ON y TO r;", "GRANT INSERT (a, b) ON y TO r;",
		"GRANT SELECT ON x TO s;", "GRANT INSERT (a, b) ON x TO s;", "GRANT SELECT ON y TO s;", "GRANT INSERT (a, b) ON y TO s;",
		"GRANT USAGE ON SCHEMA %I TO r;", "GRANT EXECUTE ON FUNCTION f(int, text) TO r;", "GRANT EXECUTE ON FUNCTION g() TO r;",
		"GRANT DELETE ON x TO r;", "GRANT EXECUTE ON FUNCTION h() TO r;",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i].String() != want[i] {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		if conditional := strings.Contains(want[i], "h()"); conditional != (got[i].OnlyWith == "h()") {
			t.Errorf("%s is only with %q", got[i], got[i].OnlyWith)
		}
	}
}

func TestTablesOfLanesGetTheGrantsOfTheOutbox(t *testing.T) {
	further := FurtherGrants([]relay.Lane{{Table: "outbox"}, {Table: "billing.events"}})
	var onTable int
	for _, g := range further {
		if g.Kind == "table" {
			onTable++
			if g.Object != `"billing"."events"` {
				t.Errorf("got %s", g)
			}
		}
	}
	ofOutbox := 0
	for _, g := range parseGrants(migrations.Roles) {
		if g.Object == outboxTable {
			ofOutbox++
		}
	}
	if onTable != ofOutbox || onTable == 0 {
		t.Errorf("%d grants on the table, and %d on outbox", onTable, ofOutbox)
	}
}
