package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/access"
	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/hint"
	migrations "github.com/outbox-relay/relay/sql"
)

func (p program) aclCommand() *cli.Command {
	return &cli.Command{
		Name:      "acl",
		Usage:     "print the Kafka ACLs and the SQL grants that the relay needs, and no more",
		UsageText: "relay acl --name NAME [--principal User:NAME] [--topic TOPIC]... [--only kafka|sql] [--output json]",
		Description: `Prints a shell script: kafka-acls.sh for an administrator of the cluster, and psql for the owner of the tables. It
connects to nothing and changes nothing. Each ACL is needed, and together they are enough.

Rows go to the topics of the route, or to the one that they name themselves. The route's text before its
placeholder becomes a prefix: outbox.event.{aggregate_type} needs every topic that begins with outbox.event.;
a route that begins with its placeholder has no such prefix, so its topics must be named.

Examples:
   relay acl --config relay.yaml
   relay acl --name shop --brokers kafka:9092 --principal User:shop-relay --topic payments --topic 'audit.*'
   relay acl --config relay.yaml --only sql | psql -1 -v ON_ERROR_STOP=1
   relay acl --config relay.yaml --output json | jq -r '.kafka[] | "\(.operation) \(.resource_type) \(.name)"'`,
		Flags: append(settingFlags("database-url", "database-url-file", "schema", "table", "lanes", "brokers", "name",
			"kafka.sasl.user", "route", "topics.create"),
			&cli.StringFlag{Name: "principal",
				Usage: "`PRINCIPAL` of the relay in Kafka; by default User: and the setting kafka.sasl.user, or User:relay"},
			&cli.StringFlag{Name: "login", Usage: "`ROLE` that the relay logs in with; by default the user of database-url"},
			&cli.StringSliceFlag{Name: "topic", Usage: "`TOPIC` that rows name themselves; a trailing * makes a prefix; " +
				"may be given again"},
			&cli.BoolFlag{Name: "without-route", Usage: "leave the topics of the route out: --topic names all there are"},
			&cli.BoolFlag{Name: "checkpoint-topic-exists", Usage: "leave out what making the checkpoint topic needs"},
			&cli.StringFlag{Name: "only", Usage: "`PART` to print: kafka or sql"},
			outputFlag()),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			cfg, err := p.load(c, config.Names)
			if err != nil {
				return err
			}
			a, err := accessOf(c, cfg)
			if err != nil {
				return err
			}
			if form == outputJSON {
				return writeJSON(p.stdout, a)
			}
			return a.write(p.stdout, cfg)
		},
	}
}

// accessReport is what relay acl prints.
type accessReport struct {
	Name      string         `json:"name"`
	Principal string         `json:"principal"`
	Kafka     []access.ACL   `json:"kafka,omitempty"`
	Login     string         `json:"login,omitempty"`
	Postgres  []access.Grant `json:"postgres,omitempty"`
}

func accessOf(c *cli.Context, cfg config.Config) (accessReport, error) {
	only := c.String("only")
	if only != "" && only != "kafka" && only != "sql" {
		return accessReport{}, usage("--only kafka or --only sql", "--only: %q is neither kafka nor sql", only)
	}
	a := accessReport{Name: cfg.Relay.Name, Principal: c.String("principal"), Login: c.String("login")}
	if a.Principal == "" {
		a.Principal = "User:" + cmp.Or(cfg.Kafka.SASL.User, "relay")
	}
	if kind, name, ok := strings.Cut(a.Principal, ":"); !ok || kind == "" || name == "" {
		return a, usage("--principal User:"+a.Principal, "--principal: %q has no type", a.Principal)
	}
	if err := a.useDatabase(cfg); err != nil {
		return a, err
	}
	deployment := access.Deployment{
		Name: a.Name, Lanes: cfg.Relay.Lanes, Routes: routes(cfg.Relay), Topics: c.StringSlice("topic"),
		CreateTopics: cfg.Relay.Topics.Create, CheckpointTopicExists: c.Bool("checkpoint-topic-exists"),
	}
	if c.Bool("without-route") {
		deployment.Routes = nil
		if len(deployment.Topics) == 0 {
			return a, usage("--topic NAME for each topic", "--without-route leaves no topic")
		}
	}
	if only != "sql" {
		var err error
		if a.Kafka, err = deployment.ACLs(); err != nil {
			return a, err
		}
	}
	if only != "kafka" {
		a.Postgres = access.Grants(cfg.Schema, cfg.Relay.Lanes)
	}
	return a, nil
}

