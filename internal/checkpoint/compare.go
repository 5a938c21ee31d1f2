package checkpoint

import (
	"fmt"

	"github.com/outbox-relay/relay/internal/pg"
)

// differs explains why a lane with identity l cannot continue under live; it is empty if it can. A
// raised timeline is a promotion: whether the standby lagged is shown by the sequence numbers and
// the names of the batches.
func (l ClusterIdentity) differs(live ClusterIdentity) (cause Cause, why, try string) {
	switch {
	case l.SystemIdentifier != live.SystemIdentifier:
		return AnotherDatabase, fmt.Sprintf("it was written for the Postgres cluster with system identifier %s, and this is %s: the database "+
				"was dumped and restored, or upgraded, or is another one under the same name", l.SystemIdentifier, live.SystemIdentifier),
			"if this is another database, give it another name (setting name); otherwise "
	case l.DatabaseOID != live.DatabaseOID:
		return AnotherDatabase, fmt.Sprintf("it was written for database %s (oid %d), and this is %s (oid %d): "+
				"the database was dumped and restored, or this is a copy of it", l.Database, l.DatabaseOID, live.Database, live.DatabaseOID),
			"if this is a copy, give it another name (setting name); otherwise "
	case l.LanesOID != 0 && live.LanesOID != 0 && l.LanesOID != live.LanesOID && l.LanesSchemaOID != live.LanesSchemaOID:
		return AnotherDeployment, fmt.Sprintf("it was written by relays whose table relay_lanes is in schema %s, and this one's is in "+
				"schema %s "+
				"of the same database: two deployments have one name, which by default is that of the database", l.LanesSchema, live.LanesSchema),
			"give this deployment another name (setting name); if its schema takes the place of the other, "
	case l.ClusterID != live.ClusterID:
		return AnotherCluster, fmt.Sprintf("it was written for the Kafka cluster %s, and this is %s", l.ClusterID, live.ClusterID),
			"point the relay at its own cluster (setting brokers); give a deployment on another cluster another name (setting name); " +
				"if the lane is to move, "
	case l.Timeline > live.Timeline:
		return EarlierTimeline, fmt.Sprintf("it was written on timeline %d, and this server is on the earlier timeline %d: "+
				"a standby was promoted, and this is the server from before", l.Timeline, live.Timeline),
			"point the relay at the primary (setting database-url); if this server is to go on, "
	}
	return "", "", ""
}

// CompareIdentity halts if the checkpoint was written for another lane, database or cluster.
func CompareIdentity(lane string, last *Record, live ClusterIdentity) error {
	if last == nil {
		return nil
	}
	if last.Lane != lane {
		return Contradiction(AnotherLane, "set the column partition of both lanes in relay_lanes to what it was; for a lane that is new, to a "+
			"number that no lane has ever had", "the checkpoint is that of lane %s, and this is lane %s: rows of relay_lanes were "+
			"changed or removed", last.Lane, lane)
	}
	if cause, why, before := last.Identity.differs(live); cause != "" {
		return Contradiction(cause, RecoverHint(lane, before), "the checkpoint of lane %s belongs elsewhere: %s", lane, why)
	}
	return nil
}

