package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/operator"
)

// queues is what relay parked and relay inbox parked work on: things that wait in queues for a
// person. F chooses queues, L lists them, Q is one in full, and A is a request about one.
type queues[F filter, L listed, Q, A any] interface {
	List(ctx context.Context, f F) (L, error)
	Show(ctx context.Context, f F, limit int) (Q, error)
	Payload(ctx context.Context, f F) ([]byte, error)
	Plan(ctx context.Context, f F) ([]A, error)
	Await(ctx context.Context, asked []A) error
	Idle(ctx context.Context, asked []A) ([]string, error)
}

type filter interface{ Empty() bool }

type listed interface {
	Counts() (shown, queues, items int64)
}

type asked interface {
	Ended() bool
	FailedAgain() bool
}

// queueCommands are the commands of one of the two sides.
type queueCommands[F filter, L listed, Q any, A asked] struct {
	program
	words   queueWords
	causes  []string
	open    func(*pgx.Conn) queues[F, L, Q, A]
	session func(*cli.Context, func(context.Context, *pgx.Conn) error) error

	// names are the flags that name queues, and read makes a filter of them and of what both sides
	// have.
	names func() []cli.Flag
	read  func(*cli.Context, operator.Filter) (F, error)

	writeList  func(io.Writer, L) error
	writeQueue func(io.Writer, Q) error
	writeAsked func(io.Writer, askRequest[F], []A) (items int64, err error)
	jsonAsked  func(r askRequest[F], asked []A, open, failed int) any
}

// queueWords are what things are called.
type queueWords struct {
	queue, queues     string // aggregate
	item, items       string // event
	request, requests string // what is asked for
	failed            string // what is said of one that failed again
	examples          string // of filters
	why               string // an example of a reason
	noPayload         string
	mend, later       string // what to do if a retry failed, or is not done yet
}

// filterFlags are names and what both sides have.
func (q queueCommands[F, L, Q, A]) filterFlags() []cli.Flag {
	causes := strings.Join(q.causes[:len(q.causes)-1], ", ") + " or " + q.causes[len(q.causes)-1]
	return append(q.names(),
		&cli.StringFlag{Name: "cause", Usage: "those whose first " + q.words.item + " waits for this `CAUSE`: " + causes},
		&cli.StringFlag{Name: "error", Usage: "those whose error holds this `TEXT`, in any case"},
		&cli.StringFlag{Name: "older-than", Usage: "those parked for this `DURATION` at least, such as 90s or 48h"},
	)
}

// readFilter reads filterFlags, --limit and, if the command has it, --msg-id.
func (q queueCommands[F, L, Q, A]) readFilter(c *cli.Context) (f F, err error) {
	shared := operator.Filter{Cause: c.String("cause"), Error: c.String("error"), MsgID: c.String("msg-id")}
	if err := checkTexts(shared.Error, shared.MsgID); err != nil {
		return f, err
	}
	if shared.Cause != "" && !slices.Contains(q.causes, shared.Cause) {
		return f, usage("--cause with one of "+strings.Join(q.causes, ", "), "--cause: %q is none", shared.Cause)
	}
	if shared.Limit, err = readLimit(c); err != nil {
		return f, err
	}
	if shared.OlderThan, err = readDuration(c, "older-than"); err != nil {
		return f, err
	}
	return q.read(c, shared)
}

func (q queueCommands[F, L, Q, A]) listFlags() []cli.Flag {
	flags := append(q.filterFlags(), limitFlag("the first `N` at most; 0 for all", 100), outputFlag())
	return append(flags, databaseFlags()...)
}

func (q queueCommands[F, L, Q, A]) list(c *cli.Context) error {
	form, err := parseOutput(c.String("output"))
	if err != nil {
		return err
	}
	f, err := q.readFilter(c)
	if err != nil {
		return err
	}
	return q.session(c, func(ctx context.Context, conn *pgx.Conn) error {
		list, err := q.open(conn).List(ctx, f)
		switch {
		case err != nil:
			return err
		case form == outputJSON:
			return writeJSON(q.stdout, list)
		}
		shown, queues, items := list.Counts()
		switch {
		case shown == 0 && f.Empty():
			return writeLine(q.stdout, "nothing is parked")
		case shown == 0:
			return writeLine(q.stdout, "nothing that is parked matches")
		}
		if err := q.writeList(q.stdout, list); err != nil {
			return err
		}
		more := ""
		if n := queues - shown; n > 0 {
			more = fmt.Sprintf("; %d more not shown (--limit)", n)
		}
		return writeLine(q.stdout, "\n%s with %s%s", counted(queues, q.words.queue, q.words.queues),
			counted(items, q.words.item, q.words.items), more)
	})
}

// show shows one queue; named says why the filter names none.
func (q queueCommands[F, L, Q, A]) show(c *cli.Context, named func(F) error) error {
	form, err := parseOutput(c.String("output"))
	if err != nil {
		return err
	}
	f, err := q.readFilter(c)
	if err == nil {
		err = named(f)
	}
	if err != nil {
		return err
	}
	if c.Bool("payload") && form == outputJSON {
		return usage("--payload without --output json; it prints the bytes as they are",
			"--payload and --output json exclude each other")
	}
	return q.session(c, func(ctx context.Context, conn *pgx.Conn) error {
		if c.Bool("payload") {
			return q.payload(ctx, conn, f)
		}
		queue, err := q.open(conn).Show(ctx, f, c.Int("limit"))
		switch {
		case err != nil:
			return err
		case form == outputJSON:
			return writeJSON(q.stdout, queue)
		}
		return q.writeQueue(q.stdout, queue)
	})
}

