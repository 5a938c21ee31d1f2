package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/hint"
)

// laneList is written as NAME=TABLE, separated by commas.
type laneList []relay.Lane

func (l laneList) text() string {
	parts := make([]string, len(l))
	for i, lane := range l {
		parts[i] = lane.Name + "=" + lane.Table
	}
	return strings.Join(parts, ",")
}

func setLanes(field *laneList, text string) error {
	var lanes laneList
	for _, part := range splitList(text) {
		name, table, found := strings.Cut(part, "=")
		if !found || name == "" || table == "" {
			return hint.New(fmt.Sprintf("%q is not NAME=TABLE", part), "orders=orders.outbox,billing=billing.outbox")
		}
		lanes = append(lanes, relay.Lane{Name: strings.TrimSpace(name), Table: strings.TrimSpace(table)})
	}
	if len(lanes) == 0 {
		return errors.New("names no lane")
	}
	*field = lanes
	return nil
}

// laneFields are the settings that a lane may have for itself, by name.
func laneFields(l *relay.Lane) map[string]any {
	return map[string]any{
		"table":        &l.Table,
		"route":        &l.Route,
		"topics.allow": &l.TopicsAllow,
		"partitioner":  &l.Partitioner,
		"compression":  &l.Compression,
		"content-type": &l.ContentType,
		"poison":       (*string)(&l.Poison),
		"batch.rows":   &l.BatchRows,
		"batch.bytes":  (*sizeOf)(&l.BatchBytes),
		"retention":    (*anyDuration)(&l.Retention),
		"poll.min":     &l.PollMin,
		"poll.max":     &l.PollMax,
	}
}

// lanes reads the long form of the setting lanes: a mapping of names to tables, or to the lane's
// own settings.
func (r fileReader) lanes(line int, node *yaml.Node) {
	var lanes laneList
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		lane := relay.Lane{Name: key.Value}
		switch {
		case value.Kind == yaml.ScalarNode && !isNull(value):
			lane.Table = value.Value
		case value.Kind == yaml.MappingNode:
			r.lane("", &lane, value)
		default:
			r.fault("lanes", key.Line, "lanes: lane %s has neither a table nor settings; write %s: SCHEMA.TABLE", lane.Name, lane.Name)
		}
		lanes = append(lanes, lane)
	}
	if len(lanes) == 0 {
		r.fault("lanes", line, "lanes: names no lane")
		return
	}
	r.values["lanes"] = fileValue{lanes: lanes, line: line}
}

// lane reads the settings of one lane; prefix is that of nested keys.
func (r fileReader) lane(prefix string, lane *relay.Lane, node *yaml.Node) {
	fields := laneFields(lane)
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		name := prefix + key.Value
		field, known := fields[name]
		switch {
		case known:
			setting, _ := Lookup(name)
			text, err := setting.fromYAML(value)
			if err == nil {
				err = setting.setField(field, text)
			}
			if err != nil {
				r.fault("lanes", key.Line, "lane %s: %s: %v", lane.Name, name, err)
			}
		case value.Kind == yaml.MappingNode && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+".") }):
			r.lane(name+".", lane, value)
		default:
			slices.Sort(names)
			err := fmt.Errorf("lane %s: %s is no setting of a lane (%s line %d)", lane.Name, name, r.path, key.Line)
			r.faults.add("lanes", hint.Wrap(err, "one of %s", strings.Join(names, ", ")))
		}
	}
}
