package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const docsPath = "../../docs/configuration.md"

const docsHead = `# Configuration

<!-- Written from the table of settings by: go test ./internal/config -update -->

Every setting has one name. For ` + "`topics.create`" + ` the flag is ` + "`--topics-create`" + `, the environment variable
` + "`RELAY_TOPICS_CREATE`" + ` and the key of the file ` + "`topics.create`" + `. **A flag wins over the environment, the environment over
the file, the file over the default.**

The file is YAML, named by ` + "`--config`" + ` or ` + "`RELAY_CONFIG`" + `. Keys are nested or dotted:

` + "```yaml" + `
database-url: postgres://relay@db:5432/app
brokers: [kafka-1:9092, kafka-2:9092]
topics:
  create: true
  partitions: 12
log.level: debug
` + "```" + `

- All faults are reported at once, with exit status 2. A key of the file or a ` + "`RELAY_*`" + ` variable that no setting has
  is one of them: a typing error must not become a default. Left alone are ` + "`RELAY_TEST_*`" + ` and the variables that Kubernetes
  sets for a Service whose name begins with relay, such as ` + "`RELAY_SERVICE_HOST`" + `.
- A variable that is set to nothing counts as not set.
- Durations are a number and a unit: ` + "`500ms`, `2s`, `1m30s`" + `. Sizes are bytes, or a number and ` + "`KiB`, `MiB` or `GiB`" + `.
- Keep ` + "`name`" + ` for good. It is in the transactional ids, the group and the checkpoint topic, and it is the header ` + "`source`" + ` of every record: consumers tell
  messages apart by ` + "`source` and `msg_id`" + `, so what is published again under another name (after a restore, say) is new to them and has its effect again.
- A password belongs in a file that only the relay may read (` + "`database-password-file`, `kafka.sasl.password-file`, a `.pgpass`" + ` file),
  or in the environment, not in a flag that every user of the machine can see. No error and no log line holds one.
  [security.md](security.md) shows how to set it all up.
`

// configurationPage writes the page from the table of settings.
func configurationPage() string {
	var page strings.Builder
	page.WriteString(docsHead)
	group := ""
	for _, s := range Settings() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&page, "\n## %s\n\n| name | flag | environment | kind | default | meaning |\n|---|---|---|---|---|---|\n", group)
		}
		value, help := "", s.Help
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		if s.Choices != nil {
			help += ": `" + strings.Join(s.Choices, "`, `") + "`"
		}
		fmt.Fprintf(&page, "| `%s` | `--%s` | `%s` | %s | %s | %s |\n", s.Name, s.Flag(), s.Env(), s.Kind, value, help)
	}
	return page.String()
}

func TestThePageOfTheConfigurationIsUpToDate(t *testing.T) {
	want := configurationPage()
	if *update {
		if err := os.WriteFile(docsPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is stale; go test ./internal/config -update writes it anew")
	}
}
