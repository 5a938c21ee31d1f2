package outboxread

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Options say what a Reader reads, and from where.
type Options struct {
	// Lane is the name of the lane, and Table its outbox, "table" or "schema.table".
	Lane, Table string
	// OID is what every read must find under the name of the table; 0 for any.
	OID uint32
	// Rows and Bytes bound a page; a single larger row still goes, alone. RowsNow, if set, bounds the
	// rows further.
	Rows, Bytes int
	RowsNow     func() int
	Records     RecordOptions
	// Database opens the connection.
	Database *pg.Database
	// Clock is told the time of the database with each tail read.
	Clock *Clock
	// Foreign makes the error for a row that bears the id of a transaction which has not ended,
	// although the row is there for everybody; xmax is that of the snapshot.
	Foreign func(xid, xmax uint64) error
}

// Reader reads the windows of one outbox table, page by page. It is used by one goroutine.
type Reader struct {
	conn     *pgx.Conn
	o        Options
	decoder  *Decoder
	maxRows  int
	maxBytes int
	rowBytes float64 // mean size of the rows read lately, to ask for no more than fits
	free     chan *Page
}

// readTimeout bounds a read. It is long, because the last page of a window may pass many newer
// rows; a server that is gone is noticed by the pings on the lane's own session, which end this
// one.
const readTimeout = 30 * time.Minute

// Open connects to the database and prepares the reads of the table.
func Open(ctx context.Context, o Options) (*Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	conn, err := o.Database.Connect(ctx, pg.Options{Application: "relay " + o.Lane + " reader", Settings: readerSettings, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	r := NewReader(conn, o)
	if err := r.prepare(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) prepare(ctx context.Context) error {
	table, columns := pg.QuoteTable(r.o.Table), Columns(r.o.Bytes)
	if err := pg.CheckRowSecurity(ctx, r.conn, table); err != nil {
		return err
	}
	for name, query := range map[string]string{
		tailStatement: tailQuery(table, columns), leastStatement: leastQuery(table), pageStatement: pageQuery(table, columns),
	} {
		if _, err := r.conn.PgConn().Prepare(ctx, name, query, nil); err != nil {
			return fmt.Errorf("prepare reads of %s: %w", r.o.Table, err)
		}
	}
	return r.readClock(ctx)
}

// NewReader makes a reader of another connection, for rows that are no longer in an outbox: only
// ReadInto and what goes with it may be called.
func NewReader(conn *pgx.Conn, o Options) *Reader {
	return &Reader{
		conn: conn, o: o, decoder: NewDecoder(o.Records), maxRows: o.Rows, maxBytes: o.Bytes, free: make(chan *Page, 8),
	}
}

// Conn is the reader's session, for questions of a takeover before it reads.
func (r *Reader) Conn() *pgx.Conn { return r.conn }

// Clock is the time of the database as the reader knows it.
func (r *Reader) Clock() *Clock { return r.o.Clock }

// Routed returns the topic of an aggregate type.
func (r *Reader) Routed(aggregateType string) string { return r.decoder.Routed(aggregateType) }

// Close ends the session.
func (r *Reader) Close() { pg.Close(r.conn) }

// CheckServer checks that the reader talks to the server that the lane's session talks to.
func (r *Reader) CheckServer(ctx context.Context, want pg.Server) error {
	return pg.CheckServer(ctx, r.conn, want)
}

// Next reads the page after p. A page without records is progress all the same: nothing was there
// to be published.
func (r *Reader) Next(ctx context.Context, p position.Position) (*Page, error) {
	if r.o.RowsNow != nil {
		r.maxRows = r.o.RowsNow()
	}
	read := r.tail
	if p.Open() {
		read = r.drain
	}
	asked := time.Now()
	page, err := read(ctx, p)
	if err != nil {
		return nil, err
	}
	page.Asked, page.Read = asked, time.Now()
	return page, nil
}

// tail reads everything since p.From. Where that is more than a page it opens a window up to the
// snapshot of the read, and returns its first page.
func (r *Reader) tail(ctx context.Context, p position.Position) (*Page, error) {
	limit := r.Limit()
	least := int64(0)
	out := r.Page()
	result, err := r.query(ctx, tailStatement, out, readRequest{
		params: [][]byte{xidParam(p.From.Xmax), xipParam(p.From.Xip), IntParam(int64(limit) + 1)},
		first: func(values [][]byte) error {
			if len(values) <= colSnapshot || len(values[colCreatedAt]) != 8 {
				return errShape
			}
			r.o.Clock.set(pgTime(values[colCreatedAt]))
			text, oid, _ := strings.Cut(string(values[colSnapshot]), "/")
			snapshot, err := position.ParseSnapshot(text)
			if err == nil {
				out.After.To, err = snapshot, r.checkRead(oid)
			}
			return err
		},
		within: &out.After.To,
		row: func(id int64) {
			if least == 0 || id < least {
				least = id
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read tail: %w", err)
	}
	window := position.Position{From: p.From, To: out.After.To}
	if window.To.Xmax < p.From.Xmax || window.To.Xmin < p.From.Xmin {
		r.Put(out)
		return nil, fmt.Errorf("read tail: the snapshot %s is older than the last one, %s: this is another server", window.To, p.From)
	}
	out.Window = window
	switch {
	case result.rows <= limit && !result.cut:
		out.After = window.Closed()
		return out, nil
	case result.rows <= limit:
		// The window is complete, but holds more bytes than a page: what was kept is its beginning.
		window.LastID = out.IDs[len(out.IDs)-1]
		out.After = window
		return out, nil
	}
	r.Put(out)
	if window.LastID, err = r.beforeLeast(ctx, window, least); err != nil {
		return nil, err
	}
	return r.drain(ctx, window)
}

// beforeLeast returns the id before the least one of the window.
func (r *Reader) beforeLeast(ctx context.Context, w position.Position, guess int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	result := r.conn.PgConn().ExecPrepared(ctx, leastStatement, [][]byte{
		xidParam(w.From.Xmax), xipParam(w.From.Xip), []byte(w.To.String()), IntParam(guess),
	}, nil, []int16{1}).Read()
	if result.Err != nil {
		return 0, fmt.Errorf("find the beginning of the window: %w", result.Err)
	}
	if len(result.Rows) != 1 || len(result.Rows[0][0]) != 8 {
		return 0, fmt.Errorf("find the beginning of the window: %w", errShape)
	}
	return int64(binary.BigEndian.Uint64(result.Rows[0][0])) - 1, nil
}

// drain reads the next page of an open window. It asks for one row more than a page, so that the
// last page is known as such and its checkpoint closes the window.
func (r *Reader) drain(ctx context.Context, p position.Position) (*Page, error) {
	limit := r.Limit()
	out := r.Page()
	result, err := r.query(ctx, pageStatement, out, readRequest{within: &p.To, params: [][]byte{
		[]byte(p.From.String()), []byte(p.To.String()), IntParam(p.LastID), IntParam(int64(limit) + 1),
	}})
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	out.Window = p
	if result.rows <= limit && !result.cut {
		out.After = p.Closed()
		return out, nil
	}
	out.After = position.Position{From: p.From, To: p.To, LastID: out.IDs[len(out.IDs)-1]}
	return out, nil
}

// Page returns an empty page; Put takes it back.
func (r *Reader) Page() *Page {
	select {
	case p := <-r.free:
		return p
	default:
		return &Page{}
	}
}

// Put takes back a page whose records are not used any more.
func (r *Reader) Put(p *Page) {
	p.reset()
	select {
	case r.free <- p:
	default:
	}
}
