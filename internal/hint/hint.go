package hint

import (
	"errors"
	"fmt"
)

// Error is an error with a hint for the operator.
type Error struct {
	// Err says what went wrong.
	Err error
	// Try says what to do about it: a command, or a value to change.
	Try string
}

// Error returns what went wrong, without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that the hint belongs to.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error that says text and carries the hint.
func New(text, try string) error {
	return &Error{Err: errors.New(text), Try: try}
}

// Wrap adds a hint, formatted as by fmt.Sprintf, to err. It returns nil if err is nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Try: fmt.Sprintf(format, args...)}
}

// Of returns every hint in the tree of err, outermost first and each once.
func Of(err error) []string {
	var hints []string
	seen := map[string]bool{}
	walk(err, func(e *Error) {
		if e.Try != "" && !seen[e.Try] {
			seen[e.Try] = true
			hints = append(hints, e.Try)
		}
	})
	return hints
}

// walk visits the tree itself, where errors.As would stop at the first that it finds.
func walk(err error, visit func(*Error)) {
	if e, ok := err.(*Error); ok { //nolint:errorlint // each node is looked at by itself
		visit(e)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		walk(e.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			walk(inner, visit)
		}
	}
}
