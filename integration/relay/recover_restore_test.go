package relay

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// archivingPostgres starts a server that archives its write-ahead log, and backs it up, with a
// database that has every migration applied.
func archivingPostgres(t *testing.T) (server *sandbox.Postgres, url, backup, archive string) {
	t.Helper()
	server, url = kit.OwnPostgres(t)
	archive = filepath.Join(server.Folder(), "archive")
	kit.Execute(t, server.URL, "ALTER SYSTEM SET archive_mode = on")
	kit.Execute(t, server.URL, fmt.Sprintf("ALTER SYSTEM SET archive_command = 'mkdir -p %[1]s && cp %%p %[1]s/%%f'", archive))
	return server, url, backUp(t, server), archive
}

// restoreTo restores the server to a restore point of its archive.
func restoreTo(t *testing.T, server *sandbox.Postgres, backup, archive, point string) {
	t.Helper()
	if err := server.ShutDown(); err != nil { // archives the last segment
		t.Fatal(err)
	}
	err := server.Restore(t.Context(), backup, sandbox.Recovery{Signal: "recovery.signal", Parameters: map[string]string{
		"restore_command":        fmt.Sprintf("cp %s/%%f %%p", archive),
		"recovery_target_name":   point,
		"recovery_target_action": "promote",
	}})
	if err != nil {
		t.Fatal(err)
	}
	awaitPrimary(t, server.URL)
}

func awaitPrimary(t *testing.T, url string) {
	t.Helper()
	kit.Eventually(t, time.Minute, "the server is a primary", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return false
		}
		defer kit.CloseQuietly(conn)
		var standby bool
		return conn.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby) == nil && !standby
	})
}

