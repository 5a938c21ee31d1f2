package pinned

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Digests are the SHA-256 digests of files, in hexadecimal, by their names.
type Digests map[string]string

// Parse reads a list: a digest, two spaces and a name on each line.
func Parse(list string) (Digests, error) {
	digests := Digests{}
	for line := range strings.Lines(list) {
		digest, name, found := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		if raw, err := hex.DecodeString(digest); !found || err != nil || len(raw) != sha256.Size || name == "" || name != filepath.Base(name) {
			return nil, fmt.Errorf("list of digests: %q is not a SHA-256, two spaces and the name of a file", strings.TrimSpace(line))
		}
		if _, twice := digests[name]; twice {
			return nil, fmt.Errorf("list of digests: %s stands there twice", name)
		}
		digests[name] = digest
	}
	if len(digests) == 0 {
		return nil, errors.New("list of digests: it is empty")
	}
	return digests, nil
}

// String is the list that Parse reads, in the order of the names.
func (d Digests) String() string {
	var list strings.Builder
	names := make([]string, 0, len(d))
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&list, "%s  %s\n", d[name], name)
	}
	return list.String()
}

// Of names the list itself: another list has another name.
func (d Digests) Of() string {
	sum := sha256.Sum256([]byte(d.String()))
	return hex.EncodeToString(sum[:6])
}

// File returns an error unless the file is in the list and has the digest that stands there.
func (d Digests) File(path string) error {
	name := filepath.Base(path)
	want, listed := d[name]
	if !listed {
		return fmt.Errorf("no digest of %s is known, so it is not used", name)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("compare the digest of %s: %w", name, err)
	}
	got, err := Sum(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("compare the digest of %s: %w", name, err)
	}
	if got != want {
		return fmt.Errorf("%s is not what it should be: its SHA-256 is %s and not %s; something else was fetched in its place", name, got, want)
	}
	return nil
}

// Folder returns an error unless the files of a folder whose names end with one of the suffixes are
// those of the list, each with its digest.
func (d Digests) Folder(dir string, suffixes ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("compare digests: %w", err)
	}
	var faults []error
	found := map[string]bool{}
	for _, entry := range entries {
		if slices.ContainsFunc(suffixes, func(suffix string) bool { return strings.HasSuffix(entry.Name(), suffix) }) {
			found[entry.Name()] = true
			faults = append(faults, d.File(filepath.Join(dir, entry.Name())))
		}
	}
	for name := range d {
		if !found[name] {
			faults = append(faults, fmt.Errorf("%s is missing", name))
		}
	}
	return errors.Join(faults...)
}

// Sum returns the SHA-256 of what a reader has, in hexadecimal.
func Sum(content io.Reader) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
