package observe

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Panel is one of a dashboard.
type Panel struct {
	Title string
	// Help says what the panel shows and what is unusual.
	Help string
	// Unit is one of Grafana's: s, short, Bps, percentunit, dateTimeFromNow.
	Unit string
	// Kind is timeseries or stat.
	Kind string
	// Signed values may be below 0.
	Signed bool
	// Wide panels have a row for themselves; others share one by two or, if they are stats, by four.
	Wide bool
	// Queries of PromQL.
	Queries []Query
	// Red is from which value on a stat is red; 0 for never.
	Red float64
}

// Query is one of a panel, with the legend of its series.
type Query struct{ Expr, Legend string }

// Dashboard is a page of Grafana.
type Dashboard struct {
	UID, Title string
	// Variables are labels by which a person chooses, each with a metric that has it.
	Variables []Variable
	Panels    []Panel
}

// Variable is a label to choose by.
type Variable struct{ Label, Metric string }

// selected are the labels of the series that are chosen, in every query of relays.
const selected = `job=~"$job",lane=~"$lane"`

// relays fills in the selection.
func relays(queries ...Query) []Query { return filled(queries, selected) }

// chosen are those of consumers.
const chosen = `job=~"$job",group=~"$group"`

func consumers(queries ...Query) []Query { return filled(queries, chosen) }

// filled puts a selection where a query has S.
func filled(queries []Query, selection string) []Query {
	for i := range queries {
		queries[i].Expr = strings.ReplaceAll(queries[i].Expr, "{S", "{"+selection)
	}
	return queries
}

// quantiles are three of a histogram.
func quantiles(histogram, by string) []Query {
	var all []Query
	for _, q := range []string{"0.5", "0.95", "0.99"} {
		all = append(all, Query{
			fmt.Sprintf(`histogram_quantile(%s, sum by (le, %s) (rate(%s_bucket{S}[$__rate_interval])))`, q, by, histogram),
			"{{" + by + "}} p" + strings.TrimPrefix(q, "0."),
		})
	}
	return all
}

// RelayDashboard is that of relays.
func RelayDashboard() Dashboard {
	return Dashboard{
		UID: "outbox-relay", Title: "Outbox relay",
		Variables: []Variable{{"job", "relay_build_info"}, {"lane", "relay_lane_state"}},
		Panels:    append(relayLate(), relayWhy()...),
	}
}

// relayLate answers whether the relay is late, and how much.
func relayLate() []Panel {
	return []Panel{
		{Title: "Oldest unpublished event", Kind: "stat", Unit: "s", Red: 60,
			Help:    "How late the lane is now. 0 on an idle lane.",
			Queries: relays(Query{`max by (lane) (relay_backlog_age_seconds{S})`, "{{lane}}"})},
		{Title: "Backlog", Kind: "stat", Unit: "short",
			Help:    "Rows that are committed and not published. Beyond 10,000 an estimate.",
			Queries: relays(Query{`max by (lane) (relay_backlog_rows{S})`, "{{lane}}"})},
		{Title: "Parked aggregates", Kind: "stat", Unit: "short", Red: 1,
			Help:    "Their events wait for a person or a topic: relay parked list.",
			Queries: relays(Query{`max by (lane) (relay_parked_aggregates{S})`, "{{lane}}"})},
		{Title: "Processes", Kind: "stat", Unit: "short",
			Help:    "Relays that are scraped. One runs each lane, the others stand by.",
			Queries: []Query{{`count by (version) (relay_build_info{job=~"$job"})`, "{{version}}"}}},
		{Title: "Age of the oldest unpublished event", Kind: "timeseries", Unit: "s",
			Help:    "It grows by a second each second while nothing is published.",
			Queries: relays(Query{`max by (lane) (relay_backlog_age_seconds{S})`, "{{lane}}"})},
		{Title: "Backlog over time", Kind: "timeseries", Unit: "short",
			Help:    "It shrinks if the lane publishes faster than services write.",
			Queries: relays(Query{`max by (lane) (relay_backlog_rows{S})`, "{{lane}}"})},
		{Title: "From insert to committed in Kafka", Kind: "timeseries", Unit: "s",
			Help:    "Every row that is published; the rest of its own transaction is included.",
			Queries: relays(quantiles("relay_publish_delay_seconds", "lane")...)},
		{Title: "Events published", Kind: "timeseries", Unit: "short",
			Help:    "Rows a second, over all processes.",
			Queries: relays(Query{`sum by (lane) (rate(relay_rows_published_total{S}[$__rate_interval]))`, "{{lane}}"})},
	}
}

