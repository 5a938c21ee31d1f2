package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/operator"
)

type inboxCommands = queueCommands[operator.InboxFilter, operator.Keys, operator.KeyQueue, operator.AskedKey]

func (p program) inboxParked() *cli.Command {
	q := inboxCommands{
		program: p, causes: []string{"permanent", "attempts", "crash", "identity", "size", operator.Behind},
		words: queueWords{
			queue: "key", queues: "keys", item: "message", items: "messages", request: "retry", requests: "retries",
			failed: "failed again", examples: "--key-id N, --consumer NAME", why: `"account created, OPS-12"`,
			noPayload: "the message has no payload: it is a tombstone",
			mend: "mend the cause first, or relay inbox parked discard; relay inbox parked show --key-id N tells the " +
				"cause",
			later: "relay inbox consumers shows which processes have a session; what was asked for stands, and is done " +
				"once one runs",
		},
		open: func(conn *pgx.Conn) queues[operator.InboxFilter, operator.Keys, operator.KeyQueue, operator.AskedKey] {
			return operator.NewInbox(conn)
		},
		session: p.withInbox, names: keyFlags, read: readKeys,
		writeList: writeKeys, writeQueue: writeKey, writeAsked: writeAskedKeys, jsonAsked: jsonAskedKeys,
	}
	return &cli.Command{
		Name:      "parked",
		Usage:     "look at messages that could not be handled, and retry or discard them",
		UsageText: "relay inbox parked list|show|retry|discard [flags]",
		Description: `A message that a consumer cannot handle is parked, and so is every later one of its key, in order; all others
go on. These commands work on the database of the consumer, with a login that holds the role inbox_operator. A
retry is carried out by a process of the consumer, which has the handler. Who asked and why is recorded.`,
		Subcommands: []*cli.Command{inboxParkedList(q), inboxParkedShow(q), inboxParkedRetry(q), inboxParkedDiscard(q)},
	}
}

func inboxParkedList(q inboxCommands) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the parked keys: how many messages, why, since when",
		UsageText: "relay inbox parked list --database-url URL [filters] [--output json]",
		Description: `One line a key, the one parked first at the top. A message without a key waits alone; its key is shown as -.
Filters are about the first message of each, the one that holds up the rest; of several all must hold. The JSON
form is a contract, documented in docs/inbox-operations.md.

Examples:
   relay inbox parked list --database-url postgres://operator@db:5432/billing
   relay inbox parked list --consumer billing --error "no such account" --older-than 1h
   relay inbox parked list --cause crash --output json | jq -r '.keys[].error'`,
		Flags: q.listFlags(), Action: q.list,
	}
}

func inboxParkedShow(q inboxCommands) *cli.Command {
	return &cli.Command{
		Name:  "show",
		Usage: "show the parked messages of one key, and what was asked for",
		UsageText: "relay inbox parked show (--key-id N | --key TEXT [--topic NAME] [--consumer NAME] | --msg-id ID) " +
			"[--payload]",
		Description: `The messages stand in the order in which they are to be handled; the first one holds up the rest. Below them
stands what people asked for: who, when, why, and what came of it. No payload is shown unless --payload asks for
it: that prints the bytes of one message and nothing else.

Examples:
   relay inbox parked show --key-id 17
   relay inbox parked show --consumer billing --topic orders --key 4711 --output json
   relay inbox parked show --key-id 17 --payload | jq .`,
		Flags: append(append(keyFlags(),
			&cli.StringFlag{Name: "msg-id", Usage: "the key behind which the message `ID` waits; with --payload: that message"},
			&cli.BoolFlag{Name: "payload", Usage: "print the payload of the first message and nothing else"},
			limitFlag("the first `N` of each list at most; 0 for all", 100), outputFlag(),
		), databaseFlags()...),
		Action: func(c *cli.Context) error {
			return q.show(c, func(f operator.InboxFilter) error {
				if f.KeyID == 0 && f.Key == nil && f.MsgID == "" {
					return usage("--key-id N, --key TEXT or --msg-id ID; relay inbox parked list shows them",
						"show needs to be told which key")
				}
				return nil
			})
		},
	}
}

// The usage of flags that retry and discard have in common.
const (
	limitOfKeys  = "of the keys that match the `N` that were parked first; 0 for all"
	dryRunOfKeys = "show what would be done, and change nothing"
)

func inboxParkedRetry(q inboxCommands) *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "handle parked messages after all, in order",
		UsageText: "relay inbox parked retry (filters | --all) --why TEXT [--dry-run] [--wait DURATION] [--output json]",
		Description: `Mend the cause first: a new version of the handler, a missing row. A process of the consumer then handles each
key in order, up to the first message that fails again; what arrives meanwhile comes behind.

Waits until that is done. The exit status is 1 where a message failed again, or where not all was done within
--wait; what is not done then is done once a process of the consumer runs.

Examples:
   relay inbox parked retry --key-id 17 --why "account created, OPS-12"
   relay inbox parked retry --consumer billing --error "no such account" --dry-run
   relay inbox parked retry --all --consumer billing --why "version 1.4.2" --wait 0`,
		Flags: q.askFlags(limitOfKeys, dryRunOfKeys, "wait at most this `DURATION` until it is done, 30s unless told; 0 "+
			"does not wait"),
		Action: func(c *cli.Context) error {
			return q.ask(c, func(ctx context.Context, conn *pgx.Conn, r askRequest[operator.InboxFilter]) ([]operator.AskedKey, error) {
				return operator.NewInbox(conn).Retry(ctx, r.filter, r.why)
			})
		},
	}
}

