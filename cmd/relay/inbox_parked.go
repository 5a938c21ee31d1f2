package main

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/inboxparked"
)

func (p program) inboxParked() *cli.Command {
	return &cli.Command{
		Name:      "parked",
		Usage:     "look at messages that could not be handled, and retry or discard them",
		UsageText: "relay inbox parked list|show|retry|discard [flags]",
		Description: `A message that a consumer cannot handle is parked, and so is every later one of its key, in order; all others
go on. These commands work on the database of the consumer, with a login that holds the role inbox_operator. A
retry is carried out by a process of the consumer, which has the handler. Who asked and why is recorded.`,
		Subcommands: []*cli.Command{p.inboxParkedList(), p.inboxParkedShow(), p.inboxParkedRetry(), p.inboxParkedDiscard()},
	}
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

func inboxFilterFlags() []cli.Flag {
	return append(keyFlags(),
		&cli.StringFlag{Name: "cause", Usage: "those whose first message waits for this `CAUSE`: " + strings.Join(inboxparked.Causes, ", ")},
		&cli.StringFlag{Name: "error", Usage: "those whose error holds this `TEXT`, in any case"},
		&cli.StringFlag{Name: "older-than", Usage: "those parked for this `DURATION` at least, such as 90s or 48h"},
	)
}

// readInboxFilter reads the flags of inboxFilterFlags, --limit and, where the command has it, --msg-id.
func readInboxFilter(c *cli.Context) (f inboxparked.Filter, err error) {
	f = inboxparked.Filter{
		KeyID: c.Int64("key-id"), Consumer: c.String("consumer"), Topic: c.String("topic"),
		Cause: c.String("cause"), Error: c.String("error"), MsgID: c.String("msg-id"), Limit: c.Int("limit"),
	}
	if f.Key, err = readKey(c); err != nil {
		return f, err
	}
	for _, text := range []string{f.Consumer, f.Topic, f.MsgID, f.Error} {
		if strings.ContainsRune(text, 0) {
			return f, usage("a text without it", "Postgres stores no zero byte in a text")
		}
	}
	if c.IsSet("key-id") && f.KeyID < 1 {
		return f, usage("--key-id with a number that relay inbox parked list shows", "--key-id: %d is less than 1", f.KeyID)
	}
	if f.Cause != "" && !slices.Contains(inboxparked.Causes, f.Cause) {
		return f, usage("--cause with one of "+strings.Join(inboxparked.Causes, ", "), "--cause: %q is none", f.Cause)
	}
	if f.Limit < 0 {
		return f, usage("--limit 100, or 0 for all", "--limit: %d is less than 0", f.Limit)
	}
	if text := c.String("older-than"); text != "" {
		f.OlderThan, err = readDuration("older-than", text)
	}
	return f, err
}

// readKey reads the key of a record; nil where none is given. An empty key is a key.
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
		return nil, usage("--key-hex 0aff, as relay inbox parked list --output json prints it", "--key-hex: %q is not hexadecimal",
			c.String("key-hex"))
	}
	return append([]byte{}, key...), nil
}

// keyName is how the key of a record is shown: on one line, and harmless to a terminal.
func keyName(n inboxparked.Name) string {
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
