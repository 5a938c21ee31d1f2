package event

import (
	"errors"
	"fmt"
)

// Box is an outbox table as a Writer sees it: what its messages must keep to, and its statements.
type Box struct {
	Rules
	Inserts
	Lock string
}

// NewBox returns the box of a table. Its error names every fault of the table's name and the rules.
func NewBox(table string, rules Rules) (Box, error) {
	var faults []error
	parsed, err := ParseTable(table)
	if err != nil {
		faults = append(faults, fmt.Errorf("outbox: Table: %w", err))
	}
	for _, reason := range checkRules(rules) {
		faults = append(faults, fmt.Errorf("outbox: %s", reason))
	}
	if err := errors.Join(faults...); err != nil {
		return Box{}, err
	}
	return Box{rules, parsed.Inserts(), parsed.LockStatement()}, nil
}