// relayWhy answers why.
func relayWhy() []Panel {
	return []Panel{
		{Title: "What impairs the lane", Kind: "timeseries", Unit: "short", Wide: true,
			Help:    "A reason at 1. All are at 0 while all is well; the sentence behind one is in relay status.",
			Queries: relays(Query{`max by (lane, reason) (relay_lane_impaired{S})`, "{{lane}} {{reason}}"})},
		{Title: "State of each process", Kind: "timeseries", Unit: "short",
			Help:    "Exactly one process runs a lane.",
			Queries: relays(Query{`sum by (lane, state) (relay_lane_state{S})`, "{{lane}} {{state}}"})},
		{Title: "Takeovers", Kind: "timeseries", Unit: "short",
			Help:    "Attempts in five minutes, by result. A rolling deploy has one or two.",
			Queries: relays(Query{`sum by (lane, result) (increase(relay_takeovers_total{S}[5m]))`, "{{lane}} {{result}}"})},
		{Title: "Seconds since the last progress", Kind: "timeseries", Unit: "s",
			Help:    "An idle lane reads many times a second, so this is near 0.",
			Queries: relays(Query{`time() - max by (lane) (relay_last_progress_timestamp_seconds{S})`, "{{lane}}"})},
		{Title: "Changes of state or reason", Kind: "timeseries", Unit: "short",
			Help:    "In five minutes. A lane that flaps shows here.",
			Queries: relays(Query{`sum by (lane, state) (increase(relay_lane_changes_total{S}[5m]))`, "{{lane}} {{state}}"})},
		{Title: "Duration of batches", Kind: "timeseries", Unit: "s",
			Help:    "From the begin of a Kafka transaction to its commit.",
			Queries: relays(quantiles("relay_batch_duration_seconds", "lane")...)},
		{Title: "Rows in a batch", Kind: "timeseries", Unit: "short",
			Help:    "Large batches mean that the lane catches up.",
			Queries: relays(quantiles("relay_batch_rows", "lane")...)},
		{Title: "Batches", Kind: "timeseries", Unit: "short",
			Help:    "Kafka transactions a second.",
			Queries: relays(Query{`sum by (lane) (rate(relay_batches_total{S}[$__rate_interval]))`, "{{lane}}"})},
		{Title: "Bytes published", Kind: "timeseries", Unit: "Bps",
			Help:    "Keys, values and headers, before compression.",
			Queries: relays(Query{`sum by (lane) (rate(relay_published_bytes_total{S}[$__rate_interval]))`, "{{lane}}"})},
		{Title: "Parked, released, skipped", Kind: "timeseries", Unit: "short",
			Help: "Rows in five minutes.",
			Queries: relays(Query{`sum by (lane) (increase(relay_rows_parked_total{S}[5m]))`, "{{lane}} parked"},
				Query{`sum by (lane) (increase(relay_rows_released_total{S}[5m]))`, "{{lane}} released"},
				Query{`sum by (lane) (increase(relay_rows_skipped_total{S}[5m]))`, "{{lane}} skipped"})},
		{Title: "Rows removed by retention", Kind: "timeseries", Unit: "short",
			Help: "Rows a second, and partitions in an hour.",
			Queries: relays(Query{`sum by (lane) (rate(relay_retention_rows_total{S}[$__rate_interval]))`, "{{lane}} rows"},
				Query{`sum by (lane, change) (increase(relay_retention_partitions_total{S}[1h]))`,
					"{{lane}} partitions {{change}}"})},
		{Title: "Rounds of retention", Kind: "timeseries", Unit: "short",
			Help:    "In an hour, by result.",
			Queries: relays(Query{`sum by (lane, result) (increase(relay_retention_rounds_total{S}[1h]))`, "{{lane}} {{result}}"})},
		{Title: "Clock of the host against the database", Kind: "timeseries", Unit: "s",
			Help: "Positive if the host of the relay is ahead.", Signed: true,
			Queries: relays(Query{`relay_clock_deviation_seconds{S}`, "{{lane}} {{instance}}"})},
		{Title: "Processor", Kind: "timeseries", Unit: "percentunit",
			Help:    "Of one core.",
			Queries: []Query{{`rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])`, "{{instance}}"}}},
		{Title: "Memory", Kind: "timeseries", Unit: "bytes",
			Help:    "Resident.",
			Queries: []Query{{`process_resident_memory_bytes{job=~"$job"}`, "{{instance}}"}}},
	}
}

// InboxDashboard is that of consumers.
func InboxDashboard() Dashboard {
	return Dashboard{
		UID: "outbox-relay-inbox", Title: "Inbox consumers",
		Variables: []Variable{{"job", "inbox_paused"}, {"group", "inbox_paused"}},
		Panels:    append(inboxLate(), inboxWhy()...),
	}
}

