package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// The reader's own session settings, beside those of internal/pg: each forbids a plan that reads the retained rows to find
// the new ones, whatever the statistics say, and none touches another session. See DESIGN.md, "Reading".
var readerSettings = map[string]string{
	"enable_seqscan":                  "off",
	"enable_bitmapscan":               "off",
	"enable_sort":                     "off",
	"max_parallel_workers_per_gather": "0",
	"jit":                             "off",
	"work_mem":                        "32MB",
}

const (
	tailStatement  = "relay_tail"
	leastStatement = "relay_least"
	pageStatement  = "relay_page"
)

// tailQuery reads the rows that became visible since a snapshot: of transactions that began after it ($1 = its xmax) and
// of those that ran when it was taken ($2 = its xip list). One statement is one snapshot, which the first row returns, and with
// it the oid of the table. That part stands last: names are looked up from the first part to the last, so by then the table is
// locked under its name.
func tailQuery(table, columns string) string {
	return `SELECT ` + rowColumns + `, xact_id, NULL AS snapshot FROM (
    SELECT ` + columns + `, xact_id FROM ` + table + ` WHERE xact_id >= $1::xid8 ORDER BY xact_id LIMIT $3::bigint) began
UNION ALL
SELECT ` + rowColumns + `, xact_id, NULL FROM (
    SELECT ` + columns + `, xact_id FROM ` + table + ` WHERE xact_id = ANY ($2::xid8[]) ORDER BY xact_id LIMIT $3::bigint) ran
UNION ALL
SELECT NULL::bigint, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text, NULL::bytea, NULL::jsonb, clock_timestamp(),
       NULL::int, NULL::xid8, pg_current_snapshot()::text || '/' || ` + pg.OIDOf(table) + `
ORDER BY id NULLS FIRST`
}

// leastQuery finds the least id of a window, given some id of it ($4). It must not walk the primary key, whose rows below $4
// are all those that were published and retained. Of the transactions that began, only rows below $4 are visited, since
// the index holds both columns; the order that is asked for, with enable_sort off, leaves the planner no other index. Of those
// that ran, all rows are visited: id + 0 is no condition that the primary key serves. OFFSET 0 keeps min() out of it all.
func leastQuery(table string) string {
	return `SELECT least($4::bigint,
    (SELECT min(id) FROM (SELECT id FROM ` + table + `
        WHERE xact_id >= $1::xid8 AND id < $4::bigint AND pg_visible_in_snapshot(xact_id, $3::pg_snapshot)
        ORDER BY xact_id OFFSET 0) began),
    (SELECT min(id) FROM (SELECT id FROM ` + table + `
        WHERE xact_id = ANY ($2::xid8[]) AND id + 0 < $4::bigint AND pg_visible_in_snapshot(xact_id, $3::pg_snapshot) OFFSET 0) ran))`
}

// pageQuery reads the next rows of the window ($1, $2] after the id $3, in the order of their ids.
func pageQuery(table, columns string) string {
	return `SELECT ` + columns + `, xact_id FROM ` + table + `
WHERE id > $3::bigint AND pg_visible_in_snapshot(xact_id, $2::pg_snapshot) AND NOT pg_visible_in_snapshot(xact_id, $1::pg_snapshot)
ORDER BY id LIMIT $4::bigint`
}

// windowReader reads the windows of one outbox table, page by page. It is used by one goroutine.
type windowReader struct {
	conn     *pgx.Conn
	lane     Lane   // whose table is read; empty for parked rows
	table    uint32 // the oid that every read must find; 0 where any will do
	clock    *databaseClock
	decoder  *rowDecoder
	maxRows  int
	pace     *pace // that maxRows follows
	maxBytes int
	rowBytes float64 // mean size of the rows read lately, to ask for no more than fits
	free     chan *page
}

// readTimeout bounds a read. It is long, because the last page of a window may pass many newer rows; a server that is
// gone is noticed by the pings on the lane's own session, which end this one.
const readTimeout = 30 * time.Minute

