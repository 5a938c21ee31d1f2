package position

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a pg_snapshot value: which transactions had ended when it was taken. A transaction is
// visible in it when its id is below Xmax and not in Xip, whether it committed or aborted; aborted
// rows are hidden by Postgres itself.
//
// Source: the documentation of PostgreSQL, "Transaction ID and Snapshot Information Functions".
type Snapshot struct {
	Xmin, Xmax uint64
	Xip        []uint64 // ascending, each in [Xmin, Xmax)
}

// Beginning is the snapshot in which no transaction is visible.
var Beginning = Snapshot{Xmin: 1, Xmax: 1}

// ParseSnapshot reads the text form of a pg_snapshot, "xmin:xmax:xip,xip".
func ParseSnapshot(text string) (Snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: want xmin:xmax:xip_list", text)
	}
	var s Snapshot
	var err error
	if s.Xmin, err = ParseXID(parts[0]); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: xmin: %w", text, err)
	}
	if s.Xmax, err = ParseXID(parts[1]); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: xmax: %w", text, err)
	}
	if s.Xmax < s.Xmin {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: xmax is less than xmin", text)
	}
	if parts[2] == "" {
		return s, nil
	}
	for field := range strings.SplitSeq(parts[2], ",") {
		xid, err := ParseXID(field)
		if err != nil {
			return Snapshot{}, fmt.Errorf("parse snapshot %q: xip: %w", text, err)
		}
		if xid < s.Xmin || xid >= s.Xmax || (len(s.Xip) > 0 && xid <= s.Xip[len(s.Xip)-1]) {
			return Snapshot{}, fmt.Errorf("parse snapshot %q: xip %d is out of place", text, xid)
		}
		s.Xip = append(s.Xip, xid)
	}
	return s, nil
}

// ParseXID reads a transaction id in its canonical form: decimal, positive, no sign and no leading
// zero.
func ParseXID(text string) (uint64, error) {
	xid, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, err
	}
	if xid == 0 || text[0] == '0' || text[0] == '+' {
		return 0, fmt.Errorf("%q is not a transaction id", text)
	}
	return xid, nil
}

// String returns the text form, which Postgres reads back.
func (s Snapshot) String() string {
	b := make([]byte, 0, 32+20*len(s.Xip))
	b = strconv.AppendUint(b, s.Xmin, 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, s.Xmax, 10)
	b = append(b, ':')
	return string(AppendXIDs(b, s.Xip))
}

// Visible reports whether the transaction had ended when the snapshot was taken.
func (s Snapshot) Visible(xid uint64) bool {
	if xid >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, xid)
	return !running
}

// IsZero reports whether s is the zero Snapshot, which no server returns.
func (s Snapshot) IsZero() bool { return s.Xmax == 0 }

// MarshalText writes the text form; a zero Snapshot is empty.
func (s Snapshot) MarshalText() ([]byte, error) {
	if s.IsZero() {
		return nil, nil
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads the text form.
func (s *Snapshot) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Snapshot{}
		return nil
	}
	parsed, err := ParseSnapshot(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// equal reports whether both show the same transactions.
func (s Snapshot) equal(t Snapshot) bool {
	return s.Xmin == t.Xmin && s.Xmax == t.Xmax && slices.Equal(s.Xip, t.Xip)
}

// AppendXIDs appends the ids as text, separated by commas.
func AppendXIDs(b []byte, xids []uint64) []byte {
	for i, xid := range xids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return b
}
