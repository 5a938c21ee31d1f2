package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the digests of the migrations again")

const digestsPath = "testdata/migrations.sha256"

// A migration that somebody may have applied must not change: their schema would differ from that
// of a new installation, and nothing would ever tell. So each file's digest is kept.
func TestReleasedMigrationsDoNotChange(t *testing.T) {
	var list strings.Builder
	for _, part := range []struct {
		folder string
		files  fs.FS
	}{{"", FS}, {"inbox/", InboxFS}, {"partitioned/", PartitionedFS}} {
		names, err := fs.Glob(part.files, "*.sql")
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files (%v)", part.folder, len(names), err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "roles.sql") {
				continue // it is run again after each new version
			}
			text, err := fs.ReadFile(part.files, name)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(text)
			fmt.Fprintf(&list, "%s  %s%s\n", hex.EncodeToString(sum[:]), part.folder, name)
		}
	}
	if *update {
		if err := os.WriteFile(digestsPath, []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(digestsPath)
	if err != nil {
		t.Fatal(err)
	}
	is := strings.Split(list.String(), "\n")
	for _, line := range strings.Split(strings.TrimSpace(string(want)), "\n") {
		if !slices.Contains(is, line) {
			t.Errorf("%s is not as it was: once a migration is released, leave it as it is and add a new one with the next number. "+
				"If no release has it yet: go test ./sql -update", line[strings.LastIndex(line, " ")+1:])
		}
	}
	if !t.Failed() && list.String() != string(want) {
		t.Error("a migration is new: go test ./sql -update")
	}
}