// Compare compares the two logs. The last checkpoint committed in Kafka is the last batch intended
// in Postgres or the one before it, the very batch and not only its number; anything else means
// that one of the logs is not the one that the lane was run with.
//
// Why that is enough after a promotion: the intent of a batch is written after the rows of the
// batch were read, and has its own transaction id. A server that has the intent therefore
// has every transaction that the batch's snapshots show as ended, and gives out no id below their
// xmax again. The number alone would not do: if an intent was withdrawn, its number was used
// again, and a server that was set back to between the two has the number, but not the batch.
func Compare(lane string, row Row, last *Record, live ClusterIdentity, now Server) error {
	// First, because what a choice would do to such rows cannot be said.
	if err := compareRows(lane, now); err != nil {
		return err
	}
	if last == nil {
		return compareEmpty(lane, row, live, now)
	}
	if err := CompareIdentity(lane, last, live); err != nil {
		return err
	}
	if row.Identity != nil {
		if cause, why, before := row.Identity.differs(live); cause != "" {
			return Contradiction(cause, RecoverHint(lane, before), "the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	if err := CompareTable(lane, row.BoundBy(last).Table, now.Bound, now.Old); err != nil {
		return err
	}
	if err := compareSeq(lane, row, last, live, now); err != nil {
		return err
	}
	return compareBatch(lane, row, last)
}

func compareEmpty(lane string, row Row, live ClusterIdentity, now Server) error {
	if !row.Started && row.Parked > 0 {
		return Contradiction(RowRemoved, RecoverHint(lane, "delete its rows of outbox_parked if the lane is to begin from nothing; otherwise "),
			"lane %s has parked rows in batch %d, and neither its row in relay_lanes nor the checkpoint topic knows of any batch: both were "+
				"removed, and the parked rows would be taken for those of batches that were never committed", lane, row.Parked)
	}
	if !row.Started {
		return nil
	}
	if row.Identity != nil {
		if cause, why, before := row.Identity.differs(live); cause != "" {
			return Contradiction(cause, RecoverHint(lane, before),
				"the checkpoint topic is empty here, and the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	if err := CompareTable(lane, row.Table, now.Bound, now.Old); err != nil {
		return err
	}
	if before := row.Name; before != "" && now.Name != "" && before != now.Name {
		return Contradiction(CheckpointLost, RecoverHint(lane, fmt.Sprintf("set name to %q again; if the name is to change, ", before)),
			"lane %s has published up to batch %d under the name %q, and its checkpoint topic under the name %q is empty",
			lane, row.Seq, before, now.Name)
	}
	return Contradiction(CheckpointLost, RecoverHint(lane, "see to it that nothing deletes the topic; "),
		"lane %s has published up to batch %d, but its checkpoint topic is empty: the topic or its records were deleted", lane, row.Seq)
}

func compareSeq(lane string, row Row, last *Record, live ClusterIdentity, now Server) error {
	try := RecoverHint(lane, "")
	behind := fmt.Sprintf("lane %s: Kafka holds batch %d, and Postgres knows only of batch %d", lane, last.Seq, row.Seq)
	switch {
	case row.Seq < last.Seq && last.Recovery != nil && row.Recovering != nil && *row.Recovering == last.Owner:
		return Contradiction(UnfinishedRecovery, try,
			"lane %s: relay recover was cut short after it wrote Kafka's checkpoint (batch %d, %s, by %s at %s)",
			lane, last.Seq, last.Recovery.Choice, last.Recovery.Who, last.Recovery.At.Format("2006-01-02 15:04:05Z07:00"))
	case row.Seq < last.Seq && !row.Started:
		return Contradiction(RowRemoved, try,
			"lane %s: Kafka holds batch %d, and Postgres knows of none: its state was removed from relay_lanes, or the database "+
				"was restored to a time before the lane was first run", lane, last.Seq)
	case row.Seq < last.Seq && last.Identity.Timeline < live.Timeline:
		return Contradiction(DatabaseBehind, try,
			"%s: the database was restored to an earlier time, or failed over to a standby that lagged (timeline %d became %d)",
			behind, last.Identity.Timeline, live.Timeline)
	case now.Xmax > 0 && last.Xmax() > now.Xmax:
		return Contradiction(DatabaseBehind, try,
			"lane %s: Kafka's checkpoint knows of transactions up to %d, and this server has come only to %d: "+
				"the database was restored to an earlier time, from a copy of its files", lane, last.Xmax()-1, now.Xmax-1)
	case row.Seq < last.Seq:
		return Contradiction(DatabaseBehind, try, "%s: relay_lanes alone was restored to an earlier time, "+
			"or the whole database was restored to an earlier time from a copy of its files", behind)
	case row.Seq > last.Seq+1, row.ConfirmedSeq != nil && *row.ConfirmedSeq > last.Seq:
		return Contradiction(CheckpointBehind, try,
			"lane %s: Postgres intended batch %d, and Kafka holds only batch %d: the checkpoint topic has lost records, "+
				"by an unclean election of a leader, a restored broker or their deletion", lane, row.Seq, last.Seq)
	}
	return nil
}

// compareBatch compares the batches themselves, as far as the row names them.
func compareBatch(lane string, row Row, last *Record) error {
	same := true
	switch {
	case row.Seq == last.Seq && row.BatchOwner != nil && row.BatchEpoch != nil:
		same = *row.BatchOwner == last.Owner && *row.BatchEpoch == last.OwnerEpoch && row.After != nil && row.After.Equal(last.Position)
	case row.Seq == last.Seq+1 && row.Confirmed != nil:
		same = row.Confirmed.Equal(last.Position)
	}
	if same {
		return nil
	}
	return Contradiction(AnotherBatch, RecoverHint(lane, ""),
		"lane %s: Postgres and Kafka both know of batch %d, and it is not the same batch (Kafka's was written by %s): the database "+
			"was restored to a moment inside a takeover, or a copy of it has published to this cluster", lane, last.Seq, last.Owner)
}

// compareRows looks at the rows themselves.
func compareRows(lane string, now Server) error {
	if now.Xmax == 0 || now.Newest < now.Xmax {
		return nil
	}
	return ForeignRow(lane, now.Table, now.Newest, now.Xmax)
}

// ForeignRow is the contradiction that a row bears the id of a transaction which has not ended,
// although the row is visible to all.
func ForeignRow(lane, table string, xid, xmax uint64) error {
	return Contradiction(ForeignRows, "as the owner of the table, run UPDATE "+table+" SET xact_id = pg_current_xact_id() "+
		"WHERE NOT pg_visible_in_snapshot(xact_id, pg_current_snapshot()); then relay recover "+lane+" if the lane still halts",
		"lane %s: its table holds rows of transaction %d, and this server has come only to %d, or runs that transaction still: the rows "+
			"were restored from a dump of another server, or written with an xact_id, and would be published again and again",
		lane, xid, xmax-1)
}

// CompareTable halts if a lane that is bound to a table finds another one. A lane that is bound
// to none takes what it finds.
func CompareTable(lane string, bound *pg.Table, now pg.Table, describe func() string) error {
	if bound == nil || now.OID == 0 || bound.OID == now.OID {
		return nil
	}
	return Contradiction(AnotherTable, RecoverHint(lane, fmt.Sprintf("to go on with %s, let table lead to it again; to go on with %s, ",
		bound.Name, now.Name)),
		"lane %s belongs to table %s, and its setting table leads to %s: rows that were in there before would be taken for published; %s",
		lane, bound, now, describe())
}

// CompareUnread looks at what Postgres alone tells, when the last checkpoint cannot be read.
func CompareUnread(lane string, row Row, live ClusterIdentity, now Server) error {
	if err := compareRows(lane, now); err != nil {
		return err
	}
	if row.Identity != nil {
		if cause, why, before := row.Identity.differs(live); cause != "" {
			return Contradiction(cause, RecoverHint(lane, before), "the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	return CompareTable(lane, row.Table, now.Bound, now.Old)
}
