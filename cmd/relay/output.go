package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/hint"
)

// The exit statuses.
const (
	exitOK      = 0
	exitFailure = 1 // something failed
	exitUsage   = 2 // the arguments or the configuration are wrong
)

// errUsage is wrapped by every error about the arguments.
var errUsage = errors.New("usage")

// usageError is a fault of the arguments; it reads as its text alone.
type usageError struct{ text string }

func (e usageError) Error() string        { return e.text }
func (e usageError) Is(target error) bool { return target == errUsage }

func usage(try, format string, args ...any) error {
	return hint.Wrap(usageError{fmt.Sprintf(format, args...)}, "%s", try)
}

// report prints err, if any, and returns the exit status.
func (p program) report(err error) int {
	if err == nil {
		return exitOK
	}
	if stop, ok := errors.AsType[interrupted](err); ok {
		fmt.Fprintf(p.stderr, "relay: %v\n", stop)
		return signalStatus(stop.signal)
	}
	faults := apart(err)
	for i, fault := range faults {
		fmt.Fprintf(p.stderr, "Error: %s\n", config.Redact(fault.Error()))
		for _, try := range hint.Of(fault) {
			// What several faults share is said once, after the last.
			if !slices.Contains(hint.Of(errors.Join(faults[i+1:]...)), try) {
				fmt.Fprintf(p.stderr, "Try: %s\n", try)
			}
		}
	}
	if errors.Is(err, errUsage) || errors.Is(err, config.ErrInvalid) {
		return exitUsage
	}
	return exitFailure
}

// apart returns the errors that err was joined from.
func apart(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, part := range joined.Unwrap() {
		all = append(all, apart(part)...)
	}
	return all
}

// output is the form of a command's result.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
)

func parseOutput(text string) (output, error) {
	switch o := output(strings.ToLower(text)); o {
	case outputText, outputJSON:
		return o, nil
	}
	return "", usage("--output text or --output json", "--output: %q is neither text nor json", text)
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// show prints a value in one of its two forms.
func (p program) show(value fmt.Stringer, form output) error {
	if form == outputJSON {
		return writeJSON(p.stdout, value)
	}
	if _, err := io.WriteString(p.stdout, value.String()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// isTerminal reports whether a person may watch lines being redrawn.
func isTerminal(to io.Writer) bool {
	file, ok := to.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
