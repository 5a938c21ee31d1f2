package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Rows is a set of rows of the outbox by its size and its edges.
type Rows struct {
	// Count of the rows.
	Count int64 `json:"count"`
	// First and Last are those with the least and the greatest id; nil if there is none.
	First *Edge `json:"first"`
	Last  *Edge `json:"last"`
}

// Edge is a row at the edge of a set.
type Edge struct {
	ID        int64     `json:"id"`
	MsgID     uuid.UUID `json:"msg_id"`
	CreatedAt time.Time `json:"created_at"`
}

// choices finds out which choices are open, and counts what each would publish, publish again, and
// skip.
func (i *inspection) choices(ctx context.Context, tx pgx.Tx, f *Findings, look Look) error {
	if err := i.open(ctx, tx, f, look); err != nil {
		return err
	}
	known := f.known(look.Scan)
	published := []uuid.UUID{}
	if look.Scan {
		scan, err := i.scan(ctx, tx, known)
		if err != nil {
			return err
		}
		f.Scan, published = scan, scan.ids
	}
	for n := range f.Choices {
		if err := i.count(ctx, tx, &f.Choices[n], known, published); err != nil {
			return err
		}
	}
	f.warnOfNewer() // after the counts, because a choice with a caution does not count as knowledge
	return nil
}

// knowledge is a position that tells which rows are published. If it is Kafka's, and the server was
// set back behind it, rows that were written since bear transaction ids that it meant for others;
// they were created after it was written.
type knowledge struct {
	position.Position
	until *time.Time // rows created later are not covered; nil: no such limit
}

// known is what the two logs tell of the rows of this table. A scan is the better witness of what
// Kafka has than a checkpoint whose transaction ids may have been given out again.
func (f *Findings) known(scan bool) []knowledge {
	var known []knowledge
	kafka := false
	for _, option := range f.Choices {
		if (option.Choice == ChooseKafka || option.Choice == ChoosePostgres) && option.Caution == "" {
			known = append(known, knowledge{Position: option.Position})
			kafka = kafka || option.Choice == ChooseKafka
		}
	}
	if f.elsewhere() || f.last == nil || kafka || scan {
		return known
	}
	from, live := f.last.Identity, f.Live.ClusterIdentity
	if from.SystemIdentifier == live.SystemIdentifier && from.DatabaseOID == live.DatabaseOID {
		known = append(known, knowledge{f.last.Position, &f.last.Written})
	}
	return known
}

// publishedByAny joins the conditions of all that is known.
func publishedByAny(known []knowledge, n int) (condition string, params []any) {
	condition = "false"
	for _, k := range known {
		one, more := k.Published(n + len(params))
		params = append(params, more...)
		if k.until != nil {
			one += fmt.Sprintf(" AND created_at <= $%d::timestamptz", n+len(params))
			params = append(params, *k.until)
		}
		condition += " OR " + one
	}
	return "(" + condition + ")", params
}

// count reads the whole table once.
func (i *inspection) count(
	ctx context.Context, tx pgx.Tx, option *Option, known []knowledge, published []uuid.UUID,
) error {
	done, params := option.Position.Published(2)
	was, more := publishedByAny(known, 2+len(params))
	params = append(append([]any{published}, params...), more...)
	columns := ""
	for _, set := range []string{"NOT done AND NOT was", "NOT done AND was", "done AND NOT was"} {
		columns += fmt.Sprintf(
			", count(*) FILTER (WHERE %[1]s), min(id) FILTER (WHERE %[1]s), max(id) FILTER (WHERE %[1]s)", set)
	}
	query := `SELECT ` + columns[2:] + `
FROM (SELECT id, ` + done + ` AS done, ` + was + ` OR msg_id = ANY ($1::uuid[]) AS was
      FROM ` + pg.QuoteTable(i.o.Table) + `) rows`
	sets := []*Rows{&option.New, &option.Again, &option.Skipped}
	var edges [6]*int64
	err := tx.QueryRow(ctx, query, params...).Scan(
		&sets[0].Count, &edges[0], &edges[1], &sets[1].Count, &edges[2], &edges[3], &sets[2].Count, &edges[4], &edges[5])
	if err != nil {
		return fmt.Errorf("count the rows of %s: %w", i.o.Table, err)
	}
	for n, set := range sets {
		if set.Count == 0 {
			continue
		}
		if set.First, err = i.edge(ctx, tx, *edges[2*n]); err != nil {
			return err
		}
		if set.Last, err = i.edge(ctx, tx, *edges[2*n+1]); err != nil {
			return err
		}
	}
	return nil
}

func (i *inspection) edge(ctx context.Context, tx pgx.Tx, id int64) (*Edge, error) {
	edge := &Edge{ID: id}
	query := "SELECT msg_id, created_at FROM " + pg.QuoteTable(i.o.Table) + " WHERE id = $1"
	err := tx.QueryRow(ctx, query, id).Scan(&edge.MsgID, &edge.CreatedAt)
	if err != nil {
		return nil, fmt.Errorf("read row %d of %s: %w", id, i.o.Table, err)
	}
	return edge, nil
}
