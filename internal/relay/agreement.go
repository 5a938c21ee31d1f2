package relay

import "fmt"

// Cause is the kind of a contradiction, for programs to tell apart.
type Cause string

// The kinds of contradictions.
const (
	// CheckpointLost: Postgres knows of batches, and the checkpoint topic holds nothing.
	CheckpointLost Cause = "checkpoint-lost"
	// CheckpointBehind: the checkpoint topic has lost its last records.
	CheckpointBehind Cause = "checkpoint-behind"
	// CheckpointUnreadable: the last checkpoint is that of a newer relay, or none that a relay wrote.
	CheckpointUnreadable Cause = "checkpoint-unreadable"
	// CheckpointPolicy: the brokers would delete the checkpoint.
	CheckpointPolicy Cause = "checkpoint-policy"
	// DatabaseBehind: the database, or relay_lanes alone, has been set back.
	DatabaseBehind Cause = "database-behind"
	// RowRemoved: the lane's row has gone.
	RowRemoved Cause = "row-removed"
	// AnotherBatch: both logs name a batch of one number, and it is not the same batch.
	AnotherBatch Cause = "another-batch"
	// AnotherDatabase: the lane belongs to another database or server.
	AnotherDatabase Cause = "another-database"
	// EarlierTimeline: the lane has gone on on a server that was promoted, and this is the one from before.
	EarlierTimeline Cause = "earlier-timeline"
	// AnotherCluster: the lane belongs to another Kafka cluster.
	AnotherCluster Cause = "another-cluster"
	// AnotherDeployment: the lane belongs to the relays of another schema of this database.
	AnotherDeployment Cause = "another-deployment"
	// AnotherTable: the lane belongs to another table than the one that its setting leads to.
	AnotherTable Cause = "another-table"
	// TableTaken: another lane publishes the table.
	TableTaken Cause = "table-taken"
	// AnotherLane: the partition holds the checkpoint of another lane.
	AnotherLane Cause = "another-lane"
	// ForeignRows: the outbox holds rows of transactions that this server has not had.
	ForeignRows Cause = "foreign-rows"
	// HangingTransaction: a partition holds a transaction of the lane open, and nobody can say whether it was committed.
	HangingTransaction Cause = "hanging-transaction"
	// UnfinishedRecovery: relay recover was cut short.
	UnfinishedRecovery Cause = "unfinished-recovery"
)

func contradiction(cause Cause, try, format string, args ...any) error {
	return &HaltError{Cause: cause, Diagnosis: fmt.Sprintf(format, args...), Try: try}
}

// recoverTry is the way on from a contradiction, first what may make it unnecessary.
func recoverTry(lane, before string) string {
	return before + "relay recover " + lane + " shows what each way on would publish again or skip; nothing is published until one is chosen"
}

// differs explains why a lane with lineage l cannot go on under live; it is empty where it can. A raised timeline is a
// promotion: whether the standby lagged is shown by the sequence numbers and the names of the batches.
func (l Lineage) differs(live Lineage) (cause Cause, why, try string) {
	switch {
	case l.SystemIdentifier != live.SystemIdentifier:
		return AnotherDatabase, fmt.Sprintf("it was written for the Postgres cluster with system identifier %s, and this is %s: the database "+
				"was dumped and restored, or upgraded, or is another one under the same name", l.SystemIdentifier, live.SystemIdentifier),
			"if this is another database, give it a name of its own (setting name); otherwise "
	case l.DatabaseOID != live.DatabaseOID:
		return AnotherDatabase, fmt.Sprintf("it was written for database %s (oid %d), and this is %s (oid %d): "+
				"the database was dumped and restored, or this is a copy of it", l.Database, l.DatabaseOID, live.Database, live.DatabaseOID),
			"if this is a copy, give it a name of its own (setting name); otherwise "
	case l.LanesOID != 0 && live.LanesOID != 0 && l.LanesOID != live.LanesOID && l.LanesSchemaOID != live.LanesSchemaOID:
		return AnotherDeployment, fmt.Sprintf("it was written by relays whose table relay_lanes is in schema %s, and this one's is in "+
				"schema %s "+
				"of the same database: two deployments have one name, which by default is that of the database", l.LanesSchema, live.LanesSchema),
			"give this deployment a name of its own (setting name); if its schema takes the place of the other, "
	case l.ClusterID != live.ClusterID:
		return AnotherCluster, fmt.Sprintf("it was written for the Kafka cluster %s, and this is %s", l.ClusterID, live.ClusterID),
			"point the relay at its own cluster (setting brokers); give a deployment on another cluster a name of its own (setting name); " +
				"if the lane is to move, "
	case l.Timeline > live.Timeline:
		return EarlierTimeline, fmt.Sprintf("it was written on timeline %d, and this server is on the earlier timeline %d: "+
				"a standby was promoted, and this is the server from before", l.Timeline, live.Timeline),
			"point the relay at the primary (setting database-url); if this server is to go on, "
	}
	return "", "", ""
}