func (q queueCommands[F, L, Q, A]) payload(ctx context.Context, conn *pgx.Conn, f F) error {
	payload, err := q.open(conn).Payload(ctx, f)
	if err != nil {
		return err
	}
	if payload == nil {
		return writeLine(q.stderr, "%s", q.words.noPayload)
	}
	if _, err := q.stdout.Write(payload); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// askFlags are those of commands that change something; limit, dryRun and wait say what these flags
// do there.
func (q queueCommands[F, L, Q, A]) askFlags(limit, dryRun, wait string) []cli.Flag {
	flags := append(q.filterFlags(),
		limitFlag(limit, 0),
		&cli.BoolFlag{Name: "all", Usage: "everything that is parked, where no filter is given"},
		&cli.StringFlag{Name: "why", Usage: "the reason, `TEXT` that is recorded with your login; required"},
		&cli.BoolFlag{Name: "dry-run", Usage: dryRun},
		&cli.StringFlag{Name: "wait", Value: "30s", Usage: wait},
		outputFlag())
	return append(flags, databaseFlags()...)
}

// askRequest is what such a command is asked for.
type askRequest[F any] struct {
	action string
	filter F
	why    string
	dryRun bool
	wait   time.Duration
	form   output
}

func (q queueCommands[F, L, Q, A]) readAsk(c *cli.Context) (r askRequest[F], err error) {
	r = askRequest[F]{action: c.Command.Name, why: c.String("why"), dryRun: c.Bool("dry-run")}
	if r.form, err = parseOutput(c.String("output")); err != nil {
		return r, err
	}
	if r.filter, err = q.readFilter(c); err != nil {
		return r, err
	}
	if r.wait, err = readDuration(c, "wait"); err != nil {
		return r, err
	}
	switch {
	case r.filter.Empty() && !c.Bool("all"):
		return r, usage(q.words.examples+", --error TEXT, …, or --all", "%s needs to be told which", r.action)
	case r.dryRun:
	case strings.TrimSpace(r.why) == "":
		return r, usage("--why "+q.words.why, "--why is missing: the reason is recorded")
	case r.action == "discard" && !c.Bool("yes"):
		return r, usage("--dry-run to see what would go, then --yes", "discard removes %s for good", q.words.items)
	}
	return r, nil
}

// ask has work ask for something, and waits until it is done.
func (q queueCommands[F, L, Q, A]) ask(c *cli.Context, work func(context.Context, *pgx.Conn, askRequest[F]) ([]A, error)) error {
	r, err := q.readAsk(c)
	if err != nil {
		return err
	}
	return q.session(c, func(ctx context.Context, conn *pgx.Conn) error {
		if r.dryRun {
			plan, err := q.open(conn).Plan(ctx, r.filter)
			if err != nil {
				return err
			}
			return q.answer(r, plan)
		}
		asked, err := work(ctx, conn, r)
		if err != nil {
			return err
		}
		waited := q.await(ctx, q.open(conn), r, asked)
		return errors.Join(q.answer(r, asked), waited)
	})
}

// await waits for what was asked, and returns an error if it was not done, or ended badly.
func (q queueCommands[F, L, Q, A]) await(ctx context.Context, side queues[F, L, Q, A], r askRequest[F], asked []A) error {
	idle, err := side.Idle(ctx, asked)
	if err != nil {
		return err
	}
	for _, why := range idle {
		if err := writeLine(q.stderr, "Note: %s", sentence(&why, 0)); err != nil {
			return err
		}
	}
	if r.wait == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if err := side.Await(limited, asked); err != nil && limited.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	open, failed := tally(asked)
	var faults []error
	if failed > 0 {
		still := counted(failed, q.words.queue+" is still parked", q.words.queues+" are still parked")
		faults = append(faults, hint.New(q.words.failed+": "+still, q.words.mend))
	}
	if open > 0 {
		late := counted(open, q.words.request+" was", q.words.requests+" were")
		faults = append(faults, hint.New(fmt.Sprintf("%s not done within %v", late, r.wait), q.words.later))
	}
	return errors.Join(faults...)
}

// tally counts what is not done, and what failed again.
func tally[A asked](all []A) (open, failed int) {
	for _, a := range all {
		if !a.Ended() {
			open++
		}
		if a.FailedAgain() {
			failed++
		}
	}
	return open, failed
}

func (q queueCommands[F, L, Q, A]) answer(r askRequest[F], asked []A) error {
	if r.form == outputJSON {
		open, failed := tally(asked)
		return writeJSON(q.stdout, q.jsonAsked(r, asked, open, failed))
	}
	if len(asked) == 0 {
		return writeLine(q.stdout, "nothing that is parked matches")
	}
	items, err := q.writeAsked(q.stdout, r, asked)
	if err != nil || !r.dryRun {
		return err
	}
	return writeLine(q.stdout, "\nwould %s %s with %s; nothing was changed", r.action,
		counted(len(asked), q.words.queue, q.words.queues), counted(items, q.words.item, q.words.items))
}

// writeMore says how many of a queue's items are not shown.
func writeMore(to io.Writer, hidden int64) error {
	if hidden == 0 {
		return nil
	}
	return writeLine(to, "%d more not shown (--limit)", hidden)
}
