package inbox

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/victim"
)

// An effect that no database rolls back, a line in a file, is had at most once through kills and
// copies of every message. What was begun and not finished is claimed and never begun again, and a
// person is told.
func TestAnEffectThatNobodyRollsBackHappensAtMostOnceThroughKills(t *testing.T) {
	t.Parallel()
	c := newInboxCase(t, 3)
	c.settings.Mails, c.settings.CrashLimit, c.settings.SessionTimeout = filepath.Join(t.TempDir(), "mails"), -1, time.Second
	if err := os.WriteFile(c.settings.Mails, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 30)
	again := startRepeater(t, c.bootstrap, 50, c.settings.Topics...)
	s.most = 2000 // each copy of which is begun with care: a slow machine must not let them pile up
	s.start(20 * time.Millisecond)
	points := []victim.Point{victim.BeforeEffect, victim.AfterEffect, victim.BeforeAccept, victim.AfterCommit, victim.BeforeCommit, victim.AfterOffset}
	for _, point := range points {
		consumer := c.start(fmt.Sprintf("%s:%d", point, 1+rand.IntN(20)))
		if status := consumer.Wait(30 * time.Second); status != -1 {
			t.Fatalf("a consumer ended with status %d before it reached %s", status, point)
		}
	}
	s.stop()
	again.finish(len(s.sent))
	records := c.drain(2 * time.Minute)
	requireTwice(t, s.sent, records)
	mailed := c.mailed()
	lost, twice, unknown := 0, 0, 0
	for id := range s.sent {
		switch n := mailed[id]; {
		case n > 1:
			twice++
		case n == 0 && c.claimed(id):
			unknown++
		case n == 0:
			lost++
		}
	}
	claims := c.count("SELECT count(*) FROM inbox_claims")
	audited := c.count("SELECT count(DISTINCT (source, msg_id)) FROM inbox_audit WHERE action = 'unknown'")
	t.Logf("messages %d, effects %d, twice %d, lost %d, begun and not had %d; %d kills, %d claims, %d messages in the audit",
		len(s.sent), len(mailed), twice, lost, unknown, len(points), claims, audited)
	if twice+lost > 0 || len(mailed)+unknown != len(s.sent) || claims > len(points)*c.settings.Workers || audited != claims {
		t.Error("an effect happened twice, or one that did not is not told")
	}
}

// mailed counts how often each message was mailed.
func (c *inboxCase) mailed() map[identity]int {
	c.t.Helper()
	text, err := os.ReadFile(c.settings.Mails)
	if err != nil {
		c.t.Fatal(err)
	}
	mailed := make(map[identity]int)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		source, id, _ := bytes.Cut(lines.Bytes(), []byte{'\t'})
		mailed[identity{string(source), string(id)}]++
	}
	return mailed
}

// claimed reports whether the effect of a message was begun and is not known to be done.
func (c *inboxCase) claimed(id identity) bool {
	c.t.Helper()
	return c.count(`SELECT count(*) FROM inbox_claims WHERE source = $1 AND msg_id = inbox_key($2)`, id.source, id.id) == 1
}