// inboxLate answers whether consumers are late, and how much.
func inboxLate() []Panel {
	return []Panel{
		{Title: "Offsets behind", Kind: "stat", Unit: "short",
			Help:    "Of all partitions. Markers of transactions count until they are passed.",
			Queries: consumers(Query{`sum by (group) (inbox_partition_lag_offsets{S})`, "{{group}}"})},
		{Title: "Oldest message in hand", Kind: "stat", Unit: "s", Red: 300,
			Help:    "By the time of its record.",
			Queries: consumers(Query{`max by (group) (inbox_partition_oldest_age_seconds{S})`, "{{group}}"})},
		{Title: "Parked keys", Kind: "stat", Unit: "short", Red: 1,
			Help:    "Their messages wait for a person: relay inbox parked list.",
			Queries: consumers(Query{`max by (group) (inbox_parked_keys{S})`, "{{group}}"})},
		{Title: "Paused processes", Kind: "stat", Unit: "short", Red: 1,
			Help:    "They wait for the database, or for what their handler needs.",
			Queries: consumers(Query{`sum by (group) (inbox_paused{S})`, "{{group}}"})},
		{Title: "Offsets behind, by partition", Kind: "timeseries", Unit: "short",
			Help: "One partition alone has a hot or a blocked key.",
			Queries: consumers(Query{`sum by (group, topic, partition) (inbox_partition_lag_offsets{S})`,
				"{{topic}}/{{partition}}"})},
		{Title: "Seconds since the last progress, where something waits", Kind: "timeseries", Unit: "s",
			Help: "0 for partitions that are read to their end.",
			Queries: consumers(Query{`(time() - inbox_partition_progress_timestamp_seconds{S})` +
				` * (inbox_partition_lag_offsets{S} > bool 0)`, "{{topic}}/{{partition}}"})},
		{Title: "From the record to its effect", Kind: "timeseries", Unit: "s",
			Help:    "Messages that were processed. The clocks of two hosts are compared.",
			Queries: consumers(quantiles("inbox_message_delay_seconds", "group")...)},
		{Title: "Messages", Kind: "timeseries", Unit: "short",
			Help: "A second, by what became of them.",
			Queries: consumers(Query{`sum by (group, result) (rate(inbox_messages_total{S}[$__rate_interval]))`,
				"{{group}} {{result}}"})},
	}
}

// inboxWhy answers why.
func inboxWhy() []Panel {
	return []Panel{
		{Title: "Duration of transactions", Kind: "timeseries", Unit: "s",
			Help:    "With the handler, for one message or a batch. Slow handlers are the usual cause of a lag.",
			Queries: consumers(quantiles("inbox_transaction_duration_seconds", "group")...)},
		{Title: "Transactions in flight", Kind: "timeseries", Unit: "short",
			Help:    "At the number of Workers all of them are busy.",
			Queries: consumers(Query{`sum by (group, instance) (inbox_in_flight_transactions{S})`, "{{group}} {{instance}}"})},
		{Title: "Failures and retries", Kind: "timeseries", Unit: "short",
			Help: "In five minutes.",
			Queries: consumers(Query{`sum by (group) (increase(inbox_failures_total{S}[5m]))`, "{{group}} failures"},
				Query{`sum by (group, result) (increase(inbox_retries_total{S}[5m]))`, "{{group}} retries {{result}}"})},
		{Title: "Blocked and waiting keys", Kind: "timeseries", Unit: "short",
			Help: "A blocked key has a first message that has failed and is not done yet.",
			Queries: consumers(Query{`sum by (group, topic) (inbox_partition_blocked_keys{S})`, "{{topic}} blocked"},
				Query{`sum by (group, topic) (inbox_partition_waiting_keys{S})`, "{{topic}} waiting"})},
		{Title: "Longest blocked key", Kind: "timeseries", Unit: "s",
			Help:    "Since its first message failed first.",
			Queries: consumers(Query{`max by (group, topic) (inbox_partition_blocked_age_seconds{S})`, "{{topic}}"})},
		{Title: "Longest parked key", Kind: "timeseries", Unit: "s",
			Help:    "Since it was parked.",
			Queries: consumers(Query{`max by (group) (inbox_parked_age_seconds{S})`, "{{group}}"})},
		{Title: "Pauses", Kind: "timeseries", Unit: "short",
			Help: "In five minutes, and 1 for each process that pauses now.",
			Queries: consumers(Query{`sum by (group) (increase(inbox_pauses_total{S}[5m]))`, "{{group}} pauses"},
				Query{`sum by (group, instance) (inbox_paused{S})`, "{{instance}} paused"})},
		{Title: "Commits of offsets", Kind: "timeseries", Unit: "short",
			Help: "In five minutes, by result; and what is done and not committed yet.",
			Queries: consumers(Query{`sum by (group, result) (increase(inbox_commits_total{S}[5m]))`, "{{group}} {{result}}"},
				Query{`sum by (group) (inbox_partition_uncommitted_offsets{S})`, "{{group}} offsets to commit"})},
		{Title: "Partitions of each process", Kind: "timeseries", Unit: "short",
			Help:    "A rebalance moves them. A process with none stands by.",
			Queries: consumers(Query{`inbox_assigned_partitions{S}`, "{{group}} {{instance}}"})},
		{Title: "Messages in hand", Kind: "timeseries", Unit: "short",
			Help: "Bounded by MaxRecords; partitions at their share are not fetched.",
			Queries: consumers(Query{`sum by (group, instance) (inbox_held_messages{S})`, "{{instance}}"},
				Query{`sum by (group) (inbox_partition_fetch_paused{S})`, "{{group}} partitions not fetched"})},
		{Title: "Bytes in hand", Kind: "timeseries", Unit: "bytes",
			Help:    "Bounded by MaxBytes.",
			Queries: consumers(Query{`sum by (group, instance) (inbox_held_bytes{S})`, "{{instance}}"})},
		{Title: "Offsets done", Kind: "timeseries", Unit: "short",
			Help: "A second, by topic. Compare with the group's lag.",
			Queries: consumers(Query{`sum by (group, topic) (rate(inbox_partition_watermark_offset{S}[$__rate_interval]))`,
				"{{topic}}"})},
		{Title: "Deleted before they were read", Kind: "timeseries", Unit: "short",
			Help:    "Offsets in an hour. Anything but 0 is lost for this group.",
			Queries: consumers(Query{`sum by (group) (increase(inbox_deleted_offsets_total{S}[1h]))`, "{{group}}"})},
	}
}

