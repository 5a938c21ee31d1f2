package lanestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
)

// Settings are the settings that say where a row goes and whether it does, by the names that they
// have in the configuration. Replicas that differ in one of them send the keys of a topic elsewhere
// after each failover, or drop what the others park. They may be changed on purpose, one replica
// after the other, so a difference halts nothing; but it is said loudly.
type Settings map[string]string

// Agreed is what the Settings of a lane are made of.
type Agreed struct {
	Name, Partitioner, Poison, Route string

	TopicsAllow      []string
	TopicsCreate     bool
	TopicsPartitions int32
	TopicsTimeout    time.Duration
}

// Settings returns them by the names that they have in the configuration.
func (a Agreed) Settings() Settings {
	return Settings{
		"name":              a.Name,
		"partitioner":       a.Partitioner,
		"poison":            a.Poison,
		"route":             a.Route,
		"topics.allow":      strings.Join(slices.Sorted(slices.Values(a.TopicsAllow)), ","),
		"topics.create":     fmt.Sprint(a.TopicsCreate),
		"topics.partitions": fmt.Sprint(a.TopicsPartitions),
		"topics.patience":   a.TopicsTimeout.String(),
	}
}

// differences says what changes from s to t, in the order of the names; it is empty where nothing
// does. A setting that one of them does not know was recorded by another version, and is no
// difference.
func (s Settings) differences(t Settings) string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if value, ok := t[name]; ok && value != s[name] {
			found = append(found, fmt.Sprintf("%s was %q and is %q", name, s[name], value))
		}
	}
	return strings.Join(found, "; ")
}

// changedSettings tells, for the record, what the takeover changes; nil if it changes nothing.
func (l *Row) changedSettings() *string {
	if l.before.Settings == nil {
		return nil
	}
	differences := (*l.before.Settings).differences(l.o.Settings)
	if differences == "" {
		return nil
	}
	text := fmt.Sprintf("%s by %s, from those of %s: %s", time.Now().UTC().Format(time.RFC3339), l.o.Owner, l.before.settingsBy, differences)
	return &text
}

// Disagreement is what a process that waits for the lane sees of the settings of the one that runs
// it.
type Disagreement struct {
	seen string // owner and settings that were compared last
	Text string // what differs; empty if nothing does
}

// CompareSettings looks at the settings of the owner, and returns what differs from those of this
// process, once for each owner.
func (l *Row) CompareSettings(ctx context.Context, d *Disagreement) (owner, differences string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	var text, by *string
	err = l.conn.QueryRow(ctx, `SELECT settings::text, settings_by FROM relay_bindings WHERE lane = $1`, l.o.Lane).Scan(&text, &by)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("read the settings of the owner of lane %s: %w", l.o.Lane, err)
	}
	if text == nil || by == nil || d.seen == *by+*text {
		return "", "", nil
	}
	var settings Settings
	if err := json.Unmarshal([]byte(*text), &settings); err != nil {
		return "", "", fmt.Errorf("read the settings of the owner of lane %s: %w", l.o.Lane, err)
	}
	d.seen, d.Text = *by+*text, ""
	if differences = settings.differences(l.o.Settings); differences != "" {
		d.Text = fmt.Sprintf("its owner %s has other settings than this process, so rows go elsewhere after a failover: %s", *by, differences)
	}
	return *by, differences, nil
}

// NewSettings says what this takeover changes in the settings of the owner before, by; it is empty
// if it changes nothing.
func (l *Row) NewSettings() (differences, by string) {
	if l.before.Settings == nil {
		return "", ""
	}
	return (*l.before.Settings).differences(l.o.Settings), l.before.settingsBy
}
