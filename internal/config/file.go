package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/outbox-relay/relay/internal/hint"
)

// fileValue is a value and its line.
type fileValue struct {
	text  string
	lanes laneList // of the setting lanes in its long form
	line  int
}

// readFile returns the values of the file by the name of the setting, and adds the faults of single
// keys. The error is about the file as a whole.
func readFile(path string, faults *faultList) (map[string]fileValue, error) {
	values := map[string]fileValue{}
	root, err := parseFile(path)
	if err != nil || root == nil {
		return values, err
	}
	r := fileReader{path: path, values: values, faults: faults}
	r.mapping("", root)
	return values, nil
}

// parseFile returns the root of the file, nil if the file holds nothing.
func parseFile(path string) (*yaml.Node, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.New(fmt.Sprintf("config file %s does not exist", path), "check --config and RELAY_CONFIG")
	case err != nil:
		return nil, fmt.Errorf("config file %s: %w", path, reason(err))
	case info.IsDir():
		return nil, hint.New(fmt.Sprintf("config file %s is a directory", path),
			fmt.Sprintf("name the file in it, such as --config %s/relay.yaml", strings.TrimSuffix(path, "/")))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, reason(err))
	}
	defer file.Close()
	return decode(path, file)
}

func decode(path string, from io.Reader) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(from)
	var document yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("config file %s is not valid YAML: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("config file %s holds more than one YAML document", path)
	}
	root := resolve(document.Content[0])
	switch {
	case isNull(root):
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, hint.New(fmt.Sprintf("config file %s does not hold settings", path), "write a line each, such as brokers: kafka:9092")
	}
	return root, nil
}

// reason drops the operation and the path, which the caller's text already has.
func reason(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}

// fileReader walks the nested keys of a file.
type fileReader struct {
	path   string
	values map[string]fileValue
	faults *faultList
}

func (r fileReader) fault(name string, line int, format string, args ...any) {
	r.faults.add(name, fmt.Errorf("%s (%s line %d)", fmt.Sprintf(format, args...), r.path, line))
}

func (r fileReader) mapping(prefix string, node *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		name := prefix + key.Value
		setting, known := Lookup(name)
		switch {
		case known:
			r.setting(setting, key.Line, value)
		case value.Kind == yaml.MappingNode && isGroup(name):
			r.mapping(name+".", value)
		default:
			r.unknown(name, key.Line)
		}
	}
}

func (r fileReader) setting(s Setting, line int, value *yaml.Node) {
	if earlier, ok := r.values[s.Name]; ok {
		r.fault(s.Name, line, "%s: set twice, first in line %d", s.Name, earlier.line)
		return
	}
	if s.Name == "lanes" && value.Kind == yaml.MappingNode {
		r.lanes(line, value)
		return
	}
	text, err := s.fromYAML(value)
	if err != nil {
		r.fault(s.Name, line, "%s: %v", s.Name, err)
		return
	}
	r.values[s.Name] = fileValue{text: text, line: line}
}

func (r fileReader) unknown(name string, line int) {
	var known []string
	for _, s := range Settings() {
		known = append(known, s.Name)
	}
	err := fmt.Errorf("unknown key %s (%s line %d)", name, r.path, line)
	if isGroup(name) {
		err = fmt.Errorf("%s: holds settings, not a value (%s line %d)", name, r.path, line)
	}
	if near := Nearest(name, known); near != "" {
		err = hint.Wrap(err, "%s instead of %s", near, name)
	} else {
		err = hint.Wrap(err, "relay run --help lists the settings")
	}
	r.faults.add(name, err)
}

// isGroup reports whether settings have names below name.
func isGroup(name string) bool {
	for _, s := range Settings() {
		if strings.HasPrefix(s.Name, name+".") {
			return true
		}
	}
	return false
}

// fromYAML returns the value of a node as it would be written in a flag.
func (s Setting) fromYAML(node *yaml.Node) (string, error) {
	switch {
	case isNull(node):
		return "", errors.New("has no value; remove the key or give one")
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode && s.Kind == List:
		var parts []string
		for _, item := range node.Content {
			item = resolve(item)
			if item.Kind != yaml.ScalarNode || isNull(item) {
				return "", errors.New("is not a list of texts")
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), nil
	case s.Kind == List:
		return "", errors.New("is not a list of texts")
	}
	return "", errors.New("is not a single value")
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// resolve follows an alias to its value.
func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}