// JSON is the dashboard as Grafana imports it.
func (d Dashboard) JSON() ([]byte, error) {
	source := map[string]any{"type": "prometheus", "uid": "${datasource}"}
	variables := []any{map[string]any{
		"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": map[string]any{},
	}}
	for _, v := range d.Variables {
		variables = append(variables, map[string]any{
			"name": v.Label, "label": v.Label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
			"query":      map[string]any{"query": fmt.Sprintf("label_values(%s, %s)", v.Metric, v.Label), "refId": v.Label},
			"multi":      true,
			"includeAll": true, "allValue": ".*", "current": map[string]any{"text": "All", "value": "$__all"},
		})
	}
	text, err := json.MarshalIndent(map[string]any{
		"uid": d.UID, "title": d.Title, "tags": []string{"outbox-relay"}, "schemaVersion": 39, "version": 1, "editable": true,
		"timezone": "", "refresh": "30s", "time": map[string]any{"from": "now-1h", "to": "now"},
		"templating": map[string]any{"list": variables}, "panels": d.panels(source),
		"annotations": map[string]any{"list": []any{}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write dashboard %s: %w", d.Title, err)
	}
	return append(text, '\n'), nil
}

// panels lays them out from the left to the right on 24 columns.
func (d Dashboard) panels(source any) []any {
	var all []any
	x, y, height := 0, 0, 0
	for i, p := range d.Panels {
		width, tall := 12, 8
		switch {
		case p.Kind == "stat":
			width, tall = 6, 4
		case p.Wide:
			width = 24
		}
		if x+width > 24 || tall != height && x > 0 {
			x, y = 0, y+height
		}
		height = tall
		var targets []any
		for n, q := range p.Queries {
			targets = append(targets, map[string]any{
				"refId": string(rune('A' + n)), "expr": q.Expr, "legendFormat": q.Legend, "datasource": source, "range": true,
			})
		}
		all = append(all, map[string]any{
			"id": i + 1, "title": p.Title, "description": p.Help, "type": p.Kind, "datasource": source, "targets": targets,
			"gridPos":     map[string]any{"x": x, "y": y, "w": width, "h": tall},
			"fieldConfig": map[string]any{"defaults": p.defaults(), "overrides": []any{}},
			"options":     map[string]any{},
		})
		x += width
	}
	return all
}

// defaults say how values are drawn.
func (p Panel) defaults() map[string]any {
	d := map[string]any{"unit": p.Unit, "thresholds": thresholds(p.Red)}
	if !p.Signed {
		d["min"] = 0
	}
	return d
}

// thresholds are green, and red from a value on.
func thresholds(red float64) any {
	steps := []any{map[string]any{"color": "green", "value": nil}}
	if red > 0 {
		steps = append(steps, map[string]any{"color": "red", "value": red})
	}
	return map[string]any{"mode": "absolute", "steps": steps}
}
