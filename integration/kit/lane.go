package kit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Finish lets a relay publish what is left, stops it in order, and judges.
func Finish(t testing.TB, load *Workload, settings []string, topics ...string) {
	t.Helper()
	last := StartRelay(t, settings, "run")
	last.AwaitLog(time.Minute, "lane taken over")
	AwaitPublished(t, load)
	last.Terminate()
	if status := last.Wait(30 * time.Second); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}
	bootstrap := strings.Split(SettingOf(settings, "RELAY_BROKERS"), ",")
	v := Judge(load.Ledger(t), Everything(t, bootstrap, topics...))
	t.Logf("transactions: %d committed, %d rolled back", load.Committed.Load(), load.rolledBack.Load())
	v.Require(t)
	if t.Failed() {
		Autopsy(t, bootstrap, slices.Concat(topics, CheckpointTopics(t, bootstrap))...)
	}
}

// AwaitPublished waits until the relay's row says that it has published everything that is in the
// outbox.
func AwaitPublished(t testing.TB, load *Workload) {
	t.Helper()
	Eventually(t, 3*time.Minute, "everything in the outbox is published", func() bool {
		var left int
		err := Ask(t, load.URL, `
SELECT count(*) FROM outbox, relay_lanes
WHERE snapshot_to IS NOT NULL OR snapshot_from IS NULL OR NOT pg_visible_in_snapshot(xact_id, snapshot_from)`, nil, &left)
		return err == nil && left == 0
	})
}

// LaneSeq is the sequence number of the last batch intended, 0 before the first.
func LaneSeq(t testing.TB, url string) int64 {
	t.Helper()
	var seq int64
	if err := Ask(t, url, "SELECT coalesce(max(seq), 0) FROM relay_lanes", nil, &seq); err != nil {
		t.Fatal(err)
	}
	return seq
}

// LaneOwner is who took the lane over last, and how often it was taken over.
func LaneOwner(t testing.TB, url string) (owner string, epoch int64) {
	t.Helper()
	err := Ask(t, url, "SELECT owner, owner_epoch FROM relay_lanes", nil, &owner, &epoch)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return owner, epoch
}

// OwnerIndex finds the relay that owner, host/pid/instance, names.
func OwnerIndex(t testing.TB, relays []*RelayProcess, owner string) int {
	t.Helper()
	for i, r := range relays {
		if strings.Contains(owner, fmt.Sprintf("/%d/", r.ID())) {
			return i
		}
	}
	t.Fatalf("no relay is the owner %q", owner)
	return 0
}

// AwaitGoingOn waits until the lane has published some batches more.
func AwaitGoingOn(t *testing.T, url string) {
	t.Helper()
	before := LaneSeq(t, url)
	Eventually(t, 2*time.Minute, "the lane goes on", func() bool { return LaneSeq(t, url) > before+settleSeqs })
}

// settleSeqs is how many batches show that a lane goes on.
const settleSeqs = 5
