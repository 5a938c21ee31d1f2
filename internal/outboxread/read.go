package outboxread

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// ReadInto adds the rows of a prepared query to a page: its columns are those of tableColumns and
// the place of the row. cut says that rows were left out, because the page holds enough. After an
// error the page has been put back.
func (r *Reader) ReadInto(ctx context.Context, statement string, out *Page, params ...[]byte) (rows int, cut bool, err error) {
	result, err := r.query(ctx, statement, out, readRequest{params: params})
	return result.rows, result.cut, err
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

// query runs a prepared read and fills the page with as many rows as it may hold. The rest of the
// result is discarded as it arrives, so memory stays bounded; the adaptive limit keeps that rest
// small.
func (r *Reader) query(ctx context.Context, statement string, out *Page, req readRequest) (readResult, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows := r.conn.PgConn().ExecPrepared(ctx, statement, req.params, nil, []int16{1})
	var result readResult
	var failed error
	leading := req.first != nil
	before, discarded := out.Bytes, 0
	if fields := rows.FieldDescriptions(); !leading && r.o.OID != 0 && len(fields) > 0 && fields[0].TableOID != r.o.OID {
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
			if failed = r.checkVisible(req.within, values); failed != nil {
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
		r.Put(out)
		return result, failed
	}
	r.learn(result.rows, out.Bytes-before+discarded)
	return result, nil
}

// checkVisible halts the lane before a row that the snapshot shows and whose transaction it does
// not: the row does not belong to the transaction that inserted it. It would be new at every look,
// and published again and again.
func (r *Reader) checkVisible(within *position.Snapshot, values [][]byte) error {
	if len(values) <= colXactID || len(values[colXactID]) != 8 {
		return errShape
	}
	xid := binary.BigEndian.Uint64(values[colXactID])
	if xid < within.Xmin || within.Visible(xid) {
		return nil
	}
	return r.o.Foreign(xid, within.Xmax)
}

// checkRead checks the oid of the table that was read.
func (r *Reader) checkRead(oid string) error {
	if r.o.OID != 0 && oid != strconv.FormatUint(uint64(r.o.OID), 10) {
		return pg.ErrSwapped
	}
	return nil
}

// full reports whether the page must end before this row.
func (r *Reader) full(out *Page, values [][]byte) bool {
	if len(out.IDs) == 0 {
		return false
	}
	return len(out.IDs) >= r.maxRows || out.Bytes+rowSize(values) > r.maxBytes
}

func rowSize(values [][]byte) int {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	return n
}

// Limit is how many rows to ask for: a page of rows, or fewer where rows are large.
func (r *Reader) Limit() int {
	if r.rowBytes == 0 {
		return min(r.maxRows, 1000)
	}
	return max(1, min(r.maxRows, int(float64(r.maxBytes)/r.rowBytes)))
}

// learn follows the mean size of rows: at once where they grow, slowly where they shrink.
func (r *Reader) learn(rows, bytes int) {
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