func inboxParkedDiscard(q inboxCommands) *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Usage:     "remove parked messages for good: they are never handled",
		UsageText: "relay inbox parked discard (filters | --msg-id ID | --all) --why TEXT --yes [--dry-run] [--output json]",
		Description: `With --msg-id one message goes; those behind it stay parked until a retry. Without it the whole queue of each key
goes, and later messages of the key are handled again. Marks stay: another copy of a discarded message is skipped.
Each discarded message is recorded in inbox_audit, without its payload.

Examples:
   relay inbox parked discard --msg-id 01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111 --why "test data, OPS-13" --yes
   relay inbox parked discard --key-id 17 --dry-run
   relay inbox parked discard --consumer billing --error "invalid" --why "never valid, OPS-14" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "msg-id", Usage: "only the message `ID`"},
			&cli.BoolFlag{Name: "yes", Usage: "the messages may be lost for good"},
		}, q.askFlags(limitOfKeys, dryRunOfKeys, "wait at most this `DURATION` for a handler that has the key, 30s "+
			"unless told")...),
		Action: func(c *cli.Context) error { return discardMessages(q, c) },
	}
}

// discardMessages is not a request to a consumer: it is done right here.
func discardMessages(q inboxCommands, c *cli.Context) error {
	r, err := q.readAsk(c)
	if err != nil {
		return err
	}
	return q.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
		if r.dryRun {
			plan, err := operator.NewInbox(conn).PlanDiscard(ctx, r.filter)
			if err != nil {
				return err
			}
			return q.writeDiscarded(r.dryRun, r.form, plan)
		}
		done, err := operator.NewInbox(conn).Discard(ctx, r.filter, r.why, r.wait)
		if err != nil && len(done) == 0 {
			return err
		}
		return errors.Join(q.writeDiscarded(r.dryRun, r.form, done), err)
	})
}

// keyFlags name one key.
func keyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Int64Flag{Name: "key-id", Usage: "the key with the number `N` that list shows"},
		&cli.StringFlag{Name: "consumer", Usage: "keys of the consumer `NAME`"},
		&cli.StringFlag{Name: "topic", Usage: "keys of the topic `NAME`"},
		&cli.StringFlag{Name: "key", Usage: "records with the key `TEXT`"},
		&cli.StringFlag{Name: "key-hex", Usage: "records with the key `BYTES`, in hexadecimal"},
	}
}

func readKeys(c *cli.Context, shared operator.Filter) (f operator.InboxFilter, err error) {
	f = operator.InboxFilter{Filter: shared, KeyID: c.Int64("key-id"), Consumer: c.String("consumer"), Topic: c.String("topic")}
	if c.IsSet("key-id") && f.KeyID < 1 {
		return f, usage("--key-id with a number that relay inbox parked list shows", "--key-id: %d is less than 1", f.KeyID)
	}
	if f.Key, err = readKey(c); err != nil {
		return f, err
	}
	return f, checkTexts(f.Consumer, f.Topic)
}

// readKey reads the key of a record; nil if none is given. An empty key is a key.
func readKey(c *cli.Context) ([]byte, error) {
	switch {
	case c.IsSet("key") && c.IsSet("key-hex"):
		return nil, usage("one of the two", "--key and --key-hex exclude each other")
	case c.IsSet("key"):
		return []byte(c.String("key")), nil
	case !c.IsSet("key-hex"):
		return nil, nil
	}
	key, err := hex.DecodeString(c.String("key-hex"))
	if err != nil {
		return nil, usage("--key-hex 0aff, as relay inbox parked list --output json prints it",
			"--key-hex: %q is not hexadecimal",
			c.String("key-hex"))
	}
	return append([]byte{}, key...), nil
}

// keyName is how the key of a record is shown: on one line, and harmless to a terminal.
func keyName(n operator.KeyName) string {
	switch {
	case n.KeyHex == nil:
		return "-"
	case n.Key == nil:
		return `\x` + *n.KeyHex
	case *n.Key == "":
		return `""`
	}
	return name(*n.Key)
}

func writeKeys(to io.Writer, list operator.Keys) error {
	return writeTable(to, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tCAUSE\tSINCE\tAGE\tATTEMPTS\tRETRY\tERROR", func(row func(...any)) {
		for _, k := range list.Keys {
			retry := "-"
			if k.RequestedAt != nil {
				retry = "asked for"
			}
			row(k.KeyID, name(k.Consumer), name(k.Topic), keyName(k.KeyName), k.Messages, k.Cause, second(k.Since), age(k.AgeSeconds),
				k.Attempts, retry, sentence(k.Error, 100))
		}
	})
}

func writeAskedKeys(
	to io.Writer, r askRequest[operator.InboxFilter], asked []operator.AskedKey,
) (messages int64, err error) {
	err = writeTable(to, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tOUTCOME", func(row func(...any)) {
		for _, a := range asked {
			messages += a.Messages
			outcome := "open"
			switch {
			case r.dryRun:
				outcome = "would " + r.action
			case a.FailedAgain():
				outcome = fmt.Sprintf("failed again, %d left: %s", a.Left, sentence(a.Error, 100))
			case a.Done:
				outcome = "done"
			case a.Joined:
				outcome = "open, as it was before"
			}
			row(a.KeyID, name(a.Consumer), name(a.Topic), keyName(a.KeyName), a.Messages, outcome)
		}
	})
	return messages, err
}

func jsonAskedKeys(r askRequest[operator.InboxFilter], asked []operator.AskedKey, open, failed int) any {
	return struct {
		DryRun      bool                `json:"dry_run"`
		Keys        []operator.AskedKey `json:"keys"`
		Open        int                 `json:"open"`
		FailedAgain int                 `json:"failed_again"`
	}{r.dryRun, asked, open, failed}
}

func (p program) writeDiscarded(dryRun bool, form output, done []operator.Discarded) error {
	messages, left := int64(0), int64(0)
	for _, d := range done {
		messages, left = messages+d.Messages, left+d.Left
	}
	if form == outputJSON {
		return writeJSON(p.stdout, struct {
			DryRun   bool                 `json:"dry_run"`
			Keys     []operator.Discarded `json:"keys"`
			Messages int64                `json:"messages"`
		}{dryRun, done, messages})
	}
	if len(done) == 0 {
		return writeLine(p.stdout, "nothing that is parked matches")
	}
	err := writeTable(p.stdout, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tLEFT", func(row func(...any)) {
		for _, d := range done {
			row(d.KeyID, name(d.Consumer), name(d.Topic), keyName(d.KeyName), d.Messages, d.Left)
		}
	})
	if err != nil {
		return err
	}
	what := counted(messages, "message", "messages") + " of " + counted(len(done), "key", "keys")
	if dryRun {
		return writeLine(p.stdout, "\nwould discard %s; nothing was changed", what)
	}
	if err := writeLine(p.stdout, "\ndiscarded %s", what); err != nil || left == 0 {
		return err
	}
	return writeLine(p.stdout, "%s parked behind them; relay inbox parked retry handles them",
		counted(left, "message is still", "messages are still"))
}

func writeKey(to io.Writer, q operator.KeyQueue) error {
	err := writeLine(to, "key %s of topic %s, consumer %s: %s parked (key id %d)", keyName(q.KeyName), name(q.Topic), name(q.Consumer),
		counted(q.TotalMessages, "message", "messages"), q.KeyID)
	if err == nil && q.RequestedAt != nil {
		err = writeLine(to, "a retry is asked for since %s, by %s: %s", second(*q.RequestedAt), sentence(q.RequestedBy, 0),
			sentence(q.Reason, 0))
	}
	if err == nil && len(q.Messages) > 0 && q.Messages[0].Error != nil {
		err = writeLine(to, "the first one: %s", sentence(q.Messages[0].Error, 0))
	}
	if err == nil && len(q.Messages) > 0 {
		err = writeMessages(to, q.Messages)
	}
	if err == nil {
		err = writeMore(to, q.TotalMessages-int64(len(q.Messages)))
	}
	if err != nil || len(q.Audit) == 0 {
		return err
	}
	return writeTable(to, "\nAT\tACTION\tBY\tMSG_ID\tREASON\tDETAILS", func(row func(...any)) {
		for _, e := range q.Audit {
			id, details := "-", string(e.Details)
			if e.MsgID != nil {
				id = name(*e.MsgID)
			}
			if details == "" {
				details = "-"
			}
			row(second(e.At), e.Action, name(e.By), id, sentence(e.Reason, 60), sentence(&details, 120))
		}
	})
}

func writeMessages(to io.Writer, messages []operator.Message) error {
	return writeTable(to, "\nSOURCE\tMSG_ID\tTYPE\tPARTITION\tOFFSET\tBYTES\tPARKED\tCAUSE\tATTEMPTS\tERROR", func(row func(...any)) {
		for _, m := range messages {
			attempts := "-" // a message that only waits was never tried
			if m.Cause != operator.Behind || m.Attempts > 0 {
				attempts = strconv.Itoa(m.Attempts)
			}
			row(name(m.Source), name(m.MsgID), name(m.Type), m.Partition, m.Offset, orDash("%d", m.PayloadBytes),
				second(m.ParkedAt),
				m.Cause, attempts, sentence(m.Error, 60))
		}
	})
}
