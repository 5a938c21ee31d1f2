package recovery

import (
	"fmt"
	"strings"
	"time"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/position"
)

// String returns what was found, for people.
func (f *Findings) String() string {
	var b strings.Builder
	switch {
	case f.Cause == "" && f.Postgres != nil && f.Postgres.State == lanestore.Halted:
		fmt.Fprintf(&b, "The logs of lane %s agree: there is nothing to recover. It has halted for another reason:\n  %s\n",
			f.Lane, orDash(f.Postgres.Reason))
	case f.Cause == "":
		fmt.Fprintf(&b, "The logs of lane %s agree: there is nothing to recover.\n", f.Lane)
	default:
		fmt.Fprintf(&b, "%s\n%s", f.Cause, wrapped("  ", f.Diagnosis))
	}
	writePostgresSide(&b, f)
	writeKafkaSide(&b, f)
	if f.Scan != nil {
		writeScan(&b, f.Scan)
	}
	switch {
	case f.Cause == "":
	case !f.Recoverable():
		fmt.Fprintf(&b, "\nNo choice settles this. Try:\n%s", wrapped("  ", f.Try))
	default:
		writeChoices(&b, f)
	}
	return b.String()
}

func orDash(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

func writePostgresSide(b *strings.Builder, f *Findings) {
	fmt.Fprintf(b, "\nPOSTGRES  database %s (oid %d), system identifier %s, timeline %d, transactions up to %d\n",
		f.Live.Database, f.Live.DatabaseOID, f.Live.SystemIdentifier, f.Live.Timeline, f.Live.Xmax-1)
	p := f.Postgres
	if p == nil {
		fmt.Fprintf(b, "  row        relay_lanes has none for lane %s\n", f.Lane)
		return
	}
	fmt.Fprintf(b, "  intended   batch %d%s\n", p.Seq, by(p.BatchOwner, p.BatchEpoch))
	if p.After != nil {
		fmt.Fprintf(b, "             %s\n", progressText(*p.After))
	}
	if p.Confirmed != nil && p.ConfirmedAt != nil {
		fmt.Fprintf(b, "  confirmed  batch %d\n             %s\n", *p.Confirmed, progressText(*p.ConfirmedAt))
	}
	if p.Identity != nil && *p.Identity != f.Live.ClusterIdentity {
		fmt.Fprintf(b, "  written    for %s\n", identityText(*p.Identity))
	}
	if p.Table != nil && p.Table.OID != f.Live.Table.OID {
		fmt.Fprintf(b, "  table      the lane belongs to %s, and its setting table leads to %s\n", p.Table, f.Live.Table)
	}
	holds := "its session has ended"
	if p.OwnerAlive {
		holds = "its session lives"
	}
	fmt.Fprintf(b, "  owner      %s, epoch %d, %s since %s; %s\n",
		orDash(p.Owner), p.OwnerEpoch, p.State, clock(p.UpdatedAt), holds)
}

func writeKafkaSide(b *strings.Builder, f *Findings) {
	k := f.Kafka
	fmt.Fprintf(b, "\nKAFKA  cluster %s, %s/%d", f.Live.ClusterID, k.Topic, k.Partition)
	switch c := k.Checkpoint; {
	case !k.Exists:
		fmt.Fprint(b, ", which does not exist\n")
	case k.Unreadable != nil:
		fmt.Fprintf(b, ", offsets %d to %d\n  checkpoint cannot be read: %s\n             offset %d, written %s\n",
			k.Start, k.End, k.Unreadable.Reason, *k.Offset, clock(*k.Written))
	case c == nil:
		fmt.Fprintf(b, ", offsets %d to %d\n  checkpoint none\n", k.Start, k.End)
	default:
		fmt.Fprintf(b, ", offsets %d to %d\n", k.Start, k.End)
		fmt.Fprintf(b, "  committed  batch %d%s\n             %s\n",
			c.Seq, by(&c.Owner, &c.OwnerEpoch), progressText(c.Position))
		fmt.Fprintf(b, "             offset %d, written %s\n", *k.Offset, clock(*k.Written))
		if c.Identity != f.Live.ClusterIdentity {
			fmt.Fprintf(b, "  written    for %s\n", identityText(c.Identity))
		}
		if r := c.Recovery; r != nil {
			fmt.Fprintf(b, "  recovery   %s for %s, by %s at %s: %s\n", r.Choice, r.Cause, r.Who, clock(r.At), r.Why)
		}
	}
}

func writeScan(b *strings.Builder, s *Scan) {
	if s.Since == nil {
		fmt.Fprint(b, "\nSCAN  no row is in doubt\n")
		return
	}
	fmt.Fprintf(b, "\nSCAN  %d records since %s of %s\n", s.Records, clock(*s.Since), strings.Join(s.Topics, ", "))
	if len(s.Missing) > 0 {
		fmt.Fprintf(b, "  missing    %s\n", strings.Join(s.Missing, ", "))
	}
}

func writeChoices(b *strings.Builder, f *Findings) {
	if len(f.Choices) > 0 {
		fmt.Fprint(b, "\nCHOICES\n")
	}
	for _, option := range f.Choices {
		writeOption(b, option)
	}
	for _, closed := range f.Closed {
		fmt.Fprintf(b, "  %s is not open\n%s", closed.Choice, wrapped("      ", closed.Reason))
	}
	fmt.Fprintf(b, "\nNothing has been changed. To go on: relay recover %s --choose CHOICE --why TEXT --yes\n", f.Lane)
}

func writeOption(b *strings.Builder, option Option) {
	from := ""
	if option.From != "" {
		from = " --from " + option.From
	}
	fmt.Fprintf(b, "  --choose %s%s\n%s", option.Choice, from, wrapped("      ", option.Meaning))
	if option.Caution != "" {
		fmt.Fprint(b, wrapped("      ", "caution: "+option.Caution))
	}
	for _, set := range []struct {
		name string
		rows Rows
	}{{"publishes", option.New}, {"publishes again", option.Again}, {"skips for good", option.Skipped}} {
		fmt.Fprintf(b, "      %-15s %s\n", set.name, rowsText(set.rows))
	}
	if option.Again.First != nil {
		fmt.Fprint(b, wrapped("      ", "caution: a consumer that keeps its marks for less time than has passed since "+
			clock(option.Again.First.CreatedAt)+" has the effect of the oldest of these rows again; "+
			"compare relay inbox consumers"))
	}
}

// rowsText is a set of rows by its size and its edges.
func rowsText(rows Rows) string {
	switch {
	case rows.Count == 0 || rows.First == nil || rows.Last == nil:
		return "no row"
	case rows.Count == 1:
		return "1 row:  " + edgeText(*rows.First)
	}
	indent := strings.Repeat(" ", 22)
	return fmt.Sprintf("%d rows\n%sfirst  %s\n%slast   %s",
		rows.Count, indent, edgeText(*rows.First), indent, edgeText(*rows.Last))
}

func edgeText(e Edge) string {
	return fmt.Sprintf("id %d, msg_id %s, created %s", e.ID, e.MsgID, clock(e.CreatedAt))
}

func by(owner *string, epoch *int64) string {
	if owner == nil || epoch == nil {
		return ""
	}
	return fmt.Sprintf(", by %s (epoch %d)", *owner, *epoch)
}

func progressText(p position.Position) string {
	text := "published: what is visible in " + p.From.String()
	if p.Open() {
		text += fmt.Sprintf(", and up to id %d what is visible in %s", p.LastID, p.To)
	}
	return text
}

func identityText(l checkpoint.ClusterIdentity) string {
	return fmt.Sprintf("database %s (oid %d), system identifier %s, timeline %d, and Kafka cluster %s",
		l.Database, l.DatabaseOID, l.SystemIdentifier, l.Timeline, l.ClusterID)
}

// wrapped breaks a text into lines that begin with indent.
func wrapped(indent, text string) string {
	const width = 110
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// String returns what was done, for people.
func (o *Outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Lane %s goes on from batch %d: %s.\n", o.Checkpoint.Lane, o.Checkpoint.Seq, o.Chosen.Choice)
	writeOption(&b, o.Chosen)
	fmt.Fprintf(&b, "\nRecorded in relay_recoveries and in Kafka's checkpoint, for %s.\n", o.Checkpoint.Recovery.Who)
	if o.Evicted {
		fmt.Fprint(&b, "The relay that had halted takes the lane over by itself.\n")
	} else {
		fmt.Fprint(&b, "No relay held the lane: start one.\n")
	}
	return b.String()
}