// routes are those of the lanes, each once.
func routes(cfg relay.Config) []string {
	var all []string
	for _, lane := range cfg.Lanes {
		if route := cmp.Or(lane.Route, cfg.Route); !slices.Contains(all, route) {
			all = append(all, route)
		}
	}
	return all
}

// useDatabase takes from the connection string what was not said otherwise, and checks the names.
func (a *accessReport) useDatabase(cfg config.Config) error {
	if cfg.DatabaseURLFile != "" && (a.Name == "" || a.Login == "") {
		var err error
		if cfg.Relay.DatabaseURL, err = cfg.ReadDatabaseURL(); err != nil && a.Name == "" {
			return hint.Wrap(fmt.Errorf("name: not set, and that of the database is not known: %w", err), "--name NAME")
		}
	}
	if cfg.Relay.DatabaseURL != "" {
		parsed, err := pgx.ParseConfig(cfg.Relay.DatabaseURL)
		if err == nil && a.Login == "" {
			a.Login = parsed.User
		}
	}
	named := cfg.Relay
	if named.DatabaseURL == "" {
		if a.Name == "" {
			return usage("--name NAME, or --database-url, whose database gives the name", "name: not set")
		}
		named.DatabaseURL = "postgres://" // is not used
	}
	if len(named.Brokers) == 0 {
		named.Brokers = []string{placeholderBroker}
	}
	deployment, err := relay.New(&named)
	if err != nil {
		return err
	}
	a.Name = deployment.Name()
	return nil
}

// placeholderBroker is used if no broker was named.
const placeholderBroker = "BROKER:9092"

// write prints the shell script, or the SQL alone if that was asked for.
func (a accessReport) write(to io.Writer, cfg config.Config) error {
	var text strings.Builder
	if len(a.Kafka) > 0 {
		a.writeKafka(&text, cfg)
	}
	if len(a.Postgres) > 0 && len(a.Kafka) > 0 {
		fmt.Fprintf(&text, "\n# Postgres: as the owner of the tables, who may create roles. PGHOST, PGDATABASE and their "+
			"like say where.\npsql -1 -v ON_ERROR_STOP=1 <<'SQL'\n%sSQL\n", a.sql(cfg))
	} else if len(a.Postgres) > 0 {
		text.WriteString(a.sql(cfg))
	}
	if _, err := io.WriteString(to, text.String()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// writeKafka prints a command for each resource.
func (a accessReport) writeKafka(text *strings.Builder, cfg config.Config) {
	brokers := strings.Join(cfg.Relay.Brokers, ",")
	if brokers == "" {
		brokers = placeholderBroker
	}
	fmt.Fprintf(text, "# Kafka: what %s needs for the deployment %s. As an administrator of the cluster, who is "+
		"described in\n# admin.properties.\n", a.Principal, a.Name)
	for i := 0; i < len(a.Kafka); {
		first, operations, reasons := a.Kafka[i], "", ""
		for ; i < len(a.Kafka) && a.Kafka[i].SameResource(first); i++ {
			operations += " --operation " + a.Kafka[i].Operation
			reasons += fmt.Sprintf("#   %s: %s\n", a.Kafka[i].Operation, a.Kafka[i].Why)
		}
		which := first.Resource + " " + first.Name
		if first.Pattern == access.Prefixed {
			which = "every " + first.Resource + " that begins with " + first.Name
		}
		fmt.Fprintf(text, "\n# On %s:\n%skafka-acls.sh --bootstrap-server %s --command-config admin.properties \\\n"+
			"    --add --allow-principal %s%s \\\n    --%s %s --resource-pattern-type %s\n",
			which, reasons, shellWord(brokers), shellWord(a.Principal), operations, first.Resource, shellWord(first.Name),
			first.Pattern)
	}
}

// sql returns roles.sql with what the settings add to it.
func (a accessReport) sql(cfg config.Config) string {
	var text strings.Builder
	if cfg.Schema != "" {
		fmt.Fprintf(&text, "SET search_path = %s;\n\n", pgx.Identifier{cfg.Schema}.Sanitize())
	}
	text.WriteString(migrations.Roles)
	if further := access.FurtherGrants(cfg.Relay.Lanes); len(further) > 0 {
		text.WriteString("\n-- The same on the tables of the lanes.\n")
		for _, grant := range further {
			fmt.Fprintln(&text, grant)
		}
	}
	if a.Login != "" && a.Login != access.RelayRole {
		fmt.Fprintf(&text, "\n-- The role that the relay logs in with.\nGRANT %s TO %s;\n",
			access.RelayRole, pgx.Identifier{a.Login}.Sanitize())
	}
	return text.String()
}

// shellWord quotes a word for a POSIX shell if it needs to be.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-:,=/", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
