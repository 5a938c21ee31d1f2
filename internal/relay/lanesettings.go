package relay

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

// laneSettings are the settings that say where a row goes and whether it does, by the names that they have in the configuration.
// Replicas that differ in one of them send the keys of a topic elsewhere after each failover, or drop what the others park. They
// may be changed on purpose, one replica after the other, so a difference halts nothing; but it is said loudly.
type laneSettings map[string]string

// agreeing are those settings of a lane.
func agreeing(cfg *Config) laneSettings {
	return laneSettings{
		"name":              cfg.Name,
		"partitioner":       cfg.Partitioner,
		"poison":            string(cfg.Poison),
		"route":             cfg.Route,
		"topics.create":     fmt.Sprint(cfg.Topics.Create),
		"topics.partitions": fmt.Sprint(cfg.Topics.Partitions),
		"topics.patience":   cfg.Topics.Patience.String(),
	}
}

// differences says what changes from s to t, in the order of the names; it is empty where nothing does. A setting that one of them
// does not know was recorded by another version, and is no difference.
func (s laneSettings) differences(t laneSettings) string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if value, ok := t[name]; ok && value != s[name] {
			found = append(found, fmt.Sprintf("%s was %q and is %q", name, s[name], value))
		}
	}
	return strings.Join(found, "; ")
}

// changedSettings tells, for the record, what the takeover changes; nil if it changes nothing.
func (l *laneRow) changedSettings() *string {
	if l.before.settings == nil {
		return nil
	}
	differences := (*l.before.settings).differences(l.settings)
	if differences == "" {
		return nil
	}
	text := fmt.Sprintf("%s by %s, from those of %s: %s", time.Now().UTC().Format(time.RFC3339), l.owner, l.before.settingsBy, differences)
	return &text
}

// tellSettings says loudly that the lane goes on with other settings than it was run with before.
func (l *lane) tellSettings(row *laneRow) {
	if row.before.settings == nil {
		return
	}
	if differences := (*row.before.settings).differences(row.settings); differences != "" {
		l.log.Warn("the lane goes on with other settings than before; where replicas differ, rows go elsewhere after each failover",
			"settings", differences, "before", row.before.settingsBy, "now", row.owner)
	}
}

// disagreement is what a process that waits for the lane sees of the settings of the one that runs it.
type disagreement struct {
	seen string // owner and settings that were compared last
	text string // what differs; empty where nothing does
}

// compare looks at the settings of the owner, and warns once for each owner whose settings differ from those of this process.
func (l *lane) compare(ctx context.Context, row *laneRow, d *disagreement) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	var text, by *string
	err := row.conn.QueryRow(ctx, `SELECT settings::text, settings_by FROM relay_bindings WHERE lane = $1`, l.Name).Scan(&text, &by)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the settings of the owner of lane %s: %w", l.Name, err)
	}
	if text == nil || by == nil || d.seen == *by+*text {
		return nil
	}
	var settings laneSettings
	if err := json.Unmarshal([]byte(*text), &settings); err != nil {
		return fmt.Errorf("read the settings of the owner of lane %s: %w", l.Name, err)
	}
	d.seen, d.text = *by+*text, ""
	if differences := settings.differences(row.settings); differences != "" {
		d.text = fmt.Sprintf("its owner %s has other settings than this process, so rows go elsewhere after a failover: %s", *by, differences)
		l.log.Warn("the owner of the lane has other settings than this process; where replicas differ, rows go elsewhere after each failover",
			"settings", differences, "owner", *by, "this", row.owner)
	}
	return nil
}
