package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/parked"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/preflight"
)

func (p program) parkedCommand() *cli.Command {
	return &cli.Command{
		Name:      "parked",
		Usage:     "look at events that cannot be published, and retry or discard them",
		UsageText: "relay parked list|show|retry|discard [flags]",
		Description: `An event that Kafka refuses for good is parked, and so is every later one of its aggregate, in order; all
others go on. These commands work on the database alone, with a login that holds the role relay_operator.
What they ask for is recorded with who asked and why, and the relay that runs the lane carries it out.`,
		Subcommands: []*cli.Command{p.parkedList(), p.parkedShow(), p.parkedRetry(), p.parkedDiscard()},
	}
}

// parkedSettings are the settings of every subcommand.
func parkedSettings() []cli.Flag {
	return settingFlags("database-url", "database-url-file", "database-password-file", "schema", "start.timeout")
}

func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lane", Usage: "those of the lane `NAME`"},
		&cli.StringFlag{Name: "aggregate", Usage: "the aggregate `TYPE/ID`; a type that holds a slash needs the next two flags instead"},
		&cli.StringFlag{Name: "aggregate-type", Usage: "aggregates of this `TYPE`"},
		&cli.StringFlag{Name: "aggregate-id", Usage: "aggregates with this `ID`"},
		&cli.StringFlag{Name: "cause", Usage: "those whose first event waits for this `CAUSE`: refused, topic or behind"},
		&cli.StringFlag{Name: "error", Usage: "those whose error holds this `TEXT`, in any case"},
		&cli.StringFlag{Name: "older-than", Usage: "those parked for this `DURATION` at least, such as 90s or 48h"},
	}
}

func limitFlag(text string, value int) cli.Flag {
	return &cli.IntFlag{Name: "limit", Value: value, Usage: text}
}

// readFilter reads the flags of filterFlags, --limit and, where the command has it, --msg-id.
func readFilter(c *cli.Context) (f parked.Filter, err error) {
	f = parked.Filter{
		Lane: c.String("lane"), Error: c.String("error"), Cause: c.String("cause"), Limit: c.Int("limit"),
	}
	if f.AggregateType, f.AggregateID, err = readAggregate(c); err != nil {
		return f, err
	}
	switch f.Cause {
	case "", parked.Refused, parked.Topic, parked.Behind:
	default:
		return f, usage("--cause refused, --cause topic or --cause behind", "--cause: %q is none", f.Cause)
	}
	if f.Limit < 0 {
		return f, usage("--limit 100, or 0 for all", "--limit: %d is less than 0", f.Limit)
	}
	if text := c.String("older-than"); text != "" {
		if f.OlderThan, err = readDuration("older-than", text); err != nil {
			return f, err
		}
	}
	f.MsgID, err = readMsgID(c)
	return f, err
}

func readAggregate(c *cli.Context) (aggregateType, aggregateID string, err error) {
	aggregateType, aggregateID = c.String("aggregate-type"), c.String("aggregate-id")
	if whole := c.String("aggregate"); whole != "" {
		if aggregateType != "" || aggregateID != "" {
			return "", "", usage("--aggregate TYPE/ID, or the other two",
				"--aggregate excludes --aggregate-type and --aggregate-id")
		}
		var found bool
		if aggregateType, aggregateID, found = strings.Cut(whole, "/"); !found || aggregateType == "" || aggregateID == "" {
			return "", "", usage("--aggregate order/4711, or --aggregate-type and --aggregate-id", "--aggregate: %q is not TYPE/ID", whole)
		}
	}
	for _, text := range []string{aggregateType, aggregateID} {
		if strings.ContainsRune(text, 0) {
			return "", "", usage("a name without it", "an aggregate's name cannot hold a zero byte")
		}
	}
	return aggregateType, aggregateID, nil
}

func readDuration(flag, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usage("--"+flag+" 30s; units are ms, s, m and h", "--%s: %q is not a duration", flag, text)
	}
	return d, nil
}

func readMsgID(c *cli.Context) (*uuid.UUID, error) {
	text := c.String("msg-id")
	if text == "" {
		return nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return nil, usage("the msg_id that relay parked show prints", "--msg-id: %q is not a UUID", text)
	}
	return &id, nil
}

// withParked opens the database of the configuration for work on the outbox.
func (p program) withParked(c *cli.Context, work func(context.Context, *pgx.Conn) error) error {
	return p.withSession(c, preflight.Outbox, work)
}

// withInbox opens it for work on the tables of consumers.
func (p program) withInbox(c *cli.Context, work func(context.Context, *pgx.Conn) error) error {
	return p.withSession(c, preflight.Inbox, work)
}

func (p program) withSession(c *cli.Context, options pg.Options, work func(context.Context, *pgx.Conn) error) error {
	cfg, err := p.load(c, config.Database)
	if err != nil {
		return err
	}
	ctx := c.Context
	conn, err := preflight.ConnectFor(ctx, cfg.Relay.DatabaseURL, cfg.StartTimeout, options)
	if err == nil {
		err = errors.Join(work(ctx, conn), conn.Close(context.WithoutCancel(ctx)))
	}
	return orSignal(ctx, err)
}

// name is how an aggregate or another text from the database is shown: on one line, and harmless to a terminal.
func name(parts ...string) string {
	text := strings.Join(parts, "/")
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == '�' }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// sentence is an error text on one line, with at most so many characters; 0 is no limit. What is too much is left out near the
// beginning: an error begins with what all of its kind have in common.
func sentence(text *string, most int) string {
	if text == nil {
		return "-"
	}
	runes := []rune(strings.Join(strings.FieldsFunc(*text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " "))
	if most > 0 && len(runes) > most {
		head := most / 4
		return string(runes[:head]) + "…" + string(runes[len(runes)-(most-head-1):])
	}
	return string(runes)
}

// age is a number of seconds as a person says it.
func age(seconds float64) string {
	d := time.Duration(max(0, seconds) * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// counted is a number with its noun.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// second is a time to the second, in UTC.
func second(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
