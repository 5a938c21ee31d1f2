package access

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outbox-relay/relay"
	migrations "github.com/outbox-relay/relay/sql"
)

var update = flag.Bool("update", false, "write the tables of docs/security.md")

const docsPath = "../../docs/security.md"

// kafkaTable shows every ACL of a deployment that makes its topics.
func kafkaTable() (string, error) {
	d := Deployment{
		Name: "shop", Lanes: []relay.Lane{{Name: "outbox", Table: "outbox"}}, Routes: []string{"outbox.event.{aggregate_type}"}, CreateTopics: true,
	}
	acls, err := d.ACLs()
	if err != nil {
		return "", err
	}
	var table strings.Builder
	table.WriteString("| resource | operation | what for |\n|---|---|---|\n")
	for i, a := range acls {
		resource := ""
		if i == 0 || !a.SameResource(acls[i-1]) {
			resource = fmt.Sprintf("%s `%s`", a.Resource, a.Name)
			if a.Pattern == Prefixed {
				resource = fmt.Sprintf("%ss that begin with `%s`", a.Resource, a.Name)
			}
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", resource, a.Operation, a.Why)
	}
	return table.String(), nil
}

// postgresTable shows every privilege that a script of roles gives.
func postgresTable(script string) string {
	grants := parseGrants(script)
	var table strings.Builder
	table.WriteString("| role | on | may |\n|---|---|---|\n")
	lastRole := ""
	row := func(role, object, privileges string) {
		shown := ""
		if role != lastRole {
			shown, lastRole = "`"+role+"`", role
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", shown, object, privileges)
	}
	for _, role := range rolesIn(grants) {
		var objects, functions, further []string
		may := map[string][]string{}
		for _, g := range grants {
			switch {
			case g.Role != role:
			case g.Kind == "schema":
				row(role, "the schema", g.Privilege)
			case g.Kind == "function" && g.OnlyWith != "":
				further = append(further, "`"+g.Object+"`")
			case g.Kind == "function":
				functions = append(functions, "`"+g.Object+"`")
			default:
				if may[g.Object] == nil {
					objects = append(objects, g.Object)
				}
				privilege := g.Privilege
				if len(g.Columns) > 0 {
					privilege += " of `" + strings.Join(g.Columns, "`, `") + "`"
				}
				may[g.Object] = append(may[g.Object], privilege)
			}
		}
		for _, object := range objects {
			row(role, "table `"+object+"`", strings.Join(may[object], "; "))
		}
		if functions != nil {
			row(role, "functions "+strings.Join(functions, ", "), "EXECUTE")
		}
		if further != nil {
			row(role, "in the partitioned layout functions "+strings.Join(further, ", "), "EXECUTE")
		}
	}
	return table.String()
}

// rolesIn are the roles in the order in which they are given something.
func rolesIn(grants []Grant) []string {
	var roles []string
	for _, g := range grants {
		if !slices.Contains(roles, g.Role) {
			roles = append(roles, g.Role)
		}
	}
	return roles
}

// The tables stand between comments that name them.
var generated = regexp.MustCompile(`(?s)(<!-- (\w+): written by go test \./internal/access -update -->\n\n)(.*?)(\n<!-- end -->)`)

func TestTheTablesOfTheDocumentationAreUpToDate(t *testing.T) {
	kafka, err := kafkaTable()
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{"kafka": kafka, "outbox": postgresTable(migrations.Roles), "inbox": postgresTable(migrations.InboxRoles)}
	is, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	want := generated.ReplaceAllStringFunc(string(is), func(block string) string {
		parts := generated.FindStringSubmatch(block)
		found[parts[2]] = true
		return parts[1] + tables[parts[2]] + parts[4]
	})
	for name := range tables {
		if !found[name] {
			t.Errorf("docs/security.md has no table %s", name)
		}
	}
	if *update {
		if err := os.WriteFile(docsPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(is) {
		t.Error("the tables of docs/security.md are stale; go test ./internal/access -update writes them again")
	}
}

// A statement that the reader of the scripts passed over would be missing in the tables.
func TestEachGrantOfTheInboxIsRead(t *testing.T) {
	script := sqlComment.ReplaceAllString(migrations.InboxRoles, "")
	if read, is := len(sqlGrant.FindAllString(script, -1)), strings.Count(script, "GRANT "); read != is || is == 0 {
		t.Errorf("%d of %d statements were read", read, is)
	}
	for _, g := range parseGrants(migrations.InboxRoles) {
		if g.Role != "inbox_consumer" && g.Role != "inbox_operator" {
			t.Errorf("%s is for an unknown role", g)
		}
	}
}
