package position

import "fmt"

// Position says which rows are published: those visible in From and, while a window is being
// drained (To is not zero), also those visible in To with an id of at most LastID.
type Position struct {
	From   Snapshot `json:"from"`
	To     Snapshot `json:"to,omitzero"`
	LastID int64    `json:"last_id,omitempty"`
}

// Open reports whether a window is being drained.
func (p Position) Open() bool { return !p.To.IsZero() }

// Closed returns the position after the whole window is published.
func (p Position) Closed() Position { return Position{From: p.To} }

// Equal reports whether both name the same rows as published, in the same way.
func (p Position) Equal(q Position) bool {
	return p.From.equal(q.From) && p.To.equal(q.To) && p.LastID == q.LastID
}

// Xmax is the first transaction id that the position does not know.
func (p Position) Xmax() uint64 { return max(p.From.Xmax, p.To.Xmax) }

// Published is the SQL condition that a row counts as published. A position is written as three
// values: the snapshot From, and To with the last id, which are both null while no window is open;
// see Columns. row is the prefix of the row's columns, such as "o."; from, to and lastID are SQL
// expressions of the position. The condition is never null.
func Published(row, from, to, lastID string) string {
	return "(pg_visible_in_snapshot(" + row + "xact_id, " + from + ") OR coalesce(" + row + "id <= " + lastID + ", false)" +
		" AND pg_visible_in_snapshot(" + row + "xact_id, " + to + "))"
}

// Published is the condition that a row counts as published under p, without a prefix of its
// columns. Its parameters are numbered from n on.
func (p Position) Published(n int) (condition string, params []any) {
	from, to, lastID := p.Columns()
	condition = Published("", fmt.Sprintf("$%d::text::pg_snapshot", n), fmt.Sprintf("$%d::text::pg_snapshot", n+1),
		fmt.Sprintf("$%d::bigint", n+2))
	return condition, []any{from, to, lastID}
}

// Columns are the three values of a position in SQL, as text, as text and as a bigint.
func (p Position) Columns() (from string, to *string, lastID *int64) {
	from = p.From.String()
	if p.Open() {
		text := p.To.String()
		to, lastID = &text, &p.LastID
	}
	return from, to, lastID
}

// FromColumns reads what Columns wrote; nil if the first column is null.
func FromColumns(from, to *string, lastID *int64) (*Position, error) {
	if from == nil {
		return nil, nil
	}
	var p Position
	if err := p.From.UnmarshalText([]byte(*from)); err != nil {
		return nil, err
	}
	if to != nil {
		if err := p.To.UnmarshalText([]byte(*to)); err != nil {
			return nil, err
		}
	}
	if lastID != nil {
		p.LastID = *lastID
	}
	return &p, nil
}