// The database is restored to an earlier time while a relay runs, and services go on writing: the
// ids of transactions that Kafka's checkpoint knows of are given out again.
func TestRecoverFromAPointInTimeRestore(t *testing.T) {
	t.Parallel()
	server, url, backup, archive := archivingPostgres(t)
	c := newRecoveryCase(t, url, kit.Brokers(t))
	c.start()
	kept := c.publish(8)
	kit.Execute(t, url, "SELECT pg_create_restore_point('before')")
	cut := c.publish(10) // on the topics, and soon no more in the table
	restoreTo(t, server, backup, archive, "before")
	after := c.write(40) // the first of them with transaction ids of those that were cut
	c.awaitHalt("restored to an earlier time", "timeline 1 became 2")
	f := c.findings()
	if f.Cause != checkpoint.DatabaseBehind {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	c.counts(c.option(f, recovery.ChooseSkipToNow), nil, nil, after)
	scanned := c.findings("--scan", "--from", fmt.Sprint(c.idOf(kept[5])))
	c.counts(c.option(scanned, recovery.ChoosePostgres), after, nil, nil)
	c.counts(c.option(scanned, recovery.ChooseRestartFrom), after, kept[5:], nil)
	c.expect(once("before", kept, cut), never("meanwhile", after))
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	last := c.publish(3)
	c.stop()
	c.expect(once("everything, also what the restore has removed", kept, cut, after, last))
}

// A standby that lags is promoted: the row knows less than Kafka, and some rows that Kafka has are
// in the table.
func TestRecoverFromALaggingStandby(t *testing.T) {
	t.Parallel()
	server, url := kit.OwnPostgres(t)
	backup := backUp(t, server)
	standby, err := server.Copy(t.Context(), backup, sandbox.Recovery{Signal: "standby.signal"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	kit.Execute(t, standby.URL, "ALTER SYSTEM SET primary_conninfo = '"+conninfo(t, server.URL)+"'")
	kit.Execute(t, standby.URL, "SELECT pg_reload_conf()")
	c := newRecoveryCase(t, url, kit.Brokers(t))
	both, err := pgx.ParseConfig(standby.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.url = strings.Replace(url, "/app?", fmt.Sprintf(",127.0.0.1:%d/app?target_session_attrs=primary&", both.Port), 1)
	c.configure()
	c.start()
	kept := c.publish(5)
	c.stop()
	// These rows reach the standby, and the batch that publishes them does not.
	lagging := c.write(6)
	awaitReplay(t, url, standby.URL)
	stopStreaming(t, standby)
	c.start()
	c.awaitAll()
	cut := c.publish(7)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	kit.Execute(t, standby.URL, "SELECT pg_promote()")
	after := c.write(4)
	c.awaitHalt("failed over to a standby that lagged")
	f := c.findings()
	if f.Cause != checkpoint.DatabaseBehind {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, lagging, nil)
	c.counts(c.option(c.findings("--scan"), recovery.ChoosePostgres), after, lagging, nil)
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	c.stop()
	c.expect(once("before", kept, cut, after), twice("as announced", lagging))
}

// A cold copy of the files is put back: the timeline is the same as before, and so is everything
// else but the batches.
func TestRecoverFromFilesThatWerePutBack(t *testing.T) {
	t.Parallel()
	server, url := kit.OwnPostgres(t)
	c := newRecoveryCase(t, url, kit.Brokers(t))
	c.start()
	kept := c.publish(5)
	c.stop()
	backup := backUp(t, server)
	c.start()
	cut := c.publish(9)
	c.stop()
	if err := server.ShutDown(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restore(t.Context(), backup, sandbox.Recovery{}); err != nil {
		t.Fatal(err)
	}
	after := c.write(4)
	c.start()
	c.awaitHalt("restored to an earlier time", "copy of its files")
	f := c.findings()
	if f.Cause != checkpoint.DatabaseBehind {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	// The server comes past the transactions that Kafka knows of: their ids have been given out
	// again.
	after = append(after, c.write(20)...)
	for _, f := range []recovery.Findings{c.findings(), c.findings("--scan")} {
		kafka := c.option(f, recovery.ChooseKafka)
		if kafka.Caution == "" || kafka.Skipped.Count == 0 || kafka.Skipped.First.MsgID != after[0] ||
			kafka.New.Count+kafka.Skipped.Count != int64(len(after)) {
			t.Errorf("kafka would lose the rows that took the ids: %+v", kafka)
		}
		c.counts(c.option(f, recovery.ChoosePostgres), after, nil, nil)
	}
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	c.stop()
	c.expect(once("everything", kept, cut, after))
}

func backUp(t *testing.T, server *sandbox.Postgres) string {
	t.Helper()
	if err := server.ShutDown(); err != nil {
		t.Fatal(err)
	}
	backup, err := server.Backup()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return backup
}

// conninfo is how a standby connects to a primary.
func conninfo(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("host=%s port=%d user=%s password=%s", cfg.Host, cfg.Port, cfg.User, cfg.Password)
}

// awaitReplay waits until the standby has replayed what the primary has written.
func awaitReplay(t *testing.T, primary, standby string) {
	t.Helper()
	from, to := kit.Connect(t, primary), kit.Connect(t, standby)
	var position string
	if err := from.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&position); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, time.Minute, "the standby has replayed", func() bool {
		var done bool
		err := to.QueryRow(t.Context(), "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)", position).Scan(&done)
		if err != nil {
			t.Fatal(err)
		}
		return done
	})
}

// stopStreaming cuts the standby off.
func stopStreaming(t *testing.T, standby *sandbox.Postgres) {
	t.Helper()
	kit.Execute(t, standby.URL, "ALTER SYSTEM SET primary_conninfo = ''")
	kit.Execute(t, standby.URL, "SELECT pg_reload_conf()")
	conn := kit.Connect(t, standby.URL)
	kit.Eventually(t, time.Minute, "the standby no longer streams", func() bool {
		var streams bool
		err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)").Scan(&streams)
		if err != nil {
			t.Fatal(err)
		}
		return !streams
	})
}