// judgeLineage halts where the checkpoint was written for another lane, database or cluster.
func judgeLineage(lane string, last *Checkpoint, live Lineage) error {
	if last == nil {
		return nil
	}
	if last.Lane != lane {
		return contradiction(AnotherLane, "set the column partition of both lanes in relay_lanes to what it was; for a lane that is new, to a "+
			"number that no lane has ever had", "the checkpoint is that of lane %s, and this is lane %s: rows of relay_lanes were "+
			"changed or removed", last.Lane, lane)
	}
	if cause, why, before := last.Lineage.differs(live); cause != "" {
		return contradiction(cause, recoverTry(lane, before), "the checkpoint of lane %s belongs elsewhere: %s", lane, why)
	}
	return nil
}

// judge compares the two logs. The last checkpoint committed in Kafka is the last batch intended in Postgres or the one
// before it, the very batch and not only its number; anything else means that one of the logs is not the one that the
// lane was run with.
//
// Why that is enough after a promotion: the intent of a batch is written after the rows of the batch were read, and takes
// a transaction id of its own. A server that has the intent therefore has every transaction that the batch's snapshots
// show as ended, and gives out no id below their xmax again. The number alone would not do: where an intent was withdrawn,
// its number was used again, and a server that was set back to between the two has the number, but not the batch.
func judge(lane string, row laneState, last *Checkpoint, live Lineage, now serverNow) error {
	// First, because what a choice would do to such rows cannot be said.
	if err := judgeRows(lane, now); err != nil {
		return err
	}
	if last == nil {
		return judgeEmpty(lane, row, live, now)
	}
	if err := judgeLineage(lane, last, live); err != nil {
		return err
	}
	if row.lineage != nil {
		if cause, why, before := row.lineage.differs(live); cause != "" {
			return contradiction(cause, recoverTry(lane, before), "the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	if err := judgeTable(lane, row.boundBy(last).table, now.bound, now.old); err != nil {
		return err
	}
	if err := judgeSeq(lane, row, last, live, now); err != nil {
		return err
	}
	return judgeBatch(lane, row, last)
}

func judgeEmpty(lane string, row laneState, live Lineage, now serverNow) error {
	if !row.started && row.parked > 0 {
		return contradiction(RowRemoved, recoverTry(lane, "delete its rows of outbox_parked if the lane is to begin from nothing; otherwise "),
			"lane %s has parked rows in batch %d, and neither its row in relay_lanes nor the checkpoint topic knows of any batch: both were "+
				"removed, and the parked rows would be taken for those of batches that were never committed", lane, row.parked)
	}
	if !row.started {
		return nil
	}
	if row.lineage != nil {
		if cause, why, before := row.lineage.differs(live); cause != "" {
			return contradiction(cause, recoverTry(lane, before),
				"the checkpoint topic is empty here, and the row of lane %s in relay_lanes belongs elsewhere: %s", lane, why)
		}
	}
	if err := judgeTable(lane, row.table, now.bound, now.old); err != nil {
		return err
	}
	if before := row.name(); before != "" && now.name != "" && before != now.name {
		return contradiction(CheckpointLost, recoverTry(lane, fmt.Sprintf("set name to %q again; if the name is to change, ", before)),
			"lane %s has published up to batch %d under the name %q, and its checkpoint topic under the name %q is empty",
			lane, row.seq, before, now.name)
	}
	return contradiction(CheckpointLost, recoverTry(lane, "see to it that nothing deletes the topic; "),
		"lane %s has published up to batch %d, but its checkpoint topic is empty: the topic or its records were deleted", lane, row.seq)
}

func judgeSeq(lane string, row laneState, last *Checkpoint, live Lineage, now serverNow) error {
	try := recoverTry(lane, "")
	behind := fmt.Sprintf("lane %s: Kafka holds batch %d, and Postgres knows only of batch %d", lane, last.Seq, row.seq)
	switch {
	case row.seq < last.Seq && last.Recovery != nil && row.recovering != nil && *row.recovering == last.Owner:
		return contradiction(UnfinishedRecovery, try,
			"lane %s: relay recover was cut short after it wrote Kafka's checkpoint (batch %d, %s, by %s at %s)",
			lane, last.Seq, last.Recovery.Choice, last.Recovery.Who, last.Recovery.At.Format("2006-01-02 15:04:05Z07:00"))
	case row.seq < last.Seq && !row.started:
		return contradiction(RowRemoved, try,
			"lane %s: Kafka holds batch %d, and Postgres knows of none: its state was removed from relay_lanes, or the database "+
				"was restored to a time before the lane was first run", lane, last.Seq)
	case row.seq < last.Seq && last.Lineage.Timeline < live.Timeline:
		return contradiction(DatabaseBehind, try,
			"%s: the database was restored to an earlier time, or failed over to a standby that lagged (timeline %d became %d)",
			behind, last.Lineage.Timeline, live.Timeline)
	case now.xmax > 0 && last.Xmax() > now.xmax:
		return contradiction(DatabaseBehind, try,
			"lane %s: Kafka's checkpoint knows of transactions up to %d, and this server has come only to %d: "+
				"the database was restored to an earlier time, from a copy of its files", lane, last.Xmax()-1, now.xmax-1)
	case row.seq < last.Seq:
		return contradiction(DatabaseBehind, try, "%s: relay_lanes alone was restored to an earlier time, "+
			"or the whole database was restored to an earlier time from a copy of its files", behind)
	case row.seq > last.Seq+1, row.confirmedSeq != nil && *row.confirmedSeq > last.Seq:
		return contradiction(CheckpointBehind, try,
			"lane %s: Postgres intended batch %d, and Kafka holds only batch %d: the checkpoint topic has lost records, "+
				"by an unclean election of a leader, a restored broker or their deletion", lane, row.seq, last.Seq)
	}
	return nil
}

// judgeBatch compares the batches themselves, as far as the row names them.
func judgeBatch(lane string, row laneState, last *Checkpoint) error {
	same := true
	switch {
	case row.seq == last.Seq && row.batchOwner != nil && row.batchEpoch != nil:
		same = *row.batchOwner == last.Owner && *row.batchEpoch == last.OwnerEpoch && row.after != nil && row.after.Equal(last.Position)
	case row.seq == last.Seq+1 && row.confirmed != nil:
		same = row.confirmed.Equal(last.Position)
	}
	if same {
		return nil
	}
	return contradiction(AnotherBatch, recoverTry(lane, ""),
		"lane %s: Postgres and Kafka both know of batch %d, and it is not the same batch (Kafka's was written by %s): the database "+
			"was restored to a moment inside a takeover, or a copy of it has published to this cluster", lane, last.Seq, last.Owner)
}

// judgeRows looks at the rows themselves.
func judgeRows(lane string, now serverNow) error {
	if now.xmax == 0 || now.newest < now.xmax {
		return nil
	}
	return foreignRow(lane, now.table, now.newest, now.xmax)
}

// foreignRow is the contradiction that a row bears the id of a transaction which has not ended, although the row is there for everybody.
func foreignRow(lane, table string, xid, xmax uint64) error {
	return contradiction(ForeignRows, "as the owner of the table, run UPDATE "+table+" SET xact_id = pg_current_xact_id() "+
		"WHERE NOT pg_visible_in_snapshot(xact_id, pg_current_snapshot()); then relay recover "+lane+" if the lane still halts",
		"lane %s: its table holds rows of transaction %d, and this server has come only to %d, or runs that transaction still: the rows "+
			"were restored from a dump of another server, or written with an xact_id, and would be published again and again",
		lane, xid, xmax-1)
}