// openReader connects to the database and prepares the reads of table.
func openReader(ctx context.Context, cfg *Config, lane Lane) (*windowReader, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	conn, err := cfg.sessions().Connect(ctx, pg.Options{Application: "relay " + lane.Name + " reader", Settings: readerSettings, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	table := pg.QuoteTable(lane.Table)
	if err := checkSeesAll(ctx, conn, lane); err != nil {
		pg.Close(conn)
		return nil, err
	}
	columns := tableColumns(wholePayload(cfg))
	for name, query := range map[string]string{
		tailStatement: tailQuery(table, columns), leastStatement: leastQuery(table), pageStatement: pageQuery(table, columns),
	} {
		if _, err := conn.PgConn().Prepare(ctx, name, query, nil); err != nil {
			pg.Close(conn)
			return nil, fmt.Errorf("prepare reads of %s: %w", lane.Table, err)
		}
	}
	r := newWindowReader(cfg, conn)
	r.lane, r.clock = lane, newDatabaseClock(cfg, lane)
	if err := r.readClock(ctx); err != nil {
		pg.Close(conn)
		return nil, err
	}
	return r, nil
}

func newWindowReader(cfg *Config, conn *pgx.Conn) *windowReader {
	return &windowReader{
		conn: conn, decoder: newRowDecoder(cfg), maxRows: cfg.BatchRows, maxBytes: cfg.BatchBytes, pace: cfg.pace,
		free: make(chan *page, 8),
	}
}

func (r *windowReader) close() { pg.Close(r.conn) }

// checkServer checks that the reader talks to the server that the lane's session talks to.
func (r *windowReader) checkServer(ctx context.Context, want pg.Server) error {
	return pg.CheckServer(ctx, r.conn, want)
}

// next reads the page after p. A page without records is progress all the same: nothing was there to be published.
func (r *windowReader) next(ctx context.Context, p position.Position) (*page, error) {
	if r.pace != nil {
		r.maxRows = r.pace.rows()
	}
	if p.Open() {
		return r.drain(ctx, p)
	}
	return r.tail(ctx, p)
}

// tail reads everything since p.From. Where that is more than a page it opens a window up to the snapshot of the read,
// and returns its first page.
func (r *windowReader) tail(ctx context.Context, p position.Position) (*page, error) {
	limit := r.limit()
	least := int64(0)
	out := r.page()
	result, err := r.query(ctx, tailStatement, out, readRequest{
		params: [][]byte{xidParam(p.From.Xmax), xipParam(p.From.Xip), intParam(int64(limit) + 1)},
		first: func(values [][]byte) error {
			if len(values) <= colSnapshot || len(values[colCreatedAt]) != 8 {
				return errShape
			}
			r.clock.set(pgTime(values[colCreatedAt]))
			text, oid, _ := strings.Cut(string(values[colSnapshot]), "/")
			snapshot, err := position.ParseSnapshot(text)
			if err == nil {
				out.after.To, err = snapshot, r.checkRead(oid)
			}
			return err
		},
		within: &out.after.To,
		row: func(id int64) {
			if least == 0 || id < least {
				least = id
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read tail: %w", err)
	}
	window := position.Position{From: p.From, To: out.after.To}
	if window.To.Xmax < p.From.Xmax || window.To.Xmin < p.From.Xmin {
		r.put(out)
		return nil, fmt.Errorf("read tail: the snapshot %s is older than the last one, %s: this is another server", window.To, p.From)
	}
	out.window = window
	switch {
	case result.rows <= limit && !result.cut:
		out.after = window.Closed()
		return out, nil
	case result.rows <= limit:
		// The window is complete, but holds more bytes than a page: what was kept is its beginning.
		window.LastID = out.ids[len(out.ids)-1]
		out.after = window
		return out, nil
	}
	r.put(out)
	if window.LastID, err = r.beforeLeast(ctx, window, least); err != nil {
		return nil, err
	}
	return r.drain(ctx, window)
}

// beforeLeast returns the id before the least one of the window.
func (r *windowReader) beforeLeast(ctx context.Context, w position.Position, guess int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	result := r.conn.PgConn().ExecPrepared(ctx, leastStatement, [][]byte{
		xidParam(w.From.Xmax), xipParam(w.From.Xip), []byte(w.To.String()), intParam(guess),
	}, nil, []int16{1}).Read()
	if result.Err != nil {
		return 0, fmt.Errorf("find the beginning of the window: %w", result.Err)
	}
	if len(result.Rows) != 1 || len(result.Rows[0][0]) != 8 {
		return 0, fmt.Errorf("find the beginning of the window: %w", errShape)
	}
	return int64(binary.BigEndian.Uint64(result.Rows[0][0])) - 1, nil
}

// drain reads the next page of an open window. It asks for one row more than a page, so that the last page is known as such
// and its checkpoint closes the window.
func (r *windowReader) drain(ctx context.Context, p position.Position) (*page, error) {
	limit := r.limit()
	out := r.page()
	result, err := r.query(ctx, pageStatement, out, readRequest{within: &p.To, params: [][]byte{
		[]byte(p.From.String()), []byte(p.To.String()), intParam(p.LastID), intParam(int64(limit) + 1),
	}})
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	out.window = p
	if result.rows <= limit && !result.cut {
		out.after = p.Closed()
		return out, nil
	}
	out.after = position.Position{From: p.From, To: p.To, LastID: out.ids[len(out.ids)-1]}
	return out, nil
}

type readRequest struct {
	params [][]byte
	first  func(values [][]byte) error // given the leading row, where the query has one
	row    func(id int64)              // given every id
	within *position.Snapshot          // in which the transaction of every row must be visible; nil for parked rows, which have a place
}

type readResult struct {
	rows int  // that the server returned
	cut  bool // rows were left out of the page, which has too many bytes
}

// query runs a prepared read and fills the page with as many rows as it may hold. The rest of the result is discarded as
// it arrives, so memory stays bounded; the adaptive limit keeps that rest small.
func (r *windowReader) query(ctx context.Context, statement string, out *page, req readRequest) (readResult, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows := r.conn.PgConn().ExecPrepared(ctx, statement, req.params, nil, []int16{1})
	var result readResult
	var failed error
	leading := req.first != nil
	before, discarded := out.bytes, 0
	if fields := rows.FieldDescriptions(); !leading && r.table != 0 && len(fields) > 0 && fields[0].TableOID != r.table {
		failed = pg.ErrSwapped // the server says of each column which table it is of
	}
	for failed == nil && rows.NextRow() {
		values := rows.Values()
		if leading {
			leading = false
			failed = req.first(values)
			continue
		}
		if len(values[colID]) != 8 {
			failed = errShape
			continue
		}
		if req.within != nil {
			if failed = r.judge(req.within, values); failed != nil {
				continue
			}
		}
		result.rows++
		id := int64(binary.BigEndian.Uint64(values[colID]))
		if req.row != nil {
			req.row(id)
		}
		if result.cut = result.cut || r.full(out, values); result.cut {
			discarded += rowSize(values)
			continue
		}
		if failed = r.decoder.add(out, values); req.within == nil && failed == nil {
			failed = out.addPlace(values)
		}
	}
	_, err := rows.Close()
	if failed = errors.Join(failed, err); failed != nil {
		r.put(out)
		return result, failed
	}
	r.learn(result.rows, out.bytes-before+discarded)
	return result, nil
}

// judge halts the lane before a row that the snapshot shows and whose transaction it does not: the row does not belong to the
// transaction that inserted it. It would be new at every look, and published again and again.
func (r *windowReader) judge(within *position.Snapshot, values [][]byte) error {
	if len(values) <= colXactID || len(values[colXactID]) != 8 {
		return errShape
	}
	xid := binary.BigEndian.Uint64(values[colXactID])
	if xid < within.Xmin || within.Visible(xid) {
		return nil
	}
	return checkpoint.ForeignRow(r.lane.Name, r.lane.Table, xid, within.Xmax)
}

// checkRead checks the oid of the table that was read.
func (r *windowReader) checkRead(oid string) error {
	if r.table != 0 && oid != strconv.FormatUint(uint64(r.table), 10) {
		return pg.ErrSwapped
	}
	return nil
}

// full reports whether the page must end before this row.
func (r *windowReader) full(out *page, values [][]byte) bool {
	if len(out.ids) == 0 {
		return false
	}
	return len(out.ids) >= r.maxRows || out.bytes+rowSize(values) > r.maxBytes
}

func rowSize(values [][]byte) int {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	return n
}

// limit is how many rows to ask for: a page of rows, or fewer where rows are large.
func (r *windowReader) limit() int {
	if r.rowBytes == 0 {
		return min(r.maxRows, 1000)
	}
	return max(1, min(r.maxRows, int(float64(r.maxBytes)/r.rowBytes)))
}

// learn follows the mean size of rows: at once where they grow, slowly where they shrink.
func (r *windowReader) learn(rows, bytes int) {
	if rows == 0 {
		return
	}
	mean := float64(bytes)/float64(rows) + 1
	if mean > r.rowBytes {
		r.rowBytes = mean
	} else {
		r.rowBytes += (mean - r.rowBytes) / 4
	}
}

func (r *windowReader) page() *page {
	select {
	case p := <-r.free:
		return p
	default:
		return &page{}
	}
}

// put takes back a page whose records nobody uses any more.
func (r *windowReader) put(p *page) {
	p.reset()
	select {
	case r.free <- p:
	default:
	}
}

func xidParam(xid uint64) []byte { return strconv.AppendUint(nil, xid, 10) }

func xipParam(xids []uint64) []byte {
	b := make([]byte, 0, 2+20*len(xids))
	return append(position.AppendXIDs(append(b, '{'), xids), '}')
}

func intParam(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
